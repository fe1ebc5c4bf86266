//! What the jobs tell of themselves: how late each began, counted in a histogram.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::machine::{processor_time, resident};
use crate::part::Load;

/// Shares of an octave; a figure is at most one share off.
const SHARES: u64 = 64;
const BUCKETS: usize = 40 * SHARES as usize;
/// Threads count apart, so that counting costs them little.
const STRIPES: usize = 16;

thread_local! {
    static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Clones share what was recorded.
#[derive(Clone, Debug)]
pub(crate) struct Recorder(Arc<Recorded>);

#[derive(Debug)]
struct Recorded {
    /// In microseconds since the epoch; fires due in between are counted, if they happen in between.
    begin: AtomicU64,
    end: AtomicU64,
    stripes: Vec<Vec<AtomicU64>>,
    next_stripe: AtomicUsize,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        let stripe = || (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Recorded {
            begin: AtomicU64::new(u64::MAX),
            end: AtomicU64::new(0),
            stripes: (0..STRIPES).map(|_| stripe()).collect(),
            next_stripe: AtomicUsize::new(0),
        }))
    }

    /// Counts fires due from `begin` on, in milliseconds since the epoch, for so many seconds.
    pub(crate) fn count_from(&self, begin: i64, seconds: u64) {
        let begin = begin.unsigned_abs() * 1_000;
        self.0.end.store(begin + seconds * 1_000_000, Ordering::SeqCst);
        self.0.begin.store(begin, Ordering::SeqCst);
    }

    /// A job that was due then, in microseconds since the epoch, begins.
    pub(crate) fn begin(&self, due: u64) {
        let now = now_us();
        if due >= self.0.begin.load(Ordering::Relaxed) && now < self.0.end.load(Ordering::Relaxed) {
            let stripe = STRIPE.get();
            let stripe = if stripe == usize::MAX {
                let new = self.0.next_stripe.fetch_add(1, Ordering::Relaxed) % STRIPES;
                STRIPE.set(new);
                new
            } else {
                stripe
            };
            self.0.stripes[stripe][bucket(now.saturating_sub(due))].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A job that was due at the last whole second begins.
    pub(crate) fn begin_of_second(&self) {
        self.begin(now_us() / 1_000_000 * 1_000_000);
    }

    /// Counts the fires of tasks that begin at `begin`, in milliseconds since the epoch, once their first period has
    /// warmed up, and what they cost.
    pub(crate) async fn count(&self, load: Load, begin: i64) -> Map<String, Value> {
        let counted = begin + load.period_ms as i64;
        self.count_from(counted, load.seconds);
        sleep_until(counted).await;
        let (before, began) = (processor_time(), Instant::now());
        sleep_until(counted + load.seconds as i64 * 1_000).await;
        let cores = (processor_time() - before) / began.elapsed().as_secs_f64();
        let mut figures = self.figures(load);
        figures.insert("cpu_cores".into(), json!(cores));
        figures.insert("resident_mb".into(), json!(resident(None) / 1e6));
        figures
    }

    /// How many of the expected fires happened, and how late. One that did not happen is later than every other.
    pub(crate) fn figures(&self, load: Load) -> Map<String, Value> {
        let mut counts = vec![0; BUCKETS];
        for stripe in &self.0.stripes {
            for (count, more) in counts.iter_mut().zip(stripe) {
                *count += more.load(Ordering::Relaxed);
            }
        }
        let (fires, expected) = (counts.iter().sum::<u64>(), load.expected());
        let never = load.seconds as f64 * 1e3;
        let quantile = |part: f64| {
            let rank = (expected.max(fires) as f64 * part).ceil() as u64;
            let mut seen = 0;
            let found = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            found.map_or(never, |index| middle(index) / 1e3)
        };
        let figures = json!({
            "tasks": load.tasks,
            "period_ms": load.period_ms,
            "seconds": load.seconds,
            "fires_expected": expected,
            "fires": fires,
            "lateness_p50_ms": quantile(0.5),
            "lateness_p99_ms": quantile(0.99),
            "lateness_p999_ms": quantile(0.999),
        });
        figures.as_object().cloned().unwrap_or_default()
    }
}

pub(crate) fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

pub(crate) fn now_ms() -> i64 {
    now_us() as i64 / 1_000
}

pub(crate) async fn sleep_until(at_ms: i64) {
    tokio::time::sleep(Duration::from_millis((at_ms - now_ms()).max(0).unsigned_abs())).await;
}

/// The place of a time in the histogram: linear up to two octaves of shares, then by octave.
fn bucket(micros: u64) -> usize {
    let octave = (micros | (SHARES - 1)).ilog2() - SHARES.ilog2() + 1;
    let shift = octave.saturating_sub(1);
    ((SHARES * u64::from(shift) + (micros >> shift)) as usize).min(BUCKETS - 1)
}

/// The time in the middle of a place, in microseconds.
fn middle(bucket: usize) -> f64 {
    let shift = (bucket as u64 / SHARES).saturating_sub(1);
    let low = (bucket as u64 - SHARES * shift) << shift;
    low as f64 + ((1_u64 << shift) - 1) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_at_most_a_share_off() {
        for micros in [0, 1, 63, 64, 127, 128, 129, 1_000, 4_321, 1_000_000, 29_999_999] {
            let found = middle(bucket(micros));
            assert!((found - micros as f64).abs() <= micros as f64 / 64.0, "{micros}: {found}");
        }
    }

    #[test]
    fn what_did_not_happen_is_late() {
        let recorder = Recorder::new();
        recorder.count_from(now_us() as i64 / 1_000, 1_000);
        recorder.begin(now_us());
        let load = Load { tasks: 3, period_ms: 1_000_000, seconds: 1_000 };

        let figures = recorder.figures(load);

        assert_eq!((&figures["fires"], &figures["fires_expected"]), (&json!(1), &json!(3)));
        assert_eq!(figures["lateness_p50_ms"], json!(1_000_000.0));
    }
}
