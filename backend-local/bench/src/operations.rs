//! What it costs to register many tasks, and to change some among them.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use scheduler_core::{Name, Pause, Scheduler};
use serde_json::{Value, json};

use crate::machine::resident;
use crate::ours::{now_ms, task, ticking};
use crate::part::Load;
use crate::recorder::Recorder;

/// How many are changed.
const CHANGED: usize = 100_000;
/// How many changes are under way at once.
const AT_ONCE: usize = 1_024;

/// Registers tasks that fire in an hour, then changes some of them.
///
/// # Errors
/// Those of the scheduler.
pub(crate) async fn measure(load: Load) -> Result<Value> {
    let scheduler = ticking(&Recorder::new()).await?;
    let (start, hour) = (now_ms() + 3_600_000, Duration::from_secs(3_600));
    let make = |index: usize| task(index, start + (index % 3_600_000) as i64, hour);
    let before = resident(None);
    let mut took = Duration::ZERO;
    // Some at a time, so that what is given to it is not held twice.
    for from in (0..load.tasks).step_by(CHANGED) {
        let tasks = (from..load.tasks.min(from + CHANGED)).map(make).collect::<Result<Vec<_>>>()?;
        let began = Instant::now();
        for task in tasks {
            scheduler.submit(task).await?;
        }
        took += began.elapsed();
    }
    let register_ns = took.as_nanos() as f64 / load.tasks as f64;
    let bytes = (resident(None) - before) / load.tasks as f64;

    let changed = CHANGED.min(load.tasks);
    // Spread over all, in an order that is not the order of registration.
    let stride = load.tasks / changed;
    let names: Vec<Name> =
        (0..changed).map(|i| Ok(Name::new(&format!("task_{}", i * stride))?)).collect::<Result<_>>()?;
    let more = (load.tasks..load.tasks + changed).map(make).collect::<Result<Vec<_>>>()?;
    let began = Instant::now();
    for task in more {
        scheduler.submit(task).await?;
    }
    let add_ns = began.elapsed().as_nanos() as f64 / changed as f64;
    let pause_ns = each(&names, |name| pause(&scheduler, name)).await?;
    let resume_ns = each(&names, |name| resume(&scheduler, name)).await?;
    let remove_ns = each(&names, |name| remove(&scheduler, name)).await?;
    Ok(json!({
        "tasks": load.tasks,
        "changed": changed,
        "register_ns": register_ns,
        "bytes_per_task": bytes,
        "add_ns": add_ns,
        "pause_ns": pause_ns,
        "resume_ns": resume_ns,
        "remove_ns": remove_ns,
    }))
}

async fn pause(scheduler: &Scheduler, name: &Name) -> scheduler_core::Result<()> {
    scheduler.pause(name, Pause::default()).await
}

async fn resume(scheduler: &Scheduler, name: &Name) -> scheduler_core::Result<()> {
    scheduler.resume(name).await
}

async fn remove(scheduler: &Scheduler, name: &Name) -> scheduler_core::Result<()> {
    scheduler.remove(name).await.map(drop)
}

/// Calls for each name, many at once; answers how long one took on average.
async fn each<'a, F, R>(names: &'a [Name], call: F) -> Result<f64>
where
    F: Fn(&'a Name) -> R,
    R: Future<Output = scheduler_core::Result<()>>,
{
    let began = Instant::now();
    stream::iter(names).map(call).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    Ok(began.elapsed().as_nanos() as f64 / names.len() as f64)
}
