//! What is done together in the SQLite store, and what is given back.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use scheduler_core::RunState;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::task::JoinSet;

use crate::sqlite::SqliteStore;
use crate::sqlite_offers::Offers;
use crate::sqlite_test::{Bench, LONG_LEASE, done, open, pushed};
use crate::store::{Claim, Retention, Store};

/// How many changes were committed since the log beside the file began, as its frames say.
fn commits(folder: &Path) -> usize {
    let log = std::fs::read(folder.join("queue.db-wal")).unwrap();
    let (head, frames) = log.split_at(32);
    let is_last_of_change = |frame: &&[u8]| frame[4..8] != [0; 4] && frame[8..16] == head[16..24];
    frames.chunks(24 + 4_096).filter(is_last_of_change).count()
}

#[tokio::test]
async fn what_many_callers_add_at_once_is_one_change() {
    let bench = Bench::new().await;
    let before = commits(bench.folder.path());
    let (folder, store) = (bench.folder, Arc::new(bench.store));

    let mut callers = JoinSet::new();
    let writes = store.writer.lock().await;
    for _ in 0..64 {
        let store = Arc::clone(&store);
        callers.spawn(async move { store.push(vec![pushed(1)]).await.unwrap() });
    }
    // On one thread each of them has come as far as it can.
    tokio::task::yield_now().await;
    drop(writes);

    assert_eq!(callers.join_all().await, vec![vec![true]; 64]);
    assert_eq!(commits(folder.path()) - before, 1);
}

#[tokio::test]
async fn a_step_takes_along_what_others_add_and_may_begin_it() {
    let bench = Bench::new().await;
    let answer = bench.store.offers.add(vec![pushed(1), pushed(1)]);

    let claimed = bench.claim(10, LONG_LEASE).await;

    assert_eq!((claimed.len(), answer.await.unwrap().unwrap()), (2, vec![true, true]));
}

#[tokio::test]
async fn what_was_not_added_waits_for_the_next_change_unless_its_caller_is_gone() {
    let offers = Offers::default();
    let (first, gone, mut last) =
        (offers.add(vec![pushed(1)]), offers.add(vec![pushed(1)]), offers.add(vec![pushed(1), pushed(1)]));

    // Whoever took them along died.
    assert_eq!(offers.take().runs().count(), 4);
    drop(gone);
    let along = offers.take();
    assert_eq!(along.runs().count(), 3);
    along.answer(Ok(vec![true, false, true]));

    assert_eq!(first.await.unwrap().unwrap(), [true]);
    assert_eq!(last.try_recv().unwrap().unwrap(), [false, true]);
    assert_eq!(offers.take().runs().count(), 0);
}

/// A future that is asked so many times, and no more.
struct Asked<'a>(Pin<Box<dyn Future<Output = ()> + 'a>>, usize);

impl Future for Asked<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.1 == 0 {
            return Poll::Ready(());
        }
        self.1 -= 1;
        self.0.as_mut().poll(cx)
    }
}

/// Whoever takes runs of others along stops at each place where it waits, also behind the commit. How fast the file is
/// decides where that is, so it is tried several times.
async fn all_hear_the_truth_of<'a>(change: impl AsyncFn(&SqliteStore) + 'a) {
    for asked in (0..4).flat_map(|_| 1..12) {
        let bench = Bench::new().await;
        let (new, twice) = (pushed(1), pushed(1));
        bench.store.push(vec![twice.clone()]).await.unwrap();
        let answer = bench.store.offers.add(vec![new, twice]);

        Asked(Box::pin(change(&bench.store)), asked).await;
        // What was not added is taken along by whoever comes next.
        bench.store.push(vec![pushed(1)]).await.unwrap();

        assert_eq!(answer.await.unwrap().unwrap(), [true, false], "dropped when it was asked {asked} times");
    }
}

#[tokio::test]
async fn who_was_taken_along_hears_the_truth_wherever_the_other_caller_stops_to_wait() {
    all_hear_the_truth_of(async |store| drop(store.push(vec![pushed(1)]).await.unwrap())).await;
}

#[tokio::test]
async fn who_was_taken_along_by_a_step_hears_the_truth_wherever_that_is_given_up() {
    all_hear_the_truth_of(async |store| drop(store.step(&[], &Claim::new(9, LONG_LEASE)).await.unwrap()))
        .await;
}

#[tokio::test]
async fn an_end_that_comes_too_late_keeps_no_other_from_being_written() {
    let bench = Bench::new().await;
    bench.push(90, 1).await;
    let taken = bench.claim(90, LONG_LEASE).await;
    let mut acks: Vec<_> = taken.iter().map(done).collect();
    acks[77].fence += 1_000;

    let stepped = bench.store.step(&acks, &Claim::new(0, LONG_LEASE)).await.unwrap();

    assert_eq!(stepped.refused, [77]);
    assert_eq!(bench.state(taken[76].run.id).await, RunState::Succeeded);
    assert_eq!(bench.state(taken[77].run.id).await, RunState::Running);
    assert_eq!(bench.state(taken[89].run.id).await, RunState::Succeeded);
}

/// Lets runs come, end and be forgotten; answers how many pages the file has then, and had at most.
async fn come_and_go(bench: &Bench) -> (u64, u64) {
    let pages = || std::fs::metadata(bench.folder.path().join("queue.db")).unwrap().len() / 4_096;

    let nothing = Retention { runs: 0, age: LONG_LEASE, letters: 0, letter_age: LONG_LEASE };
    bench.push(3_000, 1).await;
    for _ in 0..3 {
        let acks: Vec<_> = bench.claim(1_000, LONG_LEASE).await.iter().map(done).collect();
        bench.store.step(&acks, &Claim::new(0, LONG_LEASE)).await.unwrap();
    }
    let checkpoint = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)");
    checkpoint.execute(&mut bench.raw().await).await.unwrap();
    let most = pages();
    while bench.store.forget(&nothing, 1_000).await.unwrap() == 1_000 {}
    (pages(), most)
}

#[tokio::test]
async fn a_file_shrinks_when_what_was_in_it_is_forgotten() {
    let bench = Bench::new().await;

    let (left, most) = come_and_go(&bench).await;

    assert!(most > 200 && left < 40, "{left} of {most} pages are left");
}

#[tokio::test]
async fn a_file_of_an_earlier_version_shrinks_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let file = SqliteConnectOptions::new().filename(folder.path().join("queue.db")).create_if_missing(true);
    // Its first page says how it is, whatever is asked of it later.
    let mut earlier = file.connect().await.unwrap();
    sqlx::raw_sql("CREATE TABLE t (a); DROP TABLE t;").execute(&mut earlier).await.unwrap();
    earlier.close().await.unwrap();
    let store = open(folder.path()).await.unwrap();

    let (left, most) = come_and_go(&Bench { folder, store }).await;

    assert!(most > 200 && left < 40, "{left} of {most} pages are left");
}
