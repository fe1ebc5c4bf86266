//! The seven duties of a backend.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{
    Backend, BackendContext, BackendInfo, CancelReason, CancelToken, Cancelled, Capability, Drained,
    Enqueued, Error, Health, Name, Page, Result, RunFilter, RunId, RunRequest, RunState, Tier, async_trait,
};

use super::Config;
use super::service::Service;
use super::state::{Shared, stopped};

/// Runs tasks on tokio and remembers their runs as long as it lives.
#[derive(Debug)]
pub struct CustomBackend(Arc<Shared>);

impl CustomBackend {
    /// A backend of this name that serves this tier.
    pub fn new(name: Name, tier: Tier, config: Config) -> Self {
        // Only what is declared here is relied upon, and the conformance kit tests both ways.
        let info = BackendInfo::new(name, "custom_backend", tier, &[Capability::CancelRunning]);
        Self(Arc::new(Shared::new(info, config)))
    }

    /// Ends what is left without waiting for it, and names every run that was cut off.
    fn cut_off(&self, ctx: &BackendContext) -> Vec<RunId> {
        let left: Vec<(RunId, bool)> = {
            let mut state = self.0.lock();
            state.tell_all(CancelReason::Shutdown);
            // Dropped, it aborts: jobs end where they stand.
            drop(std::mem::take(&mut state.served));
            state.live().map(|entry| (entry.run.id, entry.attempt.is_some())).collect()
        };
        for (run, _) in &left {
            self.0.end(*run, ctx, RunState::Cancelled, Some(CancelReason::Shutdown.as_str().to_owned()));
        }
        let mut abandoned = std::mem::take(&mut self.0.lock().abandoned);
        let under_way = left.into_iter().filter(|(_, was_under_way)| *was_under_way).map(|(run, _)| run);
        let late: Vec<RunId> = under_way.filter(|run| !abandoned.contains(run)).collect();
        abandoned.extend(late);
        abandoned
    }
}

#[async_trait]
impl Backend for CustomBackend {
    fn info(&self) -> BackendInfo {
        self.0.info.clone()
    }

    async fn start(&self, ctx: BackendContext) -> Result<()> {
        let mut state = self.0.lock();
        if state.ctx.is_none() {
            // Above every fence of an earlier life, as long as that began at an earlier time.
            let begin = u64::try_from(ctx.clock.now().as_millis()).unwrap_or(0) << 10;
            state.next_fence = state.next_fence.max(begin);
            state.cut = CancelToken::new();
            state.ctx = Some(ctx);
        }
        Ok(())
    }

    async fn enqueue(&self, request: RunRequest) -> Result<Enqueued> {
        let mut state = self.0.lock();
        let (name, id) = (&self.0.info.name, request.run_id);
        let ctx = state.ctx.clone().ok_or_else(|| stopped(name))?;
        if state.is_known(&id) {
            return Ok(Enqueued::Duplicate(id));
        }
        let placed = ctx.tasks.find(&request.task).ok_or_else(|| {
            Error::not_found("task/unknown", format!("no task `{}` in this process", request.task))
        })?;
        if *self.0.live.borrow() >= self.0.config.live_runs {
            let message =
                format!("backend `{name}` holds {} runs, as many as it may", self.0.config.live_runs);
            return Err(Error::unavailable("backend/full", message));
        }
        let told = self.0.admit(&mut state, &request, &ctx);
        while state.served.try_join_next().is_some() {}
        let wait = request.due.since(ctx.clock.now());
        // Held from here on, so that a test clock does not move before the run waits for it.
        let busy = ctx.clock.busy();
        let service = Service { shared: Arc::clone(&self.0), ctx, busy, placed, id, told };
        state.served.spawn(service.serve(wait));
        Ok(Enqueued::Inserted(id))
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Page> {
        let state = self.0.lock();
        let matching = state.runs.values().map(|entry| &entry.run).filter(|run| filter.matches(run));
        Ok(filter.page(matching.cloned()))
    }

    async fn cancel(&self, run: &RunId) -> Result<Cancelled> {
        let state = self.0.lock();
        let unknown =
            || Error::not_found("run/unknown", format!("backend `{}` has no run {run}", self.0.info.name));
        let entry = state.runs.get(run).ok_or_else(unknown)?;
        if entry.run.state.is_end() {
            return Ok(Cancelled::AlreadyFinished);
        }
        entry.told.cancel(CancelReason::Requested);
        let Some(attempt) = &entry.attempt else { return Ok(Cancelled::Prevented) };
        attempt.cancel(CancelReason::Requested);
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
                // Somebody is in a hurry: the stop under way, if there is one, waits no longer.
                state.cut.cancel(CancelReason::Shutdown);
                return Ok(Drained::default());
            };
            let (under_way, waiting): (Vec<_>, Vec<_>) =
                state.live().partition(|entry| entry.attempt.is_some());
            waiting.iter().for_each(|entry| entry.told.cancel(CancelReason::Shutdown));
            (ctx, state.cut.clone(), under_way.len(), waiting.len())
        };
        let busy = ctx.clock.busy();
        let mut live = self.0.live.subscribe();
        let mut patience = ctx.clock.sleep_until(ctx.clock.monotonic().saturating_add(grace));
        let drain = async {
            tokio::select! {
                biased;
                _ = live.wait_for(|live| *live == 0) => {}
                _ = cut.cancelled() => {}
                () = &mut patience => {}
            }
        };
        busy.parked(drain).await;
        self.0.lock().tell_all(CancelReason::Shutdown);
        let mut live = self.0.live.subscribe();
        let wound_down = async {
            tokio::select! {
                _ = live.wait_for(|live| *live == 0) => {}
                _ = cut.cancelled() => {}
            }
        };
        busy.parked(wound_down).await;
        let abandoned = self.cut_off(&ctx);
        Ok(Drained { finished: under_way.saturating_sub(abandoned.len()), given_back, abandoned })
    }

    async fn abort(&self) -> Result<Drained> {
        let (ctx, waiting) = {
            let mut state = self.0.lock();
            let Some(ctx) = state.ctx.take() else {
                state.cut.cancel(CancelReason::Shutdown);
                return Ok(Drained::default());
            };
            (ctx, state.live().filter(|entry| entry.attempt.is_none()).count())
        };
        let abandoned = self.cut_off(&ctx);
        Ok(Drained { finished: 0, given_back: waiting, abandoned })
    }
}
