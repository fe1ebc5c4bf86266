//! From the end of an attempt to the end of its run, or to the next attempt.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{
    AttemptEnd, CancelReason, Event, Output, Placed, RunId, RunState, Spelled, Tier, Verdict, verdict,
};

use crate::command::Ended;
use crate::engine::{Engine, Timer};
use crate::fire::LOST;
use crate::history::Entry;
use crate::live::{LiveRun, RunKey};
use crate::tasks::{LastRun, TaskKey};
use crate::watch::TELL;

impl Engine {
    /// An attempt ended by itself. One that was given up in the meantime is too late.
    pub(crate) fn finished(&mut self, ended: Ended) {
        let Ended { run: key, fence, id, placed, end, went_on, held } = ended;
        // The loop itself holds a test clock until it waits again.
        drop(held);
        self.workers.forget(fence, went_on);
        let Some(live) = self.live.get_mut(key).filter(|live| live.fence == fence && live.is_under_way)
        else {
            tracing::warn!(task = %placed.task.name, run_id = %id, fence, "ended after it was given up");
            return;
        };
        live.is_under_way = false;
        self.attempts -= 1;
        if live.whole.is_none() && self.writer.is_none() && end.is_none() {
            return self.end_plain(key, id, placed);
        }
        let end = end.map_or(AttemptEnd::Succeeded(Output::Null), |end| *end);
        let definition = Arc::clone(live.placed.get_or_insert(placed));
        // The whole of a run that is under way no more would say that it waits.
        live.is_under_way = true;
        let Some(run) = self.make_whole(key) else { return };
        run.output = end.output().clone();
        let policy = &definition.task.retry;
        let verdict = verdict(end, policy, run.attempt, policy.attempts_on(Tier::Local), run.id.seed());
        if let Some(live) = self.live.get_mut(key) {
            live.is_under_way = false;
        }
        self.apply(key, fence, verdict);
    }

    /// The usual case: a run by schedule has succeeded at once, had nothing to show, and nobody listens.
    fn end_plain(&mut self, key: RunKey, id: RunId, placed: Arc<Placed>) {
        let now = self.now();
        let Some(live) = self.live.remove(key) else { return };
        let LiveRun { task, fire_time, started_at, .. } = live;
        let started_at = started_at.unwrap_or(now);
        // Time is read seldom: what began after the last look has not ended before it.
        let finished_at = now.max(started_at);
        let entry = Entry::Plain { id, placed, fire_time, started_at, finished_at };
        let Some((task, found)) = task.and_then(|task| Some((task, self.tasks.get_mut(task)?))) else {
            return self.history.push_alone(entry.run(&self.owner), now);
        };
        let number = self.history.next_number();
        match LastRun::of(&entry, number) {
            Some(last) => found.keep_last_plain(last),
            // The numbers do not fit.
            None => found.keep_last(number, entry.run(&self.owner)),
        }
        self.history.push(entry, now);
        self.leave_task(task, key);
    }

    /// A run leaves its task: its slot goes to the next, and the task looks ahead.
    fn leave_task(&mut self, task_key: TaskKey, key: RunKey) {
        let now = self.now();
        let Some(task) = self.tasks.get_mut(task_key) else { return };
        task.forget(key);
        if task.follows_finish() {
            let placed = Arc::clone(&task.placed);
            let lag = self.lag_of(&placed);
            if let Some(task) = self.tasks.get_mut(task_key) {
                task.cursor.finished = Some(now + lag);
            }
            self.step(task_key);
        }
        self.take_turns(task_key);
    }

    fn apply(&mut self, key: RunKey, fence: u64, verdict: Verdict) {
        let now = self.now();
        let draining = self.drain.is_some();
        let Some(run) = self.make_whole(key) else { return };
        match verdict {
            Verdict::Succeed(_) => self.end_run(key, RunState::Succeeded),
            Verdict::Fail { error } => {
                run.record_failure(now, error.clone());
                run.reason = Some(error);
                self.end_run(key, RunState::Failed);
            }
            Verdict::Cancel(reason) => {
                run.reason = Some(reason.as_str().to_owned());
                self.note_cut_off(key, reason);
                self.end_run(key, RunState::Cancelled);
            }
            Verdict::Retry { error, .. } if draining => {
                run.record_failure(now, error.clone());
                run.reason = Some(format!("{error}; not tried again: {}", CancelReason::Shutdown.as_str()));
                self.end_run(key, RunState::Failed);
            }
            Verdict::Snooze { .. } if draining => {
                run.reason = Some(CancelReason::Shutdown.as_str().to_owned());
                self.end_run(key, RunState::Cancelled);
            }
            Verdict::Retry { after, error } => {
                run.record_failure(now, error);
                run.state = RunState::Retrying;
                self.again_in(key, fence, after);
            }
            Verdict::Snooze { after } => {
                run.attempt -= 1;
                run.state = RunState::Queued;
                self.again_in(key, fence, after);
            }
        }
    }

