//! The embedded store: one file, one connection that writes and one that reads.
//!
//! What a run is lies in `sqlite_row`, how the file is changed in `sqlite_change`; each duty of a store has a file
//! of its own beside this one, which only says who does what.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::{
    DeadLetterFilter, DeadLetterPage, Error, Name, Page, Pause, Replayed, Result, Run, RunFilter, RunId,
};
use sqlx::SqliteConnection;
use tokio::sync::Mutex;

use crate::Synchronous;
use crate::sqlite_error::failed;
use crate::store::{
    Ack, Cancel, Claim, Decide, Decided, Held, Pushed, Renewed, Retention, Standing, Stepped, Store,
};
use crate::{sqlite_history, sqlite_letters, sqlite_schedule, sqlite_schema};

/// How often the file is looked at for changes of other processes; one look is a read of shared memory.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A queue in a file.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    pub(crate) file: PathBuf,
    pub(crate) synchronous: Synchronous,
    /// Everything in the file is shown while the namespace is not known.
    pub(crate) namespace: Option<Name>,
    pub(crate) backend: Name,
    /// Nothing while a change is under way, and after one that did not end well.
    pub(crate) writer: Mutex<Option<SqliteConnection>>,
    pub(crate) reader: Mutex<SqliteConnection>,
    /// The version of the file's content that [`Store::changed`] answered last.
    seen: AtomicI64,
}

impl SqliteStore {
    /// Opens the file or makes it.
    ///
    /// # Errors
    /// `queue/unreadable`, `queue/newer_store`, `queue/corrupt`, `queue/locked` and the like.
    pub(crate) async fn open(
        file: &Path,
        synchronous: Synchronous,
        namespace: Option<Name>,
        backend: Name,
    ) -> Result<Self> {
        let writer = Mutex::new(Some(sqlite_schema::open(file, synchronous).await?));
        let mut reader = sqlite_schema::connect(file, synchronous).await?;
        let seen = data_version(&mut reader).await.map_err(|error| failed(error, file))?;
        let (reader, seen) = (Mutex::new(reader), AtomicI64::new(seen));
        Ok(Self { file: file.to_owned(), synchronous, namespace, backend, writer, reader, seen })
    }

    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_ref().map_or("", Name::as_str)
    }

    pub(crate) fn failed(&self, error: sqlx::Error) -> Error {
        failed(error, &self.file)
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn push(&self, runs: Vec<Pushed>) -> Result<Vec<bool>> {
        let mut change = self.change().await?;
        let pushed = change.insert(&runs).await;
        change.end(pushed).await
    }

    async fn step(&self, acks: &[Ack], claim: &Claim) -> Result<Stepped> {
        let mut change = self.change().await?;
        let stepped = change.step(acks, claim).await;
        change.end(stepped).await
    }

    async fn renew(&self, held: &[Held], lease: Duration) -> Result<Renewed> {
        let mut change = self.change().await?;
        let renewed = change.renew(held, lease).await;
        change.end(renewed).await
    }

    async fn reap(&self, limit: u32) -> Result<Vec<Run>> {
        let mut change = self.change().await?;
        let reaped = change.reap(limit).await;
        change.end(reaped).await
    }

    async fn cancel(&self, run: RunId, reason: &str) -> Result<Cancel> {
        let mut change = self.change().await?;
        let cancelled = change.cancel(run, reason).await;
        change.end(cancelled).await
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Page> {
        let mut connection = self.reader.lock().await;
        let page = sqlite_history::page(self, &mut connection, filter).await;
        page.map_err(|error| self.failed(error))
    }

    async fn waiting(&self) -> Result<usize> {
        let mut connection = self.reader.lock().await;
        let counted = sqlite_history::waiting(self.namespace(), &mut connection).await;
        counted.map_err(|error| self.failed(error))
    }

    async fn register(&self, task: &Name, definition: &str, lease: Duration) -> Result<u64> {
        let mut change = self.change().await?;
        let registered = change.register(task, definition, lease).await;
        change.end(registered).await
    }

    async fn serve(&self, tasks: &[Name], lease: Duration) -> Result<()> {
        let mut change = self.change().await?;
        let served = change.serve(tasks, lease).await;
        change.end(served).await
    }

    async fn decide(&self, task: &Name, revision: u64, decide: &Decide<'_>) -> Result<Decided> {
        let mut change = self.change().await?;
        let decided = change.decide(task, revision, decide).await;
        change.end(decided).await
    }

    async fn pause(&self, task: &Name, pause: Option<&Pause>) -> Result<()> {
        let mut change = self.change().await?;
        let paused = change.pause(task, pause).await;
        change.end(paused).await
    }

    async fn standing(&self, task: &Name) -> Result<Option<Standing>> {
        let mut connection = self.reader.lock().await;
        let found = sqlite_schedule::standing(self.namespace(), &mut connection, task).await;
        Ok(found.map_err(|error| self.failed(error))?.map(|(_, standing)| standing))
    }

    async fn letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
        let mut connection = self.reader.lock().await;
        let page = sqlite_letters::page(self, &mut connection, filter).await;
        page.map_err(|error| self.failed(error))
    }

    async fn replay(&self, letters: &[(RunId, RunId)]) -> Result<Vec<Replayed>> {
        let mut change = self.change().await?;
        let replayed = change.replay(letters).await;
        change.end(replayed).await
    }

    async fn hold(&self, run: RunId, reason: Option<&str>) -> Result<bool> {
        let mut change = self.change().await?;
        let held = change.hold(run, reason).await;
        change.end(held).await
    }

    async fn discard(&self, runs: &[RunId]) -> Result<Vec<bool>> {
        let mut change = self.change().await?;
        let discarded = change.discard(runs).await;
        change.end(discarded).await
    }

    async fn forget(&self, retention: &Retention, limit: u32) -> Result<usize> {
        let mut change = self.change().await?;
        let forgotten = change.forget(retention, limit).await;
        change.end(forgotten).await
    }

    async fn changed(&self) {
        loop {
            let version = data_version(&mut *self.reader.lock().await).await;
            // A file that does not answer now is no news; who waits looks from time to time all the same.
            if let Ok(version) = version
                && self.seen.swap(version, Ordering::Relaxed) != version
            {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// A number that differs once another connection has changed the file.
async fn data_version(connection: &mut SqliteConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("PRAGMA data_version").fetch_one(connection).await
}
