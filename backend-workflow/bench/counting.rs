//! Prefect behind a counter of the pages of runs that are asked for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backend_workflow::{
    CancelOutcome, Capabilities, EngineInfo, EngineRun, EngineRunFilter, EngineRunId, EngineRuns, Launch,
    Launched, PrefectEngine, Workflow, WorkflowEngine, WorkflowName,
};
use scheduler_core::Result;

/// Counts. It holds no schedules, because none is measured.
#[derive(Debug)]
pub(crate) struct Counting {
    engine: PrefectEngine,
    looks: AtomicUsize,
    searches: AtomicUsize,
}

impl Counting {
    pub(crate) fn new(engine: PrefectEngine) -> Self {
        Self { engine, looks: AtomicUsize::new(0), searches: AtomicUsize::new(0) }
    }

    /// Pages of runs that are known.
    pub(crate) fn looks(&self) -> usize {
        self.looks.load(Ordering::Relaxed)
    }

    /// Pages of runs that may be new.
    pub(crate) fn searches(&self) -> usize {
        self.searches.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl WorkflowEngine for Counting {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.engine.capabilities();
        (capabilities.schedules, capabilities.hosting, capabilities.backfill) = (false, false, false);
        capabilities
    }

    async fn probe(&self) -> Result<EngineInfo> {
        self.engine.probe().await
    }

    async fn workflow(&self, name: &WorkflowName) -> Result<Workflow> {
        self.engine.workflow(name).await
    }

    async fn trigger(&self, request: &Launch) -> Result<Launched> {
        self.engine.trigger(request).await
    }

    async fn status(&self, run: &EngineRunId) -> Result<EngineRun> {
        self.engine.status(run).await
    }

    async fn cancel(&self, run: &EngineRunId) -> Result<CancelOutcome> {
        self.engine.cancel(run).await
    }

    async fn cancel_waiting(&self, runs: &[EngineRunId]) -> Result<usize> {
        self.engine.cancel_waiting(runs).await
    }

    async fn list_runs(&self, filter: &EngineRunFilter) -> Result<EngineRuns> {
        let counter = if filter.runs.is_empty() { &self.searches } else { &self.looks };
        counter.fetch_add(1, Ordering::Relaxed);
        self.engine.list_runs(filter).await
    }

    async fn wait(&self, run: &EngineRunId, limit: Duration) -> Result<EngineRun> {
        self.engine.wait(run, limit).await
    }
}
