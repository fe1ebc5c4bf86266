//! A job of ours and what stands behind its run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use backend_local::{LocalBackend, LocalConfig};
use scheduler_core::{
    AttemptEnd, Clock, JobDescriptor, Name, Output, Registry, RunContext, RunHost, RunId, RunIdentity,
    Scheduler, SystemClock, Task, Tier, Way, attempt, source,
};
use serde_json::{Map, Value};

/// How a run ended, and how long it took.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) output: Value,
    /// The error of a run that failed.
    pub(crate) error: Option<String>,
    pub(crate) took: Duration,
}

/// Runs a job once, in a scheduler that has the task `deploy`.
///
/// # Errors
/// The job refuses its args, or was cancelled.
pub(crate) fn run(job: &str, args: &Value) -> Result<Done> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(once(job, args))
}

async fn once(job: &str, args: &Value) -> Result<Done> {
    let mut jobs = builtin_jobs::all().into_iter();
    let descriptor = jobs.find(|known| *known.name() == job).context("there is no such job")?;
    let job = descriptor.build(args).map_err(|faults| anyhow!("{faults:?}"))?;
    let clock = Arc::new(SystemClock::new());
    let scheduler = scheduler(clock.clone()).await?;
    let identity = RunIdentity {
        namespace: Name::new("bench")?,
        task: Name::new("measured")?,
        tier: Tier::Local,
        backend: Name::new("local")?,
        run_id: RunId::manual(clock.now()),
        fire_time: clock.now(),
        attempt: 1,
        fence: 1,
        params: Map::new(),
    };
    let mut host = RunHost::standalone(clock);
    host.scheduler = scheduler.downgrade();
    let context = RunContext::new(identity, host);

    let began = Instant::now();
    let end = attempt(&*job, &context, None).await;
    let took = began.elapsed();

    scheduler.stop(Duration::ZERO).await?;
    match end {
        AttemptEnd::Succeeded(output) => Ok(Done { output, error: None, took }),
        AttemptEnd::Failed(error) => {
            Ok(Done { output: error.output().clone(), error: Some(format!("{error:?}")), took })
        }
        other => Err(anyhow!("the run did not end by itself: {other:?}")),
    }
}

async fn scheduler(clock: Arc<SystemClock>) -> Result<Scheduler> {
    let mut registry = Registry::new();
    let deploy = JobDescriptor::function("deploy", "does nothing", |_| async { Ok(Output::Null) });
    registry.add_job(deploy, source!(), Way::Explicit)?;
    let local = Arc::new(LocalBackend::new(Name::new("local")?, LocalConfig::default()));
    let scheduler = Scheduler::builder(clock).registry(registry).backend(local).build()?;
    scheduler.start().await?;
    scheduler.define(Task::new(Name::new("deploy")?, Name::new("deploy")?)).await?;
    Ok(scheduler)
}
