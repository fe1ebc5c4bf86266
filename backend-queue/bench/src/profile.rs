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
    let scratch = tempfile::tempdir()?;
    let contenders = match place {
        Place::Redis(url) => vec![(String::new(), Ours::on_redis(url, scratch.path()))],
        Place::Sqlite(folder) => ["full", "normal"]
            .map(|word| {
                let ours = Ours::new("ours", &folder.join(word), json!({"synchronous": word}));
                (format!("synchronous = {word}: "), ours)
            })
            .into(),
    };
    for (called, mut ours) in contenders {
        for _ in 0..ROUNDS {
            let took = ours.enqueue_from_callers(runs).await?;
            let rate = runs as f64 / took.as_secs_f64();
            println!("{called}{rate:.0} runs enqueued per second from {CALLERS} callers");
            ours.drain(runs).await?;
            let filled = ours.enqueue_in_bulk(runs).await?;
            let rate = runs as f64 / filled.as_secs_f64();
            println!("{called}{rate:.0} runs enqueued per second, {BULK} a call");
            let before = processor_time();
            let took = ours.drain(runs).await?;
            let (rate, cost) = (runs as f64 / took.as_secs_f64(), (processor_time() - before) / runs as f64);
            println!("{called}{rate:.0} runs per second, {cost:.1} µs of our processor for each");
        }
    }
    Ok(())
}
