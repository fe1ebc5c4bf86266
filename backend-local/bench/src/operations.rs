//! What it costs to register many tasks, and to change some among them.

use std::time::{Duration, Instant};

use anyhow::Result;
use scheduler_core::{Name, Pause, Scheduler};
use serde_json::{Value, json};

use crate::machine::resident;
use crate::ours::{task, ticking};
use crate::part::Load;
use crate::recorder::{Recorder, now_ms};

/// How many are changed.
const CHANGED: usize = 100_000;
/// How many are changed one by one.
const ALONE: usize = 2_000;

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
        scheduler.submit_all(tasks).await?;
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
    let each = |began: Instant| began.elapsed().as_nanos() as f64 / changed as f64;
    let began = Instant::now();
    scheduler.submit_all(more).await?;
    let add_ns = each(began);
    let began = Instant::now();
    scheduler.pause_all(&names, &Pause::default()).await?;
    let pause_ns = each(began);
    let began = Instant::now();
    scheduler.resume_all(&names).await?;
    let resume_ns = each(began);
    let began = Instant::now();
    scheduler.remove_all(&names).await?;
    let remove_ns = each(began);
    let single = one_by_one(&scheduler, load.tasks + changed).await?;
    Ok(json!({
        "tasks": load.tasks,
        "changed": changed,
        "register_ns": register_ns,
        "bytes_per_task": bytes,
        "add_ns": add_ns,
        "pause_ns": pause_ns,
        "resume_ns": resume_ns,
        "remove_ns": remove_ns,
        "one_by_one_ns": single,
    }))
}

/// What each costs when the answer is awaited before the next.
async fn one_by_one(scheduler: &Scheduler, from: usize) -> Result<Value> {
    let start = now_ms() + 3_600_000;
    let names: Vec<Name> =
        (from..from + ALONE).map(|index| Ok(Name::new(&format!("task_{index}"))?)).collect::<Result<_>>()?;
    let each = |began: Instant| began.elapsed().as_nanos() as f64 / ALONE as f64;
    let tasks = (from..from + ALONE)
        .map(|index| task(index, start, Duration::from_secs(3_600)))
        .collect::<Result<Vec<_>>>()?;
    let began = Instant::now();
    for task in tasks {
        scheduler.submit(task).await?;
    }
    let add = each(began);
    let began = Instant::now();
    for name in &names {
        scheduler.pause(name, Pause::default()).await?;
    }
    let pause = each(began);
    let began = Instant::now();
    for name in &names {
        scheduler.resume(name).await?;
    }
    let resume = each(began);
    let began = Instant::now();
    for name in &names {
        scheduler.remove(name).await?;
    }
    Ok(json!({"add": add, "pause": pause, "resume": resume, "remove": each(began)}))
}
