//! Fresh runs on Redis: in a list that costs little, and in the order of all others.

use std::time::Duration;

use scheduler_core::{RunFilter, RunId, RunState};

use crate::redis_stage;
use crate::redis_test::{LONG_LEASE, NOTHING, claim, done, fresh, keys, push, pushed};
use crate::store::{Cancel, Claim, Pushed, Retention, Share, Store};

const NO_HISTORY: Retention = Retention { runs: 0, age: LONG_LEASE, letters: 0, letter_age: LONG_LEASE };

fn earlier(millis: u64) -> Pushed {
    let mut pushed = pushed(3);
    pushed.due = pushed.due - Duration::from_millis(millis);
    pushed
}

fn ids(runs: &[Pushed]) -> Vec<RunId> {
    runs.iter().map(|pushed| pushed.run.id).collect()
}

#[tokio::test]
async fn a_run_that_begins_at_once_is_in_no_index_until_somebody_looks() {
    let store = fresh().await;
    let ids = push(&store, 3).await;
    let mut there = keys(&store).await;
    // What was tried when the store was opened goes a moment later.
    there.retain(|key| !key.starts_with("probe:"));
    assert_eq!(there, ["count", "fresh", "run", "seq", "version"]);

    let mut shown: Vec<RunId> =
        store.runs(&RunFilter::all()).await.unwrap().runs.iter().map(|run| run.id).collect();

    let claimed: Vec<RunId> =
        claim(&store, 5, LONG_LEASE).await.iter().map(|delivery| delivery.run.id).collect();
    assert_eq!(claimed, ids, "looking changes no order");
    shown.sort();
    let mut ids = ids;
    ids.sort();
    assert_eq!(shown, ids);
}

#[tokio::test]
async fn fresh_runs_and_others_are_taken_in_one_order() {
    let store = fresh().await;
    let first = [earlier(400), earlier(300), earlier(100)];
    let mut others = [earlier(350), earlier(10), earlier(0)];
    others[1].priority = 9;
    others[2].priority = 0;
    let (of_first, of_others) = (ids(&first), ids(&others));
    store.push(first.to_vec()).await.unwrap();
    store.push(others.to_vec()).await.unwrap();

    let mut taken = Vec::new();
    for _ in 0..3 {
        taken.extend(claim(&store, 2, LONG_LEASE).await.iter().map(|delivery| delivery.run.id));
    }

    let expected = [of_others[1], of_first[0], of_others[0], of_first[1], of_first[2], of_others[2]];
    assert_eq!(taken, expected);
    assert!(!keys(&store).await.contains(&"fresh".to_owned()));
}

#[tokio::test]
async fn a_fresh_run_that_was_cancelled_is_passed_over_and_counts_no_more() {
    for from in [Vec::new(), vec![Share { queue: None, count: 9, limits: None }]] {
        let store = fresh().await;
        let ids = push(&store, 4).await;
        for id in [ids[0], ids[2], ids[3]] {
            assert!(matches!(store.cancel(id, "asked").await.unwrap(), Cancel::Ended(_)));
        }
        assert_eq!(store.queues().await.unwrap()[0].waiting, 1);

        let claim = Claim { limit: 2, lease: LONG_LEASE, from };
        let mut taken = Vec::new();
        for _ in 0..3 {
            taken.extend(store.step(&[], &claim).await.unwrap().claimed);
        }

        let taken_ids: Vec<RunId> = taken.iter().map(|delivery| delivery.run.id).collect();
        assert_eq!(taken_ids, [ids[1]]);
        store.step(&[done(&taken[0])], &NOTHING).await.unwrap();
        assert!(store.queues().await.unwrap().is_empty());
        let mut cancelled = RunFilter::all();
        cancelled.states.push(RunState::Cancelled);
        assert_eq!(store.runs(&cancelled).await.unwrap().runs.len(), 3);
        assert_eq!(store.forget(&NO_HISTORY, 100).await.unwrap(), 4);
        let left = keys(&store).await;
        assert!(left.iter().all(|key| key != "fresh" && key != "gone" && key != "unshown"), "{left:?}");
    }
}

