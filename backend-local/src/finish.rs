//! From the end of an attempt to the end of its run, or to the next attempt.

use std::time::Duration;

use scheduler_core::{
    AttemptEnd, CancelReason, Event, RunContext, RunState, Spelled, Tier, Verdict, verdict,
};

use crate::engine::{Engine, Timer};
use crate::live::RunKey;

impl Engine {
    /// An attempt ended by itself. One that was given up in the meantime is too late.
    pub(crate) fn finished(&mut self, key: RunKey, fence: u64, end: AttemptEnd, ctx: &RunContext) {
        let Some(live) = self.live.get_mut(key).filter(|live| live.fence == fence && live.attempt.is_some())
        else {
            tracing::warn!(task = %ctx.task(), run_id = %ctx.run_id(), fence, "ended after it was given up");
            return;
        };
        live.attempt = None;
        self.attempts -= 1;
        live.run.output = end.output().clone();
        let policy = &live.placed.task.retry;
        let attempts = policy.attempts_on(Tier::Local);
        let verdict = verdict(end, policy, live.run.attempt, attempts, live.run.id.seed());
        self.apply(key, fence, verdict);
    }

    fn apply(&mut self, key: RunKey, fence: u64, verdict: Verdict) {
        let now = self.now();
        let draining = self.drain.is_some();
        let Some(live) = self.live.get_mut(key) else { return };
        match verdict {
            Verdict::Succeed(_) => self.end_run(key, RunState::Succeeded),
            Verdict::Fail { error } => {
                live.run.record_failure(now, error.clone());
                live.run.reason = Some(error);
                self.end_run(key, RunState::Failed);
            }
            Verdict::Cancel(reason) => {
                live.run.reason = Some(reason.as_str().to_owned());
                self.note_cut_off(key, reason);
                self.end_run(key, RunState::Cancelled);
            }
            Verdict::Retry { error, .. } if draining => {
                live.run.record_failure(now, error.clone());
                live.run.reason =
                    Some(format!("{error}; not tried again: {}", CancelReason::Shutdown.as_str()));
                self.end_run(key, RunState::Failed);
            }
            Verdict::Snooze { .. } if draining => {
                live.run.reason = Some(CancelReason::Shutdown.as_str().to_owned());
                self.end_run(key, RunState::Cancelled);
            }
            Verdict::Retry { after, error } => {
                live.run.record_failure(now, error);
                live.run.state = RunState::Retrying;
                self.again_in(key, fence, after);
            }
            Verdict::Snooze { after } => {
                live.run.attempt -= 1;
                live.run.state = RunState::Queued;
                self.again_in(key, fence, after);
            }
        }
    }

    fn again_in(&mut self, key: RunKey, fence: u64, after: Duration) {
        let at = self.now() + after;
        if let Some(live) = self.live.get_mut(key) {
            live.run.next_attempt_at = Some(at);
            self.ctx.events.emit(&Event::AttemptEnded { run: &live.run, fence, next_in: after });
            self.set_timer_in(after, Timer::Due(key));
        }
    }

    /// Ends a run: it goes to history, its slot to the next, and its task looks ahead.
    pub(crate) fn end_run(&mut self, key: RunKey, state: RunState) {
        let now = self.now();
        let Some(live) = self.live.remove(key) else { return };
        let (mut run, fence) = (live.run, live.fence);
        run.state = state;
        run.finished_at = Some(now);
        run.next_attempt_at = None;
        let name = run.task.clone();
        self.record(run, fence);
        let Some(task_key) = self.tasks.find(&name) else { return };
        let lag = self.tasks.get(task_key).map_or(Duration::ZERO, |task| self.lag_of(&task.placed));
        let Some(task) = self.tasks.get_mut(task_key) else { return };
        task.running.retain(|other| *other != key);
        task.waiting.retain(|other| *other != key);
        if task.placed.task.trigger.as_ref().is_some_and(scheduler_core::Trigger::follows_finish) {
            task.cursor.finished = Some(now + lag);
            self.step(task_key);
        }
        self.take_turns(task_key);
    }

    /// An attempt should have ended by now and has not: its job blocks its thread. Its slot is given back.
    pub(crate) fn overdue(&mut self, key: RunKey, fence: u64) {
        let Some(live) = self.live.get_mut(key).filter(|live| live.fence == fence) else { return };
        let Some((ctx, attempt)) = live.attempt.take() else { return };
        drop(attempt);
        self.attempts -= 1;
        let reason = ctx.cancel_token().reason().unwrap_or(CancelReason::TimedOut);
        ctx.cancel(reason);
        let blocked = "it blocks its thread and was given up";
        let reason_text = match (reason, live.placed.task.timeout) {
            (CancelReason::TimedOut, Some(limit)) => format!("timed out after {}; {blocked}", Spelled(limit)),
            _ => format!("{}; {blocked}", reason.as_str()),
        };
        live.run.reason = Some(reason_text);
        self.note_cut_off(key, reason);
        // A next attempt would run beside this one, which has not ended: the run has failed.
        let state = if reason == CancelReason::TimedOut { RunState::Failed } else { RunState::Cancelled };
        self.end_run(key, state);
    }

    pub(crate) fn blocked(&mut self, key: RunKey, fence: u64, since: Duration) {
        if let Some(live) = self.live.get(key).filter(|live| live.fence == fence) {
            self.ctx.events.emit(&Event::JobBlocksThread { run: &live.run, fence, since });
        }
    }
}