    fn again_in(&mut self, key: RunKey, fence: u64, after: Duration) {
        let at = self.now() + after;
        if let Some(run) = self.live.get_mut(key).and_then(|live| live.whole.as_deref_mut()) {
            run.next_attempt_at = Some(at);
            self.ctx.events.emit(&Event::AttemptEnded { run, fence, next_in: after });
            self.set_timer_in(after, Timer::Due(key));
        }
    }

    /// Ends a run: it goes to history, its slot to the next, and its task looks ahead.
    pub(crate) fn end_run(&mut self, key: RunKey, state: RunState) {
        let now = self.now();
        if self.make_whole(key).is_none() {
            return;
        }
        let Some(live) = self.live.remove(key) else { return };
        let LiveRun { fence, whole: Some(run), .. } = live else { return };
        let mut run = *run;
        run.state = state;
        run.finished_at = Some(now);
        run.next_attempt_at = None;
        // A delayed run is its task's only from its time on.
        let task = self.tasks.find(&run.task);
        let (number, run) = self.record(run, fence, task.is_some());
        let Some(task) = task else { return };
        if let Some(found) = self.tasks.get_mut(task) {
            found.keep_last(number, run);
        }
        self.leave_task(task, key);
    }

    /// An attempt should have ended by now and has not: its job blocks its thread. Its slot is given back.
    pub(crate) fn overdue(&mut self, key: RunKey, fence: u64) {
        let Some(live) = self.live.get(key).filter(|live| live.fence == fence && live.is_under_way) else {
            return;
        };
        let definition = self.definition_of(live).cloned();
        self.make_whole(key);
        let ctx = self.workers.give_up(fence);
        let told = ctx.as_ref().and_then(scheduler_core::RunContext::told_to_stop);
        let reason = told.unwrap_or(CancelReason::TimedOut);
        if let Some(ctx) = ctx {
            ctx.cancel(reason);
        }
        let Some(live) = self.live.get_mut(key) else { return };
        live.is_under_way = false;
        live.placed = definition.clone();
        self.attempts -= 1;
        let blocked = "it blocks its thread and was given up";
        let reason_text = match (reason, definition.and_then(|placed| placed.task.timeout)) {
            (CancelReason::TimedOut, Some(limit)) => format!("timed out after {}; {blocked}", Spelled(limit)),
            _ => format!("{}; {blocked}", reason.as_str()),
        };
        if let Some(run) = &mut live.whole {
            run.reason = Some(reason_text);
        }
        self.note_cut_off(key, reason);
        // A next attempt would run beside this one, which has not ended: the run has failed.
        let state = if reason == CancelReason::TimedOut { RunState::Failed } else { RunState::Cancelled };
        self.end_run(key, state);
    }

    /// A job keeps its thread: its time limit is looked after from here, and it is told of when it takes long.
    pub(crate) fn blocked(&mut self, key: RunKey, fence: u64, since: Duration) {
        let Some(live) = self.live.get_mut(key).filter(|live| live.fence == fence && live.is_under_way)
        else {
            return;
        };
        let is_new = !std::mem::replace(&mut live.is_watched, true);
        let Some(live) = self.live.get(key) else { return };
        let definition = self.definition_of(live).cloned();
        if is_new
            && let Some(placed) = definition
            && let Some(limit) = placed.task.timeout
        {
            let patience = limit.saturating_add(placed.job.wind_down()).saturating_add(LOST);
            self.set_timer_in(patience.saturating_sub(since), Timer::Overdue(key, fence));
        }
        if since >= TELL
            && let Some(live) = self.live.get(key)
            && let Some(name) = self.name_of(live)
        {
            let run = live.run(&self.owner, name);
            self.ctx.events.emit(&Event::JobBlocksThread { run: &run, fence, since });
        }
    }
}
