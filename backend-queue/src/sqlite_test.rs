//! What the SQLite store promises by itself.

use std::path::Path;
use std::time::Duration;

use scheduler_core::{Name, Run, RunFilter, RunId, RunState, Tier};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Row, SqliteConnection};
use tempfile::TempDir;

use crate::Synchronous;
use crate::sqlite::SqliteStore;
use crate::sqlite_clock::now;
use crate::store::{Ack, Cancel, Claim, Delivery, Held, Next, Pushed, Retention, Store};

pub(crate) const NO_LEASE: Duration = Duration::ZERO;
pub(crate) const LONG_LEASE: Duration = Duration::from_secs(3_600);

pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    pub(crate) store: SqliteStore,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).await.unwrap();
        Self { folder, store }
    }

    /// Another look at the file, past the store.
    pub(crate) async fn raw(&self) -> SqliteConnection {
        raw(self.folder.path(), false).await
    }

    pub(crate) async fn push(&self, count: usize, max_attempts: u32) -> Vec<RunId> {
        let runs: Vec<Pushed> = (0..count).map(|_| pushed(max_attempts)).collect();
        let ids = runs.iter().map(|pushed| pushed.run.id).collect();
        assert!(self.store.push(runs).await.unwrap().into_iter().all(|is_new| is_new));
        ids
    }

    pub(crate) async fn claim(&self, limit: u32, lease: Duration) -> Vec<Delivery> {
        self.store.step(&[], &Claim::new(limit, lease)).await.unwrap().claimed
    }

    pub(crate) async fn state(&self, id: RunId) -> RunState {
        let page = self.store.runs(&RunFilter::all()).await.unwrap();
        page.runs.iter().find(|run| run.id == id).unwrap().state
    }
}

/// A connection to the file in a folder, past any store.
pub(crate) async fn raw(folder: &Path, may_create: bool) -> SqliteConnection {
    let file = SqliteConnectOptions::new().filename(folder.join("queue.db"));
    file.create_if_missing(may_create).connect().await.unwrap()
}

pub(crate) async fn open(folder: &Path) -> scheduler_core::Result<SqliteStore> {
    let (namespace, backend) = (Name::new("default").unwrap(), Name::new("queue").unwrap());
    SqliteStore::open(&folder.join("queue.db"), Synchronous::Normal, Some(namespace), backend).await
}

pub(crate) fn pushed(max_attempts: u32) -> Pushed {
    let (task, backend) = (Name::new("t").unwrap(), Name::new("queue").unwrap());
    let run = Run::queued(RunId::manual(now()), task, backend, Tier::Queue, now());
    Pushed { run, due: now(), priority: 5, max_attempts, alone: false }
}

pub(crate) fn done(delivery: &Delivery) -> Ack {
    let mut run = delivery.run.clone();
    run.state = RunState::Succeeded;
    run.finished_at = Some(now());
    Ack { run, fence: delivery.fence, next: Next::End, is_followed: false }
}

pub(crate) fn failed(delivery: &Delivery) -> Ack {
    let mut run = delivery.run.clone();
    run.state = RunState::Failed;
    run.finished_at = Some(now());
    run.reason = Some("no".to_owned());
    Ack { run, fence: delivery.fence, next: Next::End, is_followed: false }
}

/// It is given back as it was taken.
fn back(delivery: &Delivery) -> Ack {
    let mut run = delivery.run.clone();
    (run.state, run.attempt) = (RunState::Queued, run.attempt - 1);
    Ack { run, fence: delivery.fence, next: Next::Back, is_followed: false }
}

pub(crate) const NOTHING: Claim = Claim::new(0, LONG_LEASE);

#[tokio::test]
async fn a_late_acknowledgement_of_an_older_delivery_is_refused() {
    let bench = Bench::new().await;
    let id = bench.push(1, 3).await[0];

    let first = bench.claim(1, NO_LEASE).await.remove(0);
    // The lease of no length has expired as soon as the clock has moved on.
    while bench.store.reap(10).await.unwrap().is_empty() {}
    let second = bench.claim(1, LONG_LEASE).await.remove(0);
    let late = bench.store.step(&[done(&first)], &NOTHING).await.unwrap();
    let state = bench.state(id).await;
    let renewed = bench.store.renew(&[Held { run: id, fence: first.fence }], LONG_LEASE).await.unwrap();
    let right = bench.store.step(&[done(&second)], &NOTHING).await.unwrap();

    assert!(second.fence > first.fence);
    assert_eq!((first.run.attempt, second.run.attempt), (1, 2));
    assert_eq!((late.refused, state), (vec![0], RunState::Running));
    assert_eq!(renewed.lost, [id]);
    assert_eq!((right.refused, bench.state(id).await), (vec![], RunState::Succeeded));
}

