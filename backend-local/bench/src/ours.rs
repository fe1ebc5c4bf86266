//! The local tier, driven by its public API: fires that are spread over time, and fires at one instant.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use backend_local::{LocalBackend, LocalConfig};
use scheduler_core::{
    Bounds, Event, Job, JobDescriptor, JobError, Name, Output, Registry, Rule, RunContext, Scheduler,
    SystemClock, Task, Timestamp, Trigger, Way, source,
};
use serde_json::{Value, json};

use crate::part::Load;
use crate::recorder::{Recorder, now_ms, now_us, sleep_until};

/// Rounds of a burst; the first is not counted.
const ROUNDS: usize = 6;

/// A job that tells when it began and does nothing else.
struct Tick(Recorder);

#[async_trait]
impl Job for Tick {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        self.0.begin(ctx.fire_time().as_millis().unsigned_abs() * 1_000);
        Ok(Value::Null)
    }
}

/// A scheduler with one job on the local tier as it comes, started. It keeps history in memory.
pub(crate) async fn started(job: impl Job) -> Result<Scheduler> {
    let job: Arc<dyn Job> = Arc::new(job);
    let mut registry = Registry::new();
    let descriptor = JobDescriptor::new("tick", "tells when it began", move |_| Ok(Arc::clone(&job)));
    registry.add_job(descriptor, source!(), Way::Explicit)?;
    let local = LocalBackend::new(Name::new("local")?, LocalConfig::default());
    let scheduler = Scheduler::builder(Arc::new(SystemClock::new()))
        .registry(registry)
        .backend(Arc::new(local))
        .build()?;
    scheduler.start().await?;
    Ok(scheduler)
}

/// A scheduler whose job tells the recorder.
pub(crate) async fn ticking(recorder: &Recorder) -> Result<Scheduler> {
    started(Tick(recorder.clone())).await
}

/// A task that fires at `start` first, in milliseconds since the epoch, and then once a period.
pub(crate) fn task(index: usize, start: i64, period: Duration) -> Result<Task> {
    let mut task = Task::new(Name::new(&format!("task_{index}"))?, Name::new("tick")?);
    let bounds = Bounds { start: Some(Timestamp::from_millis(start)), ..Bounds::default() };
    task.trigger = Some(Trigger::new(Rule::Every(period), bounds)?);
    Ok(task)
}

/// Registers tasks whose phases are spread over the period, and counts.
///
/// # Errors
/// Those of the scheduler.
pub(crate) async fn sustained(load: Load) -> Result<Value> {
    let recorder = Recorder::new();
    let scheduler = ticking(&recorder).await?;
    let period = Duration::from_millis(load.period_ms);
    // Far enough ahead for all to be there before the first is due.
    let begin = now_ms() + 4_000 + load.tasks as i64 / 200;
    let mut tasks = Vec::with_capacity(load.tasks);
    for index in 0..load.tasks {
        tasks.push(task(index, begin + (index as u64 % load.period_ms) as i64, period)?);
    }
    scheduler.submit_all(tasks).await?;
    anyhow::ensure!(now_ms() < begin, "registering took longer than it may");
    Ok(Value::Object(recorder.count(load, begin).await))
}

/// When the last of each round began.
struct Burst {
    begin: i64,
    period: i64,
    /// The count and the last beginning, in microseconds since the epoch.
    rounds: Vec<(AtomicU64, AtomicU64)>,
}

struct BurstJob(Arc<Burst>);

#[async_trait]
impl Job for BurstJob {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        self.0.note(ctx.fire_time());
        Ok(Value::Null)
    }
}

impl Burst {
    fn new(begin: i64, period: u64) -> Arc<Self> {
        let rounds = (0..ROUNDS).map(|_| Default::default()).collect();
        Arc::new(Self { begin, period: period as i64, rounds })
    }

    fn note(&self, fire_time: Timestamp) {
        let round = usize::try_from((fire_time.as_millis() - self.begin) / self.period).unwrap_or(ROUNDS);
        if let Some((count, last)) = self.rounds.get(round) {
            count.fetch_add(1, Ordering::Relaxed);
            last.fetch_max(now_us(), Ordering::Relaxed);
        }
    }

    /// How long each round but the first took; the whole period where some did not begin.
    fn drained(&self, tasks: usize) -> Vec<f64> {
        let rounds = self.rounds.iter().enumerate().skip(1);
        let drained = rounds.map(|(round, (count, last))| {
            if count.load(Ordering::Relaxed) < tasks as u64 {
                return self.period as f64;
            }
            let due = self.begin + round as i64 * self.period;
            last.load(Ordering::Relaxed) as f64 / 1e3 - due as f64
        });
        drained.collect()
    }
}

/// Fires every task at the same instants: until the last job began, and until the end of the last run was told.
///
/// # Errors
/// Those of the scheduler.
pub(crate) async fn bursts(load: Load) -> Result<Value> {
    let lead = 2_000 + load.tasks as i64 / 100;
    let (jobs, begin) = burst(load, now_ms() + lead, false).await?;
    let ended_after = (begin - now_ms()).max(0) + lead;
    let (ended, _) = burst(load, now_ms() + ended_after, true).await?;
    Ok(json!({
        "tasks": load.tasks,
        "burst_drain_ms": median(&jobs),
        "samples": jobs,
        "burst_ended_ms": median(&ended),
        "ended_samples": ended,
    }))
}

async fn burst(load: Load, begin: i64, listens: bool) -> Result<(Vec<f64>, i64)> {
    let burst = Burst::new(begin, load.period_ms);
    let idle = Burst::new(begin, load.period_ms);
    let scheduler = started(BurstJob(Arc::clone(if listens { &idle } else { &burst }))).await?;
    if listens {
        let burst = Arc::clone(&burst);
        scheduler.events().listen(move |event| {
            if let Event::RunEnded { run, .. } = event {
                burst.note(run.fire_time);
            }
        });
    }
    let period = Duration::from_millis(load.period_ms);
    let tasks = (0..load.tasks).map(|index| task(index, begin, period)).collect::<Result<Vec<_>>>()?;
    scheduler.submit_all(tasks).await?;
    let end = begin + ROUNDS as i64 * load.period_ms as i64;
    sleep_until(end - 50).await;
    let drained = burst.drained(load.tasks);
    scheduler.abort().await?;
    Ok((drained, end))
}

pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
