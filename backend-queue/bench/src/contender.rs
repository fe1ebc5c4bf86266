//! What everybody who is measured must be able to do.

use std::time::Duration;

use anyhow::Result;

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
