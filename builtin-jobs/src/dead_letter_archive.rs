//! Where letters go that were given up: a file of JSON lines, or a URL.
//!
//! A letter leaves the dead letters only when it is safe in the archive. Between the two the process may be killed,
//! so before it writes, the job notes where the file ends and what it is about to add: the next run looks behind
//! that place, drops a line that was cut short, and adds no letter twice. A URL gets such a letter again, with the
//! same `Idempotency-Key`. The file is locked meanwhile, so runs side by side take turns.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{DeadLetter, DeadLetterFilter, Error, Result, RunContext, RunId, Scheduler, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dead_letter_book::{Archiving, Book};
use crate::dead_letter_survey::Chosen;
use crate::http::Http;
use crate::http_args::HttpArgs;
use crate::text_or_secret::TextOrSecret;

/// The version of what stands in a line.
const SCHEMA_VERSION: u32 = 1;

/// How many letters are written in one step.
const STEP: usize = 50;

/// How often a file that another run has locked is tried again.
const LOOK: Duration = Duration::from_millis(100);

const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// Where letters go.
#[derive(Debug)]
pub(crate) enum Archive {
    File(PathBuf),
    /// The request as args, to which the letter is added, and the same request to be checked.
    Url(Box<HttpArgs>, Box<Http>),
}

/// What became of a letter that was to be archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Archived {
    Safe,
    Held,
    Gone,
}

/// A letter as the archive has it.
#[derive(Serialize)]
struct Line<'a> {
    schema_version: u32,
    run_id: RunId,
    archived_at: Timestamp,
    class: &'a str,
    replays: u32,
    letter: &'a DeadLetter,
}

/// What is read of a line: serde passes over everything else.
#[derive(Deserialize)]
struct LineId {
    run_id: RunId,
}

impl Archive {
    /// Moves letters here; `done` hears of each that was dealt with.
    ///
    /// # Errors
    /// `dead_letters/not_archived`, when one could not be written: it and those behind it stay where they are.
    /// Those of the backends and of the state.
    pub(crate) async fn take(
        &self,
        ctx: &RunContext,
        scheduler: &Scheduler,
        chosen: &[Chosen],
        mut done: impl FnMut(&Chosen, Archived) + Send,
    ) -> Result<()> {
        match self {
            Self::File(path) => {
                let file = Writer::open(path).await?;
                file.recover(ctx, scheduler).await?;
                for some in chosen.chunks(STEP) {
                    let found = free(scheduler, some).await?;
                    file.write(ctx, scheduler, &found).await?;
                    some.iter().zip(&found).for_each(|(chosen, found)| done(chosen, found.answer()));
                }
                file.finish(ctx).await
            }
            Self::Url(args, _) => {
                for chosen in chosen {
                    let found = free(scheduler, std::slice::from_ref(chosen)).await?.remove(0);
                    if let Found::Free(_, letter) = &found {
                        send(args, ctx, &line(ctx, chosen, letter)).await?;
                        scheduler.discard(&[chosen.run]).await?;
                    }
                    done(chosen, found.answer());
                }
                Ok(())
            }
        }
    }
}

/// A letter that was to be archived, looked at again.
enum Found<'a> {
    Free(&'a Chosen, Box<DeadLetter>),
    Held,
    Gone,
}

impl Found<'_> {
    fn answer(&self) -> Archived {
        match self {
            Self::Free(..) => Archived::Safe,
            Self::Held => Archived::Held,
            Self::Gone => Archived::Gone,
        }
    }
}

/// The letters as they are now: a person may have been faster.
async fn free<'a>(scheduler: &Scheduler, chosen: &'a [Chosen]) -> Result<Vec<Found<'a>>> {
    let mut found = Vec::with_capacity(chosen.len());
    for chosen in chosen {
        let page = scheduler.letters(&DeadLetterFilter::of_run(chosen.run)).await?;
        found.push(match page.letters.into_iter().next() {
            None => Found::Gone,
            Some(letter) if letter.held.is_some() => Found::Held,
            Some(letter) => Found::Free(chosen, Box::new(letter)),
        });
    }
    Ok(found)
}

fn line<'a>(ctx: &RunContext, chosen: &'a Chosen, letter: &'a DeadLetter) -> Line<'a> {
    let archived_at = ctx.clock().now();
    let (run_id, class, replays) = (chosen.run, chosen.class.as_str(), chosen.count);
    Line { schema_version: SCHEMA_VERSION, run_id, archived_at, class, replays, letter }
}

async fn send(args: &HttpArgs, ctx: &RunContext, line: &Line<'_>) -> Result<()> {
    let not_sent = |cause: &dyn std::fmt::Display| {
        let message = format!("dead letter {} was not archived: {cause}", line.run_id);
        Error::unavailable("dead_letters/not_archived", message)
    };
    let mut args = args.clone();
    args.json = Some(serde_json::to_value(line).map_err(|error| not_sent(&error))?);
    let has_key = args.headers.keys().any(|name| name.eq_ignore_ascii_case(IDEMPOTENCY_KEY));
    if !has_key {
        args.headers.insert(IDEMPOTENCY_KEY.to_owned(), TextOrSecret::Text(line.run_id.to_string()));
    }
    let http = Http::new(args).map_err(|faults| match faults.first() {
        Some(fault) => not_sent(fault),
        None => not_sent(&"the request is not accepted"),
    })?;
    let answer = http.exchange(ctx).await.map_err(|error| not_sent(&error))?;
    http.fault_in(&answer).map_or(Ok(()), |fault| Err(not_sent(&fault)))
}

