//! How runs come into the SQLite store, and when those that wait for their turn have it.

use std::collections::{BTreeSet, HashSet};

use scheduler_core::{Name, Timestamp};
use sqlx::Row;

use crate::envelope;
use crate::sqlite_change::Change;
use crate::sqlite_clock::now;
use crate::sqlite_row::{HELD, READY, SCHEDULED, stored};
use crate::store::Pushed;

/// How many rows one statement writes at most.
pub(crate) const BATCH: usize = 500;

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
    pub(crate) async fn insert(&mut self, runs: &[Pushed]) -> sqlx::Result<Vec<bool>> {
        let at = now();
        let mut answers = Vec::with_capacity(runs.len());
        let mut turns = BTreeSet::new();
        for batch in runs.chunks(BATCH) {
            let rows: Vec<_> = batch.iter().map(|pushed| row(pushed, at)).collect();
            let inserted = sqlx::query(
                "INSERT INTO run (id, namespace, task, state, died, priority, due, fire_time, attempt, \
                 max_attempts, alone, finished, envelope) SELECT value ->> 0, ?2, value ->> 1, value ->> 2, \
                 CASE value ->> 2 WHEN 11 THEN ?3 END, value ->> 3, value ->> 4, value ->> 5, 0, value ->> 6, \
                 value ->> 7, value ->> 8, value ->> 9 FROM json_each(?1) WHERE true \
                 ON CONFLICT (id) DO NOTHING RETURNING id",
            )
            .bind(json(&rows)?)
            .bind(self.namespace())
            .bind(at.as_millis())
            .fetch_all(&mut self.connection)
            .await?;
            let mut new: HashSet<String> =
                inserted.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<_>>()?;
            // Of two with the same id the first is new.
            answers.extend(rows.iter().map(|row| new.remove(&row.0)));
            turns.extend(batch.iter().filter(|pushed| pushed.alone).map(|pushed| pushed.run.task.clone()));
        }
        self.release(&turns).await?;
        Ok(answers)
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

type Row10<'a> = (String, &'a str, i64, u8, i64, i64, u32, bool, Option<i64>, String);

fn row(pushed: &Pushed, at: Timestamp) -> Row10<'_> {
    let Pushed { run, due, priority, max_attempts, alone } = pushed;
    let state = match (run.state.is_end(), *due <= at, alone) {
        (true, ..) => stored(run.state),
        (false, false, _) => SCHEDULED,
        (false, true, true) => HELD,
        (false, true, false) => READY,
    };
    let finished = run.finished_at.map(Timestamp::as_millis);
    let (due, fire_time) = (due.as_millis(), run.fire_time.as_millis());
    let id = run.id.to_string();
    (
        id,
        run.task.as_str(),
        state,
        *priority,
        due,
        fire_time,
        *max_attempts,
        *alone,
        finished,
        envelope::seal(run),
    )
}

/// Rows as one argument, so that a statement has one text for any number of them.
pub(crate) fn json(rows: &impl serde::Serialize) -> sqlx::Result<String> {
    serde_json::to_string(rows).map_err(|error| sqlx::Error::Encode(error.into()))
}
