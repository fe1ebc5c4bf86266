//! Enqueues many jobs, one after another or at once.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::Result;

/// How many are enqueued at once.
pub(crate) const BULK: usize = 1_000;

/// One after another, each awaited.
///
/// # Errors
/// Those of `enqueue`.
pub(crate) async fn each<F, R>(jobs: usize, mut enqueue: F) -> Result<Duration>
where
    F: FnMut(usize) -> R,
    R: Future<Output = Result<()>>,
{
    let start = Instant::now();
    for index in 0..jobs {
        enqueue(index).await?;
    }
    Ok(start.elapsed())
}

/// In groups of [`BULK`] that are all awaited together.
///
/// # Errors
/// Those of `enqueue`.
pub(crate) async fn in_bulk<F, R>(jobs: usize, mut enqueue: F) -> Result<Duration>
where
    F: FnMut(usize) -> R,
    R: Future<Output = Result<()>>,
{
    let start = Instant::now();
    for first in (0..jobs).step_by(BULK) {
        let group = (first..jobs.min(first + BULK)).map(&mut enqueue);
        futures_util::future::try_join_all(group).await?;
    }
    Ok(start.elapsed())
}
