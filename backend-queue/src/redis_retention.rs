//! What of the history on Redis lies beyond bounds, and forgetting it on demand.

use std::time::Duration;

use redis::Script;
use scheduler_core::{EndedRun, HistoryBounds, Result, RunId};

use crate::redis_row::Row;
use crate::redis_script;
use crate::redis_store::{RedisStore, id_of, millis};

/// As [`Store::beyond`](crate::store::Store::beyond).
pub(crate) async fn beyond(
    store: &RedisStore,
    bounds: &HistoryBounds,
    skip: usize,
    limit: u32,
) -> Result<Vec<EndedRun>> {
    told(store, &redis_script::LOOK, bounds, (skip, limit)).await
}

/// As [`Store::prune`](crate::store::Store::prune).
pub(crate) async fn prune(store: &RedisStore, bounds: &HistoryBounds, limit: u32) -> Result<Vec<EndedRun>> {
    told(store, &redis_script::PRUNE, bounds, (0, limit)).await
}

async fn told(
    store: &RedisStore,
    script: &Script,
    bounds: &HistoryBounds,
    (skip, limit): (usize, u32),
) -> Result<Vec<EndedRun>> {
    let mut call = store.link.call(script);
    // More and longer than anything is kept stands for no bound.
    call.arg(bounds.max_runs.unwrap_or(usize::MAX))
        .arg(millis(bounds.max_age.unwrap_or(Duration::MAX)))
        .arg(skip)
        .arg(limit);
    let told: Vec<(Vec<u8>, Vec<u8>, u64)> = store.link.send(script, &call).await?;
    Ok(told.iter().map(|(id, head, bytes)| ended(store, id, head, *bytes)).collect())
}

fn ended(store: &RedisStore, id: &[u8], head: &[u8], bytes: u64) -> EndedRun {
    let row = Row::parse(head);
    // What cannot be read is forgotten as well, under names that stand for its own.
    let id = id_of(id).unwrap_or_else(|| RunId::manual(scheduler_core::Timestamp::default()));
    let task = row.as_ref().and_then(Row::task).unwrap_or_else(|| store.backend.clone());
    EndedRun::new(id, task, row.and_then(|row| row.finished).unwrap_or_default(), bytes)
}