#[tokio::test]
async fn what_is_given_back_has_its_place_again() {
    let bench = Bench::new().await;
    let ids = bench.push(4, 3).await;
    let taken = bench.claim(2, LONG_LEASE).await;

    let acks: Vec<Ack> = taken.iter().map(back).collect();
    let refused = bench.store.step(&acks, &NOTHING).await.unwrap().refused;
    let again = bench.claim(4, LONG_LEASE).await;

    let order: Vec<RunId> = again.iter().map(|delivery| delivery.run.id).collect();
    assert_eq!((refused, order), (vec![], ids));
    assert!(again.iter().all(|delivery| delivery.run.attempt == 1));
}

#[tokio::test]
async fn expired_leases_of_large_runs_are_taken_away_some_at_a_time() {
    let bench = Bench::new().await;
    let large = || {
        let mut pushed = pushed(3);
        pushed.run.params.insert("x".into(), "y".repeat(300_000).into());
        pushed
    };
    bench.store.push((0..120).map(|_| large()).collect()).await.unwrap();
    assert_eq!(bench.claim(120, NO_LEASE).await.len(), 120);

    let mut reaped: Vec<usize> = Vec::new();
    while reaped.iter().sum::<usize>() < 120 {
        // Nothing has expired before the clock has moved on.
        reaped.extend(Some(bench.store.reap(500).await.unwrap().len()).filter(|count| *count > 0));
    }

    assert!(reaped.len() > 1, "{reaped:?}");
}

#[tokio::test]
async fn a_page_of_large_runs_is_shorter_and_the_next_one_goes_on() {
    let bench = Bench::new().await;
    let large = |_| {
        let mut pushed = pushed(3);
        pushed.run.params.insert("x".into(), "y".repeat(400_000).into());
        pushed
    };
    let all: Vec<Pushed> = (0..60).map(large).collect();
    let mut ids: Vec<RunId> = all.iter().map(|pushed| pushed.run.id).collect();
    bench.store.push(all).await.unwrap();

    let (mut filter, mut pages) = (RunFilter::all().limited(100), Vec::new());
    loop {
        let page = bench.store.runs(&filter).await.unwrap();
        pages.push(page.runs.iter().map(|run| run.id).collect::<Vec<_>>());
        filter.after = page.next;
        if page.next.is_none() {
            break;
        }
    }

    assert!(pages.len() > 1 && pages.iter().all(|page| !page.is_empty()));
    let mut seen = pages.concat();
    seen.sort();
    ids.sort();
    assert_eq!(seen, ids);
}

#[tokio::test]
async fn a_run_whose_workers_all_die_ends_when_its_attempts_are_spent() {
    let bench = Bench::new().await;
    let id = bench.push(1, 2).await[0];

    let mut states = Vec::new();
    for _ in 0..2 {
        assert_eq!(bench.claim(1, NO_LEASE).await.len(), 1);
        let reaped = loop {
            let reaped = bench.store.reap(10).await.unwrap();
            if !reaped.is_empty() {
                break reaped;
            }
        };
        states.push(reaped[0].state);
    }

    assert_eq!(states, [RunState::Queued, RunState::Failed]);
    assert_eq!(bench.state(id).await, RunState::Failed);
    assert!(bench.claim(1, LONG_LEASE).await.is_empty());
}

