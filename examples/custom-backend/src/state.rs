//! What the backend knows: the runs, those that live and those that ended, behind one lock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use scheduler_core::{
    BackendContext, BackendInfo, CancelReason, CancelToken, Event, Name, Run, RunContext, RunId, RunIdentity,
    RunRequest, RunState,
};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Config;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) info: BackendInfo,
    pub(crate) config: Config,
    state: Mutex<State>,
    /// How many runs live.
    pub(crate) live: watch::Sender<usize>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// There while it runs and takes work.
    pub(crate) ctx: Option<BackendContext>,
    pub(crate) runs: BTreeMap<RunId, Entry>,
    /// The runs that ended, oldest first.
    ended: VecDeque<RunId>,
    /// One tokio task for each run that lives.
    pub(crate) served: JoinSet<()>,
    pub(crate) next_fence: u64,
    /// Cuts a stop under way short.
    pub(crate) cut: CancelToken,
    pub(crate) abandoned: Vec<RunId>,
}

/// A run and the ways to reach it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) run: Run,
    /// Ends its waiting.
    pub(crate) told: CancelToken,
    /// The attempt under way.
    pub(crate) attempt: Option<RunContext>,
    /// That of its last delivery; 0 before the first.
    pub(crate) fence: u64,
}

impl Shared {
    pub(crate) fn new(info: BackendInfo, config: Config) -> Self {
        Self { info, config, state: Mutex::default(), live: watch::Sender::new(0) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a run that is new.
    pub(crate) fn admit(&self, state: &mut State, request: &RunRequest, ctx: &BackendContext) -> CancelToken {
        let (info, id) = (&self.info, request.run_id);
        let mut run = Run::queued(id, request.task.clone(), info.name.clone(), info.tier, request.fire_time);
        run.origin = request.origin;
        run.params = request.params.clone();
        if request.due > ctx.clock.now() {
            run.state = RunState::Scheduled;
        }
        let told = CancelToken::new();
        state.runs.insert(id, Entry { run, told: told.clone(), attempt: None, fence: 0 });
        self.live.send_modify(|live| *live += 1);
        told
    }

    /// Begins the next attempt of a run, unless the run was ended meanwhile.
    pub(crate) fn begin(&self, id: RunId, ctx: &BackendContext) -> Option<RunContext> {
        let mut state = self.lock();
        let fence = state.next_fence;
        let entry = state.runs.get_mut(&id).filter(|entry| entry.told.reason().is_none())?;
        let run = &mut entry.run;
        run.state = RunState::Running;
        run.attempt += 1;
        run.next_attempt_at = None;
        run.started_at.get_or_insert(ctx.clock.now());
        let identity = RunIdentity {
            namespace: ctx.namespace.clone(),
            task: run.task.clone(),
            tier: run.tier,
            backend: run.backend.clone(),
            run_id: id,
            fire_time: run.fire_time,
            attempt: run.attempt,
            fence,
            params: run.params.clone(),
        };
        let attempt = RunContext::new(identity, ctx.run_host());
        (entry.attempt, entry.fence) = (Some(attempt.clone()), fence);
        let run = entry.run.clone();
        state.next_fence += 1;
        drop(state);
        ctx.events.emit(&Event::AttemptStarted { run: &run, fence });
        Some(attempt)
    }

    /// Changes a run whose attempt has ended.
    pub(crate) fn change(&self, id: RunId, change: impl FnOnce(&mut Run)) -> Option<(Run, u64)> {
        let mut state = self.lock();
        let entry = state.runs.get_mut(&id).filter(|entry| !entry.run.state.is_end())?;
        entry.attempt = None;
        change(&mut entry.run);
        Some((entry.run.clone(), entry.fence))
    }

    /// Ends a run. A run that has ended already stays as it is.
    pub(crate) fn end(&self, id: RunId, ctx: &BackendContext, end: RunState, reason: Option<String>) {
        let ended = self.change(id, |run| {
            run.state = end;
            run.reason = reason;
            run.finished_at = Some(ctx.clock.now());
        });
        let Some((run, fence)) = ended else { return };
        {
            let mut state = self.lock();
            state.ended.push_back(id);
            while state.ended.len() > self.config.ended_runs {
                let oldest = state.ended.pop_front();
                oldest.and_then(|oldest| state.runs.remove(&oldest));
            }
        }
        ctx.events.emit(&Event::RunEnded { run: &run, fence });
        self.live.send_modify(|live| *live -= 1);
    }
}

impl State {
    pub(crate) fn live(&self) -> impl Iterator<Item = &Entry> {
        self.runs.values().filter(|entry| !entry.run.state.is_end())
    }

    /// Tells every run that lives to stop, those that wait and those under way.
    pub(crate) fn tell_all(&self, reason: CancelReason) {
        for entry in self.live() {
            entry.told.cancel(reason);
            entry.attempt.iter().for_each(|attempt| attempt.cancel(reason));
        }
    }

    pub(crate) fn is_known(&self, id: &RunId) -> bool {
        self.runs.contains_key(id)
    }
}

pub(crate) fn stopped(name: &Name) -> scheduler_core::Error {
    scheduler_core::Error::unavailable("backend/stopped", format!("backend `{name}` does not run"))
}
