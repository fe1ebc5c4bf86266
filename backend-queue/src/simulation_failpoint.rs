//! A daemon that dies at one call, in real time on a real store, for each of the first calls and on both sides of it:
//! whoever starts after it brings everything to its end.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use scheduler_core::{Entry, Run, RunRequest, SystemClock, Tier, Timestamp};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::model::Model;
use crate::model_run::name;
use crate::requests::Command;
use crate::simulation::{asked, conclude, fleet, is_done};
use crate::simulation_daemon::Place;
use crate::simulation_store::{Faulty, Life};
use crate::simulation_world::{Fate, Scale, Weather, World};
use crate::store::{Decision, Effect, Pushed, Standing, Store};

/// How many calls are tried; a daemon has done as many within its first seconds.
const CALLS: u64 = 30;
/// How many daemons live side by side: more would be late for reasons of their own.
const SIDE_BY_SIDE: usize = 12;
const SCALE: Scale = Scale {
    unit: Duration::from_millis(150),
    lease: Duration::from_millis(1_000),
    fires: 2,
    late: Duration::ZERO,
};
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
    let (began, mut is_all_done) = (Instant::now(), false);
    while began.elapsed() < PATIENCE && world.seen().broken().is_empty() {
        is_all_done = world.seen().has_accepted(asked(0)) && is_done(&fleet).await;
        if is_all_done {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    let [_, crashes, _] =
        conclude(&fleet, is_all_done).map_err(|broken| format!("{fate:?} {call}: {broken}"))?;
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

#[tokio::test(start_paused = true)]
async fn a_fire_that_the_store_has_written_is_seen_before_anything_is_judged() {
    let (all, life) = (name("all"), Arc::new(Life::default()));
    let scale = Scale { fires: 1, late: Duration::from_secs(5), ..SCALE };
    let world = Arc::new(World::new(0, Weather::Calm, scale));
    let mut fleet = fleet(&world, Arc::new(Model::default()), Arc::new(SystemClock::new()));
    fleet.tasks.retain(|placed| placed.task.name == all);
    let (store, beside) = (Arc::clone(&fleet.store), Arc::clone(&world));
    let faulty = Faulty { store, world: beside, life: Arc::clone(&life) };
    let revision = faulty.register(&all, "", SCALE.lease).await.unwrap();
    let decided = tokio::spawn(async move {
        let fire = |Standing { mut cursor, paused, .. }: Standing, now: Timestamp| {
            cursor.runs += 1;
            let run = Run::queued(asked(1), name("all"), name("queue"), Tier::Queue, now);
            let fired = Pushed { run, due: now, priority: 5, max_attempts: 1, alone: false };
            Decision { cursor, paused, effect: Effect::Fire(Box::new(fired), Entry::Start) }
        };
        faulty.decide(&name("all"), revision, &fire).await
    });
    while fleet.store.standing(&all).await.unwrap().unwrap().cursor.runs == 0 {
        sleep(Duration::from_millis(1)).await;
    }

    assert!(!is_done(&fleet).await, "its cursor is ahead of what was seen");
    life.end();
    life.is_over().await;

    decided.abort();
    assert_eq!(world.seen().fires(&all), (1, 1));
}
