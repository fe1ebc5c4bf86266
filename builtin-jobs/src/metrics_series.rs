//! The file in which numbers are kept over time: one of SQLite, bounded in age and size.
//!
//! It holds every point of the latest hours; of what is older, the count, the sum, the lowest, the highest and the
//! last of each ten minutes. One process writes it, a run of the job at a time; whoever reads it waits for that.

use std::path::{Path, PathBuf};
use std::time::Duration;

use scheduler_core::{Error, ErrorKind, Result, Timestamp};
use serde::Serialize;
use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};

/// The version of these tables; a newer one is refused.
const VERSION: i64 = 1;

/// How long whoever writes or reads is waited for.
const BUSY: Duration = Duration::from_secs(5);

/// The length of what older points are summed up by, in milliseconds.
pub(crate) const STEP: i64 = 10 * 60 * 1000;

const TABLES: &str = "
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    name TEXT NOT NULL,
    labels TEXT NOT NULL,
    counter INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    UNIQUE (name, labels, source)
) STRICT;
CREATE INDEX series_source ON series (source);
CREATE TABLE point (
    series INTEGER NOT NULL,
    at INTEGER NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (series, at)
) STRICT, WITHOUT ROWID;
CREATE TABLE summary (
    series INTEGER NOT NULL,
    at INTEGER NOT NULL,
    count INTEGER NOT NULL,
    low REAL NOT NULL,
    high REAL NOT NULL,
    total REAL NOT NULL,
    last REAL NOT NULL,
    PRIMARY KEY (series, at)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
";

/// A file of numbers over time.
#[derive(Debug)]
pub struct SeriesFile {
    pub(crate) connection: SqliteConnection,
    pub(crate) path: PathBuf,
}

/// One number over time.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Series {
    /// What it is called.
    pub name: String,
    /// Its labels as the text format writes them, with `{}` around them; nothing for none.
    pub labels: String,
    /// Where it comes from: the name of a source.
    pub source: String,
    /// Whether it counts up.
    pub is_counter: bool,
    #[serde(skip)]
    pub(crate) id: i64,
}

impl Series {
    /// Its name with its labels.
    pub fn full_name(&self) -> String {
        format!("{}{}", self.name, self.labels)
    }
}

/// A number at a time, or several that were summed up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Point {
    /// When; of several, the beginning of their ten minutes.
    pub at: Timestamp,
    /// The number; of several, the last one.
    pub value: f64,
    /// How many they are.
    pub count: u64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
    /// Their mean.
    pub avg: f64,
}

impl SeriesFile {
    /// Opens a file that is there, to read it.
    ///
    /// # Errors
    /// `metrics/no_file` when there is none; `metrics/newer_file`, `metrics/unreadable`.
    pub async fn open(path: &Path) -> Result<Self> {
        if path.try_exists().is_ok_and(|is_there| !is_there) {
            let message = format!("no metrics are kept in {}", path.display());
            return Err(Error::not_found("metrics/no_file", message));
        }
        // What a killed process left half-done is undone by who opens the file next, which takes writing.
        let opened = options(path).create_if_missing(false).connect().await;
        let mut file = Self::of(opened, path)?;
        match file.version().await? {
            0 => Err(file.foreign()),
            _ => Ok(file),
        }
    }

    /// Opens a file to write it, and makes it if there is none.
    ///
    /// # Errors
    /// As [`open`](Self::open); `metrics/not_kept` when it cannot be made.
    pub(crate) async fn create(path: &Path) -> Result<Self> {
        create_private(path).map_err(|error| {
            let message = format!("metrics cannot be kept in {}", path.display());
            Error::unavailable("metrics/not_kept", message).with_source(error)
        })?;
        let mut file = Self::of(options(path).create_if_missing(false).connect().await, path)?;
        if file.version().await? == 0 {
            // Before there are tables: what is deleted can be given back to the disk. It is written even where it holds.
            let script = format!("PRAGMA auto_vacuum = INCREMENTAL; BEGIN IMMEDIATE;{TABLES}COMMIT;");
            let made = sqlx::raw_sql(sqlx::AssertSqlSafe(script)).execute(&mut file.connection).await;
            made.map_err(|error| file.failed(error))?;
        }
        Ok(file)
    }

    fn of(opened: sqlx::Result<SqliteConnection>, path: &Path) -> Result<Self> {
        let connection = opened.map_err(|error| failed(error, path))?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// The version of the tables; 0 when the file is empty.
    async fn version(&mut self) -> Result<i64> {
        let seen = "SELECT (SELECT user_version FROM pragma_user_version), count(*), \
                    count(*) FILTER (WHERE name IN ('series', 'point', 'summary')) \
                    FROM sqlite_schema WHERE type = 'table'";
        let seen = sqlx::query_as(seen).fetch_one(&mut self.connection).await;
        let (version, all, ours): (i64, i64, i64) = seen.map_err(|error| self.failed(error))?;
        match (version, all, ours) {
            (0, 0, _) | (1..=VERSION, _, 3) => Ok(version),
            (newer, _, 3) if newer > VERSION => {
                let place = self.path.display();
                let message = format!("{place} has version {newer}, and this program knows up to {VERSION}");
                Err(Error::invalid("metrics/newer_file", message))
            }
            _ => Err(self.foreign()),
        }
    }

    fn foreign(&self) -> Error {
        let message =
            format!("{} holds something else than metrics; it is left as it is", self.path.display());
        Error::invalid("metrics/unreadable", message)
    }

    pub(crate) fn failed(&self, error: sqlx::Error) -> Error {
        failed(error, &self.path)
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY)
        .synchronous(SqliteSynchronous::Normal)
        .disable_statement_logging()
}

/// Nobody but its owner reads it.
fn create_private(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

pub(crate) fn failed(error: sqlx::Error, path: &Path) -> Error {
    // A file that is no database stays none; a disk that is full, or a file that is locked, may be another time.
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .map(std::borrow::Cow::into_owned);
    let (kind, code) = match code.as_deref() {
        Some("26" | "11") => (ErrorKind::Invalid, "metrics/unreadable"),
        _ => (ErrorKind::Unavailable, "metrics/not_kept"),
    };
    Error::new(kind, code, format!("the metrics in {} cannot be used", path.display())).with_source(error)
}
