//! The embedded store: one file, one connection that writes and one that reads.
//!
//! What a run is lies in `sqlite_row`, how the file is changed in `sqlite_change`; each duty of a store has a file
//! of its own beside this one, which only says who does what.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::{
    DeadLetterFilter, DeadLetterPage, EndedRun, Error, HeldLetters, HistoryBounds, Load, Name, Page, Pause,
    Replayed, Result, Run, RunFilter, RunId,
};
use sqlx::SqliteConnection;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::Synchronous;
use crate::driver::SAFETY_POLL;
use crate::sqlite_error::failed;
use crate::sqlite_offers::{Along, Offers};
use crate::sqlite_place::Place;
use crate::sqlite_reading::Reader;
use crate::store::{
    Ack, Cancel, Claim, Decide, Decided, Held, Pushed, QueueState, Renewed, Replay, Retention, Standing,
    Stepped, Store,
};
use crate::{
    sqlite_history, sqlite_letters, sqlite_load, sqlite_queue, sqlite_retention, sqlite_schedule,
    sqlite_schema,
};

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
    /// Which file that connection is to.
    pub(crate) place: Place,
    /// Until when the file is left to other processes.
    pub(crate) rests_until: std::sync::Mutex<Option<Instant>>,
    pub(crate) reader: Reader,
    pub(crate) offers: Offers,
    /// While there is more to forget than one change takes.
    pub(crate) forgets_to: std::sync::Mutex<Option<sqlite_history::ForgetsTo>>,
    /// The line of each queue that was looked at last.
    pub(crate) looked_at: std::sync::Mutex<HashMap<Option<Name>, String>>,
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
        let place = Place::default();
        if let Some(opened) = place.replaced_by(file)? {
            place.note(file, opened);
        }
        let store = Self {
            file: file.to_owned(),
            synchronous,
            namespace,
            backend,
            writer,
            rests_until: std::sync::Mutex::default(),
            reader: Reader::new(),
            offers: Offers::default(),
            forgets_to: std::sync::Mutex::default(),
            looked_at: std::sync::Mutex::default(),
            place,
        };
        // What is there by now is no news.
        store.has_changed().await?;
        Ok(store)
    }

    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_ref().map_or("", Name::as_str)
    }

    /// Adds what is taken along, in a change of its own, and tells everybody what became of his.
    async fn add(&self, writer: MutexGuard<'_, Option<SqliteConnection>>, along: Along) {
        let mut change = match self.change_on(writer).await {
            Ok(change) => change,
            Err(error) => return along.answer(Err(&error)),
        };
        match change.insert(along.runs()).await {
            // Whether it holds was told.
            Ok(added) => drop(change.end_along((), added, along).await),
            Err(error) => along.answer(Err(&self.failed(error))),
        }
    }

    pub(crate) fn failed(&self, error: sqlx::Error) -> Error {
        failed(error, &self.file)
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn push(&self, runs: Vec<Pushed>) -> Result<Vec<bool>> {
        let mut answer = self.offers.add(runs);
        loop {
            let writer = tokio::select! {
                biased;
                answer = &mut answer => return answer.unwrap_or_else(|_| Err(self.failed(sqlx::Error::WorkerCrashed))),
                writer = self.writer.lock() => writer,
            };
            // Whoever had it before may have taken these runs along.
            if let Ok(answer) = answer.try_recv() {
                return answer;
            }
            self.add(writer, self.offers.take()).await;
        }
    }

    async fn push_unique(&self, runs: Vec<Pushed>) -> Result<Vec<Option<RunId>>> {
        let mut change = self.change().await?;
        let pushed = change.insert_unique(&runs).await;
        change.end(pushed).await
    }

    async fn tell_progress(&self, runs: &[(Run, u64)]) -> Result<()> {
        let mut change = self.change().await?;
        let told = change.tell_progress(runs).await;
        change.end(told).await
    }

    async fn step(&self, acks: &[Ack], claim: &Claim) -> Result<Stepped> {
        let mut change = self.change().await?;
        let along = self.offers.take();
        match change.step(acks, claim, &along).await {
            Ok((stepped, added)) => change.end_along(stepped, added, along).await,
            Err(error) => change.end(Err(error)).await,
        }
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
        let mut reading = self.reading().await?;
        let page = sqlite_history::page(self, &mut reading.connection, filter).await;
        reading.end(page)
    }

    async fn waiting(&self) -> Result<usize> {
        let mut reading = self.reading().await?;
        let counted = sqlite_history::waiting(self.namespace(), &mut reading.connection).await;
        reading.end(counted)
    }

    async fn load(&self) -> Result<Load> {
        let mut reading = self.reading().await?;
        let loaded = sqlite_load::load(self.namespace(), &mut reading.connection).await;
        reading.end(loaded)
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

    async fn pause_queue(&self, queue: Option<&Name>, pause: Option<&Pause>) -> Result<bool> {
        let mut change = self.change().await?;
        let paused = change.pause_queue(queue, pause).await;
        change.end(paused).await
    }

    async fn queues(&self) -> Result<Vec<QueueState>> {
        let mut reading = self.reading().await?;
        let queues = sqlite_queue::queues(self.namespace(), &mut reading.connection).await;
        reading.end(queues)
    }

    async fn standing(&self, task: &Name) -> Result<Option<Standing>> {
        let mut reading = self.reading().await?;
        let found = sqlite_schedule::standing(self.namespace(), &mut reading.connection, task).await;
        Ok(reading.end(found)?.map(|(_, standing)| standing))
    }

    async fn letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
        let mut reading = self.reading().await?;
        let page = sqlite_letters::page(self, &mut reading.connection, filter).await;
        reading.end(page)
    }

    async fn replay(&self, letters: &[Replay]) -> Result<Vec<Replayed>> {
        let mut change = self.change().await?;
        let replayed = change.replay(letters).await;
        change.end(replayed).await
    }

    async fn hold(&self, run: RunId, reason: Option<&str>) -> Result<bool> {
        let mut change = self.change().await?;
        let held = change.hold(run, reason).await;
        change.end(held).await
    }

    async fn discard(&self, runs: &[RunId], held: HeldLetters) -> Result<Vec<bool>> {
        let mut change = self.change().await?;
        let discarded = change.discard(runs, held).await;
        change.end(discarded).await
    }

    async fn forget(&self, retention: &Retention, limit: u32) -> Result<usize> {
        self.forget_old(retention, limit).await
    }

    async fn beyond(&self, bounds: &HistoryBounds, skip: usize, limit: u32) -> Result<Vec<EndedRun>> {
        let mut reading = self.reading().await?;
        let (namespace, connection) = (self.namespace(), &mut reading.connection);
        let found =
            sqlite_retention::beyond(namespace, &self.backend, connection, bounds, (skip, limit)).await;
        reading.end(found)
    }

    async fn prune(&self, bounds: &HistoryBounds, limit: u32) -> Result<Vec<EndedRun>> {
        let mut change = self.change().await?;
        let forgotten = change.prune(bounds, limit).await;
        change.end(forgotten).await
    }

    async fn changed(&self) {
        loop {
            match self.has_changed().await {
                Ok(true) => return,
                Ok(false) => tokio::time::sleep(LOOK_EVERY).await,
                // A file that does not answer now is no news; who waits looks from time to time all the same.
                Err(_) => tokio::time::sleep(SAFETY_POLL).await,
            }
        }
    }
}
