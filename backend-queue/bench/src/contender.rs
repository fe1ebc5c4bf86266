//! What everybody who is measured must be able to do.

use std::future::Future;
use std::iter::StepBy;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use crate::recorder::Recorder;

/// A queue on a store of its own choice, as its users drive it.
pub(crate) trait Contender {
    /// How it is called in the report.
    fn name(&self) -> &'static str;

    /// Lets so many jobs wait while nothing runs them.
    ///
    /// # Errors
    /// The store does not take them.
    async fn fill(&mut self, jobs: usize) -> Result<()>;

    /// Runs what waits, and answers the time from the first beginning to the last end that is in the store.
    ///
    /// # Errors
    /// Jobs stay behind.
    async fn drain(&mut self, jobs: usize) -> Result<Duration>;

    /// Enqueues one job after another, each awaited, while nothing runs them.
    ///
    /// # Errors
    /// The store does not take them.
    async fn enqueue_singly(&mut self, jobs: usize) -> Result<Duration>;

    /// Enqueues jobs from [`CALLERS`] at once, each of which awaits one after another, while nothing runs them.
    ///
    /// # Errors
    /// The store does not take them.
    async fn enqueue_from_callers(&mut self, jobs: usize) -> Result<Duration>;

    /// Enqueues jobs in calls that take [`BULK`] of them, while nothing runs them.
    ///
    /// # Errors
    /// The store does not take them.
    async fn enqueue_in_bulk(&mut self, jobs: usize) -> Result<Duration>;

    /// Enqueues a job every ten milliseconds while a worker waits; answers for each the time from the call to its
    /// beginning.
    ///
    /// # Errors
    /// Jobs stay behind.
    async fn latencies(&mut self, jobs: usize) -> Result<Vec<Duration>>;

    /// Looks at what the store says of a drain: every job of `jobs` ended well, none waits or is under way, and what
    /// is kept is what the settings say.
    ///
    /// # Errors
    /// It is not so.
    async fn verify(&mut self, jobs: usize) -> Result<()>;

    /// Lets retention take everything that has ended.
    ///
    /// # Errors
    /// Something stays.
    async fn forget(&mut self) -> Result<()>;
}

/// How many callers enqueue one by one at the same time.
pub(crate) const CALLERS: usize = 64;

/// How many ended jobs are kept, by all who can be told: our default.
pub(crate) const KEPT: usize = 10_000;

/// Lets [`CALLERS`] share `jobs`, each with its part of the indexes; answers how long that took.
///
/// # Errors
/// The first of a caller.
pub(crate) async fn from_callers<C>(
    jobs: usize,
    caller: impl Fn(StepBy<Range<usize>>) -> C,
) -> Result<Duration>
where
    C: Future<Output = Result<()>> + Send + 'static,
{
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for first in 0..CALLERS {
        callers.spawn(caller((first..jobs).step_by(CALLERS)));
    }
    while let Some(called) = callers.join_next().await {
        called??;
    }
    Ok(start.elapsed())
}

/// How many jobs are enqueued at once.
pub(crate) const BULK: usize = 1_000;

/// The pause between two jobs of a measurement of latencies.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);

/// The times from `enqueued` to the beginning of each job.
pub(crate) fn waited(recorder: &Recorder, enqueued: &[std::time::Instant]) -> Vec<Duration> {
    let waited = enqueued.iter().enumerate();
    waited.filter_map(|(index, at)| Some(recorder.begun(index)?.saturating_duration_since(*at))).collect()
}
