//! A run from its delivery to the end of the attempt.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{CancelReason, Event, Run, RunContext, RunIdentity, RunState, Tier, Verdict, verdict};

use crate::drain::Drain;
use crate::driver::{Driver, SAFETY_POLL};
use crate::flight::Flight;
use crate::store::{Ack, Claim, Delivery, Next};
use crate::timetable::is_followed;
use crate::work::{Ended, Work};

impl Driver {
    /// Writes the ends and takes what is due; answers how long nothing more is to be done.
    pub(crate) async fn step(&mut self, may_claim: bool) -> Duration {
        let free = self.config.concurrency.get().saturating_sub(self.flights.len());
        let limit = if may_claim { u32::try_from(free).unwrap_or(u32::MAX) } else { 0 };
        if limit == 0 && self.acks.is_empty() {
            return SAFETY_POLL;
        }
        let claim = Claim { limit, lease: self.config.lease };
        let stepped = match self.store.step(&self.acks, &claim).await {
            Ok(stepped) => stepped,
            Err(error) => return self.in_trouble(&error),
        };
        self.recovered();
        for (index, ack) in std::mem::take(&mut self.acks).into_iter().enumerate() {
            if stepped.refused.contains(&index) {
                let (task, run_id, fence) = (&ack.run.task, ack.run.id, ack.fence);
                tracing::warn!(%task, %run_id, fence, "its end came too late: the lease was lost");
            } else {
                self.tell(&ack);
                if ack.next == Next::End {
                    self.look_soon(&ack.run.task);
                }
            }
        }
        for run in &stepped.undecodable {
            self.ctx.events.emit(&Event::RunEnded { run, fence: 0 });
        }
        for delivery in stepped.claimed {
            self.begin(delivery);
        }
        if !self.acks.is_empty() || stepped.has_more && self.flights.len() < self.config.concurrency.get() {
            return Duration::ZERO;
        }
        stepped.next_due.map_or(SAFETY_POLL, |due| due.min(SAFETY_POLL))
    }

    fn tell(&self, ack: &Ack) {
        let (run, fence) = (&ack.run, ack.fence);
        match ack.next {
            Next::End => self.ctx.events.emit(&Event::RunEnded { run, fence }),
            Next::Again(next_in) => self.ctx.events.emit(&Event::AttemptEnded { run, fence, next_in }),
        }
    }

    fn begin(&mut self, delivery: Delivery) {
        let Delivery { mut run, fence, max_attempts } = delivery;
        let now = self.ctx.clock.now();
        run.next_attempt_at = None;
        let placed = match self.ctx.work_of(&run) {
            Ok(placed) => placed,
            Err(refusal) => {
                run.state = RunState::Failed;
                run.finished_at = Some(now);
                run.reason = Some(format!("taken by a process that cannot run it: {refusal}"));
                self.acks.push(Ack { run, fence, next: Next::End, is_followed: false });
                return;
            }
        };
        run.started_at.get_or_insert(now);
        let identity = RunIdentity {
            namespace: self.ctx.namespace.clone(),
            task: run.task.clone(),
            tier: Tier::Queue,
            backend: self.name.clone(),
            run_id: run.id,
            fire_time: run.fire_time,
            attempt: run.attempt,
            fence,
            params: run.params.clone(),
        };
        let ctx = RunContext::new(identity, self.ctx.run_host());
        self.ctx.events.emit(&Event::AttemptStarted { run: &run, fence });
        let work = Work { placed: Arc::clone(&placed), ctx: ctx.clone() };
        self.flights.insert(Flight { run, fence, max_attempts, ctx, placed });
        // The worker lives as long as the loop.
        let _ = self.work.send(work);
    }

    /// An attempt ended by itself. One whose lease was lost is too late.
    pub(crate) fn ended(&mut self, ended: Ended, drain: Option<&mut Drain>) {
        let Some(flight) = self.flights.take(ended.run, ended.fence) else {
            let (run_id, fence) = (ended.run, ended.fence);
            tracing::warn!(task = %ended.ctx.task(), %run_id, fence, "ended after it was given up");
            return;
        };
        let was_told = ended.ctx.cancel_token().reason() == Some(CancelReason::Shutdown);
        let ack = self.concluded(flight, ended);
        if let Some(drain) = drain {
            match (was_told, ack.next) {
                (true, Next::Again(_)) => drain.report.abandoned.push(ack.run.id),
                _ => drain.report.finished += 1,
            }
        }
        self.acks.push(ack);
    }

    fn concluded(&self, flight: Flight, ended: Ended) -> Ack {
        let Flight { mut run, fence, max_attempts, placed, .. } = flight;
        let now = self.ctx.clock.now();
        run.output = ended.end.output().clone();
        let verdict = verdict(ended.end, &placed.task.retry, run.attempt, max_attempts, run.id.seed());
        let mut next = Next::End;
        match verdict {
            Verdict::Succeed(_) => run.state = RunState::Succeeded,
            Verdict::Fail { error } => {
                run.state = RunState::Failed;
                run.record_failure(now, error.clone());
                run.reason = Some(error);
            }
            Verdict::Cancel(CancelReason::Shutdown) => return given_back(run, fence),
            Verdict::Cancel(reason) => {
                run.state = RunState::Cancelled;
                run.reason = Some(reason.as_str().to_owned());
            }
            Verdict::Retry { after, error } => {
                run.state = RunState::Retrying;
                run.record_failure(now, error);
                next = Next::Again(after);
            }
            Verdict::Snooze { after } => {
                run.state = RunState::Queued;
                run.attempt -= 1;
                next = Next::Again(after);
            }
        }
        match next {
            Next::End => run.finished_at = Some(now),
            Next::Again(after) => run.next_attempt_at = Some(now + after),
        }
        Ack { run, fence, next, is_followed: is_followed(&placed) }
    }
}

/// The run goes back into the queue, and the attempt does not count.
pub(crate) fn given_back(mut run: Run, fence: u64) -> Ack {
    run.state = RunState::Queued;
    run.attempt = run.attempt.saturating_sub(1);
    run.output = serde_json::Value::Null;
    Ack { run, fence, next: Next::Again(Duration::ZERO), is_followed: false }
}
