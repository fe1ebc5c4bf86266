//! The job `metrics_collection`: collects numbers about the machine, the scheduler and others, side by side, keeps
//! them in a small file, and hands them to the recorder of whoever embeds it.
//!
//! A source that fails is told and takes nothing from the others. How many series a source has is bounded: what is
//! new beyond is dropped and counted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use futures_util::future::join_all;
use scheduler_core::{
    ArgsError, Error, Job, JobDescriptor, JobError, Output, Result, RunContext, async_trait,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::metrics_args::{self, FILE, MetricsArgs};
use crate::metrics_export;
use crate::metrics_sample::Sample;
use crate::metrics_scheduler::Counted;
use crate::metrics_source::{Kind, Look, Named};

/// The version of the output's shape.
const SCHEMA_VERSION: u32 = 1;

/// The version of what is stored.
const FORMAT: u32 = 1;

/// How many sources at fault a message names.
const MOST_NAMED: usize = 3;

/// Describes the job.
pub fn descriptor() -> JobDescriptor {
    let schema = schemars::schema_for!(MetricsArgs).to_value();
    let summary = "collects numbers of the machine, the scheduler and others, and keeps them over time";
    JobDescriptor::typed("metrics_collection", summary, MetricsCollection::new)
        .with_schema(schema)
        .with_own_limit()
        .with_backends()
}

/// The file in which a task with these args keeps its numbers.
pub fn file_of(args: &Value, data_dir: &Path) -> PathBuf {
    data_dir.join(args.get("file").and_then(Value::as_str).unwrap_or(FILE))
}

/// Sources that can be asked.
#[derive(Debug)]
struct MetricsCollection {
    #[cfg_attr(not(feature = "sqlite"), expect(dead_code, reason = "it says how numbers are kept"))]
    args: MetricsArgs,
    sources: Vec<Named>,
}

/// What the task keeps between its runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Book {
    v: u32,
    counted: Counted,
    /// The sources of which it was told that they have too many series.
    full: BTreeSet<String>,
}

/// What became of one source.
struct Row<'a> {
    named: &'a Named,
    look: Look,
    /// Which samples were kept.
    kept: Vec<bool>,
}

impl MetricsCollection {
    fn new(args: MetricsArgs) -> Result<Self, Vec<ArgsError>> {
        Ok(Self { sources: args.read()?, args })
    }

