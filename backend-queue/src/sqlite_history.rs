//! The history of the SQLite store: what is shown of its runs, and how long it is kept.

use std::sync::{MutexGuard, PoisonError};

use scheduler_core::{HistoryBounds, Name, Page, PageToken, Result, Run, RunFilter, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use crate::sqlite::SqliteStore;
use crate::sqlite_change::Change;
use crate::sqlite_push::LARGEST;
use crate::sqlite_retention::last_beyond;
use crate::sqlite_row::{columns, numbers, read, text};
use crate::store::Retention;

/// How far runs that wait are counted.
const COUNTED: i64 = 100_000;

/// A page of the runs of a namespace, the newest fire first.
pub(crate) async fn page(
    store: &SqliteStore,
    connection: &mut SqliteConnection,
    filter: &RunFilter,
) -> sqlx::Result<Page> {
    let query = |piece| {
        let mut query = QueryBuilder::new(concat!("SELECT ", columns!(), " FROM run WHERE true"));
        if let Some(run) = filter.run {
            query.push(" AND id = ").push_bind(run.to_string());
        }
        if !filter.states.is_empty() {
            query.push(" AND state IN (");
            let mut states = query.separated(", ");
            for state in filter.states.iter().flat_map(|state| numbers(*state)) {
                states.push_bind(*state);
            }
            query.push(")");
        }
        narrow(&mut query, store.namespace.as_ref(), filter.task.as_ref(), filter.after, piece);
        query
    };
    let (rows, has_more) = bounded(connection, filter.page_size(), query).await?;
    let runs: Vec<Run> =
        rows.iter().map(|row| read(row, &store.backend).unwrap_or_else(|run| *run)).collect();
    let next = runs.last().filter(|_| has_more).map(PageToken::of);
    Ok(Page { runs, next })
}

/// Part of what a query answers: how many rows, behind how many others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    count: usize,
    behind: usize,
}

/// How many rows are read before it is known how large they are, and how many more at most.
const FIRST: usize = 50;
const MOST: usize = 5_000;

/// The rows of a page, read piece by piece so that large ones make it shorter; and whether there are more.
pub(crate) async fn bounded(
    connection: &mut SqliteConnection,
    page_size: usize,
    query: impl Fn(Piece) -> QueryBuilder<Sqlite>,
) -> sqlx::Result<(Vec<SqliteRow>, bool)> {
    // All pieces are of one moment.
    sqlx::query("BEGIN").execute(&mut *connection).await?;
    let (mut rows, mut bytes, mut is_all) = (Vec::new(), 0, false);
    while !is_all && rows.len() <= page_size && (bytes < LARGEST || rows.len() < 2) {
        let fit = bytes.checked_div(rows.len()).map_or(FIRST, |mean| LARGEST / mean.max(1));
        let count = fit.clamp(FIRST, MOST).min(page_size.saturating_add(1) - rows.len());
        let piece = query(Piece { count, behind: rows.len() }).build().fetch_all(&mut *connection).await?;
        is_all = piece.len() < count;
        bytes += piece.iter().map(|row| text(row, "envelope").map_or(0, str::len)).sum::<usize>();
        rows.extend(piece);
    }
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    // The last one only shows that there are more.
    let has_more = !is_all;
    rows.truncate(rows.len().saturating_sub(usize::from(has_more)));
    Ok((rows, has_more))
}

/// Goes on with a query of runs: those of a namespace and a task, in their order, behind a place in it.
pub(crate) fn narrow(
    query: &mut QueryBuilder<Sqlite>,
    namespace: Option<&Name>,
    task: Option<&Name>,
    after: Option<PageToken>,
    Piece { count, behind }: Piece,
) {
    // Everything in the file is shown while the namespace is not known.
    if let Some(namespace) = namespace {
        query.push(" AND namespace = ").push_bind(namespace.as_str().to_owned());
    }
    if let Some(task) = task {
        query.push(" AND task = ").push_bind(task.as_str().to_owned());
    }
    // A page ends in a place that can be named, so that the next one lies behind it.
    query.push(" AND fire_time >= ").push_bind(Timestamp::MIN.as_millis());
    match after {
        Some(after) => {
            query.push(" AND (fire_time, id) < (").push_bind(after.fire_time().as_millis());
            query.push(", ").push_bind(after.run().to_string()).push(")");
        }
        None => drop(query.push(" AND fire_time <= ").push_bind(Timestamp::MAX.as_millis())),
    }
    query.push(" ORDER BY fire_time DESC, id DESC LIMIT ");
    query.push_bind(i64::try_from(count).unwrap_or(i64::MAX));
    query.push(" OFFSET ").push_bind(i64::try_from(behind).unwrap_or(i64::MAX));
}

