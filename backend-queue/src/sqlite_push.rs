//! How runs come into the SQLite store, and when those that wait for their turn have it.

use std::collections::{BTreeSet, HashSet};
use std::hash::Hash;

use scheduler_core::{Name, RunId, Timestamp};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteQueryResult, SqliteRow};

use crate::envelope;
use crate::sqlite_change::Change;
use crate::sqlite_clock::now;
use crate::sqlite_row::{HELD, READY, SCHEDULED, stored};
use crate::store::Pushed;

/// How many rows one statement writes at most, and how many bytes of envelopes besides the last.
pub(crate) const BATCH: usize = 500;
pub(crate) const LARGEST: usize = 8 * 1024 * 1024;

/// How many tasks are looked through for one whose turn was not passed on.
const TASKS: i64 = 10_000;

/// Those that wait for their turn and have it: the first of each task `turn` of which nothing else lives.
macro_rules! release {
    () => {
        "UPDATE run SET state = 3 WHERE seq IN (SELECT (SELECT seq FROM run WHERE namespace = ?1 \
         AND task = turn.task AND state = 5 AND state < 10 ORDER BY seq LIMIT 1) FROM turn \
         WHERE NOT EXISTS (SELECT 1 FROM run WHERE namespace = ?1 AND task = turn.task \
         AND state >= 1 AND state <= 4 AND state < 10))"
    };
}

impl Change<'_> {
    /// Adds runs; says of each whether it is new.
    pub(crate) async fn insert(
        &mut self,
        runs: impl Iterator<Item = &Pushed> + Clone,
    ) -> sqlx::Result<Vec<bool>> {
        let answers = self.insert_rows(runs.clone()).await?;
        self.release_added(runs).await?;
        Ok(answers)
    }

    /// As [`Change::insert`], and those that wait for their turn go on waiting until [`Change::release_added`].
    pub(crate) async fn insert_rows(
        &mut self,
        runs: impl Iterator<Item = &Pushed>,
    ) -> sqlx::Result<Vec<bool>> {
        let at = now();
        let rows: Vec<_> = runs.map(|pushed| row(pushed, at)).collect();
        let mut answers = Vec::with_capacity(rows.len());
        for batch in batches(&rows, |row| (row.0, row.9.len())) {
            let inserted = sqlx::query(
                "INSERT INTO run (id, namespace, task, state, died, priority, due, fire_time, attempt, \
                 max_attempts, alone, finished, envelope, queue) SELECT value ->> 0, ?2, value ->> 1, value ->> 2, \
                 CASE value ->> 2 WHEN 11 THEN ?3 END, value ->> 3, value ->> 4, value ->> 5, 0, value ->> 6, \
                 value ->> 7, value ->> 8, value ->> 9, value ->> 10 FROM json_each(?1) WHERE true \
                 ON CONFLICT (id) DO NOTHING",
            )
            .bind(json(&batch)?)
            .bind(self.namespace())
            .bind(at.as_millis())
            .execute(&mut self.connection)
            .await?;
            if inserted.rows_affected() == batch.len() as u64 {
                answers.extend(batch.iter().map(|_| true));
            } else {
                let new = self.inserted(&inserted).await?;
                answers.extend(batch.iter().map(|row| new.contains(&row.0)));
            }
        }
        Ok(answers)
    }

    /// Lets those of the added runs go on whose turn it is.
    pub(crate) async fn release_added(&mut self, runs: impl Iterator<Item = &Pushed>) -> sqlx::Result<()> {
        let alone = runs.filter(|pushed| pushed.alone);
        self.release(&alone.map(|pushed| pushed.run.task.clone()).collect()).await
    }

    /// The ids of the rows that a statement added.
    async fn inserted(&mut self, added: &SqliteQueryResult) -> sqlx::Result<HashSet<RunId>> {
        let (last, count) = (added.last_insert_rowid(), added.rows_affected());
        if count == 0 {
            return Ok(HashSet::new());
        }
        // A statement numbers its rows one after the other, unless the numbers have come to their end.
        let before = last.saturating_sub(i64::try_from(count).unwrap_or(i64::MAX));
        let rows = sqlx::query("SELECT id FROM run WHERE seq > ? AND seq <= ?").bind(before).bind(last);
        let rows = rows.fetch_all(&mut self.connection).await?;
        if rows.len() as u64 != count {
            return Err(sqlx::Error::Protocol("the file numbers its rows in no order".to_owned()));
        }
        ids(&rows)
    }

    /// Lets the first of the runs that wait for their turn go on, of each of these tasks of which nothing else
    /// lives.
    pub(crate) async fn release(&mut self, tasks: &BTreeSet<Name>) -> sqlx::Result<()> {
        if tasks.is_empty() {
            return Ok(());
        }
        sqlx::query(concat!("WITH turn (task) AS (SELECT value FROM json_each(?2)) ", release!()))
            .bind(self.namespace())
            .bind(json(&tasks)?)
            .execute(&mut self.connection)
            .await
            .map(drop)
    }

    /// As [`Change::release`], of whatever task: none waits for ever, whoever changed the file.
    pub(crate) async fn release_all(&mut self) -> sqlx::Result<()> {
        sqlx::query(concat!(
            "WITH RECURSIVE turn (task) AS (SELECT min(task) FROM run WHERE namespace = ?1 AND state < 10 ",
            "UNION ALL SELECT (SELECT min(task) FROM run WHERE namespace = ?1 AND state < 10 ",
            "AND task > turn.task) FROM turn WHERE turn.task IS NOT NULL LIMIT ?2) ",
            release!()
        ))
        .bind(self.namespace())
        .bind(TASKS)
        .execute(&mut self.connection)
        .await
        .map(drop)
    }
}

