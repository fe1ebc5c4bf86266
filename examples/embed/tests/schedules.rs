//! Proves the service's schedules on a clock that the tests move: nothing here waits for real time.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, bail};
use embed::schedules::{REFRESH, REPORT, scheduler};
use embed::{Cache, Feed, Rates};
use scheduler_core::{
    Event, Name, Run, RunContext, RunFilter, RunState, Scheduler, TestClock, Timestamp, async_trait,
};
use tempfile::TempDir;

const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_day_refreshes_the_cache_every_minute_and_reports_once() {
    let bench = Bench::at("2026-06-01T12:00:30Z", TestFeed::default()).await;

    bench.clock.advance(24 * HOUR).await;

    assert_eq!(bench.feed.fetched.load(Ordering::Relaxed), 24 * 60);
    // Summer in Berlin: 02:30 there is 00:30 in UTC.
    assert_eq!(bench.reports(), ["2026-06-02T00:30:00Z refreshed 749 skipped 0 failed 0 asked 0"]);
    assert_eq!(bench.cache.price("EURUSD"), Some(1440.0));
}

#[tokio::test]
async fn a_report_tells_of_the_time_since_the_last_one() {
    let bench = Bench::at("2026-06-01T12:00:30Z", TestFeed::default()).await;

    bench.clock.advance(24 * HOUR).await;
    let _ = (bench.cache.price("EURUSD"), bench.cache.price("EURCHF"));
    bench.clock.advance(24 * HOUR).await;

    assert_eq!(bench.reports()[1], "2026-06-03T00:30:00Z refreshed 1440 skipped 0 failed 0 asked 2");
}

#[tokio::test]
async fn the_report_of_a_night_without_half_past_two_comes_at_three() {
    let bench = Bench::at("2026-03-28T12:00:30Z", TestFeed::default()).await;

    bench.clock.advance(48 * HOUR).await;

    // The clocks go from 02:00 to 03:00 on the 29th, which is 01:00 in UTC.
    assert_eq!(bench.fired(REPORT), ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
}

#[tokio::test]
async fn the_report_of_a_night_with_two_half_past_twos_comes_once() {
    let bench = Bench::at("2026-10-24T12:00:30Z", TestFeed::default()).await;

    bench.clock.advance(48 * HOUR).await;

    assert_eq!(bench.fired(REPORT), ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
}

#[tokio::test]
async fn a_slow_refresh_lets_minutes_pass_and_is_never_joined_by_another() {
    let slow = TestFeed { takes: Duration::from_secs(150), ..TestFeed::default() };
    let bench = Bench::at("2026-06-01T12:00:30Z", slow).await;

    bench.clock.advance(6 * MINUTE).await;

    let states: Vec<RunState> = bench.runs().await.iter().map(|run| run.state).collect();
    use RunState::{Skipped, Succeeded};
    assert_eq!(states, [Succeeded, Skipped, Skipped, Succeeded, Skipped, Skipped]);
    assert_eq!(bench.feed.most_at_once.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_feed_that_fails_is_asked_three_times_and_the_old_rates_stay() {
    let bench = Bench::at("2026-06-01T12:00:30Z", TestFeed::default()).await;
    bench.clock.advance(MINUTE).await;

    *bench.feed.fault.lock().unwrap() = Some("the exchange does not answer");
    bench.clock.advance(MINUTE).await;

    let last = bench.runs().await.pop().unwrap();
    assert_eq!((last.state, last.attempt), (RunState::Failed, 3));
    assert!(last.reason.unwrap().contains("the exchange does not answer"));
    assert_eq!(bench.cache.price("EURUSD"), Some(1.0));
}

#[tokio::test]
async fn stopping_lets_a_refresh_that_is_under_way_end() {
    let slow = TestFeed { takes: Duration::from_secs(8), ..TestFeed::default() };
    let bench = Bench::at("2026-06-01T12:00:30Z", slow).await;
    bench.clock.advance(MINUTE / 2).await;

    let stopping = bench.scheduler.stop(Duration::from_secs(10));
    let (drained, ()) = tokio::join!(stopping, bench.clock.advance(MINUTE));

    let drained = drained.unwrap();
    assert_eq!((drained.finished, drained.abandoned.len()), (1, 0));
    assert_eq!(bench.cache.price("EURUSD"), Some(1.0));
}

#[tokio::test]
async fn a_refresh_that_takes_too_long_to_end_is_cut_off() {
    let stuck = TestFeed { takes: Duration::from_secs(60), ..TestFeed::default() };
    let bench = Bench::at("2026-06-01T12:00:30Z", stuck).await;
    bench.clock.advance(MINUTE / 2).await;

    let stopping = bench.scheduler.stop(Duration::from_secs(10));
    let (drained, ()) = tokio::join!(stopping, bench.clock.advance(MINUTE));

    assert_eq!(drained.unwrap().abandoned.len(), 1);
    assert_eq!(bench.cache.price("EURUSD"), None);
}

/// The service's scheduler on a clock of the test's own.
struct Bench {
    clock: TestClock,
    cache: Cache,
    feed: Arc<TestFeed>,
    scheduler: Scheduler,
    /// The task and the fire time of each run that began.
    begun: Arc<Mutex<Vec<(Name, Timestamp)>>>,
    folder: TempDir,
}

impl Bench {
    async fn at(now: &str, feed: TestFeed) -> Self {
        let clock = TestClock::at(now.parse().unwrap());
        let (cache, feed) = (Cache::default(), Arc::new(feed));
        let folder = tempfile::tempdir().unwrap();
        let reports = folder.path().join("reports");
        let shared = Arc::clone(&feed) as Arc<dyn Feed>;
        let scheduler = scheduler(Arc::new(clock.clone()), &cache, shared, reports).await.unwrap();
        let begun = Arc::new(Mutex::new(Vec::new()));
        let out = Arc::clone(&begun);
        scheduler.events().listen(move |event| {
            if let Event::AttemptStarted { run, .. } = event {
                out.lock().unwrap().push((run.task.clone(), run.fire_time));
            }
        });
        scheduler.start().await.unwrap();
        Self { clock, cache, feed, scheduler, begun, folder }
    }

    fn fired(&self, task: &str) -> Vec<String> {
        let begun = self.begun.lock().unwrap();
        begun.iter().filter(|(name, _)| *name == task).map(|(_, at)| at.to_string()).collect()
    }

    /// The runs of the refresh, oldest first.
    async fn runs(&self) -> Vec<Run> {
        let mut filter = RunFilter::all();
        filter.task = Some(Name::new(REFRESH).unwrap());
        let mut runs = self.scheduler.history(&filter).await.unwrap().runs;
        runs.reverse();
        runs
    }

    fn reports(&self) -> Vec<String> {
        let file: PathBuf = self.folder.path().join("reports");
        std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

/// A feed whose price is the number of the fetch, and whose time passes on the test's clock.
#[derive(Default)]
struct TestFeed {
    takes: Duration,
    fault: Mutex<Option<&'static str>>,
    fetched: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

#[async_trait]
impl Feed for TestFeed {
    async fn fetch(&self, ctx: &RunContext) -> Result<Rates> {
        let at_once = self.at_once.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_at_once.fetch_max(at_once, Ordering::Relaxed);
        ctx.sleep(self.takes).await;
        self.at_once.fetch_sub(1, Ordering::Relaxed);
        if let Some(fault) = *self.fault.lock().unwrap() {
            bail!(fault);
        }
        let number = self.fetched.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Rates::from([("EURUSD".to_owned(), number as f64)]))
    }
}
