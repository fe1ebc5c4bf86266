//! Changes of the file: one at a time, each a transaction that happens as a whole or not at all.
//!
//! sqlx counts open transactions, and its count stays wrong once SQLite has rolled back by itself, as it does when
//! the disk is full. So the statements are ours, and a connection whose change did not end well is given up.

use std::sync::PoisonError;
use std::time::Duration;

use scheduler_core::Result;
use sqlx::SqliteConnection;
use tokio::sync::MutexGuard;
use tokio::time::{Instant, sleep_until};

use crate::sqlite::SqliteStore;
use crate::sqlite_error::{failed, is_busy};
use crate::sqlite_offers::Along;
use crate::sqlite_place::Identity;
use crate::sqlite_schema::{self, LOOKS, wait_for};

/// Writes something that was not there. A value that stays the same is not written at all.
const PROOF: &str = "INSERT INTO meta VALUES ('proof', random()) \
     ON CONFLICT (key) DO UPDATE SET value = excluded.value";

/// How long a change takes after which others are let in, for what part of that, and for how long at most. SQLite
/// lets nobody wait in line: who waits looks from time to time, and never finds the file free when a disk is so slow
/// that one change follows on the other.
const SLOW: Duration = Duration::from_millis(20);
const REST: u32 = 20;
const LONGEST_REST: Duration = Duration::from_millis(50);

fn rest(store: &SqliteStore) -> std::sync::MutexGuard<'_, Option<Instant>> {
    store.rests_until.lock().unwrap_or_else(PoisonError::into_inner)
}

/// After a change that took so long others are let in.
fn rest_after(store: &SqliteStore, took: Duration) {
    *rest(store) = (took >= SLOW).then(|| Instant::now() + (took / REST).min(LONGEST_REST));
}

/// A transaction under way. Dropped before its end it leaves nothing behind.
pub(crate) struct Change<'a> {
    pub(crate) store: &'a SqliteStore,
    pub(crate) connection: SqliteConnection,
    /// Where the connection goes back to.
    writer: MutexGuard<'a, Option<SqliteConnection>>,
    began: Instant,
    /// Whether the connection has made a change that held.
    is_proven: bool,
}

impl SqliteStore {
    /// Begins a change on a connection that is known to be outside of any.
    ///
    /// # Errors
    /// `queue/locked` when another process writes for too long, and those of opening the file again.
    pub(crate) async fn change(&self) -> Result<Change<'_>> {
        self.change_on(self.writer.lock().await).await
    }

    /// As [`change`](Self::change), by whoever has the place of the connection already.
    ///
    /// # Errors
    /// Those of [`change`](Self::change).
    pub(crate) async fn change_on<'a>(
        &'a self,
        mut writer: MutexGuard<'a, Option<SqliteConnection>>,
    ) -> Result<Change<'a>> {
        let rests_until = *rest(self);
        if let Some(until) = rests_until {
            sleep_until(until).await;
        }
        let replaced = self.place.replaced_by(&self.file)?;
        let (mut connection, is_proven) = match (replaced, writer.take()) {
            (Some(other), _) => (self.change_over(other).await?, false),
            (None, Some(connection)) => (connection, true),
            (None, None) => (self.reconnect().await?, false),
        };
        if let Err(error) = sqlite_schema::begin(&mut connection).await {
            if is_busy(&error) && is_proven {
                *writer = Some(connection);
            }
            return Err(self.failed(error));
        }
        let mut change = Change { store: self, connection, writer, began: Instant::now(), is_proven };
        change.prove().await.map_err(|error| self.failed(error))?;
        Ok(change)
    }

    /// A connection to another file, which somebody has put in the place of ours.
    async fn change_over(&self, other: Identity) -> Result<SqliteConnection> {
        let file = self.file.display();
        let connection = sqlite_schema::open(&self.file, self.synchronous).await?;
        tracing::error!(
            "somebody has put another file in the place of the queue {file}: it is served from now on, and what was in \
             the one before is not"
        );
        self.place.note(&self.file, other);
        // What was known of the one before says nothing of this one.
        *self.known_place() = None;
        self.looked_at.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(connection)
    }

    /// A connection in place of one that was given up, maybe because the disk is full. What was committed may take
    /// up the last of it, in the log beside the file; once it is in the file that room is written over.
    async fn reconnect(&self) -> Result<SqliteConnection> {
        let mut connection = sqlite_schema::connect(&self.file, self.synchronous).await?;
        // Where this is not possible either, the change says why.
        let _ = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut connection).await;
        wait_for(&mut connection, LOOKS).await.map_err(|error| self.failed(error))?;
        Ok(connection)
    }
}

impl<'a> Change<'a> {
    /// Maybe nothing else is written by this change, and its success would be taken for news of the disk.
    async fn prove(&mut self) -> sqlx::Result<()> {
        if self.is_proven { Ok(()) } else { sqlx::query(PROOF).execute(&mut self.connection).await.map(drop) }
    }

    /// Undoes what was done and begins anew.
    pub(crate) async fn restart(&mut self) -> sqlx::Result<()> {
        sqlx::query("ROLLBACK").execute(&mut self.connection).await?;
        sqlite_schema::begin(&mut self.connection).await?;
        self.prove().await
    }

    /// Makes the change hold if what it was for is done, and undoes it otherwise.
    ///
    /// # Errors
    /// That of the outcome, or of the commit.
    pub(crate) async fn end<T>(mut self, outcome: sqlx::Result<T>) -> Result<T> {
        let committed = match outcome {
            Ok(answer) => sqlx::query("COMMIT").execute(&mut self.connection).await.map(|_| answer),
            Err(error) => Err(error),
        };
        rest_after(self.store, self.began.elapsed());
        match committed {
            Ok(answer) => {
                *self.writer = Some(self.connection);
                Ok(answer)
            }
            Err(error) => Err(self.store.failed(error)),
        }
    }

    /// Makes the change hold, and tells those whose runs it took along of which it is known whether they are new. They
    /// hear it from a task of its own, so it is the truth also when nobody waits for this change any more: the
    /// connection commits all the same, and who came again then would meet his own run.
    ///
    /// # Errors
    /// That of the commit.
    pub(crate) async fn end_along<T>(self, answer: T, added: Vec<bool>, along: Along) -> Result<T> {
        if along.is_empty() {
            return self.end(Ok(answer)).await;
        }
        let Self { store, mut connection, mut writer, began, .. } = self;
        let file = store.file.clone();
        let commit = tokio::spawn(async move {
            match sqlx::query("COMMIT").execute(&mut connection).await {
                Ok(_) => {
                    along.answer(Ok(added));
                    Ok(connection)
                }
                Err(error) => {
                    let error = failed(error, &file);
                    along.answer(Err(&error));
                    Err(error)
                }
            }
        });
        let committed = commit.await;
        rest_after(store, began.elapsed());
        // It ends early only with the runtime.
        *writer = Some(committed.map_err(|_| store.failed(sqlx::Error::WorkerCrashed))??);
        Ok(answer)
    }

    /// Where its runs are.
    pub(crate) fn namespace(&self) -> &'a str {
        self.store.namespace()
    }
}
