//! The file of JSON lines into which dead letters move.
//!
//! Before it writes, the job notes where the file ends and what it is about to add: a run after one that was killed
//! looks behind that place, drops a line that was cut short, and adds no letter twice. The file is locked
//! meanwhile, so runs side by side take turns.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{Error, Result, RunContext, RunId, Scheduler};
use serde::Deserialize;
use serde_json::Value;

use crate::dead_letter_archive::{Found, let_go, line};
use crate::dead_letter_book::{Archiving, Book};

/// How often a file that another run has locked is tried again.
const LOOK: Duration = Duration::from_millis(100);

/// What is read of a line: serde passes over everything else.
#[derive(Deserialize)]
struct LineId {
    run_id: RunId,
}

/// The file, locked until this is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    path: PathBuf,
    file: Arc<File>,
}

impl Writer {
    /// Opens the file and waits for its lock.
    pub(crate) async fn open(path: &Path) -> Result<Self> {
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
    pub(crate) async fn recover(&self, ctx: &RunContext, scheduler: &Scheduler) -> Result<()> {
        let book = Book::read(ctx.state().load::<Value>().await?.as_ref());
        let Some(archiving) = book.archiving else { return self.end_line().await };
        let file = Arc::clone(&self.file);
        let written = Self::blocking(self.path.clone(), move || written_since(&file, &archiving)).await?;
        let_go(scheduler, &written.into_iter().collect::<Vec<_>>()).await.map(drop)
    }

    /// Adds these letters, and when they are safe lets them leave; answers which somebody has held meanwhile.
    pub(crate) async fn write(
        &self,
        ctx: &RunContext,
        scheduler: &Scheduler,
        found: &[Found<'_>],
    ) -> Result<BTreeSet<RunId>> {
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
            return Ok(BTreeSet::new());
        }
        let from = self.file.metadata().map_err(|error| unusable(&self.path, error))?.len();
        note(ctx, Some(&Archiving { from, runs: runs.iter().copied().collect() })).await?;
        let file = Arc::clone(&self.file);
        Self::blocking(self.path.clone(), move || (&*file).write_all(&text).and_then(|()| file.sync_all()))
            .await?;
        let_go(scheduler, &runs).await
    }

    pub(crate) async fn finish(&self, ctx: &RunContext) -> Result<()> {
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
