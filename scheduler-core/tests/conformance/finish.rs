//! From the end of an attempt to the end of its run, and the ends that come from outside.

use scheduler_core::{
    AttemptEnd, CancelReason, Cancelled, Event, Output, Placed, RunContext, RunId, RunState, Timestamp,
    Verdict, verdict,
};

use crate::breaks::Break;
use crate::store::{Letter, Shared, State, lock};

impl Shared {
    /// An attempt ended by itself. One that is not the run's any more counts for nothing.
    pub(crate) fn finish(&self, placed: &Placed, ctx: &RunContext, end: AttemptEnd) {
        let mut state = self.lock();
        let state = &mut *state;
        let id = ctx.run_id();
        let Some(life) = &mut state.life else { return };
        let is_current = life.attempts.get(&id).is_some_and(|(other, _)| other.fence() == ctx.fence());
        if !is_current {
            return;
        }
        life.attempts.remove(&id);
        let now = life.ctx.clock.now();
        let output = end.output().clone();
        let is_panic = matches!(end, AttemptEnd::Panicked(_));
        let retry = &placed.task.retry;
        let mut most = retry.attempts_on(self.info.tier);
        if self.is(Break::OneAttemptTooMany) && most >= 3 {
            most += 1;
        }
        let mut next = verdict(end, retry, ctx.attempt(), most, id.seed());
        if let Verdict::Fail { error } = &mut next {
            if is_panic && self.is(Break::PanicUnnamed) {
                *error = "it failed".into();
            }
            if self.is(Break::AbortTriedAgain) && ctx.attempt() < most {
                next = Verdict::Retry { after: retry.initial, error: error.clone() };
            }
        }
        self.apply(state, ctx, output, next, now);
        if self.is(Break::AbortedForgotten) && ctx.attempt() < most {
            state.letters.remove(&id);
        }
        self.notify(state);
        self.under_way.send_modify(|count| *count -= 1);
    }

    fn apply(&self, state: &mut State, ctx: &RunContext, output: Output, next: Verdict, now: Timestamp) {
        let id = ctx.run_id();
        let Some(stored) = state.runs.get_mut(&id) else { return };
        stored.run.output = match output {
            long if self.is(Break::OutputCut) && long.to_string().len() > 65_536 => Output::Null,
            output => output,
        };
        let (after, waits) = match next {
            Verdict::Succeed(_) => return self.end(state, id, RunState::Succeeded, None, ctx.fence()),
            Verdict::Fail { error } => {
                stored.run.record_failure(now, error.clone());
                return self.end(state, id, RunState::Failed, Some(error), ctx.fence());
            }
            Verdict::Cancel(CancelReason::Shutdown) => {
                // It goes back to the queue; its attempt was not its fault.
                stored.run.attempt -= 1;
                stored.run.state = RunState::Queued;
                state.life.iter_mut().for_each(|life| life.cut_off.push(id));
                return;
            }
            Verdict::Cancel(reason) => {
                return self.end(state, id, RunState::Cancelled, Some(reason.as_str().into()), ctx.fence());
            }
            Verdict::Snooze { after } => {
                if !self.is(Break::SnoozeCounts) {
                    stored.run.attempt -= 1;
                }
                (after, RunState::Queued)
            }
            Verdict::Retry { after, error } => {
                stored.run.record_failure(now, error);
                (if self.is(Break::HalfTheWait) { after / 2 } else { after }, RunState::Retrying)
            }
        };
        stored.due = now + after;
        stored.run.state = waits;
        stored.run.next_attempt_at = Some(stored.due);
        if let Some(life) = &state.life {
            let event = Event::AttemptEnded { run: &stored.run, fence: ctx.fence(), next_in: after };
            life.ctx.events.emit(&event);
        }
    }

    pub(crate) fn end(
        &self,
        state: &mut State,
        id: RunId,
        end: RunState,
        reason: Option<String>,
        fence: u64,
    ) {
        let running = state.life.as_ref().map(|life| life.ctx.clone());
        let ctx = running.or_else(|| lock(&self.connected).clone());
        let (Some(ctx), Some(stored)) = (ctx, state.runs.get_mut(&id)) else { return };
        let now = ctx.clock.now();
        stored.run.state = end;
        stored.run.reason = reason;
        stored.run.finished_at = Some(now);
        stored.run.next_attempt_at = None;
        if end == RunState::Failed {
            state.letters.insert(id, Letter { died_at: now, held: None });
        }
        ctx.events.emit(&Event::RunEnded { run: &stored.run, fence });
        if self.is(Break::EndToldTwice) && stored.run.attempt == 0 {
            ctx.events.emit(&Event::RunEnded { run: &stored.run, fence });
        }
        if let Some(cursor) = state.cursors.get_mut(&stored.run.task)
            && !self.is(Break::FinishIgnored)
        {
            cursor.finished = Some(now);
        }
    }

    /// Ends a run that waits, or tells one that is under way.
    pub(crate) fn cancel_run(
        &self,
        state: &mut State,
        id: RunId,
        reason: CancelReason,
        _now: Timestamp,
    ) -> Option<Cancelled> {
        let stored = state.runs.get_mut(&id)?;
        if stored.run.state.is_end() {
            let prevented = self.is(Break::EndedPrevented);
            return Some(if prevented { Cancelled::Prevented } else { Cancelled::AlreadyFinished });
        }
        if let Some((ctx, _)) = state.life.as_ref().and_then(|life| life.attempts.get(&id)) {
            if !(self.is(Break::CancelUnheard) && reason == CancelReason::Requested) {
                ctx.cancel(reason);
            }
            return Some(Cancelled::Requested);
        }
        stored.haunts = match stored.run.state {
            RunState::Retrying => self.is(Break::CancelledRetries),
            _ => self.is(Break::PreventedStarts),
        };
        self.end(state, id, RunState::Cancelled, Some(reason.as_str().into()), 0);
        self.notify(state);
        Some(Cancelled::Prevented)
    }
}
