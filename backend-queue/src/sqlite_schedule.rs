//! The schedules of the SQLite store: a cursor is advanced in the transaction that adds the run, so a fire is
//! enqueued once, however many daemons see it.

use std::time::Duration;

use scheduler_core::{CancelReason, Cursor, Entry, Live, Name, Pause, Timestamp};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::sqlite_change::Change;
use crate::sqlite_clock::now;
use crate::sqlite_row::{integer, lossy};
use crate::store::{Decide, Decided, Effect, Pushed, Standing};

/// How far the runs of a task that live are counted: beyond this no decision depends on their number.
const COUNTED: i64 = 1_000;

/// Where a schedule stands, with its revision.
pub(crate) async fn standing(
    namespace: &str,
    connection: &mut SqliteConnection,
    task: &Name,
) -> sqlx::Result<Option<(u64, Standing)>> {
    let found = sqlx::query(
        "SELECT *, (SELECT count(*) FROM (SELECT 1 FROM run WHERE namespace = ?1 AND task = ?2 \
         AND state >= 1 AND state <= 4 AND state < 10 LIMIT ?3 + 0)) AS running, \
         (SELECT count(*) FROM (SELECT 1 FROM run WHERE namespace = ?1 AND task = ?2 \
         AND state = 5 AND state < 10 LIMIT ?3 + 0)) AS queued \
         FROM schedule WHERE namespace = ?1 AND task = ?2",
    )
    .bind(namespace)
    .bind(task.as_str())
    .bind(COUNTED)
    .fetch_optional(connection)
    .await?;
    Ok(found.map(|row| read(&row)))
}

/// What was written by somebody else counts as far as it makes sense, so that no schedule stops for good.
fn read(row: &SqliteRow) -> (u64, Standing) {
    let instant = |column: &str| integer(row, column).map(Timestamp::from_millis);
    let live = Live {
        running: integer(row, "running").unwrap_or_default(),
        queued: integer(row, "queued").unwrap_or_default(),
    };
    let cursor = Cursor {
        decided: instant("decided").unwrap_or_default(),
        served_since: instant("served_since").unwrap_or_default(),
        runs: integer(row, "runs").unwrap_or_default(),
        finished: instant("finished").ok(),
    };
    // A pause that cannot be read is still one.
    let paused = lossy(row, "paused").map(|text| serde_json::from_str(&text).unwrap_or_default());
    (integer(row, "revision").unwrap_or_default(), Standing { cursor, paused, live })
}

