//! What the jobs tell of themselves: who began when, and how many have.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::sync::Notify;

/// How many bytes the payload of every job has, as JSON.
pub(crate) const PAYLOAD: usize = 100;

/// How long we wait for jobs that do not come.
const PATIENCE: Duration = Duration::from_secs(900);

/// Clones share what was recorded.
#[derive(Clone, Debug)]
pub(crate) struct Recorder(Arc<Recorded>);

#[derive(Debug)]
struct Recorded {
    base: Instant,
    /// When each job began, in nanoseconds after `base`; 0 where it has not.
    begun: Vec<AtomicU64>,
    count: AtomicUsize,
    first: OnceLock<Instant>,
    ended: AtomicUsize,
    /// When the latest end came, in nanoseconds after `base`.
    latest: AtomicU64,
    last: OnceLock<Instant>,
    all: Notify,
}

impl Recorder {
    /// For so many jobs.
    pub(crate) fn new(jobs: usize) -> Self {
        Self(Arc::new(Recorded {
            base: Instant::now(),
            begun: (0..jobs).map(|_| AtomicU64::new(0)).collect(),
            count: AtomicUsize::new(0),
            first: OnceLock::new(),
            ended: AtomicUsize::new(0),
            latest: AtomicU64::new(0),
            last: OnceLock::new(),
            all: Notify::new(),
        }))
    }

    /// The job of this payload begins.
    pub(crate) fn begin(&self, payload: &str) {
        let now = Instant::now();
        let index: usize = payload.trim_end_matches('x').parse().unwrap_or(usize::MAX);
        self.0.first.get_or_init(|| now);
        if let Some(begun) = self.0.begun.get(index) {
            let nanos = u64::try_from((now - self.0.base).as_nanos()).unwrap_or(u64::MAX);
            begun.store(nanos.max(1), Ordering::Relaxed);
        }
        self.0.count.fetch_add(1, Ordering::Relaxed);
    }

    /// The end of a job is in the store.
    pub(crate) fn end(&self) {
        let nanos = u64::try_from(self.0.base.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.latest.fetch_max(nanos, Ordering::Relaxed);
        if self.0.ended.fetch_add(1, Ordering::Relaxed) + 1 == self.0.begun.len() {
            self.0.last.get_or_init(Instant::now);
            self.0.all.notify_one();
        }
    }

    /// How many ends are in the store.
    pub(crate) fn ended(&self) -> usize {
        self.0.ended.load(Ordering::Relaxed)
    }

    /// When the latest of them came there.
    pub(crate) fn latest(&self) -> Instant {
        self.0.base + Duration::from_nanos(self.0.latest.load(Ordering::Relaxed))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.count.load(Ordering::Relaxed)
    }

    /// When the first job began.
    pub(crate) fn first(&self) -> Instant {
        self.0.first.get().copied().unwrap_or(self.0.base)
    }

    /// When the job began.
    pub(crate) fn begun(&self, index: usize) -> Option<Instant> {
        let nanos = self.0.begun.get(index)?.load(Ordering::Relaxed);
        (nanos > 0).then(|| self.0.base + Duration::from_nanos(nanos))
    }

    /// Waits until every end was told of; answers how long that took from the first beginning on.
    ///
    /// # Errors
    /// It takes too long.
    pub(crate) async fn all_ended(&self) -> Result<Duration> {
        if tokio::time::timeout(PATIENCE, self.0.all.notified()).await.is_err() {
            bail!("only {} of {} runs ended", self.0.ended.load(Ordering::Relaxed), self.0.begun.len());
        }
        Ok(self.0.last.get().map_or(PATIENCE, |last| *last - self.first()))
    }

    /// Waits until so many jobs have begun.
    ///
    /// # Errors
    /// It takes too long.
    pub(crate) async fn have_begun(&self, jobs: usize) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while self.count() < jobs {
            if Instant::now() > until {
                bail!("only {} of {jobs} jobs began", self.count());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

/// The text that makes the payload of a job: its number, filled up so that `{"payload":"…"}` has 100 bytes.
pub(crate) fn payload(index: usize) -> String {
    let mut text = index.to_string();
    while text.len() < PAYLOAD - r#"{"payload":""}"#.len() {
        text.push('x');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_100_bytes_and_tells_its_number() {
        for index in [0, 7, 99_999] {
            assert_eq!(serde_json::json!({"payload": payload(index)}).to_string().len(), PAYLOAD);
        }
        let recorder = Recorder::new(10);
        recorder.begin(&payload(7));
        assert!(recorder.begun(7).is_some() && recorder.begun(0).is_none());
    }
}
