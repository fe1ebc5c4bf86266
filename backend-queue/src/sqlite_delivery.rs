//! Deliveries in the SQLite store: taken under a lease and a fence, kept by renewing, ended by acknowledging.
//!
//! A statement does a whole batch, so a step costs the same few of them for one run and for a thousand.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use scheduler_core::{Name, RunId, RunState, Timestamp};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::envelope;
use crate::sqlite_change::Change;
use crate::sqlite_clock::{now, since_boot};
use crate::sqlite_push::{batches, ids, json};
use crate::sqlite_queue::Ready;
use crate::sqlite_ready::ReadyRun;
use crate::sqlite_row::{HELD, RETRYING, SNOOZED, integer, lossy, stored, text};
use crate::store::{Ack, Claim, Delivery, Held, Next, Renewed, Stepped};

/// How many runs become ready in one step, so that no step takes long.
const PROMOTED: i64 = 1_000;

/// The number of the last delivery. One that is no number any more is found again from the runs.
const DRAW: &str = "UPDATE meta SET value = ?1 + CASE WHEN typeof(value) = 'integer' \
     AND value BETWEEN 0 AND 4611686018427387904 THEN value \
     ELSE coalesce((SELECT max(fence) FROM run WHERE fence < 4611686018427387904), 0) END \
     WHERE key = 'fence' RETURNING value";

/// Writes the ends of distinct runs whose delivery it still is, unless they shall be cancelled and get another attempt.
macro_rules! acknowledge {
    () => {
        "UPDATE run SET state = ack.value ->> 2, died = CASE ack.value ->> 2 WHEN 11 THEN ?2 END, \
         due = coalesce(ack.value ->> 3, due), attempt = ack.value ->> 4, lease_until = 0, \
         finished = ack.value ->> 5, envelope = ack.value ->> 6 FROM json_each(?1) AS ack \
         WHERE run.id = ack.value ->> 0 AND run.fence = ack.value ->> 1 AND run.state = 4 \
         AND (run.cancel IS NULL OR ack.value ->> 2 >= 10)"
    };
}

