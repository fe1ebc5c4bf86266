//! What of the history in a file lies beyond bounds, and forgetting it on demand.

use scheduler_core::{EndedRun, HistoryBounds, Name, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::sqlite_change::Change;
use crate::sqlite_clock::now;
use crate::sqlite_row::{id, integer, made_up, text};

/// What a run is told from; its envelope is not read for that.
macro_rules! told {
    () => {
        "seq, id, task, finished, octet_length(envelope) AS bytes"
    };
}

/// The place in the order of ends up to which runs lie beyond, if any does.
pub(crate) async fn last_beyond(
    namespace: &str,
    connection: &mut SqliteConnection,
    bounds: &HistoryBounds,
) -> sqlx::Result<(i64, i64)> {
    let mut last = (i64::MIN, i64::MIN);
    if let Some(age) = bounds.max_age {
        last = ((now() - age).as_millis(), i64::MAX);
    }
    let Some(most) = bounds.max_runs else { return Ok(last) };
    // The newest run that is one too many, found by walking the index from its young end.
    let beyond = sqlx::query(
        "SELECT finished, seq FROM run WHERE namespace = ? AND state >= 10 AND died IS NULL \
         ORDER BY finished DESC, seq DESC LIMIT 1 OFFSET ?",
    )
    .bind(namespace)
    .bind(i64::try_from(most).unwrap_or(i64::MAX))
    .fetch_optional(connection)
    .await?;
    match beyond {
        Some(row) => Ok(last.max((row.try_get(0)?, row.try_get(1)?))),
        None => Ok(last),
    }
}

/// As [`Store::beyond`](crate::store::Store::beyond).
pub(crate) async fn beyond(
    namespace: &str,
    backend: &Name,
    connection: &mut SqliteConnection,
    bounds: &HistoryBounds,
    (skip, limit): (usize, u32),
) -> sqlx::Result<Vec<EndedRun>> {
    let last = last_beyond(namespace, connection, bounds).await?;
    let rows = sqlx::query(concat!(
        "SELECT ",
        told!(),
        " FROM run WHERE namespace = ? AND state >= 10 AND died IS NULL AND (finished, seq) <= (?, ?) \
         ORDER BY finished, seq LIMIT ? OFFSET ?"
    ))
    .bind(namespace)
    .bind(last.0)
    .bind(last.1)
    .bind(limit)
    .bind(i64::try_from(skip).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?;
    Ok(rows.iter().map(|row| ended(row, backend)).collect())
}

fn ended(row: &SqliteRow, backend: &Name) -> EndedRun {
    let task = text(row, "task").ok().and_then(|task| Name::new(task).ok());
    let ended_at = Timestamp::from_millis(integer(row, "finished").unwrap_or_default());
    // It goes as well where it cannot be read, under a name that stands for it.
    let (id, task) = (id(row).unwrap_or_else(|_| made_up(row)), task.unwrap_or_else(|| backend.clone()));
    EndedRun::new(id, task, ended_at, integer(row, "bytes").unwrap_or_default())
}

impl Change<'_> {
    /// As [`Store::prune`](crate::store::Store::prune).
    pub(crate) async fn prune(&mut self, bounds: &HistoryBounds, limit: u32) -> sqlx::Result<Vec<EndedRun>> {
        let last = last_beyond(self.namespace(), &mut self.connection, bounds).await?;
        self.let_kinds_go(last, i64::from(limit)).await?;
        let mut rows = sqlx::query(concat!(
            "DELETE FROM run WHERE seq IN (SELECT seq FROM run WHERE namespace = ? AND state >= 10 \
             AND died IS NULL AND (finished, seq) <= (?, ?) ORDER BY finished, seq LIMIT ? + 0) RETURNING ",
            told!()
        ))
        .bind(self.namespace())
        .bind(last.0)
        .bind(last.1)
        .bind(limit)
        .fetch_all(&mut self.connection)
        .await?;
        // Rows are returned in no order that could be relied on.
        rows.sort_by_key(|row| (integer::<i64>(row, "finished").ok(), integer::<i64>(row, "seq").ok()));
        Ok(rows.iter().map(|row| ended(row, &self.store.backend)).collect())
    }
}