type Row<'a> = (RunId, &'a str, i64, u8, i64, i64, u32, bool, Option<i64>, String, Option<&'a str>);

fn row(pushed: &Pushed, at: Timestamp) -> Row<'_> {
    let Pushed { run, due, priority, max_attempts, alone } = pushed;
    let state = match (run.state.is_end(), *due <= at, alone) {
        (true, ..) => stored(run.state),
        (false, false, _) => SCHEDULED,
        (false, true, true) => HELD,
        (false, true, false) => READY,
    };
    let finished = run.finished_at.map(Timestamp::as_millis);
    let (due, fire_time) = (due.as_millis(), run.fire_time.as_millis());
    let (task, envelope) = (run.task.as_str(), envelope::seal(run));
    let queue = run.queue.as_ref().map(Name::as_str);
    (run.id, task, state, *priority, due, fire_time, *max_attempts, *alone, finished, envelope, queue)
}

/// Rows as one argument, so that a statement has one text for any number of them.
pub(crate) fn json(rows: &impl serde::Serialize) -> sqlx::Result<String> {
    serde_json::to_string(rows).map_err(|error| sqlx::Error::Encode(error.into()))
}

/// Rows in their order, as many at a time as one statement takes; none of them twice, by `key`, which comes with
/// the size.
pub(crate) fn batches<T, K: Eq + Hash>(
    rows: &[T],
    key: impl Fn(&T) -> (K, usize),
) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let (mut seen, mut bytes) = (HashSet::new(), 0);
        let fits = |row: &&T| {
            let (key, size) = key(row);
            let fits = bytes < LARGEST && seen.insert(key);
            bytes += size;
            fits
        };
        let (batch, after) = rest.split_at(rest.iter().take(BATCH).take_while(fits).count());
        rest = after;
        (!batch.is_empty()).then_some(batch)
    })
}

/// The ids in the first column.
pub(crate) fn ids(rows: &[SqliteRow]) -> sqlx::Result<HashSet<RunId>> {
    let id = |row: &SqliteRow| row.try_get::<&str, _>(0).map(|id| id.parse().ok());
    rows.iter().filter_map(|row| id(row).transpose()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_in_rows_and_bytes_and_names_nothing_twice() {
        let lengths =
            |rows: &[(u32, usize)]| -> Vec<usize> { batches(rows, |row| *row).map(<[_]>::len).collect() };
        let many: Vec<(u32, usize)> = (0..1_001).map(|key| (key, 1)).collect();

        assert_eq!(lengths(&many), [500, 500, 1]);
        assert_eq!(lengths(&[(1, LARGEST - 1), (2, LARGEST), (3, 1)]), [2, 1]);
        assert_eq!(lengths(&[(1, 1), (2, 1), (1, 1), (1, 1)]), [2, 1, 1]);
        assert_eq!(lengths(&[]), [0; 0]);
    }
}
