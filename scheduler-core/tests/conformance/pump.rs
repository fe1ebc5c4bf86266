//! The loop of the reference backend: fires, then delivers, then sleeps until something is due.

use std::cmp::Reverse;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select;
use scheduler_core::{
    CancelReason, Entry, Event, Live, Overlap, Priority, Rule, Run, RunContext, RunId, RunIdentity, RunState,
    Schedule, Step, Task, Timestamp, attempt, plan,
};

use crate::breaks::Break;
use crate::store::{Shared, State, Stored};
use crate::subject::SLOTS;

/// Goes on until its life ends, which aborts it.
pub(crate) async fn pump(shared: Arc<Shared>) {
    let Some(ctx) = shared.lock().life.as_ref().map(|life| life.ctx.clone()) else { return };
    let busy = ctx.clock.busy();
    loop {
        let held = shared.lock().life.as_mut().map(|life| std::mem::take(&mut life.held));
        let wake = shared.step(ctx.clock.now());
        drop(held);
        let wait = wake.map_or(Duration::from_secs(3_600), |at| at.since(ctx.clock.now()));
        let mut sleep = ctx.clock.sleep_until(ctx.clock.monotonic().saturating_add(wait));
        busy.parked(select(&mut sleep, pin!(shared.wake.notified()))).await;
        drop(sleep);
    }
}

impl Shared {
    /// Looks at once, for an answer that tells what is due next.
    pub(crate) fn look(self: &Arc<Self>) {
        let now = self.lock().life.as_ref().map(|life| life.ctx.clock.now());
        now.map(|now| self.step(now));
    }

    /// Does what is due, and says when to look again.
    fn step(self: &Arc<Self>, now: Timestamp) -> Option<Timestamp> {
        let mut state = self.lock();
        let state = &mut *state;
        if state.life.as_ref().is_none_or(|life| life.is_draining) {
            return None;
        }
        let may_fire = state.running().is_some();
        let fires = may_fire.then(|| self.fire(state, now)).flatten();
        let dues = self.deliver(state, now);
        fires.into_iter().chain(dues).min()
    }

    fn fire(&self, state: &mut State, now: Timestamp) -> Option<Timestamp> {
        let mut wake = None;
        let names: Vec<_> = state.life.iter().flat_map(|life| life.tasks.keys().cloned()).collect();
        for name in names {
            let at = self.fire_task(state, &name, now);
            if let Some(kept) = state.life.as_mut().and_then(|life| life.tasks.get_mut(&name)) {
                kept.next = at.filter(|_| kept.paused.is_none());
            }
            wake = wake.into_iter().chain(at).min();
        }
        wake
    }

    /// Takes the steps of one task that are due; returns when the next is.
    fn fire_task(&self, state: &mut State, name: &scheduler_core::Name, now: Timestamp) -> Option<Timestamp> {
        let life = state.life.as_mut()?;
        let (namespace, events) = (life.ctx.namespace.clone(), life.ctx.events.clone());
        let kept = life.tasks.get_mut(name)?;
        let holds =
            |pause: &scheduler_core::Pause| !(self.is(Break::ReasonedPauseIgnored) && pause.reason.is_some());
        if let Some(pause) = kept.paused.as_ref().filter(|pause| holds(pause)) {
            let until = pause.until.filter(|_| !self.is(Break::PauseNeverEnds));
            if until.is_none_or(|until| until > now) {
                return until;
            }
            kept.paused = None;
            if let Some(cursor) = state.cursors.get_mut(name) {
                cursor.resume(now);
            }
        }
        let placed = Arc::clone(&kept.placed);
        let task = self.as_understood(&placed.task);
        let schedule = Schedule::of(&namespace, &task)?;
        loop {
            let live = state.live_of(name);
            let step = plan(&schedule, state.cursors.get_mut(name)?, live, now);
            let (fire_time, entry, skipped) = match step {
                Step::Fire { fire_time, entry } => (fire_time, entry, None),
                Step::Skip { fire_time, reason } => (fire_time, Entry::Start, Some(reason)),
                Step::Wait(at) => return Some(at),
                Step::AwaitFinish | Step::Done => return None,
            };
            let is_one_shot = matches!(schedule.trigger.rule(), Rule::At(_));
            let id = match self.is(Break::OneShotsNamed) && is_one_shot {
                true => RunId::manual(now),
                false => schedule.run_id(fire_time),
            };
            let run = Run::queued(id, name.clone(), self.info.name.clone(), self.info.tier, fire_time);
            if entry == Entry::CancelOthers {
                self.cancel_live(state, name, now);
            }
            let mut stored = state.stored(run, fire_time);
            stored.waits_for_turn = entry != Entry::Start;
            if let Some(reason) = skipped {
                if self.is(Break::Overlap(Overlap::Skip)) && reason == scheduler_core::SkipReason::Overlap {
                    continue;
                }
                stored.run = stored.run.into_skipped(now, reason.to_string());
                events.emit(&Event::RunEnded { run: &stored.run, fence: 0 });
            }
            state.runs.insert(id, stored);
        }
    }