    /// Adds what the scheduler counted to what it counted in earlier lives.
    async fn count(&self, ctx: &RunContext, rows: &mut [Row<'_>]) -> Result<()> {
        for row in rows {
            let Some(counted) = row.look.counted.take() else { continue };
            let after = |present: Option<Value>| {
                let book = Book::of(present);
                let counted = counted.clone().after(book.counted);
                serde_json::to_value(Book { v: FORMAT, counted, ..book })
                    .expect("a book can be written as JSON")
            };
            let counted = Book::of(Some(ctx.state().update(after).await?)).counted;
            row.look
                .samples
                .extend(counted.samples().into_iter().filter(|sample| row.named.wants(&sample.name)));
        }
        Ok(())
    }

    /// Notes which sources have too many series; answers those of which it was not told before.
    async fn newly_full(&self, ctx: &RunContext, rows: &[Row<'_>]) -> Result<Vec<String>> {
        let full: BTreeSet<String> =
            rows.iter().filter(|row| row.dropped() > 0).map(|row| row.named.name.clone()).collect();
        let present = Book::of(ctx.state().load().await?);
        // One that has room again, and one that failed, is told of anew.
        if full == present.full {
            return Ok(Vec::new());
        }
        let after = |present: Option<Value>| {
            let book = Book { v: FORMAT, full: full.clone(), ..Book::of(present) };
            serde_json::to_value(book).expect("a book can be written as JSON")
        };
        ctx.state().update(after).await?;
        Ok(full.difference(&present.full).cloned().collect())
    }

    fn shown(&self, rows: &[Row<'_>], newly_full: &[String], file: &Value) -> Output {
        let shown = rows.iter().map(|row| {
            let mut shown = json!({
                "name": row.named.name,
                "kind": row.named.kind.as_str(),
                "series": row.kept.iter().filter(|kept| **kept).count(),
                "duration_ms": u64::try_from(row.look.took.as_millis()).unwrap_or(u64::MAX),
            });
            if row.dropped() > 0 {
                shown["dropped"] = json!(row.dropped());
            }
            if newly_full.contains(&row.named.name) {
                let most = row.named.max_series;
                shown["note"] =
                    json!(format!("it has more than {most} series (`max_series`); new ones are dropped"));
            }
            if !row.look.missing.is_empty() {
                shown["missing"] = json!(row.look.missing);
            }
            if let Some(fault) = &row.look.fault {
                shown["error"] = json!(fault.message);
            }
            shown
        });
        let series: usize = rows.iter().map(|row| row.kept.iter().filter(|kept| **kept).count()).sum();
        let sources: Vec<Value> = shown.collect();
        json!({
            "schema_version": SCHEMA_VERSION,
            "summary": format!("{series} numbers of {} sources", sources.len()),
            "series": series,
            "sources": sources,
            "file": file,
        })
    }

    /// Keeps what was found; answers what is told of the file.
    #[cfg(feature = "sqlite")]
    async fn keep(&self, ctx: &RunContext, rows: &mut [Row<'_>]) -> Result<Value> {
        use crate::metrics_series_write::{Found, Keep, write};

        let data_dir = ctx.scheduler().ok().and_then(|scheduler| scheduler.data_dir().map(Path::to_owned));
        let file = self.args.file.clone().unwrap_or_else(|| FILE.into());
        let path = match data_dir {
            Some(data_dir) => data_dir.join(file),
            None if file.is_absolute() => file,
            None => {
                let message = "the file counts from a data folder, and there is none; give an absolute path";
                return Err(Error::invalid("metrics/no_data_dir", message));
            }
        };
        let keep = Keep { age: self.args.max_age, full: self.args.full_for, bytes: self.args.max_bytes };
        let found: Vec<Found<'_>> = rows
            .iter()
            .map(|row| Found {
                source: &row.named.name,
                samples: &row.look.samples,
                most: row.named.max_series,
            })
            .collect();
        let written = write(&path, &found, ctx.clock().now(), &keep).await?;
        for (row, kept) in rows.iter_mut().zip(written.kept) {
            row.kept = kept;
        }
        Ok(json!({"bytes": written.file_bytes, "removed": written.removed}))
    }

    #[cfg(not(feature = "sqlite"))]
    async fn keep(&self, _: &RunContext, _: &mut [Row<'_>]) -> Result<Value> {
        Ok(Value::Null)
    }
}

impl Book {
    /// What was stored; what cannot be read is begun anew.
    fn of(stored: Option<Value>) -> Self {
        let book = stored.and_then(|stored| serde_json::from_value::<Self>(stored).ok());
        book.filter(|book| book.v == FORMAT).unwrap_or_default()
    }
}

impl<'a> Row<'a> {
    fn new(named: &'a Named, look: Look) -> Self {
        Self { named, look, kept: Vec::new() }
    }

    /// Keeps as many as there may be, where no file says which are known.
    fn bound(&mut self) {
        self.kept = (0..self.look.samples.len()).map(|place| place < self.named.max_series).collect();
    }

    fn dropped(&self) -> usize {
        self.kept.iter().filter(|kept| !**kept).count()
    }

    fn kept(&self) -> impl Iterator<Item = &Sample> {
        self.look.samples.iter().zip(&self.kept).filter(|(_, kept)| **kept).map(|(sample, _)| sample)
    }
}

#[async_trait]
impl Job for MetricsCollection {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        let looking = join_all(self.sources.iter().map(|named| named.look(ctx)));
        let looks = ctx
            .unless_cancelled(looking)
            .await
            .map_err(|reason| JobError::retry(format!("ended by the scheduler: {}", reason.as_str())))?;
        let mut rows: Vec<Row<'_>> =
            self.sources.iter().zip(looks).map(|(named, look)| Row::new(named, look)).collect();
        self.count(ctx, &mut rows).await?;
        rows.iter_mut().for_each(Row::bound);
        let kept = self.keep(ctx, &mut rows).await;
        metrics_export::export(rows.iter().flat_map(Row::kept));
        let newly_full = self.newly_full(ctx, &rows).await?;
        for source in &newly_full {
            tracing::warn!(source, "more series than `max_series`: new ones are dropped");
        }
        let output = self.shown(&rows, &newly_full, kept.as_ref().unwrap_or(&Value::Null));
        match kept {
            Err(error) if error.is_transient() => Err(JobError::retry(error).with_output(output)),
            Err(error) => Err(JobError::abort(error).with_output(output)),
            Ok(_) => conclude(&rows, output),
        }
    }

    fn reads_tally(&self) -> bool {
        self.sources.iter().any(|named| named.kind == Kind::Scheduler)
    }

    fn check(&self) -> Vec<ArgsError> {
        let found = self.sources.iter().enumerate().flat_map(|(index, named)| {
            named.check().into_iter().map(move |fault| metrics_args::below(index, fault))
        });
        found.collect()
    }
}

fn conclude(rows: &[Row<'_>], output: Output) -> Result<Output, JobError> {
    let faults: Vec<_> =
        rows.iter().filter_map(|row| Some((&row.named.name, row.look.fault.as_ref()?))).collect();
    if faults.is_empty() {
        return Ok(output);
    }
    let named: Vec<String> =
        faults.iter().take(MOST_NAMED).map(|(name, fault)| format!("{name}: {}", fault.message)).collect();
    let message = format!("{} of {} sources: {}", faults.len(), rows.len(), named.join("; "));
    let error = Error::unavailable("metrics/failed", message);
    let is_transient = faults.iter().any(|(_, fault)| fault.is_transient);
    let error = if is_transient { JobError::retry(error) } else { JobError::abort(error) };
    Err(error.with_output(output))
}