/// The file, locked until this is dropped.
#[derive(Clone, Debug)]
struct Writer {
    path: PathBuf,
    file: Arc<File>,
}

impl Writer {
    /// Opens the file and waits for its lock.
    async fn open(path: &Path) -> Result<Self> {
        let path = path.to_owned();
        let writer = Self::blocking(path.clone(), move || {
            let mut options = OpenOptions::new();
            options.create(true).read(true).append(true);
            // A letter may hold what is nobody's business.
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            options.open(&path).map(|file| Self { path, file: Arc::new(file) })
        });
        let writer = writer.await?;
        loop {
            match writer.file.try_lock() {
                Ok(()) => return Ok(writer),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK).await,
                Err(TryLockError::Error(error)) => return Err(unusable(&writer.path, error)),
            }
        }
    }

    /// Finishes what a run left that was killed: what it wrote leaves the dead letters.
    async fn recover(&self, ctx: &RunContext, scheduler: &Scheduler) -> Result<()> {
        let book = Book::read(ctx.state().load::<Value>().await?.as_ref());
        let Some(archiving) = book.archiving else { return self.end_line().await };
        let file = Arc::clone(&self.file);
        let written = Self::blocking(self.path.clone(), move || written_since(&file, &archiving)).await?;
        for run in written {
            let page = scheduler.letters(&DeadLetterFilter::of_run(run)).await?;
            if page.letters.first().is_some_and(|letter| letter.held.is_none()) {
                scheduler.discard(&[run]).await?;
            }
        }
        Ok(())
    }

    /// Adds these letters, and when they are safe lets them leave.
    async fn write(&self, ctx: &RunContext, scheduler: &Scheduler, found: &[Found<'_>]) -> Result<()> {
        let mut text = Vec::new();
        let mut runs = Vec::new();
        for found in found {
            if let Found::Free(chosen, letter) = found {
                serde_json::to_writer(&mut text, &line(ctx, chosen, letter))
                    .map_err(|error| unusable(&self.path, error.into()))?;
                text.push(b'\n');
                runs.push(chosen.run);
            }
        }
        if runs.is_empty() {
            return Ok(());
        }
        let from = self.file.metadata().map_err(|error| unusable(&self.path, error))?.len();
        note(ctx, Some(&Archiving { from, runs: runs.iter().copied().collect() })).await?;
        let file = Arc::clone(&self.file);
        Self::blocking(self.path.clone(), move || (&*file).write_all(&text).and_then(|()| file.sync_all()))
            .await?;
        scheduler.discard(&runs).await?;
        Ok(())
    }

    async fn finish(&self, ctx: &RunContext) -> Result<()> {
        note(ctx, None).await
    }

    /// Begins a line of our own in a file whose last one has no end.
    async fn end_line(&self) -> Result<()> {
        let file = Arc::clone(&self.file);
        let ending = move || {
            let mut last = [b'\n'];
            let mut reader = &*file;
            if reader.seek(SeekFrom::End(0))? > 0 {
                reader.seek(SeekFrom::End(-1))?;
                reader.read_exact(&mut last)?;
            }
            if last == [b'\n'] { Ok(()) } else { reader.write_all(b"\n") }
        };
        Self::blocking(self.path.clone(), ending).await
    }

    async fn blocking<T: Send + 'static>(
        path: PathBuf,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(|error| unusable(&path, error))
    }
}

/// The letters that stand in the file behind the place where it ended; a line that was cut short is dropped.
fn written_since(file: &File, archiving: &Archiving) -> std::io::Result<BTreeSet<RunId>> {
    let length = file.metadata()?.len();
    // Who moved the file away meanwhile made a new one, and all of that is looked at.
    let mut place = if archiving.from <= length { archiving.from } else { 0 };
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(place))?;
    let (mut line, mut found) = (Vec::new(), BTreeSet::new());
    loop {
        line.clear();
        let count = reader.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            break;
        }
        place += u64::try_from(count).unwrap_or_default();
        if let Ok(LineId { run_id }) = serde_json::from_slice(&line) {
            found.insert(run_id);
        }
    }
    if place < length {
        file.set_len(place)?;
        file.sync_all()?;
    }
    found.retain(|run| archiving.runs.contains(run));
    Ok(found)
}

/// Notes what is about to be added to the file.
async fn note(ctx: &RunContext, archiving: Option<&Archiving>) -> Result<()> {
    let noted = |present: Option<Value>| {
        let mut book = Book::read(present.as_ref());
        book.archiving = archiving.cloned();
        serde_json::to_value(book).unwrap_or_default()
    };
    ctx.state().update(noted).await.map(drop)
}

fn unusable(path: &Path, error: std::io::Error) -> Error {
    let message = format!("no dead letter was archived in {}", path.display());
    Error::unavailable("dead_letters/not_archived", message).with_source(error)
}
