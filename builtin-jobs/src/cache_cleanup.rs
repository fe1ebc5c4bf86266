//! The job `cache_cleanup`: removes from caches what is old, unused or too much, and tells what that freed.
//!
//! A kind of cache is a [`CacheTarget`]. A dry run goes the same way up to the removal itself, so it lists what a
//! real run would remove.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use scheduler_core::{
    ArgsError, CancelReason, Error, Job, JobDescriptor, JobError, Output, Result, RunContext, async_trait,
};
use serde_json::{Value, json};

use crate::cache_args::CacheArgs;
pub use crate::cache_sweep::Sweep;
use crate::dry_run;

/// The version of the output's shape.
const SCHEMA_VERSION: u32 = 1;

/// How long a target that was told to stop is waited for.
const STOPPING: Duration = Duration::from_secs(3);

/// How many targets at fault a message names.
const MOST_NAMED: usize = 3;

/// Describes the job.
pub fn descriptor() -> JobDescriptor {
    let schema = schemars::schema_for!(CacheArgs).to_value();
    let summary = "removes what is old or too much from caches";
    JobDescriptor::typed("cache_cleanup", summary, CacheArgs::read).with_schema(schema).with_own_limit()
}

/// A cache that can be cleaned.
#[async_trait]
pub trait CacheTarget: Debug + Send + Sync + 'static {
    /// Removes what is due and tells each item to `sweep`; in a dry run, tells the same items and removes nothing.
    /// Ends soon after [`Sweep::is_stopped`]. Whatever was told counts, however this ends.
    ///
    /// # Errors
    /// When the whole of it cannot be cleaned; a single item that stays is told to `sweep` instead.
    async fn clean(&self, ctx: &RunContext, sweep: &Sweep) -> Result<()>;

    /// Looks, without side effects, whether it could be cleaned on this machine. Places are those within the target.
    fn check(&self) -> Vec<ArgsError> {
        Vec::new()
    }
}

/// A target in a task.
#[derive(Debug)]
pub struct Named {
    /// What it is called.
    pub name: String,
    /// What kind it is.
    pub kind: &'static str,
    /// How long one run may clean it.
    pub limit: Duration,
    /// The cache.
    pub target: Box<dyn CacheTarget>,
}

/// Cleans caches, one after the other. An embedder makes one of targets of its own.
#[derive(Debug)]
pub struct CacheCleanup {
    /// What is cleaned.
    pub targets: Vec<Named>,
    /// Whether nothing is removed; a run may be asked for that as well.
    pub is_dry: bool,
    /// How many items of each target are listed, those that were not used for longest.
    pub most_listed: usize,
}

impl CacheCleanup {
    async fn clean(&self, ctx: &RunContext, named: &Named, is_dry: bool) -> Row {
        let began = Instant::now();
        let sweep = Sweep::new(is_dry, ctx.clock().now(), self.most_listed);
        // A walk on a thread of its own would outlive a dropped run.
        let stopping = sweep.stopped_when_dropped();
        let end = {
            let mut cleaning = std::pin::pin!(named.target.clean(ctx, &sweep));
            let told = tokio::select! {
                ended = &mut cleaning => Ok(ended),
                reason = ctx.cancelled() => Err(Stop::Cancelled(reason)),
                () = tokio::time::sleep(named.limit) => Err(Stop::TimedOut),
            };
            if told.is_err() {
                sweep.stop();
                // What it says of its end is what it was told.
                let _ = tokio::time::timeout(STOPPING, &mut cleaning).await;
            }
            told
        };
        drop(stopping);
        let (fault, cancelled) = match end {
            Ok(ended) => (ended.err().map(|error| told(&error)), None),
            Err(Stop::Cancelled(reason)) => (None, Some(reason)),
            Err(Stop::TimedOut) => {
                let limit = named.limit;
                (Some(format!("not done within {limit:?} (`timeout`); the next run goes on")), None)
            }
        };
        let fault = fault.or_else(|| sweep.fault());
        let mut shown = sweep.shown();
        shown["name"] = json!(named.name);
        shown["kind"] = json!(named.kind);
        shown["duration_ms"] = json!(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        if let Some(fault) = &fault {
            shown["error"] = json!(fault);
        }
        Row {
            freed: sweep.freed(),
            shown,
            fault: fault.map(|fault| format!("{}: {fault}", named.name)),
            cancelled,
        }
    }

    fn shown(rows: &[Row], is_dry: bool) -> Output {
        let sum = |of: fn(&Row) -> u64| rows.iter().map(of).fold(0, u64::saturating_add);
        let (removed, bytes) = (sum(|row| row.freed.0), sum(|row| row.freed.1));
        let does = if is_dry { "would remove" } else { "removed" };
        json!({
            "schema_version": SCHEMA_VERSION,
            "summary": (removed > 0).then(|| format!("{does} {removed} items with {bytes} bytes")),
            "dry_run": is_dry,
            "removed": removed,
            "bytes": bytes,
            "targets": rows.iter().map(|row| &row.shown).collect::<Vec<_>>(),
        })
    }
}

/// Why a target was told to stop.
enum Stop {
    Cancelled(CancelReason),
    TimedOut,
}

/// What became of one target.
struct Row {
    /// Items and bytes.
    freed: (u64, u64),
    shown: Value,
    fault: Option<String>,
    cancelled: Option<CancelReason>,
}

#[async_trait]
impl Job for CacheCleanup {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        let is_dry = self.is_dry || dry_run::is_asked_for(ctx)?;
        let mut rows: Vec<Row> = Vec::new();
        for (done, named) in self.targets.iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "a share needs no more")]
            ctx.set_progress(done as f64 / self.targets.len() as f64, named.name.clone());
            let row = self.clean(ctx, named, is_dry).await;
            let cancelled = row.cancelled;
            rows.push(row);
            if let Some(reason) = cancelled {
                let error = JobError::retry(format!("ended by the scheduler: {}", reason.as_str()));
                return Err(error.with_output(Self::shown(&rows, is_dry)));
            }
        }
        ctx.set_progress(1.0, "");
        let faults: Vec<&str> = rows.iter().filter_map(|row| row.fault.as_deref()).collect();
        if faults.is_empty() {
            return Ok(Self::shown(&rows, is_dry));
        }
        let named = faults[..faults.len().min(MOST_NAMED)].join("; ");
        let message = format!("{} of {} caches were not cleaned whole: {named}", faults.len(), rows.len());
        let error = Error::unavailable("cache_cleanup/failed", message);
        Err(JobError::abort(error).with_output(Self::shown(&rows, is_dry)))
    }

    fn check(&self) -> Vec<ArgsError> {
        let found = self.targets.iter().enumerate().flat_map(|(index, named)| {
            let faults = named.target.check().into_iter();
            faults.map(move |fault| ArgsError {
                pointer: format!("/targets/{index}{}", fault.pointer),
                ..fault
            })
        });
        found.collect()
    }
}

/// An error with its causes.
fn told(error: &Error) -> String {
    let mut told = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        told.push_str(&format!(": {error}"));
        cause = error.source();
    }
    told
}
