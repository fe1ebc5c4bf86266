//! A run from its delivery to the end of the attempt.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{
    CancelReason, Event, Result, Run, RunContext, RunId, RunIdentity, RunState, Tier, Timestamp, Verdict,
    verdict,
};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::ahead::prevented;
use crate::drain::Drain;
use crate::driver::{Driver, SAFETY_POLL};
use crate::flight::Flight;
use crate::progress::bounded;
use crate::store::{Ack, Claim, Delivery, Next, Stepped};
use crate::timetable::is_followed;
use crate::work::{Ended, Work};

/// How many ends are written without waiting for more.
const MANY: usize = 64;
/// How long ends wait at most for others to be written with.
const GATHER: Duration = Duration::from_millis(1);

/// What a step was given to write, and what became of it.
pub(crate) type Answer = (Vec<Ack>, Result<Stepped>);

/// A step beside the loop, so that jobs end and begin while the store is at work.
#[derive(Debug)]
pub(crate) struct Stepping(JoinHandle<Answer>);

impl Stepping {
    /// Resolves when it was taken. May be asked again when nobody waited to the end.
    pub(crate) async fn done(&mut self) -> Answer {
        match (&mut self.0).await {
            Ok(answer) => answer,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // It ends early only with the runtime, which is ours.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

impl Driver {
    /// Begins to write the ends and to take what is due, beside the loop; `None` when there is nothing to do.
    pub(crate) fn step(&mut self, may_claim: bool) -> Option<Stepping> {
        let places = self.free().saturating_sub(self.ahead.len()) + self.ahead.room(Instant::now());
        let limit = if may_claim { u32::try_from(places).unwrap_or(u32::MAX) } else { 0 };
        if limit == 0 && self.acks.is_empty() {
            return None;
        }
        let claim = Claim { limit, lease: self.config.lease, from: self.shares.divide(limit) };
        let (store, acks) = (Arc::clone(&self.store), std::mem::take(&mut self.acks));
        Some(Stepping(tokio::spawn(async move {
            let stepped = store.step(&acks, &claim).await;
            (acks, stepped)
        })))
    }

    /// Waits for the step under way, begins what it took, and waits for one more, so that what had ended is written if the store answers.
    pub(crate) async fn settle(&mut self, may_claim: bool) {
        if let Some(mut under_way) = self.stepping.take() {
            let answer = under_way.done().await;
            self.stepped(answer, may_claim);
            self.begin_all();
        }
        if let Some(mut last) = self.step(may_claim) {
            let answer = last.done().await;
            self.stepped(answer, may_claim);
            self.begin_all();
        }
    }

    /// How many more may run.
    fn free(&self) -> usize {
        self.config.concurrency.get().saturating_sub(self.flights.len())
    }

    /// Goes on with what a step answered; answers how long nothing more is to be done. What was taken is to begin then.
    pub(crate) fn stepped(&mut self, (mut acks, stepped): Answer, may_begin: bool) -> Duration {
        let told = std::mem::take(&mut self.told);
        let stepped = match stepped {
            Ok(stepped) => stepped,
            Err(error) => {
                acks.append(&mut self.acks);
                self.acks = acks;
                return self.in_trouble(&error);
            }
        };
        self.recovered();
        for (index, ack) in acks.into_iter().enumerate() {
            if let Some((_, reason)) = stepped.marked.iter().find(|(marked, _)| *marked == index) {
                self.acks.push(ended_instead(ack, reason, self.ctx.clock.now()));
            } else if stepped.refused.contains(&index) {
                self.ctx.events.emit(&Event::AttemptLost { run: &ack.run, fence: ack.fence });
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
        if let Some(paused) = stepped.paused {
            self.pauses.note(paused);
        }
        let now = Instant::now();
        for delivery in self.shares.arranged(stepped.claimed) {
            match told.iter().find(|(id, _)| *id == delivery.run.id) {
                Some((_, reason)) => self.acks.push(prevented(delivery, *reason, self.ctx.clock.now())),
                None if may_begin => self.ahead.push(now, delivery),
                None => self.acks.push(given_back(delivery.run, delivery.fence)),
            }
        }
        if !self.acks.is_empty() || stepped.has_more && self.free() > self.ahead.len() {
            return Duration::ZERO;
        }
        stepped.next_due.map_or(SAFETY_POLL, |due| due.min(SAFETY_POLL))
    }

    /// Begins what was taken, as far as there are places.
    pub(crate) fn begin_all(&mut self) {
        while self.free() > 0
            && let Some(delivery) = self.ahead.pop()
        {
            self.shares.note_begin(delivery.run.queue.as_ref());
            self.begin(delivery);
        }
    }

    /// How long an end may wait for others, so that they are written together: not at all when a place is free for
    /// what the step will take.
    pub(crate) fn gather(&mut self) -> Duration {
        let has_enough = self.ahead.is_plenty(Instant::now()) && self.acks.len() < MANY;
        if has_enough { GATHER } else { Duration::ZERO }
    }

    /// Gives back what was taken and has not begun.
    pub(crate) fn give_ahead_back(&mut self) {
        self.acks.extend(self.ahead.take_all().map(|delivery| given_back(delivery.run, delivery.fence)));
    }

    /// Tells a run that it is cancelled, wherever it is; one that a step may be taking just now hears it then.
    pub(crate) fn tell_cancelled(&mut self, run: RunId, reason: CancelReason) {
        if let Some(flight) = self.flights.get(run) {
            flight.ctx.cancel(reason);
        } else if let Some(delivery) = self.ahead.take(run) {
            self.acks.push(prevented(delivery, reason, self.ctx.clock.now()));
        } else if self.stepping.is_some() {
            self.told.push((run, reason));
        }
    }

    fn tell(&self, ack: &Ack) {
        let (run, fence) = (&ack.run, ack.fence);
        match ack.next {
            Next::End => self.ctx.events.emit(&Event::RunEnded { run, fence }),
            Next::Again(next_in) => self.ctx.events.emit(&Event::AttemptEnded { run, fence, next_in }),
            Next::Back => {
                self.ctx.events.emit(&Event::AttemptEnded { run, fence, next_in: Duration::ZERO });
            }
        }
    }

    fn begin(&mut self, delivery: Delivery) {
        let Delivery { mut run, fence, max_attempts } = delivery;
        let now = self.ctx.clock.now();
        (run.next_attempt_at, run.progress) = (None, None);
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
                (true, Next::Again(_) | Next::Back) => drain.report.abandoned.push(ack.run.id),
                _ => drain.report.finished += 1,
            }
        }
        self.acks.push(ack);
        self.unforgotten += 1;
        self.ahead.note_end(Instant::now());
    }

    fn concluded(&self, flight: Flight, ended: Ended) -> Ack {
        let Flight { mut run, fence, max_attempts, placed, .. } = flight;
        let now = self.ctx.clock.now();
        run.output = ended.end.output().clone();
        run.progress = ended.ctx.progress().map(bounded);
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
            Next::Back => {}
            Next::Again(after) => (run.next_attempt_at, run.progress) = (Some(now + after), None),
        }
        Ack { run, fence, next, is_followed: is_followed(&placed) }
    }
}

/// The run gets no other attempt: somebody wanted it cancelled while this one was under way.
fn ended_instead(mut ack: Ack, reason: &str, now: Timestamp) -> Ack {
    ack.run.state = RunState::Cancelled;
    ack.run.reason = Some(reason.to_owned());
    ack.run.finished_at = Some(now);
    ack.run.next_attempt_at = None;
    Ack { next: Next::End, ..ack }
}

/// The run goes back to its place in the queue, and the attempt does not count.
pub(crate) fn given_back(mut run: Run, fence: u64) -> Ack {
    run.state = RunState::Queued;
    run.attempt = run.attempt.saturating_sub(1);
    (run.output, run.progress) = (serde_json::Value::Null, None);
    Ack { run, fence, next: Next::Back, is_followed: false }
}
