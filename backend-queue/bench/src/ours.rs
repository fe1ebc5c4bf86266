//! Ourselves, driven as an embedder does: a scheduler with one task on the durable tier.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use backend_queue::{QueueBackend, QueueConfig};
use scheduler_core::{
    Event, JobDescriptor, Name, Order, Overlap, Registry, RunContext, RunFilter, RunState, Scheduler,
    SystemClock, Task, Tier, TriggerRequest, Way, source,
};
use serde_json::{Value, json};

use crate::contender::{BULK, Contender, KEPT, PAUSE, from_callers, waited};
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

    /// With the defaults, on a server.
    pub(crate) fn on_redis(url: &str, folder: impl Into<PathBuf>) -> Self {
        Self::new("ours", folder, json!({"url": url}))
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

    /// A scheduler whose jobs tell `recorder` when they begin, and which tells when their ends are in the store.
    ///
    /// # Errors
    /// The settings are no good.
    pub(crate) async fn recording(&self, recorder: &Recorder) -> Result<Scheduler> {
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

    /// Ends a scheduler.
    ///
    /// # Errors
    /// It does not stop.
    pub(crate) async fn stop(&self, scheduler: &Scheduler) -> Result<()> {
        scheduler.stop(GRACE).await?;
        Ok(())
    }

    /// Lets retention take what is beyond `kept` ended runs, by a scheduler with such settings.
    async fn keep(&self, kept: usize) -> Result<()> {
        let scheduler = self.with(&json!({"history_runs": kept})).scheduler(&Recorder::new(0)).await?;
        scheduler.start().await?;
        let until = Instant::now() + Duration::from_secs(60);
        while ended(&scheduler, kept + 1).await? > kept {
            ensure!(Instant::now() < until, "retention leaves runs behind");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.stop(&scheduler).await
    }
}

/// How many ended runs there are, counted up to `most`; all of them ended well.
async fn ended(scheduler: &Scheduler, most: usize) -> Result<usize> {
    let mut filter = RunFilter::default();
    let mut count = 0;
    loop {
        let page = scheduler.history(&filter).await?;
        for run in &page.runs {
            ensure!(run.state == RunState::Succeeded, "run {} is {:?}", run.id, run.state);
            ensure!(run.attempt == 1, "run {} had {} attempts", run.id, run.attempt);
        }
        count += page.runs.len();
        filter.after = page.next;
        if filter.after.is_none() || count >= most {
            return Ok(count);
        }
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
        ensure!((0..jobs).all(|index| recorder.begun(index).is_some()), "a job did not begin");
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

    async fn enqueue_from_callers(&mut self, jobs: usize) -> Result<Duration> {
        let scheduler = self.outside().await?;
        from_callers(jobs, |indexes| {
            let scheduler = scheduler.clone();
            async move {
                for index in indexes {
                    trigger(&scheduler, index).await?;
                }
                Ok(())
            }
        })
        .await
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

    async fn verify(&mut self, jobs: usize) -> Result<()> {
        let scheduler = self.outside().await?;
        for (_, load) in scheduler.loads().await {
            let load = load?;
            let is_done = (load.waiting, load.ahead, load.under_way, load.dead_letters) == (0, 0, 0, Some(0));
            ensure!(is_done, "after {jobs} runs there are {load:?}");
        }
        if jobs > KEPT {
            self.keep(KEPT).await?;
        }
        let kept = ended(&scheduler, usize::MAX).await?;
        ensure!(kept == jobs.min(KEPT), "{kept} of {jobs} runs are kept");
        Ok(())
    }

    async fn forget(&mut self) -> Result<()> {
        self.keep(0).await
    }
}

fn request(index: usize) -> TriggerRequest {
    TriggerRequest::now().with_param("payload", payload(index).into())
}

async fn trigger(scheduler: &Scheduler, index: usize) -> Result<()> {
    let task = Name::new(TASK)?;
    scheduler.trigger(&task, request(index)).await.map(drop).context("the run was not taken")
}