#[tokio::test]
async fn what_nobody_looked_at_is_forgotten_without_a_trace() {
    let store = fresh().await;
    push(&store, 5).await;
    let taken = claim(&store, 5, LONG_LEASE).await;
    store.step(&taken.iter().map(done).collect::<Vec<_>>(), &NOTHING).await.unwrap();
    assert!(!keys(&store).await.contains(&"shown".to_owned()));

    assert_eq!(store.forget(&NO_HISTORY, 3).await.unwrap(), 3);
    assert_eq!(store.forget(&NO_HISTORY, 3).await.unwrap(), 2);

    let left = keys(&store).await;
    let is_counter = |key: &String| key.starts_with("told:") || ["fence", "seq", "version"].contains(&&**key);
    assert!(left.iter().all(is_counter), "{left:?}");
}

#[tokio::test]
async fn what_stays_in_front_is_shown_once_more_are_gone_behind_it() {
    let store = fresh().await;
    push(&store, 300).await;
    let taken = claim(&store, 300, LONG_LEASE).await;
    let all_but_the_first: Vec<_> = taken[1..].iter().map(done).collect();
    store.step(&all_but_the_first, &NOTHING).await.unwrap();
    let retention = |runs| Retention { runs, ..NO_HISTORY };

    // Nothing is to be forgotten, and then some of what stands behind the run that goes on.
    for (runs, forgotten) in [(299, 0), (200, 99)] {
        assert_eq!(store.forget(&retention(runs), 1_000).await.unwrap(), forgotten);
    }
    let length = || async {
        let mut length = redis::cmd("LLEN");
        length.arg(format!("{}unshown", store.link.base));
        store.link.ask::<usize>(&length).await.unwrap()
    };
    assert!(length().await <= 201, "no more wait to be shown than there are");
    assert_eq!(store.forget(&retention(0), 1_000).await.unwrap(), 200);
    assert!(length().await <= 1);

    let history = store.runs(&RunFilter::all()).await.unwrap().runs;
    assert_eq!(history.iter().map(|run| run.id).collect::<Vec<_>>(), [taken[0].run.id]);
    store.step(&[done(&taken[0])], &NOTHING).await.unwrap();
    assert_eq!(store.forget(&NO_HISTORY, 1_000).await.unwrap(), 1);
    let left = keys(&store).await;
    assert!(left.iter().all(|key| key != "unshown" && !key.starts_with("shown")), "{left:?}");
}

#[tokio::test]
async fn forgetting_shows_no_run_that_nobody_asked_for() {
    let store = fresh().await;
    push(&store, 300).await;
    let taken = claim(&store, 300, LONG_LEASE).await;
    store.step(&taken.iter().map(done).collect::<Vec<_>>(), &NOTHING).await.unwrap();

    for (runs, forgotten) in [(300, 0), (250, 50), (250, 0), (10, 240)] {
        let retention = Retention { runs, ..NO_HISTORY };
        assert_eq!(store.forget(&retention, 1_000).await.unwrap(), forgotten);
        assert!(!keys(&store).await.contains(&"shown".to_owned()));
    }
}

#[tokio::test]
async fn what_the_version_before_stored_goes_on_and_is_marked_as_new() {
    let (url, namespace) = (redis_stage::url(), redis_stage::namespace());
    let store = redis_stage::open(&url, &namespace).await.unwrap();
    // A run of another priority lies where all runs did.
    let mut old = earlier(50);
    old.priority = 4;
    store.push(vec![old.clone()]).await.unwrap();
    let key = format!("{}version", store.link.base);
    let mut set = redis::cmd("SET");
    set.arg(&key).arg(2);
    store.link.ask::<()>(&set).await.unwrap();

    let store = redis_stage::open(&url, &namespace).await.unwrap();

    assert_eq!(store.runs(&RunFilter::all()).await.unwrap().runs.len(), 1);
    assert_eq!(claim(&store, 5, LONG_LEASE).await[0].run.id, old.run.id);
    let mut get = redis::cmd("GET");
    get.arg(&key);
    assert_eq!(store.link.ask::<String>(&get).await.unwrap(), "3");
}
