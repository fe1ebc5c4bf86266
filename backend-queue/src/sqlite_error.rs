//! SQLite's errors as ours.

use std::path::Path;

use scheduler_core::{Error, ErrorKind};
use sqlx::Error as SqlError;

/// The primary codes of SQLite that say something a user can act on (<https://sqlite.org/rescode.html>).
const BUSY: i64 = 5;
const LOCKED: i64 = 6;
const READ_ONLY: i64 = 8;
const IO: i64 = 10;
const CORRUPT: i64 = 11;
const FULL: i64 = 13;
const CANNOT_OPEN: i64 = 14;
const NO_DATABASE: i64 = 26;

/// Whether somebody else held the file, so that nothing was begun.
pub(crate) fn is_busy(error: &SqlError) -> bool {
    matches!(code(error), Some(BUSY | LOCKED))
}

fn code(error: &SqlError) -> Option<i64> {
    let SqlError::Database(fault) = error else { return None };
    fault.code()?.parse::<i64>().ok().map(|code| code & 0xff)
}

/// What went wrong with the queue in `file`.
pub(crate) fn failed(error: SqlError, file: &Path) -> Error {
    let (kind, slug, what) = match code(&error) {
        Some(BUSY | LOCKED) => (ErrorKind::Unavailable, "queue/locked", "is locked by another process"),
        Some(FULL) => (ErrorKind::Unavailable, "queue/full", "has no room left on its disk"),
        Some(IO) => (ErrorKind::Unavailable, "queue/unavailable", "cannot be read or written"),
        Some(READ_ONLY | CANNOT_OPEN) => {
            (ErrorKind::Invalid, "queue/unreadable", "cannot be opened for writing")
        }
        Some(CORRUPT | NO_DATABASE) => {
            (ErrorKind::Invalid, "queue/corrupt", "is damaged or no queue; it is left as it is")
        }
        _ => (ErrorKind::Unavailable, "queue/unavailable", "does not answer"),
    };
    Error::new(kind, slug, format!("the queue {} {what}", file.display())).with_source(error)
}
