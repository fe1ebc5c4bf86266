//! Looking into the file, on a connection that changes nothing.

use std::sync::atomic::{AtomicI64, Ordering};

use scheduler_core::{Error, Result};
use sqlx::SqliteConnection;
use tokio::sync::{Mutex, MutexGuard};

use crate::sqlite::SqliteStore;
use crate::sqlite_error::{failed, is_busy};
use crate::sqlite_place::Place;
use crate::sqlite_schema;

/// What no version of the file's content is: whatever is there then is news.
const NO_VERSION: i64 = i64::MIN;

/// The connection that reads, and what it saw.
#[derive(Debug)]
pub(crate) struct Reader {
    /// Nothing while somebody reads, and after a look that did not end well.
    pub(crate) place: Mutex<Option<SqliteConnection>>,
    /// Which file that connection is to.
    of: Place,
    /// The version of the file's content that was seen last.
    seen: AtomicI64,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self { place: Mutex::default(), of: Place::default(), seen: AtomicI64::new(NO_VERSION) }
    }
}

/// A look under way.
pub(crate) struct Reading<'a> {
    pub(crate) connection: SqliteConnection,
    store: &'a SqliteStore,
    /// Where the connection goes back to.
    place: MutexGuard<'a, Option<SqliteConnection>>,
}

impl SqliteStore {
    /// Begins to read, on a new connection after a look that did not end well.
    ///
    /// # Errors
    /// Those of opening the file again.
    pub(crate) async fn reading(&self) -> Result<Reading<'_>> {
        let mut place = self.reader.place.lock().await;
        let replaced = self.reader.of.replaced_by(&self.file)?;
        let connection = match place.take() {
            Some(connection) if replaced.is_none() => connection,
            _ => {
                // The versions of one connection say nothing about those of another.
                self.reader.seen.store(NO_VERSION, Ordering::Relaxed);
                sqlite_schema::connect(&self.file, self.synchronous).await?
            }
        };
        if let Some(opened) = replaced {
            self.reader.of.note(&self.file, opened);
        }
        Ok(Reading { connection, store: self, place })
    }

    /// Whether the file has changed since this was last asked, but for what was changed by this connection.
    ///
    /// # Errors
    /// Those of SQLite.
    pub(crate) async fn has_changed(&self) -> Result<bool> {
        let mut reading = self.reading().await?;
        let version: sqlx::Result<i64> =
            sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut reading.connection).await;
        let version = reading.end(version)?;
        Ok(self.reader.seen.swap(version, Ordering::Relaxed) != version)
    }
}

impl Reading<'_> {
    /// What was read. A connection that failed is given up: what it holds on to may be gone.
    ///
    /// # Errors
    /// That of the outcome.
    pub(crate) fn end<T>(mut self, outcome: sqlx::Result<T>) -> Result<T> {
        if outcome.as_ref().err().is_none_or(is_busy) {
            *self.place = Some(self.connection);
        }
        outcome.map_err(|error: sqlx::Error| -> Error { failed(error, &self.store.file) })
    }
}
