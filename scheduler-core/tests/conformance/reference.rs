//! A backend that keeps every promise, unless it is told to break one.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::select;
use scheduler_core::{
    Backend, BackendContext, BackendInfo, CancelReason, Cancelled, Capability, Cursor, DeadLetters, Drained,
    Enqueued, Error, Health, Name, Page, Partial, Pause, Placed, Result, Retention, Run, RunFilter, RunId,
    RunOrigin, RunRequest, RunState, ScheduleStatus, Schedules, Tier, async_trait,
};
use serde_json::Value;
use tokio::sync::{Notify, watch};

use crate::breaks::Break;
use crate::pump::pump;
use crate::store::{Kept, Life, Shared, State, lock};

#[derive(Debug)]
pub(crate) struct Reference(Arc<Shared>);

impl Reference {
    pub(crate) fn new(state: Arc<Mutex<State>>, broken: Option<Break>) -> Self {
        let declared = |capability: &Capability| broken != Some(Break::Undeclared(*capability));
        let capabilities: Vec<_> = Capability::ALL.iter().copied().filter(declared).collect();
        let name = Name::new("reference").unwrap();
        Self(Arc::new(Shared {
            info: BackendInfo::new(name, "reference", Tier::Queue, &capabilities),
            broken,
            state,
            wake: Notify::new(),
            under_way: watch::Sender::new(0),
            past: Mutex::default(),
            connected: Mutex::default(),
        }))
    }

    /// Waits until no attempt is under way, at most for `patience` on the given clock.
    async fn idle(&self, ctx: &BackendContext, patience: Duration) {
        let busy = ctx.clock.busy();
        let mut under_way = self.0.under_way.subscribe();
        let idle = Box::pin(under_way.wait_for(|count| *count == 0));
        let mut sleep = ctx.clock.sleep_until(ctx.clock.monotonic().saturating_add(patience));
        drop(busy.parked(select(idle, &mut sleep)).await);
    }

    fn remember(&self, drained: Drained) -> Drained {
        let mut past = lock(&self.0.past);
        past.has_stopped = true;
        past.last_stop = drained.clone();
        drained
    }
}

fn unknown(task: &Name) -> Error {
    Error::not_found("task/unknown", format!("no task `{task}`"))
}

#[async_trait]
impl Backend for Reference {
    fn info(&self) -> BackendInfo {
        let mut info = self.0.info.clone();
        if self.0.is(Break::KindChanges) && lock(&self.0.past).has_started {
            info.kind = "other".into();
        }
        info
    }

    async fn start(&self, ctx: BackendContext) -> Result<()> {
        if self.0.is(Break::NoSecondStart) && lock(&self.0.past).has_stopped {
            return Err(Error::unavailable("reference/spent", "it has been stopped"));
        }
        let mut state = self.0.lock();
        if state.running().is_some() {
            if self.0.is(Break::SecondStartForgets) {
                state.runs.clear();
            }
            return Ok(());
        }
        state.end();
        lock(&self.0.past).has_started = true;
        if self.0.is(Break::OutsideLost) {
            state.runs.retain(|_, stored| !stored.is_from_outside);
        }
        if self.0.is(Break::LettersForgotten) {
            state.letters.clear();
        }
        if self.0.is(Break::FencesBeginAnew) {
            state.fence = 0;
        }
        if self.0.is(Break::CursorForgotten) {
            state.cursors.clear();
        }
        if self.0.is(Break::EndedForgotten) {
            let is_known = |run: &Run| !run.state.is_end() || run.origin == RunOrigin::Schedule;
            let State { runs, letters, .. } = &mut *state;
            runs.retain(|id, stored| is_known(&stored.run) || letters.contains_key(id));
        }
        // What ran when the last instance ended is delivered again.
        for stored in state.runs.values_mut().filter(|stored| stored.run.state == RunState::Running) {
            stored.run.state = RunState::Queued;
            stored.run.attempt -= u32::from(self.0.is(Break::AttemptForgotten));
        }
        let now = ctx.clock.now();
        state.cursors.values_mut().for_each(|cursor| cursor.resume(now));
        let held = vec![ctx.clock.busy()];
        state.life = Some(Life {
            ctx,
            tasks: Default::default(),
            attempts: Default::default(),
            held,
            is_draining: false,
            is_stopped: false,
            cut_off: Vec::new(),
            pump: None,
        });
        self.0.under_way.send_replace(0);
        let pump = tokio::spawn(pump(Arc::clone(&self.0))).abort_handle();
        state.life.iter_mut().for_each(|life| life.pump = Some(pump.clone()));
        Ok(())
    }

