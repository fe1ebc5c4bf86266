//! The tables of the SQLite store, and who may open them.

use std::path::Path;
use std::time::{Duration, Instant};

use scheduler_core::{Error, Result};
use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use crate::Synchronous;
use crate::sqlite_error::{failed, is_busy};
use crate::{sqlite_clock, sqlite_unique};

/// The version of these tables; a newer one is refused.
const VERSION: i64 = 4;

/// How long a change waits for another process that writes.
pub(crate) const BUSY: Duration =
    if cfg!(test) { Duration::from_millis(1_000) } else { Duration::from_secs(5) };

/// How long the log beside the file becomes before what it holds is written into the file, in pages: four times as long
/// as SQLite lets it by itself, since a page that is written again and again leaves it once, and the least.
const LOG: u64 = 4_000;
const SHORTEST_LOG: u64 = 64;
/// How much of the room that is left on the disk the log takes at most. While it has taken all of it the file cannot
/// grow, so what it holds cannot leave it.
const SHARE_OF_LOG: u64 = 8;
/// How large a page is.
pub(crate) const PAGE: u64 = 4_096;

/// How long SQLite by itself waits for another process before it is asked again: the longer it waits, the more seldom it
/// looks, down to ten times a second. One that makes change after change leaves the file free for a moment only.
pub(crate) const LOOKS: Duration = Duration::from_millis(25);

/// How soon opening is tried again that was refused without waiting.
const BUSY_RETRY: Duration = Duration::from_millis(10);

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
    hold TEXT,
    queue TEXT,
    slot INTEGER,
    line TEXT
) STRICT;
CREATE INDEX run_delayed ON run (namespace, due) WHERE state < 3;
CREATE INDEX run_leased ON run (namespace, lease_until) WHERE state = 4;
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

/// A run in the queue called `default` has none. The row of a queue is there while it is paused.
const QUEUES: &str = "
CREATE INDEX run_ready ON run (namespace, queue, priority DESC, due, seq) WHERE state = 3;
CREATE TABLE queue (
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    paused TEXT,
    until INTEGER,
    PRIMARY KEY (namespace, name)
) STRICT, WITHOUT ROWID;
";

