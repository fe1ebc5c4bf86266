//! Drains of ours and nothing else, for whoever looks with a profiler.

use anyhow::Result;
use serde_json::json;

use crate::arguments::Place;
use crate::contender::{BULK, CALLERS, Contender};
use crate::machine::processor_time;
use crate::ours::Ours;

/// How often.
const ROUNDS: usize = 5;

/// Fills and drains again and again, and prints the rates.
///
/// # Errors
/// Those of the store.
pub(crate) async fn drain(place: &Place, runs: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut ours = match place {
        Place::Redis(url) => Ours::on_redis(url, folder.path()),
        Place::Sqlite(folder) => Ours::new("ours", folder, json!({})),
    };
    for _ in 0..ROUNDS {
        let took = ours.enqueue_from_callers(runs).await?;
        println!("{:.0} runs enqueued per second from {CALLERS} callers", runs as f64 / took.as_secs_f64());
        ours.drain(runs).await?;
        let filled = ours.enqueue_in_bulk(runs).await?;
        println!("{:.0} runs enqueued per second, {BULK} a call", runs as f64 / filled.as_secs_f64());
        let before = processor_time();
        let took = ours.drain(runs).await?;
        let (rate, cost) = (runs as f64 / took.as_secs_f64(), (processor_time() - before) / runs as f64);
        println!("{rate:.0} runs per second, {cost:.1} µs of our processor for each");
    }
    Ok(())
}
