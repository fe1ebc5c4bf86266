//! What a scheduler costs that has hardly anything to do, and how late its fires are.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::machine::processor_time;
use crate::ours::{task, ticking};
use crate::part::Load;
use crate::recorder::{Recorder, now_ms, sleep_until};

/// One task each second.
///
/// # Errors
/// Those of the scheduler.
pub(crate) async fn measure(load: Load) -> Result<Value> {
    let recorder = Recorder::new();
    let scheduler = ticking(&recorder).await?;
    let begin = now_ms() + 1_000;
    scheduler.submit(task(0, begin, Duration::from_secs(1))?).await?;
    recorder.count_from(begin, load.seconds);
    sleep_until(begin - 500).await;
    let before = processor_time();
    sleep_until(begin - 500 + load.seconds as i64 * 1_000).await;
    let used = (processor_time() - before) * 1e3;
    let mut figures = recorder.figures(Load { tasks: 1, period_ms: 1_000, ..load });
    figures.insert("idle_cpu_ms_per_min".into(), json!(used * 60.0 / load.seconds as f64));
    Ok(Value::Object(figures))
}
