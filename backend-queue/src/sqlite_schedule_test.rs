//! What the SQLite store promises of schedules.

use std::time::Duration;

use scheduler_core::{Entry, Name, RunFilter, Timestamp};

use crate::sqlite_clock::now;
use crate::sqlite_test::{Bench, LONG_LEASE, open, pushed};
use crate::store::{Decided, Decision, Effect, Standing, Store};

/// Fires once, whatever stands in the cursor's way; the run has an id of its own each time, so that nothing but
/// the cursor keeps it from being added twice.
fn fire_once(standing: Standing, at: Timestamp) -> Decision {
    let Standing { mut cursor, paused, .. } = standing;
    if cursor.runs > 0 {
        return Decision { cursor, paused, effect: Effect::Nothing };
    }
    cursor.runs += 1;
    cursor.decided = at;
    Decision { cursor, paused, effect: Effect::Fire(Box::new(pushed(3)), Entry::Start) }
}

#[tokio::test]
async fn a_fire_that_many_decide_at_once_is_enqueued_once() {
    let bench = Bench::new().await;
    let task = Name::new("t").unwrap();
    let mut deciding = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = open(bench.folder.path()).await.unwrap();
        let revision = store.register(&task, "same", LONG_LEASE).await.unwrap();
        let task = task.clone();
        deciding.spawn(async move { store.decide(&task, revision, &fire_once).await.unwrap() });
    }

    let decided = deciding.join_all().await;

    assert!(decided.iter().all(|decided| matches!(decided, Decided::Done { .. })), "{decided:?}");
    assert_eq!(bench.store.runs(&RunFilter::all()).await.unwrap().runs.len(), 1);
}

#[tokio::test]
async fn an_older_definition_fires_no_more_once_a_newer_one_is_registered() {
    let bench = Bench::new().await;
    let task = Name::new("t").unwrap();
    let older = bench.store.register(&task, "older", LONG_LEASE).await.unwrap();
    let same = bench.store.register(&task, "older", LONG_LEASE).await.unwrap();
    let newer = bench.store.register(&task, "newer", LONG_LEASE).await.unwrap();

    let stale = bench.store.decide(&task, older, &fire_once).await.unwrap();
    let lost = bench.store.decide(&task, newer + 1, &fire_once).await.unwrap();
    let done = bench.store.decide(&task, newer, &fire_once).await.unwrap();

    assert_eq!((same, newer), (older, older + 1));
    assert!(matches!(stale, Decided::Stale) && matches!(lost, Decided::Unknown), "{stale:?} {lost:?}");
    assert!(matches!(done, Decided::Done { .. }), "{done:?}");
    assert_eq!(bench.store.runs(&RunFilter::all()).await.unwrap().runs.len(), 1);
}

#[tokio::test]
async fn an_edited_trigger_begins_at_the_edit_and_another_edit_moves_nothing() {
    let bench = Bench::new().await;
    let task = Name::new("t").unwrap();
    let decided = async || bench.store.standing(&task).await.unwrap().unwrap().cursor.decided;
    bench.store.register(&task, "0000000000000000-every hour", LONG_LEASE).await.unwrap();
    let begun = decided().await;
    while now() <= begun + Duration::from_millis(5) {
        tokio::task::yield_now().await;
    }

    bench.store.register(&task, "1111111111111111-every hour", LONG_LEASE).await.unwrap();
    assert_eq!(decided().await, begun, "the trigger is the same");
    bench.store.register(&task, "2222222222222222-every day", LONG_LEASE).await.unwrap();
    assert!(decided().await > begun);
}

#[tokio::test]
async fn fires_count_as_missed_only_since_the_last_who_served_them_is_gone() {
    let bench = Bench::new().await;
    let task = Name::new("t").unwrap();
    let served_since = async || bench.store.standing(&task).await.unwrap().unwrap().cursor.served_since;

    bench.store.register(&task, "same", LONG_LEASE).await.unwrap();
    let first = served_since().await;
    while now() <= first + Duration::from_millis(2) {
        tokio::task::yield_now().await;
    }
    bench.store.register(&task, "same", LONG_LEASE).await.unwrap();
    let beside = served_since().await;
    bench.store.serve(std::slice::from_ref(&task), Duration::ZERO).await.unwrap();
    bench.store.register(&task, "same", LONG_LEASE).await.unwrap();
    let after = served_since().await;

    assert_eq!(first, beside, "another daemon serves them still");
    assert!(after > first, "nobody served them in between");
}