/// A run with `slot` may begin at that time, whatever the rate of its queue. The next slot of a queue as a whole is kept
/// under no key, and that of a value of a parameter behind a `=`. A run with `line` waits until another of that value
/// has ended.
const PACES: &str = "
CREATE TABLE pace (
    namespace TEXT NOT NULL,
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    next INTEGER NOT NULL,
    PRIMARY KEY (namespace, queue, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_line ON run (namespace, queue, line, priority DESC, seq) WHERE state = 2 AND line IS NOT NULL;
CREATE INDEX pace_next ON pace (namespace, queue, next);
PRAGMA user_version = 4;
";

/// A dead letter is a run with `died`, the time at which it became one; it is held while `hold` says why.
const INDEXES: &str = "
CREATE INDEX run_live ON run (namespace, task, state, seq) WHERE state < 10;
CREATE INDEX run_ended ON run (namespace, finished) WHERE state >= 10 AND died IS NULL;
CREATE INDEX run_letter ON run (namespace, fire_time DESC, id DESC) WHERE died IS NOT NULL;
CREATE INDEX run_letter_of_task ON run (namespace, task, fire_time DESC, id DESC) WHERE died IS NOT NULL;
CREATE INDEX run_died ON run (namespace, died) WHERE died IS NOT NULL AND hold IS NULL;
";

/// What makes the tables of version 1 those of version 2: whatever had failed becomes a dead letter.
const FROM_1: &str = "
ALTER TABLE run ADD COLUMN died INTEGER;
ALTER TABLE run ADD COLUMN hold TEXT;
UPDATE run SET died = finished WHERE state = 11;
DROP INDEX run_ended;
DROP INDEX run_held;
DROP INDEX run_live;
";

/// What makes the tables of version 2 those of version 3: there are several queues.
const FROM_2: &str = "
ALTER TABLE run ADD COLUMN queue TEXT;
DROP INDEX run_ready;
";

/// What makes the tables of version 3 those of version 4: queues have limits.
const FROM_3: &str = "ALTER TABLE run ADD COLUMN slot INTEGER; ALTER TABLE run ADD COLUMN line TEXT;";

/// That a file can give back what is free in it.
pub(crate) const GIVES_BACK: &str = "PRAGMA auto_vacuum = INCREMENTAL";

/// How a file is opened.
fn options(file: &Path, synchronous: Synchronous) -> SqliteConnectOptions {
    let synchronous = match synchronous {
        Synchronous::Full => SqliteSynchronous::Full,
        Synchronous::Normal => SqliteSynchronous::Normal,
    };
    SqliteConnectOptions::new()
        .filename(file)
        .synchronous(synchronous)
        .busy_timeout(BUSY)
        .pragma("wal_autocheckpoint", longest_log(room_beside(file)).to_string())
        .disable_statement_logging()
}

/// How many bytes are left on the disk of a file.
pub(crate) fn room_beside(file: &Path) -> u64 {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // What cannot be asked is not short of room as far as anybody knows.
    rustix::fs::statvfs(folder).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// How many pages the log may have where so many bytes are left.
fn longest_log(room: u64) -> u64 {
    (room / SHARE_OF_LOG / PAGE).clamp(SHORTEST_LOG, LOG)
}

/// Another connection to a file that is there.
///
/// # Errors
/// Those of SQLite.
pub(crate) async fn connect(file: &Path, synchronous: Synchronous) -> Result<SqliteConnection> {
    let opened = options(file, synchronous).connect().await;
    opened.map_err(|error| failed(error, file))
}

/// Says how long SQLite waits by itself, for each statement of a connection: that many milliseconds.
pub(crate) async fn wait_for(connection: &mut SqliteConnection, wait: Duration) -> sqlx::Result<()> {
    let text = format!("PRAGMA busy_timeout = {}", wait.as_millis());
    sqlx::query(sqlx::AssertSqlSafe(text)).execute(connection).await.map(drop)
}

/// Begins a change, once no other process makes one. The connection waits for [`LOOKS`].
///
/// # Errors
/// Those of SQLite; that somebody else writes only after a while.
pub(crate) async fn begin(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    let start = Instant::now();
    loop {
        match sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await {
            Err(error) if is_busy(&error) && start.elapsed() < BUSY => {}
            begun => return begun.map(drop),
        }
    }
}

/// Opens the file, makes it and its tables if they are not there, and frees the leases of before the machine
/// was started.
///
/// Of several that open a new file at once one turns on WAL, and SQLite refuses the others without waiting
/// (<https://sqlite.org/wal.html#sometimes_queries_return_sqlite_busy_in_wal_mode>); so the waiting is done here.
///
/// # Errors
/// `queue/unreadable`, `queue/newer_store`, `queue/corrupt`, and `queue/locked` after as long as any statement waits.
pub(crate) async fn open(file: &Path, synchronous: Synchronous) -> Result<SqliteConnection> {
    create_private(file)?;
    let start = Instant::now();
    loop {
        let mut connection = connect(file, synchronous).await?;
        match prepare(&mut connection, file).await {
            Err(error) if error.code() == "queue/locked" && start.elapsed() < BUSY => {
                tokio::time::sleep(BUSY_RETRY).await;
            }
            prepared => {
                prepared?;
                wait_for(&mut connection, LOOKS).await.map_err(|error| failed(error, file))?;
                return Ok(connection);
            }
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
    // Closing a file takes away the locks that all of this process have on it, says POSIX, and who has none loses the log
    // beside it to whoever closes the file next. So one that is there is opened by SQLite alone.
    if file.exists() {
        return Ok(());
    }
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file).map(drop).map_err(unwritable)
}

async fn prepare(connection: &mut SqliteConnection, file: &Path) -> Result<()> {
    let failed = |error| failed(error, file);
    // Not even its journal is changed before it is known whose it is.
    let found = version(connection, file).await?;
    if found == 0 {
        // This can be said only before anything is in it.
        run_all(connection, &[GIVES_BACK]).await.map_err(failed)?;
    }
    run_all(connection, &["PRAGMA journal_mode = WAL"]).await.map_err(failed)?;
    // Who only wants to look waits for nobody who writes.
    if found == VERSION && is_complete(connection).await.map_err(failed)? {
        return Ok(());
    }
    let mut change = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    match version(&mut change, file).await? {
        0 => run_all(&mut change, &[TABLES, INDEXES, QUEUES, PACES]).await.map_err(failed)?,
        earlier => {
            let steps: [&[&'static str]; 3] = [&[FROM_1, INDEXES], &[FROM_2, QUEUES], &[FROM_3, PACES]];
            let done = usize::try_from(earlier - 1).unwrap_or(steps.len());
            for step in steps.iter().skip(done) {
                run_all(&mut change, step).await.map_err(failed)?;
            }
        }
    }
    run_all(&mut change, &[sqlite_unique::TABLE]).await.map_err(failed)?;
    let before = sqlx::query("UPDATE meta SET value = ?1 WHERE key = 'boot' AND value <> ?1")
        .bind(sqlite_clock::boot_id())
        .execute(&mut *change)
        .await
        .map_err(failed)?;
    if before.rows_affected() > 0 {
        let freed = sqlx::query("UPDATE run SET lease_until = 0 WHERE state = 4").execute(&mut *change).await;
        freed.map_err(failed)?;
    }
    change.commit().await.map_err(failed)
}

/// Whether a file of this version has all its tables, and its leases are of this start of the machine.
async fn is_complete(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
    let complete = "SELECT count(*) = 3 AND (SELECT value FROM meta WHERE key = 'boot') IS ?1 FROM sqlite_schema \
                    WHERE name IN ('unique_run', 'unique_run_of', 'unique_run_expires')";
    sqlx::query_scalar(complete).bind(sqlite_clock::boot_id()).fetch_one(connection).await
}

/// The version of the tables that are there; 0 when there are none.
async fn version(connection: &mut SqliteConnection, file: &Path) -> Result<i64> {
    // In one statement: another process may make the tables between two.
    let seen = "SELECT (SELECT user_version FROM pragma_user_version), count(*), \
                count(*) FILTER (WHERE name IN ('run', 'schedule', 'meta')) \
                FROM sqlite_schema WHERE type = 'table'";
    let seen = sqlx::query_as(seen).fetch_one(connection).await;
    let (version, all, ours): (i64, i64, i64) = seen.map_err(|error| failed(error, file))?;
    match (version, all, ours) {
        (0, 0, _) | (1..=VERSION, _, 3) => Ok(version),
        (newer, _, 3) if newer > VERSION => {
            let message = format!("has version {newer}, and this program knows up to {VERSION}");
            Err(Error::invalid("queue/newer_store", format!("the queue {} {message}", file.display())))
        }
        _ => {
            let message = format!("{} is a database of something else; it is left as it is", file.display());
            Err(Error::invalid("queue/corrupt", message))
        }
    }
}

/// Runs scripts, one after the other.
pub(crate) async fn run_all(connection: &mut SqliteConnection, scripts: &[&'static str]) -> sqlx::Result<()> {
    for script in scripts {
        sqlx::raw_sql(*script).execute(&mut *connection).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_takes_no_more_than_its_share_of_a_small_disk() {
        let cases = [
            (u64::MAX, LOG),
            (1 << 30, LOG),
            (16 << 20, 512),
            (4 << 20, 128),
            (1 << 20, SHORTEST_LOG),
            (0, SHORTEST_LOG),
        ];
        for (room, pages) in cases {
            assert_eq!(longest_log(room), pages, "{room} bytes are left");
        }
    }

    #[test]
    fn the_room_is_that_of_the_disk_on_which_the_file_is() {
        let folder = tempfile::tempdir().unwrap();
        assert!(room_beside(&folder.path().join("queue.db")) < u64::MAX);
        assert!(room_beside(Path::new("queue.db")) < u64::MAX);
        assert_eq!(room_beside(&folder.path().join("nowhere/queue.db")), u64::MAX);
    }
}