#[tokio::test]
async fn a_living_lease_is_not_taken_away_and_two_who_claim_share_nothing() {
    let bench = Bench::new().await;
    bench.push(10, 3).await;
    let other = open(bench.folder.path()).await.unwrap();
    let claim = Claim::new(6, LONG_LEASE);

    let (one, two) = tokio::join!(bench.store.step(&[], &claim), other.step(&[], &claim));
    let (one, two) = (one.unwrap(), two.unwrap());

    let mut ids: Vec<RunId> = one.claimed.iter().chain(&two.claimed).map(|taken| taken.run.id).collect();
    let mut fences: Vec<u64> = one.claimed.iter().chain(&two.claimed).map(|taken| taken.fence).collect();
    ids.sort();
    ids.dedup();
    fences.sort_unstable();
    fences.dedup();
    assert_eq!((ids.len(), fences.len()), (10, 10));
    assert!(bench.store.reap(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_leases_of_before_the_machine_was_started_are_free() {
    let bench = Bench::new().await;
    bench.push(1, 3).await;
    bench.claim(1, LONG_LEASE).await;
    sqlx::query("UPDATE meta SET value = 'earlier' WHERE key = 'boot'")
        .execute(&mut bench.raw().await)
        .await
        .unwrap();

    let again = open(bench.folder.path()).await.unwrap();

    assert_eq!(again.reap(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_read_fails_and_the_queue_goes_on() {
    let bench = Bench::new().await;
    let poisoned = bench.push(3, 3).await;
    for (id, envelope) in poisoned.iter().zip(["{", r#"{"v":99}"#, r#"{"v":1,"params":"x"}"#]) {
        let poison =
            sqlx::query("UPDATE run SET envelope = ? WHERE id = ?").bind(envelope).bind(id.to_string());
        poison.execute(&mut bench.raw().await).await.unwrap();
    }
    let sound = bench.push(1, 3).await[0];

    let stepped = bench.store.step(&[], &Claim::new(10, LONG_LEASE)).await.unwrap();

    let claimed: Vec<RunId> = stepped.claimed.iter().map(|delivery| delivery.run.id).collect();
    assert_eq!((claimed, stepped.undecodable.len()), (vec![sound], 3));
    for id in poisoned {
        assert_eq!(bench.state(id).await, RunState::Failed);
    }
}

#[tokio::test]
async fn a_newer_store_is_refused_and_left_as_it_is() {
    let bench = Bench::new().await;
    sqlx::query("PRAGMA user_version = 99").execute(&mut bench.raw().await).await.unwrap();

    let error = open(bench.folder.path()).await.unwrap_err();

    assert_eq!(error.code(), "queue/newer_store");
    assert!(error.to_string().contains("version 99"), "{error}");
    let version = sqlx::query("PRAGMA user_version").fetch_one(&mut bench.raw().await).await.unwrap();
    assert_eq!(version.get::<i64, _>(0), 99);
}

#[tokio::test]
async fn history_keeps_the_newest_and_never_a_run_that_has_not_ended() {
    let bench = Bench::new().await;
    bench.push(10, 3).await;
    let taken = bench.claim(8, LONG_LEASE).await;
    let acks: Vec<Ack> = taken.iter().take(7).map(done).collect();
    bench.store.step(&acks, &NOTHING).await.unwrap();
    let retention = Retention {
        runs: 3,
        age: Duration::from_secs(3_600),
        letters: 100,
        letter_age: Duration::from_secs(3_600),
    };

    let forgotten = bench.store.forget(&retention, 100).await.unwrap();
    let again = bench.store.forget(&retention, 100).await.unwrap();

    let left = bench.store.runs(&RunFilter::all()).await.unwrap().runs;
    let ended = left.iter().filter(|run| run.state.is_end()).count();
    // Runs that ended in one millisecond go together.
    assert!(ended <= 3 && forgotten + ended == 7 && again == 0, "{forgotten} {ended} {again}");
    assert_eq!(left.len() - ended, 3);
}

#[tokio::test]
async fn a_waiting_run_is_cancelled_for_good_and_a_running_one_is_marked() {
    let bench = Bench::new().await;
    let ids = bench.push(2, 3).await;
    let running = bench.claim(1, LONG_LEASE).await.remove(0);
    let waiting = ids.into_iter().find(|id| *id != running.run.id).unwrap();

    let prevented = bench.store.cancel(waiting, "asked").await.unwrap();
    let marked = bench.store.cancel(running.run.id, "asked").await.unwrap();
    let held = Held { run: running.run.id, fence: running.fence };
    let told = bench.store.renew(&[held], LONG_LEASE).await.unwrap();

    assert!(matches!(prevented, Cancel::Ended(run) if run.state == RunState::Cancelled));
    assert_eq!((marked, told.cancelled), (Cancel::Marked, vec![(running.run.id, "asked".to_owned())]));
    assert_eq!(bench.store.cancel(waiting, "asked").await.unwrap(), Cancel::TooLate);
    assert_eq!(bench.store.cancel(RunId::manual(now()), "asked").await.unwrap(), Cancel::Unknown);
    assert!(bench.claim(1, LONG_LEASE).await.is_empty());
}