/// As [`Store::waiting`](crate::store::Store::waiting).
pub(crate) async fn waiting(namespace: &str, connection: &mut SqliteConnection) -> sqlx::Result<usize> {
    let counted: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT 1 FROM run WHERE namespace = ? AND state < 10 AND state <> 4 LIMIT ?)",
    )
    .bind(namespace)
    .bind(COUNTED)
    .fetch_one(connection)
    .await?;
    Ok(usize::try_from(counted).unwrap_or(0))
}

/// Up to which place in the order of ends runs are to be forgotten, by what retention.
pub(crate) type ForgetsTo = (Retention, (i64, i64));

impl SqliteStore {
    /// As [`Store::forget`](crate::store::Store::forget).
    ///
    /// # Errors
    /// Those of a change.
    pub(crate) async fn forget_old(&self, retention: &Retention, limit: u32) -> Result<usize> {
        let mut forgotten = self.let_letters_go(retention, limit).await?;
        // What lay beyond a place stays beyond it; what were letters may lie beyond it now.
        let known = self.known_place().take().filter(|(by, _)| by == retention && forgotten == 0);
        let left = |forgotten| limit.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX));
        if let Some((_, last)) = known {
            forgotten += self.forget_to(left(forgotten), last).await?;
        }
        if left(forgotten) > 0 {
            let last = self.last_to_forget(retention).await?;
            forgotten += self.forget_to(left(forgotten), last).await?;
            *self.known_place() = Some((*retention, last)).filter(|_| left(forgotten) == 0);
        } else {
            *self.known_place() = known;
        }
        if forgotten < limit as usize {
            self.give_room_back().await?;
        }
        Ok(forgotten)
    }

    pub(crate) fn known_place(&self) -> MutexGuard<'_, Option<ForgetsTo>> {
        self.forgets_to.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks while nobody is kept from writing, since all that is kept is passed by.
    async fn last_to_forget(&self, retention: &Retention) -> Result<(i64, i64)> {
        let mut reading = self.reading().await?;
        let bounds = HistoryBounds::default().aged(retention.age).counting(retention.runs);
        let last = last_beyond(self.namespace(), &mut reading.connection, &bounds).await;
        reading.end(last)
    }

    async fn let_letters_go(&self, retention: &Retention, limit: u32) -> Result<usize> {
        let mut change = self.change().await?;
        let gone = change.let_letters_go(retention, limit).await;
        Ok(usize::try_from(change.end(gone).await?).unwrap_or(usize::MAX))
    }

    async fn forget_to(&self, limit: u32, last: (i64, i64)) -> Result<usize> {
        let mut change = self.change().await?;
        let forgotten = change.forget(limit, last).await;
        Ok(usize::try_from(change.end(forgotten).await?).unwrap_or(usize::MAX))
    }
}

impl Change<'_> {
    /// Forgets runs that have ended as far as a place in the order of ends; answers how many.
    async fn forget(&mut self, limit: u32, last: (i64, i64)) -> sqlx::Result<u64> {
        self.let_kinds_go(last, i64::from(limit)).await?;
        let forgotten = sqlx::query(
            "DELETE FROM run WHERE seq IN (SELECT seq FROM run WHERE namespace = ? AND state >= 10 \
             AND died IS NULL AND (finished, seq) <= (?, ?) ORDER BY finished, seq LIMIT ? + 0)",
        )
        .bind(self.namespace())
        .bind(last.0)
        .bind(last.1)
        .bind(limit)
        .execute(&mut self.connection)
        .await?;
        Ok(forgotten.rows_affected())
    }
}
