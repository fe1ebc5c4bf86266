//! How runs of the SQLite store end without a worker: cancelled, given up by whoever had them, or unreadable.

use std::collections::BTreeSet;

use scheduler_core::{Name, Run, RunId, RunState, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::envelope;
use crate::sqlite_change::Change;
use crate::sqlite_clock::{now, since_boot};
use crate::sqlite_push::{LARGEST, batches, json};
use crate::sqlite_row::{HELD, RUNNING, columns, integer, lossy, read, stored, text};
use crate::store::Cancel;

/// How many runs are read at a time of which each may be large.
const READ: u32 = 50;

const LOST: &str = "its worker is gone: the lease expired";
const SPENT: &str = "its worker is gone: the lease expired, and no attempt is left";

impl Change<'_> {
    /// As [`Store::cancel`](crate::store::Store::cancel).
    pub(crate) async fn cancel(&mut self, run: RunId, reason: &str) -> sqlx::Result<Cancel> {
        let found = sqlx::query(concat!("SELECT ", columns!(), " FROM run WHERE id = ? AND namespace = ?"))
            .bind(run.to_string())
            .bind(self.namespace())
            .fetch_optional(&mut self.connection)
            .await?;
        let Some(row) = found else { return Ok(Cancel::Unknown) };
        match row.try_get::<i64, _>("state")? {
            RUNNING => {
                self.mark(&row, reason).await?;
                Ok(Cancel::Marked)
            }
            state if state > HELD => Ok(Cancel::TooLate),
            _ => {
                let run = self.end_waiting(row, reason).await?;
                self.release(&BTreeSet::from([run.task.clone()])).await?;
                Ok(Cancel::Ended(Box::new(run)))
            }
        }
    }

    /// Ends the runs of a task that wait, and marks those under way.
    pub(crate) async fn replace(
        &mut self,
        task: &Name,
        reason: &str,
    ) -> sqlx::Result<(Vec<Run>, Vec<RunId>)> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(),
            " FROM run WHERE namespace = ? AND task = ? AND state >= 1 AND state <= 5 AND state < 10 ORDER BY seq"
        ))
        .bind(self.namespace())
        .bind(task.as_str())
        .fetch_all(&mut self.connection)
        .await?;
        let (mut ended, mut marked) = (Vec::new(), Vec::new());
        for row in rows {
            if row.try_get::<i64, _>("state")? == RUNNING {
                self.mark(&row, reason).await?;
                marked.push(read(&row, &self.store.backend).unwrap_or_else(|run| *run).id);
            } else {
                ended.push(self.end_waiting(row, reason).await?);
            }
        }
        Ok((ended, marked))
    }

    async fn mark(&mut self, row: &SqliteRow, reason: &str) -> sqlx::Result<()> {
        let mark = sqlx::query("UPDATE run SET cancel = ? WHERE seq = ?").bind(reason);
        mark.bind(row.try_get::<i64, _>("seq")?).execute(&mut self.connection).await.map(drop)
    }

    /// Ends a run that waits.
    async fn end_waiting(&mut self, row: SqliteRow, reason: &str) -> sqlx::Result<Run> {
        let seq: i64 = row.try_get("seq")?;
        let mut run = match read(&row, &self.store.backend) {
            Ok(run) => run,
            Err(run) => return self.bury(seq, *run).await,
        };
        run.state = RunState::Cancelled;
        run.reason = Some(reason.to_owned());
        run.finished_at = Some(now());
        run.next_attempt_at = None;
        self.note_end(&run).await?;
        let ended = [(seq, run)];
        self.rewrite(&ended).await?;
        let [(_, run)] = ended;
        Ok(run)
    }

    /// As [`Store::reap`](crate::store::Store::reap).
    pub(crate) async fn reap(&mut self, limit: u32) -> sqlx::Result<Vec<Run>> {
        let (mut answers, mut bytes, before) = (Vec::new(), 0, since_boot());
        while bytes < LARGEST {
            let left = limit.saturating_sub(u32::try_from(answers.len()).unwrap_or(u32::MAX));
            let (reaped, size) = self.reap_some(left.min(READ), before).await?;
            bytes += size;
            if reaped.is_empty() {
                break;
            }
            answers.extend(reaped);
        }
        self.release_all().await?;
        Ok(answers)
    }

    /// Takes away leases that expired before an instant, and says how many bytes the runs have.
    async fn reap_some(&mut self, limit: u32, before: i64) -> sqlx::Result<(Vec<Run>, usize)> {
        let expired = sqlx::query(concat!(
            "SELECT cancel, ",
            columns!(),
            " FROM run WHERE namespace = ? AND state = 4 AND lease_until < ? ORDER BY lease_until LIMIT ?"
        ))
        .bind(self.namespace())
        .bind(before)
        .bind(limit)
        .fetch_all(&mut self.connection)
        .await?;
        let (mut answers, mut given) = (Vec::new(), Vec::with_capacity(expired.len()));
        for row in &expired {
            let seq: i64 = row.try_get("seq")?;
            match read(row, &self.store.backend) {
                Ok(run) => {
                    let max_attempts = integer(row, "max_attempts").unwrap_or(1);
                    given.push((seq, given_up(run, max_attempts, lossy(row, "cancel"))));
                }
                Err(run) => answers.push(self.bury(seq, *run).await?),
            }
        }
        self.rewrite(&given).await?;
        for (_, run) in given {
            self.note_end(&run).await?;
            answers.push(run);
        }
        let bytes = expired.iter().map(|row| text(row, "envelope").map_or(0, str::len)).sum();
        Ok((answers, bytes))
    }

    /// Writes the state, the end and the envelope of runs that nobody has.
    async fn rewrite(&mut self, runs: &[(i64, Run)]) -> sqlx::Result<()> {
        let row = |(seq, run): &(i64, Run)| {
            let finished = run.finished_at.map(Timestamp::as_millis);
            (*seq, stored(run.state), finished, envelope::seal(run))
        };
        let rows: Vec<_> = runs.iter().map(row).collect();
        for batch in batches(&rows, |row| (row.0, row.3.len())) {
            sqlx::query(
                "UPDATE run SET state = new.value ->> 1, died = CASE new.value ->> 1 WHEN 11 THEN ?2 END, \
                 lease_until = 0, finished = new.value ->> 2, envelope = new.value ->> 3 \
                 FROM json_each(?1) AS new WHERE run.seq = new.value ->> 0",
            )
            .bind(json(&batch)?)
            .bind(now().as_millis())
            .execute(&mut self.connection)
            .await?;
        }
        Ok(())
    }

    /// Ends a run that cannot be read. What was stored stays, for whoever wants to look at it, but for what its
    /// place in history depends on.
    pub(crate) async fn bury(&mut self, seq: i64, mut run: Run) -> sqlx::Result<Run> {
        let at = now();
        (run.state, run.finished_at) = (RunState::Failed, Some(at));
        sqlx::query(
            "UPDATE run SET state = 11, lease_until = 0, finished = ?1, died = ?1, hold = NULL, fire_time = ?2 \
             WHERE seq = ?3",
        )
        .bind(at.as_millis())
        .bind(run.fire_time.as_millis())
        .bind(seq)
        .execute(&mut self.connection)
        .await?;
        let named = sqlx::query("UPDATE OR IGNORE run SET id = ?1 WHERE seq = ?2 AND id <> ?1");
        named.bind(run.id.to_string()).bind(seq).execute(&mut self.connection).await?;
        self.note_end(&run).await?;
        Ok(run)
    }

    async fn note_end(&mut self, run: &Run) -> sqlx::Result<()> {
        match run.finished_at {
            Some(at) => self.note_finish(&run.task, at).await,
            None => Ok(()),
        }
    }

    /// Notes when a run of a task finished, for a trigger that follows it.
    pub(crate) async fn note_finish(&mut self, task: &Name, at: Timestamp) -> sqlx::Result<()> {
        sqlx::query(
            "UPDATE schedule SET finished = max(coalesce(finished, ?1), ?1) WHERE namespace = ?2 AND task = ?3",
        )
        .bind(at.as_millis())
        .bind(self.namespace())
        .bind(task.as_str())
        .execute(&mut self.connection)
        .await
        .map(drop)
    }
}

/// The run after its worker let the lease expire.
fn given_up(mut run: Run, max_attempts: u32, told: Option<String>) -> Run {
    let at = now();
    run.record_failure(at, LOST);
    run.state = match (&told, run.attempt >= max_attempts) {
        (Some(_), _) => RunState::Cancelled,
        (None, true) => RunState::Failed,
        (None, false) => RunState::Queued,
    };
    if run.state.is_end() {
        run.finished_at = Some(at);
        run.reason = Some(told.unwrap_or_else(|| SPENT.to_owned()));
    }
    run
}