    async fn enqueue(&self, request: RunRequest) -> Result<Enqueued> {
        let mut state = self.0.lock();
        let running = state.running().filter(|life| !life.is_draining).map(|life| life.ctx.clone());
        let is_from_outside = running.is_none();
        let outside = || lock(&self.0.connected).clone().filter(|_| state.life.is_none());
        let Some(ctx) = running.or_else(outside) else {
            let code = if self.0.is(Break::StoppedUnnamed) { "reference/away" } else { "backend/stopped" };
            return Err(Error::unavailable(code, "it does not run"));
        };
        let id = request.run_id;
        let took_time = |run: &Run| run.state.is_end() && run.started_at < run.finished_at;
        let forgets = self.0.is(Break::LongRunsForgotten);
        if state.runs.get(&id).is_some_and(|stored| !(forgets && took_time(&stored.run))) {
            return Ok(Enqueued::Duplicate(id));
        }
        let now = ctx.clock.now();
        let info = &self.0.info;
        let mut run = Run::queued(id, request.task, info.name.clone(), info.tier, request.fire_time);
        run.adhoc = request.adhoc;
        self.0.work_of(&ctx, &run).map_err(|refusal| match refusal.code() {
            "task/unknown" if self.0.is(Break::UnknownTaskUnnamed) => {
                Error::not_found("reference/task", refusal.to_string())
            }
            _ => refusal,
        })?;
        run.origin = if self.0.is(Break::OriginLost) { RunOrigin::Manual } else { request.origin };
        run.params = request.params;
        if self.0.is(Break::ParametersCut) {
            for value in run.params.values_mut() {
                if let Value::String(text) = value {
                    *text = text.chars().take(65_536).collect();
                }
            }
        }
        if request.due > now {
            run.state = RunState::Scheduled;
        }
        let mut stored = state.stored(run, request.due);
        (stored.priority, stored.is_from_outside) = (request.priority, is_from_outside);
        if !(self.0.is(Break::LosesUnderLoad) && stored.number == 500) {
            state.runs.insert(id, stored);
        }
        self.0.notify(&mut state);
        Ok(Enqueued::Inserted(id))
    }

    async fn enqueue_all(&self, requests: Vec<RunRequest>) -> Result<Vec<Enqueued>> {
        let mut answers = Vec::new();
        for request in requests {
            answers.push(self.enqueue(request).await?);
        }
        if self.0.is(Break::AnswersReversed) {
            answers.reverse();
        }
        Ok(answers)
    }

    async fn connect(&self, ctx: BackendContext) -> Result<()> {
        *lock(&self.0.connected) = Some(ctx);
        Ok(())
    }

    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        Some(&*self.0)
    }

    fn retention(&self) -> Option<&dyn Retention> {
        Some(&*self.0)
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Page> {
        let is_connected = lock(&self.0.connected).is_some();
        if self.0.is(Break::HistoryAway) && self.0.lock().running().is_none() && !is_connected {
            return Err(Error::unavailable("backend/stopped", "it does not run"));
        }
        let mut filter = filter.clone();
        if self.0.is(Break::StatesUnfiltered) {
            filter.states.clear();
        }
        let mut page = filter.page(self.0.lock().runs.values().map(|stored| stored.run.clone()));
        if self.0.is(Break::OldestFirst) {
            page.runs.reverse();
        }
        Ok(page)
    }

    async fn cancel(&self, run: &RunId) -> Result<Cancelled> {
        let mut state = self.0.lock();
        let now = state.life.as_ref().map(|life| life.ctx.clock.now()).unwrap_or_default();
        match self.0.cancel_run(&mut state, *run, CancelReason::Requested, now) {
            Some(cancelled) => Ok(cancelled),
            None if self.0.is(Break::UnknownRunEnded) => Ok(Cancelled::AlreadyFinished),
            None => Err(Error::not_found("run/unknown", format!("no run {run}"))),
        }
    }

    async fn health(&self) -> Health {
        match self.0.lock().running() {
            None if !self.0.is(Break::AlwaysUp) => Health::down("it does not run"),
            _ => Health::up(),
        }
    }

    async fn stop(&self, grace: Duration) -> Result<Drained> {
        let (ctx, under_way, waiting) = {
            let mut state = self.0.lock();
            let state = &mut *state;
            let Some(life) = state.life.as_mut().filter(|life| !life.is_stopped) else {
                let again = self.0.is(Break::SecondStopReports);
                return Ok(if again { lock(&self.0.past).last_stop.clone() } else { Drained::default() });
            };
            life.is_draining = true;
            let waits = |run: &Run| !run.state.is_end() && run.state != RunState::Running;
            let waiting = state.runs.values().filter(|stored| waits(&stored.run)).count();
            (life.ctx.clone(), life.attempts.len(), waiting)
        };
        let grace = if self.0.is(Break::NoGrace) { Duration::ZERO } else { grace };
        self.idle(&ctx, grace).await;
        {
            let state = self.0.lock();
            let attempts = state.life.iter().flat_map(|life| life.attempts.values());
            attempts.for_each(|(attempt, _)| attempt.cancel(CancelReason::Shutdown));
        }
        self.idle(&ctx, Duration::from_secs(7_200)).await;
        let mut state = self.0.lock();
        let mut abandoned: Vec<RunId> =
            state.life.as_mut().map(|life| std::mem::take(&mut life.cut_off)).unwrap_or_default();
        // After an abort in between, the runs are in its report.
        let finished = if state.life.is_some() { under_way - abandoned.len() } else { 0 };
        if self.0.is(Break::OneCutOffNamed) {
            abandoned.truncate(1);
        }
        if self.0.is(Break::WaitingLostAtStop) {
            state.runs.retain(|_, stored| stored.run.state != RunState::Scheduled);
        }
        if self.0.is(Break::RunsOn) {
            state.life.iter_mut().for_each(|life| (life.is_stopped, life.is_draining) = (true, false));
            self.0.notify(&mut state);
        } else {
            state.end();
        }
        let given_back = if self.0.is(Break::GivenBackUncounted) { 0 } else { waiting };
        Ok(self.remember(Drained { finished, given_back, abandoned }))
    }

    async fn abort(&self) -> Result<Drained> {
        let is_stopping = self.0.lock().life.as_ref().is_some_and(|life| life.is_draining);
        if self.0.is(Break::AbortWindsDown) && !is_stopping {
            return self.stop(Duration::ZERO).await;
        }
        let mut state = self.0.lock();
        let state = &mut *state;
        let Some(life) = &state.life else { return Ok(Drained::default()) };
        let abandoned: Vec<RunId> = life.attempts.keys().copied().collect();
        for run in &abandoned {
            if let Some(stored) = state.runs.get_mut(run) {
                stored.run.state = RunState::Queued;
            }
        }
        state.end();
        if !self.0.is(Break::StopOutlastsAbort) {
            self.0.under_way.send_replace(0);
        }
        Ok(self.remember(Drained { abandoned, ..Drained::default() }))
    }

    fn schedules(&self) -> Option<&dyn Schedules> {
        Some(self)
    }
}

