//! A backend as somebody else would write it: runs in memory, on tokio, without schedules of its own.
//!
//! It knows nothing of the scheduler but its public traits. The scheduler fires its tasks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{select, select_all};
use scheduler_core::{
    Backend, BackendContext, BackendInfo, Busy, CancelReason, CancelToken, Cancelled, Capability, Drained,
    Enqueued, Error, Event, Health, Name, Page, Placed, Result, Run, RunContext, RunFilter, RunId,
    RunIdentity, RunRequest, RunState, Tier, Verdict, async_trait, attempt, verdict,
};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Runs tasks on tokio and remembers their runs as long as it lives.
#[derive(Debug)]
pub(crate) struct MemoryBackend(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    info: BackendInfo,
    state: Mutex<State>,
    /// How many runs have not ended.
    live: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    ctx: Option<BackendContext>,
    runs: BTreeMap<RunId, Entry>,
    served: JoinSet<()>,
    fence: u64,
    /// Cuts a stop under way short.
    cut: CancelToken,
    abandoned: Vec<RunId>,
}

#[derive(Debug)]
struct Entry {
    run: Run,
    told: CancelToken,
    attempt: Option<RunContext>,
}

impl MemoryBackend {
    pub(crate) fn new(name: &str, tier: Tier) -> Self {
        let name = Name::new(name).unwrap();
        let info = BackendInfo::new(name, "memory", tier, &[Capability::CancelRunning]);
        Self(Arc::new(Shared { info, state: Mutex::default(), live: watch::Sender::new(0) }))
    }

