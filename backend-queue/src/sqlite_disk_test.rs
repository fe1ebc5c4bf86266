//! What the SQLite store promises when its disk is full, or does not do as it is told.

use scheduler_core::RunFilter;
use sqlx::{Connection, SqliteConnection};

use crate::sqlite_test::{Bench, LONG_LEASE, NOTHING, done, pushed};
use crate::store::{Claim, Pushed, Store};

/// Lets the file grow no more, on the connection that writes next.
async fn fill(bench: &Bench) {
    bench.store.change().await.unwrap().end(Ok(())).await.unwrap();
    let mut writer = bench.store.writer.lock().await;
    let writer = writer.as_mut().unwrap();
    // A limit below what there is counts as what there is; the free pages are used up by what is pushed.
    sqlx::query("PRAGMA max_page_count = 1").execute(writer).await.unwrap();
}

fn large() -> Pushed {
    let mut pushed = pushed(3);
    pushed.run.params.insert("x".into(), "y".repeat(64 * 1024).into());
    pushed
}

#[tokio::test]
async fn a_full_disk_fails_a_change_as_a_whole_and_the_next_one_holds() {
    let bench = Bench::new().await;
    let ids = bench.push(2, 3).await;
    let taken = bench.claim(1, LONG_LEASE).await.remove(0);

    fill(&bench).await;
    let refused = bench.store.push(vec![pushed(3), large()]).await.unwrap_err();
    let after_push = bench.store.runs(&RunFilter::all()).await.unwrap().runs.len();
    fill(&bench).await;
    let mut ack = done(&taken);
    ack.run.output = "z".repeat(64 * 1024).into();
    let lost = bench.store.step(&[ack.clone()], &NOTHING).await.unwrap_err();
    let acknowledged = bench.store.step(&[ack], &Claim::new(5, LONG_LEASE)).await.unwrap();

    assert_eq!((refused.code(), refused.is_transient(), after_push), ("queue/full", true, 2));
    assert_eq!((lost.code(), &acknowledged.refused), ("queue/full", &vec![]));
    assert_eq!((acknowledged.claimed.len(), ids.len()), (1, 2));
    assert_eq!(bench.store.push(vec![large()]).await.unwrap(), [true]);
}

#[tokio::test]
async fn after_a_full_disk_the_log_beside_the_file_takes_no_more_room() {
    let bench = Bench::new().await;
    bench.push(200, 3).await;
    let log = bench.folder.path().join("queue.db-wal");
    let before = log.metadata().unwrap().len();

    fill(&bench).await;
    bench.store.push(vec![large()]).await.unwrap_err();
    bench.store.push(vec![pushed(3)]).await.unwrap();

    assert!(before > 0);
    assert_eq!(log.metadata().unwrap().len(), before);
}

/// What differs once another connection has written something.
async fn version(connection: &mut SqliteConnection) -> i64 {
    sqlx::query_scalar("PRAGMA data_version").fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn after_a_failure_a_change_without_anything_to_write_proves_that_the_disk_takes_it() {
    let bench = Bench::new().await;
    let mut other = bench.raw().await;
    let before = version(&mut other).await;
    bench.store.step(&[], &NOTHING).await.unwrap();
    let untouched = version(&mut other).await;

    fill(&bench).await;
    bench.store.push(vec![large()]).await.unwrap_err();
    bench.store.step(&[], &NOTHING).await.unwrap();

    assert_eq!(before, untouched);
    assert_ne!(untouched, version(&mut other).await);
}

#[tokio::test]
async fn after_a_look_that_failed_the_next_one_opens_the_file_again() {
    let bench = Bench::new().await;
    bench.push(1, 3).await;
    bench.store.has_changed().await.unwrap();
    let elsewhere = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    *bench.store.reader.place.lock().await = Some(elsewhere);

    bench.store.waiting().await.unwrap_err();

    assert_eq!(bench.store.waiting().await.unwrap(), 1);
    assert!(bench.store.has_changed().await.unwrap(), "what was missed meanwhile is not known");
    assert!(!bench.store.has_changed().await.unwrap());
}
