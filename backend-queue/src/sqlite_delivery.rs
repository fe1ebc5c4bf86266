//! Deliveries in the SQLite store: taken under a lease and a fence, kept by renewing, ended by acknowledging.
//!
//! A statement does a whole batch, so a step costs the same few of them for one run and for a thousand.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use scheduler_core::{Name, RunState};
use sqlx::Row as _;

use crate::sqlite_change::Change;
use crate::sqlite_clock::{now, since_boot};
use crate::sqlite_offers::Along;
use crate::sqlite_push::{batches, json};
use crate::sqlite_queue::Ready;
use crate::sqlite_ready::ReadyRun;
use crate::sqlite_row::{HELD, integer, lossy, text};
use crate::store::{Ack, Claim, Delivery, Held, Renewed, Stepped};

/// How many runs become ready in one step, so that no step takes long.
const PROMOTED: i64 = 1_000;

/// The number of the last delivery. One that is no number any more is found again from the runs.
const DRAW: &str = "UPDATE meta SET value = ?1 + CASE WHEN typeof(value) = 'integer' \
     AND value BETWEEN 0 AND 4611686018427387904 THEN value \
     ELSE coalesce((SELECT max(fence) FROM run WHERE fence < 4611686018427387904), 0) END \
     WHERE key = 'fence' RETURNING value";

impl Change<'_> {
    /// As [`Store::step`](crate::store::Store::step).
    /// Adds what is taken along as well; says of each of those runs whether it is new.
    pub(crate) async fn step(
        &mut self,
        acks: &[Ack],
        claim: &Claim,
        along: &Along,
    ) -> sqlx::Result<(Stepped, Vec<bool>)> {
        let mut answer = Stepped::default();
        // They come first: when one of them is refused, all is begun anew.
        let mut turns = self.acknowledge_all(acks, &mut answer).await?;
        let added = self.insert(along.runs()).await?;
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
        Ok((answer, added))
    }

    async fn first_due(&mut self) -> sqlx::Result<Option<i64>> {
        sqlx::query_scalar("SELECT min(due) FROM run WHERE namespace = ? AND state < 3")
            .bind(self.namespace())
            .fetch_one(&mut self.connection)
            .await
    }

    /// Makes runs ready whose time has come; answers the tasks of those that wait for their turn now.
    async fn promote(&mut self, at: i64) -> sqlx::Result<BTreeSet<Name>> {
        let promoted = sqlx::query(
            "UPDATE run SET state = CASE WHEN alone AND state = 0 THEN 5 ELSE 3 END, line = NULL, \
             due = CASE WHEN line IS NULL THEN due ELSE min(due, fire_time) END WHERE seq IN \
             (SELECT seq FROM run WHERE namespace = ? AND state < 3 AND due <= ? ORDER BY due LIMIT ? + 0) \
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

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}