    fn stopped(&self) -> Error {
        Error::unavailable("backend/stopped", format!("backend `{}` does not run", self.0.info.name))
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    fn info(&self) -> BackendInfo {
        self.0.info.clone()
    }

    async fn start(&self, ctx: BackendContext) -> Result<()> {
        let mut state = self.0.lock();
        if state.ctx.is_none() {
            state.cut = CancelToken::new();
            state.ctx = Some(ctx);
        }
        Ok(())
    }

    async fn enqueue(&self, request: RunRequest) -> Result<Enqueued> {
        let mut state = self.0.lock();
        let ctx = state.ctx.clone().ok_or_else(|| self.stopped())?;
        let id = request.run_id;
        if state.runs.contains_key(&id) {
            return Ok(Enqueued::Duplicate(id));
        }
        let placed = ctx.tasks.find(&request.task).ok_or_else(|| {
            Error::not_found("task/unknown", format!("no task `{}` in this process", request.task))
        })?;
        let info = &self.0.info;
        let mut run = Run::queued(id, request.task.clone(), info.name.clone(), info.tier, request.fire_time);
        run.origin = request.origin;
        run.params = request.params.clone();
        if request.due > ctx.clock.now() {
            run.state = RunState::Scheduled;
        }
        let told = CancelToken::new();
        state.runs.insert(id, Entry { run, told: told.clone(), attempt: None });
        self.0.live.send_modify(|live| *live += 1);
        while state.served.try_join_next().is_some() {}
        // Held from here on, so that a test clock does not move before the run waits for it.
        let busy = ctx.clock.busy();
        let service = Service { shared: Arc::clone(&self.0), ctx, busy, placed, id, told };
        state.served.spawn(service.serve(request));
        Ok(Enqueued::Inserted(id))
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Page> {
        Ok(filter.page(self.0.lock().runs.values().map(|entry| entry.run.clone())))
    }

    async fn cancel(&self, run: &RunId) -> Result<Cancelled> {
        let state = self.0.lock();
        let unknown = || Error::not_found("run/unknown", format!("no run {run}"));
        let entry = state.runs.get(run).ok_or_else(unknown)?;
        if entry.run.state.is_end() {
            return Ok(Cancelled::AlreadyFinished);
        }
        entry.told.cancel(CancelReason::Requested);
        match &entry.attempt {
            Some(attempt) => attempt.cancel(CancelReason::Requested),
            None => return Ok(Cancelled::Prevented),
        }
        Ok(Cancelled::Requested)
    }

    async fn health(&self) -> Health {
        match self.0.lock().ctx {
            Some(_) => Health::up(),
            None => Health::down("it does not run"),
        }
    }

    async fn stop(&self, grace: Duration) -> Result<Drained> {
        let (ctx, cut, under_way, given_back) = {
            let mut state = self.0.lock();
            let Some(ctx) = state.ctx.take() else {
                state.cut.cancel(CancelReason::Shutdown);
                return Ok(Drained::default());
            };
            let live = || state.runs.values().filter(|entry| !entry.run.state.is_end());
            let waiting: Vec<_> = live().filter(|entry| entry.attempt.is_none()).collect();
            waiting.iter().for_each(|entry| entry.told.cancel(CancelReason::Shutdown));
            let counts = (live().count() - waiting.len(), waiting.len());
            (ctx, state.cut.clone(), counts.0, counts.1)
        };
        let busy = ctx.clock.busy();
        let mut live = self.0.live.subscribe();
        let mut patience = ctx.clock.sleep_until(ctx.clock.monotonic().saturating_add(grace));
        {
            let ended = Box::pin(async { drop(live.wait_for(|live| *live == 0).await) });
            let cut = Box::pin(async {
                cut.cancelled().await;
            });
            busy.parked(select(
                select_all([ended as futures_util::future::BoxFuture<'_, ()>, cut]),
                &mut patience,
            ))
            .await;
        }
        self.0.abandon();
        busy.parked(async { drop(live.wait_for(|live| *live == 0).await) }).await;
        let abandoned = std::mem::take(&mut self.0.lock().abandoned);
        Ok(Drained { finished: under_way - abandoned.len(), given_back, abandoned })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells every run under way that the grace is over.
    fn abandon(&self) {
        for entry in self.lock().runs.values() {
            entry.told.cancel(CancelReason::Shutdown);
            entry.attempt.iter().for_each(|attempt| attempt.cancel(CancelReason::Shutdown));
        }
    }
}

/// What it takes to see one run through.
struct Service {
    shared: Arc<Shared>,
    ctx: BackendContext,
    busy: Busy,
    placed: Arc<Placed>,
    id: RunId,
    told: CancelToken,
}

impl Service {
    async fn serve(self, request: RunRequest) {
        let mut wait = request.due.since(self.ctx.clock.now());
        let retry = &self.placed.task.retry;
        let max_attempts = retry.attempts_on(self.shared.info.tier);
        loop {
            if let Some(reason) = self.wait(wait).await {
                break self.end(RunState::Cancelled, Some(reason.as_str().into()));
            }
            let context = self.begin(&request);
            let number = context.attempt();
            // The context holds a test clock while the job works.
            let end = self.busy.parked(attempt(&*self.placed.job, &context, self.placed.task.timeout)).await;
            drop(context);
            wait = match verdict(end, retry, number, max_attempts, self.id.seed()) {
                Verdict::Succeed(output) => {
                    self.change(|run| run.output = output);
                    break self.end(RunState::Succeeded, None);
                }
                Verdict::Fail { error } => break self.end(RunState::Failed, Some(error)),
                Verdict::Cancel(reason) => {
                    if reason == CancelReason::Shutdown {
                        self.shared.lock().abandoned.push(self.id);
                    }
                    break self.end(RunState::Cancelled, Some(reason.as_str().into()));
                }
                Verdict::Snooze { after } => {
                    self.pause(RunState::Queued, after, |run| run.attempt -= 1);
                    after
                }
                Verdict::Retry { after, error } => {
                    let now = self.ctx.clock.now();
                    self.pause(RunState::Retrying, after, |run| run.record_failure(now, error));
                    after
                }
            };
        }
    }

    /// Waits unless it is told to stop first, and says why then.
    async fn wait(&self, wait: Duration) -> Option<CancelReason> {
        let mut sleep = self.ctx.clock.sleep_until(self.ctx.clock.monotonic().saturating_add(wait));
        let told = Box::pin(self.told.cancelled());
        self.busy.parked(select(told, &mut sleep)).await;
        self.told.reason()
    }

    fn begin(&self, request: &RunRequest) -> RunContext {
        let mut state = self.shared.lock();
        state.fence += 1;
        let fence = state.fence;
        let entry = state.runs.get_mut(&self.id).expect("a run is kept for ever");
        entry.run.state = RunState::Running;
        entry.run.attempt += 1;
        entry.run.next_attempt_at = None;
        entry.run.started_at.get_or_insert(self.ctx.clock.now());
        let identity = RunIdentity {
            namespace: self.ctx.namespace.clone(),
            task: request.task.clone(),
            tier: self.shared.info.tier,
            backend: self.shared.info.name.clone(),
            run_id: self.id,
            fire_time: request.fire_time,
            attempt: entry.run.attempt,
            fence,
            params: request.params.clone(),
        };
        let context = RunContext::new(identity, self.ctx.run_host());
        entry.attempt = Some(context.clone());
        let run = entry.run.clone();
        drop(state);
        self.ctx.events.emit(&Event::AttemptStarted { run: &run, fence });
        context
    }

    fn change(&self, change: impl FnOnce(&mut Run)) -> Run {
        let mut state = self.shared.lock();
        let entry = state.runs.get_mut(&self.id).expect("a run is kept for ever");
        entry.attempt = None;
        change(&mut entry.run);
        entry.run.clone()
    }

    fn pause(&self, state: RunState, next_in: Duration, note: impl FnOnce(&mut Run)) {
        let next = self.ctx.clock.now() + next_in;
        let run = self.change(|run| {
            note(run);
            run.state = state;
            run.next_attempt_at = Some(next);
        });
        self.ctx.events.emit(&Event::AttemptEnded { run: &run, fence: 0, next_in });
    }

    fn end(&self, state: RunState, reason: Option<String>) {
        let run = self.change(|run| {
            run.state = state;
            run.reason = reason;
            run.finished_at = Some(self.ctx.clock.now());
        });
        self.ctx.events.emit(&Event::RunEnded { run: &run, fence: 0 });
        self.shared.live.send_modify(|live| *live -= 1);
    }
}
