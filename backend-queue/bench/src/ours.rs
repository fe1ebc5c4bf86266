//! Ourselves, driven as an embedder does: a scheduler with one task on the durable tier.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use backend_queue::{QueueBackend, QueueConfig};
use scheduler_core::{
    Event, JobDescriptor, Name, Order, Overlap, Registry, RunContext, Scheduler, SystemClock, Task, Tier,
    TriggerRequest, Way, source,
};
use serde_json::{Value, json};

use crate::contender::{BULK, Contender, PAUSE, waited};
use crate::recorder::{Recorder, payload};

const TASK: &str = "noop";

/// How long jobs may go on when a scheduler stops.
const GRACE: Duration = Duration::from_secs(10);

/// The durable tier on one store.
#[derive(Clone, Debug)]
pub(crate) struct Ours {
    name: &'static str,
    folder: PathBuf,
    settings: Value,
}

impl Ours {
    /// `settings` is the backend's section of a configuration.
    pub(crate) fn new(name: &'static str, folder: impl Into<PathBuf>, settings: Value) -> Self {
        Self { name, folder: folder.into(), settings }
    }

    /// The same with other settings besides.
    pub(crate) fn with(&self, settings: &Value) -> Self {
        let mut ours = self.clone();
        if let (Some(own), Some(others)) = (ours.settings.as_object_mut(), settings.as_object()) {
            own.extend(others.clone());
        }
        ours
    }

    /// A scheduler whose jobs tell `recorder` when they begin.
    async fn scheduler(&self, recorder: &Recorder) -> Result<Scheduler> {
        let config = QueueConfig::from_value(&self.settings).map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            anyhow::anyhow!(faults.join("; "))
        })?;
        let recorder = recorder.clone();
        let job = JobDescriptor::function(TASK, "does nothing", move |ctx: RunContext| {
            let payload = ctx.params().get("payload").and_then(Value::as_str);
            recorder.begin(payload.unwrap_or_default());
            std::future::ready(Ok(Value::Null))
        });
        let mut registry = Registry::new();
        registry.add_job(job, source!(), Way::Explicit)?;
        let backend = QueueBackend::new(Name::new("queue")?, config);
        let scheduler = Scheduler::builder(Arc::new(SystemClock::new()))
            .data_dir(&self.folder)
            .registry(registry)
            .backend(Arc::new(backend))
            .build()?;
        let mut task = Task::new(Name::new(TASK)?, Name::new(TASK)?);
        task.tier = Some(Tier::Queue);
        // Else each run would wait for the one before, as the peers' do not.
        task.overlap = Overlap::Allow;
        scheduler.submit(task).await?;
        Ok(scheduler)
    }

    /// A scheduler that takes runs and runs none, as a program beside a daemon does.
    async fn outside(&self) -> Result<Scheduler> {
        let scheduler = self.scheduler(&Recorder::new(0)).await?;
        scheduler.connect().await?;
        Ok(scheduler)
    }

    async fn recording(&self, recorder: &Recorder) -> Result<Scheduler> {
        let scheduler = self.scheduler(recorder).await?;
        let recorder = recorder.clone();
        scheduler.events().listen(move |event| {
            if let Event::RunEnded { .. } = event {
                recorder.end();
            }
        });
        Ok(scheduler)
    }

    /// As [`latencies`](Contender::latencies), enqueued by somebody who is not the one that runs them.
    ///
    /// # Errors
    /// Jobs stay behind.
    pub(crate) async fn latencies_from_outside(&self, jobs: usize) -> Result<Vec<Duration>> {
        self.measured(jobs, Some(&self.outside().await?)).await
    }

    async fn measured(&self, jobs: usize, outside: Option<&Scheduler>) -> Result<Vec<Duration>> {
        let recorder = Recorder::new(jobs);
        let scheduler = self.recording(&recorder).await?;
        scheduler.start().await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut enqueued = Vec::with_capacity(jobs);
        for index in 0..jobs {
            enqueued.push(Instant::now());
            trigger(outside.unwrap_or(&scheduler), index).await?;
            tokio::time::sleep(PAUSE).await;
        }
        recorder.all_ended().await?;
        scheduler.stop(GRACE).await?;
        Ok(waited(&recorder, &enqueued))
    }

    /// Lets retention take everything that has ended.
    ///
    /// # Errors
    /// The store does not answer.
    pub(crate) async fn forget(&self) -> Result<()> {
        let scheduler = self.with(&json!({"history_runs": 0})).scheduler(&Recorder::new(0)).await?;
        scheduler.start().await?;
        let until = Instant::now() + Duration::from_secs(60);
        let all = scheduler_core::RunFilter::default();
        while !scheduler.history(&all).await?.runs.is_empty() {
            ensure!(Instant::now() < until, "retention leaves runs behind");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        scheduler.stop(GRACE).await?;
        Ok(())
    }
}

impl Contender for Ours {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn fill(&mut self, jobs: usize) -> Result<()> {
        self.enqueue_in_bulk(jobs).await.map(drop)
    }

    async fn drain(&mut self, jobs: usize) -> Result<Duration> {
        let recorder = Recorder::new(jobs);
        let scheduler = self.recording(&recorder).await?;
        scheduler.start().await?;
        let took = recorder.all_ended().await?;
        scheduler.stop(GRACE).await?;
        ensure!(recorder.count() == jobs, "{} jobs began, and {jobs} were there", recorder.count());
        Ok(took)
    }

    async fn enqueue_singly(&mut self, jobs: usize) -> Result<Duration> {
        let scheduler = self.outside().await?;
        let start = Instant::now();
        for index in 0..jobs {
            trigger(&scheduler, index).await?;
        }
        Ok(start.elapsed())
    }

    async fn enqueue_in_bulk(&mut self, jobs: usize) -> Result<Duration> {
        let scheduler = self.outside().await?;
        let task = Name::new(TASK)?;
        let start = Instant::now();
        for first in (0..jobs).step_by(BULK) {
            let orders =
                (first..jobs.min(first + BULK)).map(|index| Order::Task(task.clone(), request(index)));
            scheduler.enqueue_all(&orders.collect::<Vec<_>>()).await?;
        }
        Ok(start.elapsed())
    }

    async fn latencies(&mut self, jobs: usize) -> Result<Vec<Duration>> {
        self.measured(jobs, None).await
    }
}

fn request(index: usize) -> TriggerRequest {
    TriggerRequest::now().with_param("payload", payload(index).into())
}

async fn trigger(scheduler: &Scheduler, index: usize) -> Result<()> {
    let task = Name::new(TASK)?;
    scheduler.trigger(&task, request(index)).await.map(drop).context("the run was not taken")
}