    /// The task, as a backend sees it that takes one overlap policy for another.
    fn as_understood(&self, task: &Task) -> Task {
        let mut task = task.clone();
        let other = match task.overlap {
            Overlap::Skip => Overlap::Skip,
            Overlap::Queue => Overlap::Allow,
            Overlap::CancelOther | Overlap::Allow => Overlap::Queue,
        };
        if self.is(Break::Overlap(task.overlap)) {
            task.overlap = other;
        }
        task
    }

    fn cancel_live(&self, state: &mut State, task: &scheduler_core::Name, now: Timestamp) {
        let live: Vec<RunId> = state.live_ids(task);
        for id in live {
            self.cancel_run(state, id, CancelReason::Replaced, now);
        }
    }

    /// Delivers due runs to free slots; returns when the next run is due.
    fn deliver(self: &Arc<Self>, state: &mut State, now: Timestamp) -> Option<Timestamp> {
        let early = Duration::from_secs(if self.is(Break::StartsEarly) { 2 } else { 0 });
        let start_of = |stored: &Stored| match stored.run.state {
            RunState::Scheduled => stored.due - early,
            _ => stored.due,
        };
        let mut ready: Vec<(Reverse<u8>, u64, RunId)> = Vec::new();
        let mut wake: Option<Timestamp> = None;
        let life = state.life.as_ref()?;
        for stored in state.runs.values() {
            let waits =
                matches!(stored.run.state, RunState::Scheduled | RunState::Queued | RunState::Retrying);
            if !waits && !stored.haunts {
                continue;
            }
            if start_of(stored) > now {
                wake = wake.into_iter().chain([start_of(stored)]).min();
                continue;
            }
            let blocked = stored.waits_for_turn
                && state.runs.values().any(|other| {
                    other.run.task == stored.run.task && is_live(&other.run) && other.number < stored.number
                });
            let placed = self.work_of(&life.ctx, &stored.run).ok();
            if let Some(placed) = placed.filter(|_| !blocked) {
                let own = stored.priority.filter(|_| !self.is(Break::OwnPriorityIgnored));
                let of_task = Some(placed.task.priority).filter(|_| !self.is(Break::FirstComeFirst));
                let level = own.or(of_task).map_or(0, Priority::level);
                ready.push((Reverse(level), stored.number, stored.run.id));
            }
        }
        ready.sort_unstable();
        let free = SLOTS.get().saturating_sub(life.attempts.len());
        for (_, _, id) in ready.into_iter().take(free) {
            self.begin(state, id, now);
        }
        wake
    }

    fn begin(self: &Arc<Self>, state: &mut State, id: RunId, now: Timestamp) {
        state.fence += 1;
        let fence = state.fence;
        let (Some(life), Some(stored)) = (&mut state.life, state.runs.get_mut(&id)) else { return };
        let Ok(placed) = self.work_of(&life.ctx, &stored.run) else { return };
        let run = &mut stored.run;
        run.state = RunState::Running;
        run.attempt += 1;
        run.next_attempt_at = None;
        run.started_at.get_or_insert(now);
        stored.waits_for_turn = false;
        stored.haunts = false;
        let identity = RunIdentity {
            namespace: life.ctx.namespace.clone(),
            task: run.task.clone(),
            tier: run.tier,
            backend: run.backend.clone(),
            run_id: id,
            fire_time: if self.is(Break::FireTimeOfNow) { now } else { run.fire_time },
            attempt: run.attempt,
            fence,
            params: run.params.clone(),
        };
        let ctx = RunContext::new(identity, life.ctx.run_host());
        let limit = placed.task.timeout.filter(|_| !self.is(Break::NoTimeLimit));
        let (shared, given) = (Arc::clone(self), ctx.clone());
        life.ctx.events.emit(&Event::AttemptStarted { run: &stored.run, fence });
        let work = tokio::spawn(async move {
            let end = attempt(&*placed.job, &given, limit).await;
            shared.finish(&placed, &given, end);
        });
        life.attempts.insert(id, (ctx, work.abort_handle()));
        self.under_way.send_modify(|count| *count += 1);
    }
}

impl State {
    /// A run as it is stored first.
    pub(crate) fn stored(&mut self, run: Run, due: Timestamp) -> Stored {
        self.accepted += 1;
        Stored {
            run,
            due,
            number: self.accepted,
            waits_for_turn: false,
            haunts: false,
            priority: None,
            is_from_outside: false,
        }
    }

    fn live_of(&self, task: &scheduler_core::Name) -> Live {
        let of_task = self.runs.values().filter(|stored| stored.run.task == *task && is_live(&stored.run));
        let (queued, running): (Vec<_>, Vec<_>) = of_task.partition(|stored| stored.waits_for_turn);
        Live { running: running.len(), queued: queued.len() }
    }

    pub(crate) fn live_ids(&self, task: &scheduler_core::Name) -> Vec<RunId> {
        let live = self.runs.values().filter(|stored| stored.run.task == *task && is_live(&stored.run));
        live.map(|stored| stored.run.id).collect()
    }
}

/// Whether a run's time has come and it has not ended.
fn is_live(run: &Run) -> bool {
    !run.state.is_end() && run.state != RunState::Scheduled
}
