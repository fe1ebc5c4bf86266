//! What the Redis store promises by itself.

use std::time::Duration;

use scheduler_core::{Name, Run, RunId, RunState, Tier, Timestamp};

use crate::redis_stage;
use crate::redis_store::RedisStore;
use crate::store::{Ack, Claim, Delivery, Next, Pushed, Store};

const LONG_LEASE: Duration = Duration::from_secs(3_600);
const NOTHING: Claim = Claim { limit: 0, lease: LONG_LEASE };

fn now() -> Timestamp {
    Timestamp::from(std::time::SystemTime::now())
}

async fn fresh() -> RedisStore {
    redis_stage::open(&redis_stage::url(), &redis_stage::namespace()).await.unwrap()
}

fn pushed(max_attempts: u32) -> Pushed {
    let (task, backend) = (Name::new("t").unwrap(), Name::new("queue").unwrap());
    let run = Run::queued(RunId::manual(now()), task, backend, Tier::Queue, now());
    Pushed { run, due: now(), priority: 5, max_attempts, alone: false }
}

fn done(delivery: &Delivery) -> Ack {
    let mut run = delivery.run.clone();
    run.state = RunState::Succeeded;
    run.finished_at = Some(now());
    Ack { run, fence: delivery.fence, next: Next::End, is_followed: false }
}

async fn push(store: &RedisStore, count: usize) -> Vec<RunId> {
    let runs: Vec<Pushed> = (0..count).map(|_| pushed(3)).collect();
    let ids = runs.iter().map(|pushed| pushed.run.id).collect();
    assert!(store.push(runs).await.unwrap().into_iter().all(|is_new| is_new));
    ids
}

#[tokio::test]
async fn runs_are_pushed_claimed_and_acknowledged_in_order() {
    let store = fresh().await;
    let ids = push(&store, 5).await;

    let stepped = store.step(&[], &Claim { limit: 3, lease: LONG_LEASE }).await.unwrap();
    let claimed: Vec<RunId> = stepped.claimed.iter().map(|delivery| delivery.run.id).collect();
    let acks: Vec<Ack> = stepped.claimed.iter().map(done).collect();
    let again = store.step(&acks, &NOTHING).await.unwrap();
    let late = store.step(&acks[..1], &NOTHING).await.unwrap();

    assert_eq!((claimed.as_slice(), stepped.has_more), (&ids[..3], true));
    assert!(again.refused.is_empty());
    assert_eq!(late.refused, [0]);
    assert_eq!(store.waiting().await.unwrap(), 2);
}

#[tokio::test]
async fn a_server_that_was_killed_and_is_there_again_is_used_again() {
    let mut server = redis_stage::Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = redis_stage::open(&server.url(), &redis_stage::namespace()).await.unwrap();
    let ids = push(&store, 2).await;

    server.kill();
    let error = store.step(&[], &NOTHING).await.unwrap_err();
    server.start_again();
    let stepped = store.step(&[], &Claim { limit: 9, lease: LONG_LEASE }).await.unwrap();

    assert_eq!((error.code(), error.is_transient()), ("queue/unreachable", true), "{error}");
    let claimed: Vec<RunId> = stepped.claimed.iter().map(|delivery| delivery.run.id).collect();
    assert_eq!(claimed, ids);
}