impl Change<'_> {
    /// As [`Store::step`](crate::store::Store::step).
    pub(crate) async fn step(&mut self, acks: &[Ack], claim: &Claim) -> sqlx::Result<Stepped> {
        let mut answer = Stepped::default();
        let mut turns = self.acknowledge_all(acks, &mut answer).await?;
        let at = now().as_millis();
        let mut next = self.first_due().await?;
        if next.is_some_and(|due| due <= at) {
            turns.extend(self.promote(at).await?);
            next = self.first_due().await?;
        }
        self.release(&turns).await?;
        if claim.limit > 0 {
            self.claim(claim, &mut answer).await?;
            if claim.from.iter().any(|share| share.limits.is_some()) {
                next = self.first_due().await?;
            }
        }
        let due = next.map(|next| Duration::from_millis(next.saturating_sub(at).max(0).unsigned_abs()));
        answer.next_due = [answer.next_due, due].into_iter().flatten().min();
        Ok(answer)
    }

    async fn first_due(&mut self) -> sqlx::Result<Option<i64>> {
        sqlx::query_scalar("SELECT min(due) FROM run WHERE namespace = ? AND state < 3")
            .bind(self.namespace())
            .fetch_one(&mut self.connection)
            .await
    }

    /// Writes the ends of attempts; answers the tasks of the runs that ended by it.
    async fn acknowledge_all(&mut self, acks: &[Ack], answer: &mut Stepped) -> sqlx::Result<BTreeSet<Name>> {
        let at = now();
        let (mut seen, mut is_refused) = (HashSet::new(), vec![true; acks.len()]);
        // Of two for one delivery the first one counts.
        let firsts = acks.iter().enumerate().filter(|(_, ack)| seen.insert((ack.run.id, ack.fence)));
        let (indexes, rows): (Vec<_>, Vec<_>) = firsts.map(|(index, ack)| (index, row(ack, at))).unzip();
        if self.acknowledge_each(&rows, at).await? {
            indexes.iter().for_each(|index| is_refused[*index] = false);
        } else {
            // Which one it was is told of each, and that is only asked when one was.
            self.restart().await?;
            self.acknowledge_some(&rows, &indexes, (&mut is_refused, answer), at).await?;
        }
        let (mut ended, mut finished) = (BTreeSet::new(), BTreeMap::new());
        for (index, ack) in acks.iter().enumerate() {
            if is_refused[index] {
                answer.refused.push(index);
            } else if ack.next == Next::End {
                if !ended.contains(&ack.run.task) {
                    ended.insert(ack.run.task.clone());
                }
                if let Some(at) = ack.run.finished_at.filter(|_| ack.is_followed) {
                    let latest: &mut Timestamp = finished.entry(ack.run.task.clone()).or_insert(at);
                    *latest = at.max(*latest);
                }
            }
        }
        for (task, at) in finished {
            self.note_finish(&task, at).await?;
        }
        Ok(ended)
    }

    /// Writes the ends of distinct deliveries; says whether every one of them still was one.
    async fn acknowledge_each(&mut self, rows: &[Row], at: Timestamp) -> sqlx::Result<bool> {
        for batch in batches(rows, |row| (row.0, row.6.len())) {
            let written = sqlx::query(acknowledge!())
                .bind(json(&batch)?)
                .bind(at.as_millis())
                .execute(&mut self.connection);
            if written.await?.rows_affected() != batch.len() as u64 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes the ends of those of distinct deliveries that still are ones and that do not get another attempt although
    /// they shall be cancelled.
    async fn acknowledge_some(
        &mut self,
        rows: &[Row],
        indexes: &[usize],
        (is_refused, answer): (&mut [bool], &mut Stepped),
        at: Timestamp,
    ) -> sqlx::Result<()> {
        let mut indexes = indexes.iter();
        for batch in batches(rows, |row| (row.0, row.6.len())) {
            let written = sqlx::query(concat!(acknowledge!(), " RETURNING id"))
                .bind(json(&batch)?)
                .bind(at.as_millis())
                .fetch_all(&mut self.connection)
                .await?;
            let (taken, mut reasons) = (ids(&written)?, self.reasons(batch).await?);
            for (row, index) in batch.iter().zip(&mut indexes) {
                let reason = reasons.remove(&row.0);
                is_refused[*index] = reason.is_none() && !taken.contains(&row.0);
                answer.marked.extend(reason.map(|reason| (*index, reason)));
            }
        }
        Ok(())
    }

    /// Why runs shall be cancelled, of deliveries whose end was not written because of it.
    async fn reasons(&mut self, rows: &[Row]) -> sqlx::Result<HashMap<RunId, String>> {
        let marked = sqlx::query(
            "SELECT run.id, run.cancel FROM json_each(?1) AS ack JOIN run ON run.id = ack.value ->> 0 \
             WHERE run.fence = ack.value ->> 1 AND run.state = 4 AND run.cancel IS NOT NULL \
             AND ack.value ->> 2 < 10",
        )
        .bind(json(&rows.iter().map(|row| (row.0, row.1, row.2)).collect::<Vec<_>>())?)
        .fetch_all(&mut self.connection)
        .await?;
        let reason = |row: &SqliteRow| Some((text(row, "id").ok()?.parse().ok()?, lossy(row, "cancel")?));
        Ok(marked.iter().filter_map(reason).collect())
    }

    /// Makes runs ready whose time has come; answers the tasks of those that wait for their turn now.
    async fn promote(&mut self, at: i64) -> sqlx::Result<BTreeSet<Name>> {
        let promoted = sqlx::query(
            "UPDATE run SET state = CASE WHEN alone AND state = 0 THEN 5 ELSE 3 END WHERE seq IN \
             (SELECT seq FROM run WHERE namespace = ? AND state < 3 AND due <= ? ORDER BY due LIMIT ?) \
             RETURNING state, task",
        )
        .bind(self.namespace())
        .bind(at)
        .bind(PROMOTED)
        .fetch_all(&mut self.connection)
        .await?;
        let held = promoted.iter().filter(|row| integer(row, "state") == Ok(HELD));
        Ok(held.filter_map(|row| Name::new(text(row, "task").ok()?).ok()).collect())
    }

    async fn claim(&mut self, claim: &Claim, answer: &mut Stepped) -> sqlx::Result<()> {
        let Ready { runs, has_more, paused, opens_at } = self.ready(claim).await?;
        answer.has_more = has_more;
        answer.paused = Some(paused);
        answer.next_due = opens_at.map(|at| at.since(now()));
        let (mut taken, mut seqs) = (Vec::new(), Vec::new());
        for ReadyRun { seq, max_attempts, run } in runs {
            let counted = run.as_ref().ok().and_then(|run| run.attempt.checked_add(1));
            match (run, counted) {
                (Ok(mut run), Some(attempt)) => {
                    (run.state, run.attempt, run.next_attempt_at) = (RunState::Running, attempt, None);
                    taken.push((run, max_attempts));
                    seqs.push(seq);
                }
                (Ok(run), None) => answer.undecodable.push(self.bury(seq, run).await?),
                (Err(run), _) => answer.undecodable.push(self.bury(seq, *run).await?),
            }
        }
        if !answer.undecodable.is_empty() {
            let turns = answer.undecodable.iter().map(|run| run.task.clone()).collect();
            self.release(&turns).await?;
            answer.has_more = true;
        }
        if taken.is_empty() {
            return Ok(());
        }
        let count = i64::try_from(taken.len()).unwrap_or(i64::MAX);
        let last: i64 = sqlx::query_scalar(DRAW).bind(count).fetch_one(&mut self.connection).await?;
        let first = last - count + 1;
        sqlx::query(
            "UPDATE run SET state = 4, attempt = attempt + 1, slot = NULL, line = NULL, fence = ?1 + taken.key, lease_until = ?2 FROM json_each(?3) AS taken WHERE run.seq = taken.value",
        )
        .bind(first)
        .bind(since_boot().saturating_add(millis(claim.lease)))
        .bind(json(&seqs)?)
        .execute(&mut self.connection)
        .await?;
        answer.claimed = (first.unsigned_abs()..)
            .zip(taken)
            .map(|(fence, (run, max_attempts))| Delivery { run, fence, max_attempts })
            .collect();
        Ok(())
    }

    /// As [`Store::renew`](crate::store::Store::renew).
    pub(crate) async fn renew(&mut self, held: &[Held], lease: Duration) -> sqlx::Result<Renewed> {
        let until = since_boot().saturating_add(millis(lease));
        let mut kept: HashMap<(String, u64), Option<String>> = HashMap::with_capacity(held.len());
        let rows: Vec<_> = held.iter().map(|held| (held.run, held.fence)).collect();
        for batch in batches(&rows, |row| (*row, 0)) {
            let renewed = sqlx::query(
                "UPDATE run SET lease_until = ?2 FROM json_each(?1) AS held WHERE run.id = held.value ->> 0 \
                 AND run.fence = held.value ->> 1 AND run.state = 4 RETURNING id, fence, cancel",
            )
            .bind(json(&batch)?)
            .bind(until)
            .fetch_all(&mut self.connection)
            .await?;
            for row in &renewed {
                let fence: i64 = row.try_get(1)?;
                kept.insert((row.try_get(0)?, fence.unsigned_abs()), lossy(row, "cancel"));
            }
        }
        let mut answer = Renewed::default();
        for held in held {
            match kept.get(&(held.run.to_string(), held.fence)) {
                None => answer.lost.push(held.run),
                Some(reason) => answer.cancelled.extend(reason.clone().map(|reason| (held.run, reason))),
            }
        }
        Ok(answer)
    }
}

type Row = (RunId, i64, i64, Option<i64>, u32, Option<i64>, String);

fn row(Ack { run, fence, next, .. }: &Ack, at: Timestamp) -> Row {
    let (state, due, finished) = match next {
        Next::End => (stored(run.state), None, Some(run.finished_at.unwrap_or(at).as_millis())),
        Next::Again(wait) => {
            let state = if run.state == RunState::Retrying { RETRYING } else { SNOOZED };
            (state, Some((at + *wait).as_millis()), None)
        }
    };
    let fence = i64::try_from(*fence).unwrap_or(i64::MAX);
    (run.id, fence, state, due, run.attempt, finished, envelope::seal(run))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}
