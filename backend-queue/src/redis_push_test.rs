//! How runs come in on Redis: what is added in one go, and what many callers add at the same time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{Name, RunId, RunState};
use tokio::task::JoinSet;

use crate::redis_fault_test::tell;
use crate::redis_fresh::Numbers;
use crate::redis_stage::{self, Server};
use crate::redis_store::RedisStore;
use crate::redis_test::{LONG_LEASE, claim, fresh, pushed, state};
use crate::store::{Pushed, Store};

const SOON: Duration = Duration::from_secs(60);

/// How often a script that adds was called since the server began.
async fn calls(store: &RedisStore, command: &str) -> u32 {
    let mut stats = redis::cmd("INFO");
    stats.arg("commandstats");
    let stats: String = store.link.ask(&stats).await.unwrap();
    let start = format!("cmdstat_{command}:calls=");
    let calls = stats.lines().find_map(|line| line.strip_prefix(&start));
    calls.map_or(0, |calls| calls.split(',').next().unwrap().parse().unwrap())
}

async fn claimed(store: &RedisStore) -> Vec<RunId> {
    claim(store, 100, LONG_LEASE).await.iter().map(|delivery| delivery.run.id).collect()
}

#[tokio::test]
async fn what_is_there_already_is_not_added_again_and_the_rest_is() {
    let store = fresh().await;
    let runs: [Pushed; 4] = std::array::from_fn(|_| pushed(3));
    let mut again = runs[1].clone();
    again.run.params.insert("changed".into(), true.into());
    // A call before tells the number of the next, without which nothing is added in one go.
    for run in &runs[..2] {
        assert_eq!(store.push(vec![run.clone()]).await.unwrap(), [true]);
    }

    let of_first = store.push(vec![runs[2].clone(), again, runs[2].clone()]).await.unwrap();
    let of_next = store.push(vec![runs[3].clone(), runs[0].clone()]).await.unwrap();

    assert_eq!((of_first, of_next), (vec![true, false, false], vec![true, false]));
    let taken = claim(&store, 100, LONG_LEASE).await;
    assert_eq!(taken.len(), 4);
    assert!(taken.iter().all(|delivery| delivery.run.params.is_empty()), "nothing was written over");
}

#[tokio::test]
async fn runs_that_come_in_out_of_order_are_taken_in_their_order() {
    let store = fresh().await;
    store.push(vec![pushed(3)]).await.unwrap();
    let first = claimed(&store).await;
    let mut runs: [Pushed; 4] = std::array::from_fn(|_| pushed(3));
    for (pushed, earlier) in runs.iter_mut().zip([20, 40, 10, 40]) {
        pushed.due = pushed.due - Duration::from_millis(earlier);
    }

    store.push(runs.to_vec()).await.unwrap();

    let expected = [&runs[1], &runs[3], &runs[0], &runs[2]].map(|pushed| pushed.run.id);
    assert_eq!(claimed(&store).await, expected);
    assert_eq!(first.len(), 1);
}

#[tokio::test]
async fn most_runs_are_added_by_three_commands_whatever_tasks_they_are_of() {
    let server = Server::start(&[]);
    let store = redis_stage::open(&server.url(), &redis_stage::namespace()).await.unwrap();
    let mut commands = Vec::new();
    // The number of a call is good for a moment only, so a machine that is slow needs some tries.
    while !commands.ends_with(&[[1, 1, 0]]) {
        assert!(commands.len() < 50, "{commands:?}");
        store.push(vec![pushed(3)]).await.unwrap();
        let mut runs: Vec<Pushed> = (0..100).map(|_| pushed(3)).collect();
        runs[50].run.task = Name::new("other").unwrap();
        tell(&store, &["CONFIG", "RESETSTAT"]).await;
        store.push(runs).await.unwrap();
        let mut called = [0; 3];
        for (count, command) in called.iter_mut().zip(["hset", "rpush", "zadd"]) {
            *count = calls(&store, command).await;
        }
        commands.push(called);
    }
    let tries = commands.len();
    let mut counts = redis::cmd("HGETALL");
    counts.arg(format!("{}count", store.link.base));
    let counts: BTreeMap<String, usize> = store.link.ask(&counts).await.unwrap();
    assert_eq!(counts, BTreeMap::from([("t".to_owned(), 100 * tries), ("other".to_owned(), tries)]));
}

#[tokio::test]
async fn a_place_is_given_once_even_where_nothing_came_of_a_call() {
    let store = fresh().await;
    store.push(vec![pushed(3)]).await.unwrap();
    for earlier in 1..=3 {
        // It is no longer the last of those that wait.
        let mut old = pushed(3);
        old.due = old.due - Duration::from_secs(earlier);
        store.push(vec![old]).await.unwrap();
        store.push(vec![pushed(3)]).await.unwrap();
    }

    let taken = claim(&store, 100, LONG_LEASE).await;
    let mut places = Vec::new();
    for delivery in &taken {
        let (_, found) = store.peek(&[delivery.run.id]).await.unwrap();
        places.push(found[0].packed[21..28].to_vec());
    }
    places.sort();
    places.dedup();
    assert_eq!((taken.len(), places.len()), (7, 7));
}

