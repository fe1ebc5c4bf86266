//! The peers, each as its documentation shows it, with a job that tells when it began and does nothing else.

use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use apalis_cron::CronScheduler;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio_cron_scheduler::{Job, JobScheduler};

use crate::machine::resident;
use crate::part::Load;
use crate::recorder::{Recorder, now_ms, now_us};

const EVERY_SECOND: &str = "* * * * * *";

/// A tokio task for each, which waits for its interval; phases are spread as ours are.
///
/// # Errors
/// None.
pub(crate) async fn tokio_interval(load: Load) -> Result<Value> {
    let recorder = Recorder::new();
    let begin = now_ms() + 1_000 + load.tasks as i64 / 250;
    let (instant, before) = (Instant::now(), now_us());
    let registered = Registered::begin();
    for index in 0..load.tasks {
        let first = begin as u64 * 1_000 + index as u64 % load.period_ms * 1_000 - before;
        let (recorder, first) = (recorder.clone(), instant + Duration::from_micros(first));
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval_at(first.into(), Duration::from_millis(load.period_ms));
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                let due = ticks.tick().await.into_std();
                recorder.begin(before + (due - instant).as_micros() as u64);
            }
        });
    }
    count(load, &recorder, registered.end(load), begin).await
}

/// One scheduler that a loop asks every ten milliseconds.
///
/// # Errors
/// None.
pub(crate) async fn clokwerk(load: Load) -> Result<Value> {
    let recorder = Recorder::new();
    let registered = Registered::begin();
    let mut scheduler = clokwerk::Scheduler::with_tz(chrono::Utc);
    for _ in 0..load.tasks {
        let recorder = recorder.clone();
        scheduler.every(clokwerk::Interval::Seconds(1)).run(move || recorder.begin_of_second());
    }
    let registered = registered.end(load);
    std::thread::spawn(move || {
        loop {
            scheduler.run_pending();
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    count(load, &recorder, registered, next_second()).await
}

/// A stream of ticks for each, awaited by a tokio task.
///
/// # Errors
/// None.
pub(crate) async fn apalis_cron(load: Load) -> Result<Value> {
    let recorder = Recorder::new();
    let schedule = cron::Schedule::from_str(EVERY_SECOND)?;
    let registered = Registered::begin();
    for _ in 0..load.tasks {
        let (recorder, schedule) = (recorder.clone(), schedule.clone());
        tokio::spawn(async move {
            let mut ticks = std::pin::pin!(CronScheduler::new(schedule).into_stream());
            while let Some(tick) = ticks.next().await {
                if let Ok(tick) = tick {
                    recorder.begin(tick.get_timestamp() * 1_000_000);
                }
            }
        });
    }
    count(load, &recorder, registered.end(load), next_second()).await
}

/// One scheduler with a cron job for each.
///
/// # Errors
/// Those of the scheduler.
pub(crate) async fn tokio_cron_scheduler(load: Load) -> Result<Value> {
    let failed = |error| anyhow!("{error:?}");
    let recorder = Recorder::new();
    let scheduler = JobScheduler::new().await.map_err(failed)?;
    let registered = Registered::begin();
    for _ in 0..load.tasks {
        let recorder = recorder.clone();
        let job = Job::new_async(EVERY_SECOND, move |_, _| {
            let recorder = recorder.clone();
            Box::pin(async move { recorder.begin_of_second() })
        });
        scheduler.add(job.map_err(failed)?).await.map_err(failed)?;
    }
    let registered = registered.end(load);
    scheduler.start().await.map_err(failed)?;
    count(load, &recorder, registered, next_second()).await
}

/// What registering took.
struct Registered {
    began: Instant,
    resident: f64,
}

impl Registered {
    fn begin() -> Self {
        Self { began: Instant::now(), resident: resident(None) }
    }

    fn end(self, load: Load) -> (f64, f64) {
        let nanos = self.began.elapsed().as_nanos() as f64;
        (nanos / load.tasks as f64, (resident(None) - self.resident) / load.tasks as f64)
    }
}

/// A whole second after which everything has warmed up.
fn next_second() -> i64 {
    (now_ms() / 1_000 + 2) * 1_000
}

async fn count(load: Load, recorder: &Recorder, registered: (f64, f64), begin: i64) -> Result<Value> {
    let mut figures = recorder.count(load, begin).await;
    figures.insert("register_ns".into(), json!(registered.0));
    figures.insert("bytes_per_task".into(), json!(registered.1));
    Ok(Value::Object(figures))
}