impl Reference {
    /// Changes a task that it knows, and lets the loop look at it.
    fn change(
        &self,
        task: &Name,
        change: impl FnOnce(&mut Kept, &mut Cursor, scheduler_core::Timestamp),
    ) -> Result<()> {
        let mut state = self.0.lock();
        let state = &mut *state;
        let Some(life) = &mut state.life else { return Err(unknown(task)) };
        let now = life.ctx.clock.now();
        match (life.tasks.get_mut(task), state.cursors.get_mut(task)) {
            (Some(kept), Some(cursor)) => change(kept, cursor, now),
            _ if self.0.is(Break::UnknownPaused) => {}
            _ => return Err(unknown(task)),
        }
        self.0.notify(state);
        Ok(())
    }
}

#[async_trait]
impl Schedules for Reference {
    async fn upsert(&self, placed: Arc<Placed>) -> Result<()> {
        let mut state = self.0.lock();
        let state = &mut *state;
        let name = placed.task.name.clone();
        let Some(life) = &mut state.life else { return Err(unknown(&name)) };
        state.cursors.entry(name.clone()).or_insert_with(|| Cursor::starting(life.ctx.clock.now()));
        let kept = life.tasks.entry(name).or_insert_with(|| Kept {
            placed: Arc::clone(&placed),
            paused: None,
            next: None,
            haunts: false,
        });
        if !self.0.is(Break::EditIgnored) {
            kept.placed = placed;
        }
        self.0.notify(state);
        Ok(())
    }

    async fn upsert_all(&self, mut tasks: Vec<Arc<Placed>>) -> Result<(), Partial> {
        if self.0.is(Break::OneOfManyForgotten) {
            tasks.pop();
        }
        for (done, task) in tasks.into_iter().enumerate() {
            self.upsert(task).await.map_err(|error| Partial { done, error })?;
        }
        Ok(())
    }

    async fn remove(&self, task: &Name) -> Result<bool> {
        let mut state = self.0.lock();
        let state = &mut *state;
        let Some(life) = &mut state.life else { return Ok(false) };
        if self.0.is(Break::RemovedFires) {
            let kept = life.tasks.get_mut(task);
            return Ok(kept.is_some_and(|kept| !std::mem::replace(&mut kept.haunts, true)));
        }
        state.cursors.remove(task);
        let was_known = life.tasks.remove(task).is_some();
        self.0.notify(state);
        Ok(was_known)
    }

    async fn statuses(&self) -> Result<Vec<ScheduleStatus>> {
        let mut statuses = Vec::new();
        // What is decided first is what the loop has not looked at yet.
        self.0.look();
        let state = self.0.lock();
        for (name, kept) in state.life.iter().flat_map(|life| &life.tasks) {
            let next = kept.next.filter(|_| kept.paused.is_none() && !self.0.is(Break::NextUnknown));
            let mut status = ScheduleStatus::new(name.clone(), next);
            status.paused = kept.paused.clone();
            status.live = state.live_ids(name).len();
            statuses.push(status);
        }
        Ok(statuses)
    }

    async fn pause(&self, task: &Name, pause: Pause) -> Result<()> {
        self.change(task, |kept, _, _| kept.paused = Some(pause))
    }

    async fn resume(&self, task: &Name) -> Result<()> {
        let forgets = self.0.is(Break::MissedForgotten);
        self.change(task, |kept, cursor, now| {
            if kept.paused.take().is_some() {
                if forgets { *cursor = Cursor::starting(now) } else { cursor.resume(now) }
            }
        })
    }
}
