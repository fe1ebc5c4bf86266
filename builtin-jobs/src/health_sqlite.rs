//! A SQLite file: whether it opens and can be read, and on request whether it is sound throughout.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use crate::health_probe::Found;

/// After how many steps of SQLite it is asked whether somebody still waits for it.
const STEPS: i32 = 1_000;

/// Whether there is such a file: SQLite waits for what comes out of a pipe. Asks the file system, and may block.
pub(crate) fn is_there(path: &Path) -> Found {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => Found::healthy("it is a file"),
        Ok(_) => Found::failed(format!("{} is no file", path.display())),
        Err(error) => Found::failed(format!("{} cannot be looked at: {error}", path.display())),
    }
}

/// Looks at the file, which is only read; whoever calls keeps the time, and drops this to stop it.
pub(crate) async fn look(path: &Path, is_thorough: bool, limit: Duration) -> Found {
    let unusable = |fault: &dyn std::fmt::Display| {
        Found::failed(format!("{} cannot be read as SQLite: {fault}", path.display()))
    };
    // Another connection that holds the file is waited for until the limit of the check passes.
    let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(limit);
    let mut connection = match options.disable_statement_logging().connect().await {
        Ok(connection) => connection,
        Err(error) => return unusable(&error),
    };
    let found = match read(&mut connection, is_thorough).await {
        Ok(None) if is_thorough => Found::healthy("it can be read, and nothing in it is damaged"),
        Ok(None) => Found::healthy("it can be read"),
        Ok(Some(damage)) => Found::failed(format!("{} is damaged: {damage}", path.display())),
        Err(error) => unusable(&error),
    };
    // What was read is known, however the file is closed.
    let _ = connection.close().await;
    found
}

/// The first damage that is found, if there is any.
async fn read(connection: &mut SqliteConnection, is_thorough: bool) -> sqlx::Result<Option<String>> {
    let _watch = Watch::over(connection).await?;
    sqlx::query_scalar::<_, i64>("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *connection).await?;
    if !is_thorough {
        return Ok(None);
    }
    let said: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut *connection).await?;
    Ok((said != "ok").then(|| said.lines().collect::<Vec<_>>().join(" ")))
}

/// Whoever waits for a query. The thread of the connection would go on with one that nobody waits for any more.
struct Watch(Arc<AtomicBool>);

impl Watch {
    async fn over(connection: &mut SqliteConnection) -> sqlx::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&is_over);
        connection.lock_handle().await?.set_progress_handler(STEPS, move || !watched.load(Ordering::Relaxed));
        Ok(Self(is_over))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_query_that_nobody_waits_for_ends() {
        let mut connection = SqliteConnectOptions::new().connect().await.unwrap();
        let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n";
        let watch = Watch::over(&mut connection).await.unwrap();
        let query = sqlx::query(endless).execute(&mut connection);

        drop(watch);
        let ended = tokio::time::timeout(Duration::from_secs(60), query).await;

        let error = ended.expect("it goes on for ever").unwrap_err();
        assert!(error.to_string().contains("interrupted"), "{error}");
    }
}
