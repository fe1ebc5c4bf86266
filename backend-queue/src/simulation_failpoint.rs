//! A daemon that dies at one call, in real time on a real store, for each of the first calls and on both sides of it:
//! whoever starts after it brings everything to its end.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use scheduler_core::{RunRequest, SystemClock, Timestamp};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::model_run::name;
use crate::requests::Command;
use crate::simulation::{asked, conclude, fleet, is_done};
use crate::simulation_daemon::Place;
use crate::simulation_world::{Fate, Scale, Weather, World};
use crate::store::Store;

/// How many calls are tried; a daemon has done as many within its first seconds.
const CALLS: u64 = 30;
/// How many daemons live side by side: more would be late for reasons of their own.
const SIDE_BY_SIDE: usize = 12;
const SCALE: Scale =
    Scale { unit: Duration::from_millis(150), lease: Duration::from_millis(1_000), fires: 2 };
/// Nothing waits for it to pass; a machine may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// Asks for a run until the store has it.
async fn ask(world: Arc<World>, place: Place) {
    let run = asked(0);
    while !world.seen().has_accepted(run) {
        let post = place.post.lock().unwrap().clone();
        if let Some(post) = post {
            let (reply, answer) = oneshot::channel();
            let request = RunRequest::manual(run, name("asked"), Timestamp::from(SystemTime::now()));
            let _ = post.send(Command::Enqueue(vec![request], reply));
            if let Ok(Ok(answers)) = answer.await {
                answers.iter().for_each(|answer| world.seen().accept(answer.run_id()));
            }
        }
        sleep(Duration::from_millis(10)).await;
    }
    std::future::pending::<()>().await;
}

/// Says whether the call was made that was to fail.
///
/// # Errors
/// The promises that were broken.
async fn survive(store: Arc<dyn Store>, call: u64, fate: Fate) -> Result<bool, String> {
    let world = Arc::new(World::new(call, Weather::Struck(call, fate), SCALE));
    let fleet = fleet(&world, store, Arc::new(SystemClock::new()));
    let place = Place::default();
    let mut alive = JoinSet::new();
    alive.spawn(ask(Arc::clone(&world), place.clone()));
    alive.spawn(place.inhabit(fleet.clone()));
    let began = Instant::now();
    while began.elapsed() < PATIENCE && world.seen().broken().is_empty() {
        if world.seen().has_accepted(asked(0)) && is_done(&fleet).await {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    let [_, crashes, _] = conclude(&fleet).await.map_err(|broken| format!("{fate:?} {call}: {broken}"))?;
    Ok(crashes > 0)
}

/// Each call on a store of its own; `open` also gives what a store needs to stay.
async fn survive_each<Kept: Send + 'static>(open: impl AsyncFn() -> (Arc<dyn Store>, Kept)) {
    let (mut lives, places) = (JoinSet::new(), Arc::new(Semaphore::new(SIDE_BY_SIDE)));
    for call in 0..CALLS {
        for fate in [Fate::CrashBefore, Fate::CrashAfter, Fate::AnswerLost] {
            let place = Arc::clone(&places).acquire_owned().await.unwrap();
            let (store, kept) = open().await;
            lives.spawn(async move {
                let _place = place;
                let survived = survive(store, call, fate).await;
                drop(kept);
                survived
            });
        }
    }
    let lives = lives.join_all().await;
    let broken: Vec<&str> = lives.iter().filter_map(|life| life.as_ref().err()).map(String::as_str).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    let struck = lives.iter().filter(|life| **life == Ok(true)).count();
    println!("{struck} of {} first calls failed, and nothing was lost", lives.len());
    assert!(struck * 10 >= lives.len() * 9, "only {struck} got as far as the call that was to fail");
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_dies_at_any_call_costs_nothing_in_a_file() {
    survive_each(async || {
        let folder = tempfile::tempdir().unwrap();
        let store = crate::sqlite_test::open(folder.path()).await.unwrap();
        (Arc::new(store) as Arc<dyn Store>, folder)
    })
    .await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_dies_at_any_call_costs_nothing_on_redis() {
    let url = crate::redis_stage::url();
    survive_each(async || {
        let store = crate::redis_stage::open(&url, &crate::redis_stage::namespace()).await.unwrap();
        (Arc::new(store) as Arc<dyn Store>, ())
    })
    .await;
}
