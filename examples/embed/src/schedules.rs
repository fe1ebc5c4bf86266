//! The service's two schedules, and the scheduler that keeps them.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backend_local::{LocalBackend, LocalConfig};
use scheduler_core::{
    Clock, JobDescriptor, JobError, Name, Registry, Result, RunContext, Scheduler, Task, Trigger, Way, source,
};
use serde_json::json;

use crate::{Cache, Feed, report};

/// The task that refreshes the cache.
pub const REFRESH: &str = "refresh";
/// The task that writes the report.
pub const REPORT: &str = "report";

/// A scheduler that keeps `cache` fresh from `feed` and adds a line to `reports` every night.
///
/// It is not started: whoever starts it also stops it.
///
/// # Errors
/// Those of the scheduler; the schedules themselves are fixed.
pub async fn scheduler(
    clock: Arc<dyn Clock>,
    cache: &Cache,
    feed: Arc<dyn Feed>,
    reports: PathBuf,
) -> Result<Scheduler> {
    let mut registry = Registry::new();
    registry.add_job(refresh_job(cache.clone(), feed), source!(), Way::Explicit)?;
    registry.add_job(report_job(cache.clone(), reports), source!(), Way::Explicit)?;
    let local = LocalBackend::new(Name::new("local")?, LocalConfig::default());
    let scheduler = Scheduler::builder(clock).registry(registry).backend(Arc::new(local)).build()?;
    scheduler.submit(refresh_task()?).await?;
    scheduler.submit(report_task()?).await?;
    Ok(scheduler)
}

/// Every minute. A minute that finds the last one still at work is skipped, and history says so.
fn refresh_task() -> Result<Task> {
    let mut task = Task::new(Name::new(REFRESH)?, Name::new(REFRESH)?);
    task.trigger = Some(Trigger::every(Duration::from_secs(60))?);
    task.timeout = Some(Duration::from_secs(240));
    task.retry.max_attempts = NonZeroU32::new(3);
    task.retry.initial = Duration::from_secs(5);
    Ok(task)
}

/// Every night, on the wall clock of the office.
fn report_task() -> Result<Task> {
    let mut task = Task::new(Name::new(REPORT)?, Name::new(REPORT)?);
    task.trigger = Some(Trigger::cron("30 2 * * *", "Europe/Berlin")?);
    Ok(task)
}

fn refresh_job(cache: Cache, feed: Arc<dyn Feed>) -> JobDescriptor {
    JobDescriptor::function(REFRESH, "fetches all rates anew", move |ctx: RunContext| {
        let (cache, feed) = (cache.clone(), Arc::clone(&feed));
        async move {
            // What is known stays as it is until everything has arrived.
            let rates = feed.fetch(&ctx).await.map_err(|error| JobError::from_boxed(error.into()))?;
            let count = rates.len();
            cache.replace(rates);
            Ok(json!({ "pairs": count }))
        }
    })
}

fn report_job(cache: Cache, reports: PathBuf) -> JobDescriptor {
    JobDescriptor::function(REPORT, "writes what happened since the last report", move |ctx: RunContext| {
        let (cache, reports) = (cache.clone(), reports.clone());
        async move {
            let line = report::write(&ctx, &cache, &reports).await;
            line.map(Into::into).map_err(|error| JobError::from_boxed(error.into()))
        }
    })
}
