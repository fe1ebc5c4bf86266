//! The tables of the SQLite store, and who may open them.

use std::path::Path;
use std::time::{Duration, Instant};

use scheduler_core::{Error, Result};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};

use crate::Synchronous;
use crate::sqlite_clock;
use crate::sqlite_error::failed;

/// The version of these tables; a newer one is refused.
const VERSION: i64 = 2;

/// How long a statement waits for another process that writes.
const BUSY: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(5) };

/// How soon opening is tried again that was refused without waiting.
const BUSY_RETRY: Duration = Duration::from_millis(10);

/// The states, as numbers, so that an index can hold one kind of them: below [`READY`] a run waits for its
/// time, above [`RUNNING`] it has ended.
pub(crate) const SCHEDULED: i64 = 0;
pub(crate) const RETRYING: i64 = 1;
pub(crate) const SNOOZED: i64 = 2;
pub(crate) const READY: i64 = 3;
pub(crate) const RUNNING: i64 = 4;
/// It waits for its turn: until the runs of its task before it have ended.
pub(crate) const HELD: i64 = 5;
pub(crate) const SUCCEEDED: i64 = 10;
pub(crate) const FAILED: i64 = 11;
pub(crate) const CANCELLED: i64 = 12;
pub(crate) const SKIPPED: i64 = 13;

const TABLES: &str = "
CREATE TABLE run (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    namespace TEXT NOT NULL,
    task TEXT NOT NULL,
    state INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    due INTEGER NOT NULL,
    fire_time INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    fence INTEGER NOT NULL DEFAULT 0,
    lease_until INTEGER NOT NULL DEFAULT 0,
    cancel TEXT,
    alone INTEGER NOT NULL,
    finished INTEGER,
    envelope TEXT NOT NULL,
    died INTEGER,
    hold TEXT
) STRICT;
CREATE INDEX run_delayed ON run (namespace, due) WHERE state < 3;
CREATE INDEX run_ready ON run (namespace, priority DESC, due, seq) WHERE state = 3;
CREATE INDEX run_held ON run (namespace, task, seq) WHERE state = 5;
CREATE INDEX run_leased ON run (namespace, lease_until) WHERE state = 4;
CREATE INDEX run_live ON run (namespace, task) WHERE state < 10;
CREATE INDEX run_shown ON run (namespace, fire_time DESC, id DESC);
CREATE INDEX run_shown_of_task ON run (namespace, task, fire_time DESC, id DESC);
CREATE TABLE schedule (
    namespace TEXT NOT NULL,
    task TEXT NOT NULL,
    revision INTEGER NOT NULL,
    definition TEXT NOT NULL,
    decided INTEGER NOT NULL,
    served_since INTEGER NOT NULL,
    served_until INTEGER NOT NULL,
    runs INTEGER NOT NULL,
    finished INTEGER,
    paused TEXT,
    PRIMARY KEY (namespace, task)
) STRICT, WITHOUT ROWID;
CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT;
INSERT INTO meta VALUES ('fence', 0), ('boot', '');
";

/// What ended, for retention and to be shown. A dead letter is a run with `died`, the time at which it became
/// one; it is held while `hold` says why.
const ENDED: &str = "
CREATE INDEX run_ended ON run (namespace, finished) WHERE state >= 10 AND died IS NULL;
CREATE INDEX run_letter ON run (namespace, fire_time DESC, id DESC) WHERE died IS NOT NULL;
CREATE INDEX run_letter_of_task ON run (namespace, task, fire_time DESC, id DESC) WHERE died IS NOT NULL;
CREATE INDEX run_died ON run (namespace, died) WHERE died IS NOT NULL AND hold IS NULL;
PRAGMA user_version = 2;
";

/// What makes the tables of version 1 those of version 2: whatever had failed becomes a dead letter.
const FROM_1: &str = "
ALTER TABLE run ADD COLUMN died INTEGER;
ALTER TABLE run ADD COLUMN hold TEXT;
UPDATE run SET died = finished WHERE state = 11;
DROP INDEX run_ended;
";

/// How a file is opened.
pub(crate) fn options(file: &Path, synchronous: Synchronous) -> SqliteConnectOptions {
    let synchronous = match synchronous {
        Synchronous::Full => SqliteSynchronous::Full,
        Synchronous::Normal => SqliteSynchronous::Normal,
    };
    SqliteConnectOptions::new()
        .filename(file)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .busy_timeout(BUSY)
        .disable_statement_logging()
}

/// Opens the file, makes it and its tables if they are not there, and frees the leases of before the machine
/// was started.
///
/// # Errors
/// `queue/unreadable`, `queue/newer_store`, and those of SQLite.
pub(crate) async fn open(file: &Path, synchronous: Synchronous) -> Result<SqliteConnection> {
    create_private(file)?;
    let mut connection = connect(file, synchronous).await?;
    prepare(&mut connection, file).await?;
    Ok(connection)
}

/// A connection to a file that is there.
///
/// Of several that open a new file at once one turns on WAL, and SQLite refuses the others without waiting
/// (<https://sqlite.org/wal.html#sometimes_queries_return_sqlite_busy_in_wal_mode>); so the waiting is done here.
///
/// # Errors
/// Those of SQLite; `queue/locked` after as long as any statement waits.
pub(crate) async fn connect(file: &Path, synchronous: Synchronous) -> Result<SqliteConnection> {
    let start = Instant::now();
    loop {
        match options(file, synchronous).connect().await.map_err(|error| failed(error, file)) {
            Err(error) if error.code() == "queue/locked" && start.elapsed() < BUSY => {
                tokio::time::sleep(BUSY_RETRY).await;
            }
            answer => return answer,
        }
    }
}

/// Nobody but its owner reads a queue: parameters may be anything.
fn create_private(file: &Path) -> Result<()> {
    let unwritable = |error: std::io::Error| {
        Error::invalid("queue/unreadable", format!("cannot open the queue {}", file.display()))
            .with_source(error)
    };
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(unwritable)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file).map(drop).map_err(unwritable)
}

async fn prepare(connection: &mut SqliteConnection, file: &Path) -> Result<()> {
    let failed = |error| failed(error, file);
    let mut change = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let row = sqlx::query("PRAGMA user_version").fetch_one(&mut *change).await.map_err(failed)?;
    match row.get::<i64, _>(0) {
        0 => run_all(&mut change, &[TABLES, ENDED]).await.map_err(failed)?,
        1 => run_all(&mut change, &[FROM_1, ENDED]).await.map_err(failed)?,
        VERSION => {}
        newer => {
            let message = format!(
                "the queue {} has version {newer}, and this program knows up to {VERSION}",
                file.display()
            );
            return Err(Error::invalid("queue/newer_store", message));
        }
    }
    let boot = sqlite_clock::boot_id();
    let before = sqlx::query("UPDATE meta SET value = ? WHERE key = 'boot' AND value <> ?")
        .bind(&boot)
        .bind(&boot)
        .execute(&mut *change)
        .await
        .map_err(failed)?;
    if before.rows_affected() > 0 {
        let freed = sqlx::query("UPDATE run SET lease_until = 0 WHERE state = 4").execute(&mut *change).await;
        freed.map_err(failed)?;
    }
    change.commit().await.map_err(failed)
}

async fn run_all(connection: &mut SqliteConnection, scripts: &[&'static str]) -> sqlx::Result<()> {
    for script in scripts {
        sqlx::raw_sql(*script).execute(&mut *connection).await?;
    }
    Ok(())
}