impl Change<'_> {
    /// As [`Store::register`](crate::store::Store::register).
    pub(crate) async fn register(
        &mut self,
        task: &Name,
        definition: &str,
        lease: Duration,
    ) -> sqlx::Result<u64> {
        let at = now();
        let begun = Cursor::starting(at);
        // Nobody served these fires when the last who did has not said so for a lease. An edited trigger, which is
        // what a definition ends with, begins now.
        let revision: i64 = sqlx::query_scalar(
            "INSERT INTO schedule (namespace, task, revision, definition, decided, served_since, served_until, \
             runs) VALUES (?1, ?2, 1, ?3, ?4, ?4, ?6, 0) ON CONFLICT (namespace, task) DO UPDATE SET \
             decided = CASE WHEN substr(definition, 18) NOT IN ('', substr(?3, 18)) THEN max(decided, ?4) \
             ELSE decided END, \
             finished = CASE WHEN substr(definition, 18) NOT IN ('', substr(?3, 18)) THEN max(finished, ?5) \
             ELSE finished END, \
             revision = max(0, min(revision, 4611686018427387904)) + (definition <> ?3), definition = ?3, \
             served_since = CASE WHEN served_until < ?5 THEN ?5 ELSE served_since END, served_until = ?6 \
             RETURNING revision",
        )
        .bind(self.namespace())
        .bind(task.as_str())
        .bind(definition)
        .bind(begun.decided.as_millis())
        .bind(at.as_millis())
        .bind((at + lease).as_millis())
        .fetch_one(&mut self.connection)
        .await?;
        Ok(revision.unsigned_abs())
    }

    /// As [`Store::serve`](crate::store::Store::serve).
    pub(crate) async fn serve(&mut self, tasks: &[Name], lease: Duration) -> sqlx::Result<()> {
        let until = if lease.is_zero() { 0 } else { (now() + lease).as_millis() };
        for task in tasks {
            sqlx::query("UPDATE schedule SET served_until = ? WHERE namespace = ? AND task = ?")
                .bind(until)
                .bind(self.namespace())
                .bind(task.as_str())
                .execute(&mut self.connection)
                .await?;
        }
        Ok(())
    }

    /// As [`Store::pause`](crate::store::Store::pause).
    pub(crate) async fn pause(&mut self, task: &Name, pause: Option<&Pause>) -> sqlx::Result<()> {
        let served_since = pause.is_none().then(|| now().as_millis());
        sqlx::query(
            "UPDATE schedule SET paused = ?, served_since = coalesce(?, served_since) \
             WHERE namespace = ? AND task = ?",
        )
        .bind(pause.map(text))
        .bind(served_since)
        .bind(self.namespace())
        .bind(task.as_str())
        .execute(&mut self.connection)
        .await
        .map(drop)
    }

    /// As [`Store::decide`](crate::store::Store::decide).
    pub(crate) async fn decide(
        &mut self,
        task: &Name,
        revision: u64,
        decide: &Decide<'_>,
    ) -> sqlx::Result<Decided> {
        let found = standing(self.namespace(), &mut self.connection, task).await?;
        let Some((newest, before)) = found else { return Ok(Decided::Unknown) };
        if newest > revision {
            return Ok(Decided::Stale);
        }
        if newest < revision {
            // An older copy of the file is in its place, and somebody else was the first to register the task again.
            return Ok(Decided::Unknown);
        }
        let decision = decide(before.clone(), now());
        let (mut ended, mut marked) = (Vec::new(), Vec::new());
        let is_fire = matches!(decision.effect, Effect::Fire(..));
        match self.unless_kept_out(decision.effect).await? {
            Effect::Fire(pushed, entry) => {
                if entry == Entry::CancelOthers {
                    (ended, marked) = self.replace(task, CancelReason::Replaced.as_str()).await?;
                }
                self.insert_owning(&pushed).await?;
                self.release_added(std::iter::once(&*pushed)).await?;
            }
            Effect::Skip(run) => {
                let due = run.fire_time;
                ended.extend(Some((*run).clone()).filter(|_| is_fire));
                let skipped = Pushed { run: *run, due, priority: 0, max_attempts: 1, alone: false };
                self.insert([&skipped].into_iter()).await?;
            }
            Effect::Nothing => {}
        }
        if decision.cursor != before.cursor || decision.paused != before.paused {
            self.advance(task, &decision.cursor, decision.paused.as_ref()).await?;
        }
        Ok(Decided::Done { ended, marked })
    }

    async fn advance(&mut self, task: &Name, cursor: &Cursor, pause: Option<&Pause>) -> sqlx::Result<()> {
        let Cursor { decided, served_since, runs, finished } = cursor;
        sqlx::query(
            "UPDATE schedule SET decided = ?, served_since = ?, runs = ?, finished = ?, paused = ? \
             WHERE namespace = ? AND task = ?",
        )
        .bind(decided.as_millis())
        .bind(served_since.as_millis())
        .bind(i64::try_from(*runs).unwrap_or(i64::MAX))
        .bind(finished.map(Timestamp::as_millis))
        .bind(pause.map(text))
        .bind(self.namespace())
        .bind(task.as_str())
        .execute(&mut self.connection)
        .await
        .map(drop)
    }
}

fn text(pause: &Pause) -> String {
    serde_json::to_string(pause).unwrap_or_default()
}