#[tokio::test]
async fn callers_that_add_at_once_share_calls_and_each_hears_of_its_own() {
    let server = Server::start(&[]);
    let store = Arc::new(redis_stage::open(&server.url(), &redis_stage::namespace()).await.unwrap());
    let twice = pushed(3);
    tell(&store, &["CONFIG", "RESETSTAT"]).await;

    let callers = (0..64).map(|place| {
        let (store, own) = (Arc::clone(&store), if place % 8 == 0 { twice.clone() } else { pushed(3) });
        async move { store.push(vec![own]).await.unwrap()[0] }
    });
    let are_new = futures_util::future::join_all(callers).await;

    assert_eq!(are_new.iter().filter(|is_new| **is_new).count(), 57, "seven were there already");
    assert_eq!(store.waiting().await.unwrap(), 57);
    let calls = calls(&store, "evalsha").await;
    assert!(calls < 20, "{calls} calls of scripts for 64 callers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_come_back_at_once_all_hear_an_answer() {
    let store = Arc::new(fresh().await);

    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let store = Arc::clone(&store);
        callers.spawn(async move {
            for _ in 0..50 {
                assert_eq!(store.push(vec![pushed(3)]).await.unwrap(), [true]);
            }
        });
    }
    let all = callers.join_all();
    tokio::time::timeout(SOON, all).await.expect("each caller hears an answer");

    assert_eq!(store.waiting().await.unwrap(), 64 * 50);
}

/// A runtime whose tasks add runs, one after the other, until it ends.
fn busy(store: &Arc<RedisStore>) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for _ in 0..32 {
        let store = Arc::clone(store);
        runtime.spawn(async move {
            loop {
                let _ = store.push(vec![pushed(3)]).await;
            }
        });
    }
    runtime
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_hear_an_answer_when_the_runtime_of_others_ends() {
    let store = Arc::new(fresh().await);
    for _ in 0..20 {
        let others = busy(&store);
        let mut callers = JoinSet::new();
        for place in 0..16 {
            let store = Arc::clone(&store);
            callers.spawn(async move {
                for _ in 0..20 {
                    // One that was on its way with theirs is told that the answer is lost.
                    if let Err(error) = store.push(vec![pushed(3)]).await {
                        assert_eq!(error.code(), "queue/unreachable", "{place}");
                    }
                }
            });
        }
        callers.join_next().await.unwrap().unwrap();
        others.shutdown_background();
        tokio::time::timeout(SOON, callers.join_all()).await.expect("each caller hears an answer");
    }
    let last = pushed(3);
    assert_eq!(store.push(vec![last.clone()]).await.unwrap(), [true]);
    assert_eq!(state(&store, last.run.id).await, RunState::Queued);
}

#[tokio::test]
async fn a_caller_that_goes_while_it_waits_adds_nothing_and_keeps_nobody_waiting() {
    let store = Arc::new(fresh().await);
    let (first, gone, last) = (pushed(3), pushed(3), pushed(3));
    let mut on_its_way = Box::pin(store.push(vec![first]));
    assert!(futures_util::poll!(&mut on_its_way).is_pending());
    let mut waiting = Vec::new();
    // Both ways are taken.
    for pushed in [pushed(3), gone.clone(), last.clone()] {
        let mut call = Box::pin(store.push(vec![pushed]));
        assert!(futures_util::poll!(&mut call).is_pending());
        waiting.push(call);
    }

    drop(waiting.remove(1));
    drop(on_its_way);
    let answers = tokio::time::timeout(SOON, futures_util::future::join_all(waiting)).await.unwrap();

    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let (_, found) = store.peek(&[gone.run.id, last.run.id]).await.unwrap();
    assert!(found[0].packed.is_empty() && !found[1].packed.is_empty(), "{found:?}");
}

#[tokio::test]
async fn a_runtime_that_stands_still_keeps_nobody_waiting() {
    let store = Arc::new(fresh().await);
    let mut on_its_way = Box::pin(store.push(vec![pushed(3)]));
    assert!(futures_util::poll!(&mut on_its_way).is_pending());
    let many = (0..3).map(|_| pushed(3)).collect();
    let of_other = Arc::clone(&store);
    let other = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answers = runtime.block_on(of_other.push(many));
        // From here on nobody drives it.
        (answers, runtime)
    });
    let (answers, runtime) = tokio::task::spawn_blocking(|| other.join().unwrap()).await.unwrap();

    on_its_way.await.unwrap();
    let last = tokio::time::timeout(SOON, store.push(vec![pushed(3)])).await;

    runtime.shutdown_background();
    assert_eq!(answers.unwrap().len(), 3);
    assert_eq!(last.expect("the next caller hears an answer").unwrap(), [true]);
}

#[tokio::test]
async fn a_number_is_good_for_a_moment_and_the_newest_comes_first() {
    let numbers = Numbers::default();
    for given in [5, 6, 7, 1 << 40] {
        numbers.keep(given);
    }
    assert_eq!([numbers.take(), numbers.take(), numbers.take()], [Some(7), Some(6), None]);
    numbers.keep(8);
    numbers.hold_off();
    assert_eq!(numbers.take(), None);
}
