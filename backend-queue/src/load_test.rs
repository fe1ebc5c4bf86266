//! Every store says alike what there is to do.

use std::time::Duration;

use scheduler_core::{Name, Run, RunId, RunState, Tier, Timestamp};

use crate::model::Model;
use crate::store::{Ack, Claim, Next, Pushed, Store};

const LEASE: Duration = Duration::from_secs(3_600);

fn now() -> Timestamp {
    Timestamp::from(std::time::SystemTime::now())
}

/// A run that is due so long ago, or ahead.
fn pushed(due: Timestamp, priority: u8) -> Pushed {
    let name = |text| Name::new(text).unwrap();
    let run = Run::queued(RunId::manual(due), name("t"), name("queue"), Tier::Queue, due);
    Pushed { run, due, priority, max_attempts: 3, alone: false }
}

async fn says_what_there_is_to_do(store: &dyn Store) {
    let begun = now();
    let ago = |seconds| begun - Duration::from_secs(seconds);
    let load = store.load().await.unwrap();
    assert_eq!((load.waiting, load.ahead, load.under_way, load.dead_letters), (0, 0, 0, Some(0)));
    assert_eq!(load.oldest_due, None);

    let due = [(50, 5), (40, 9), (30, 5), (20, 0)].map(|(seconds, priority)| pushed(ago(seconds), priority));
    let ahead = [3_600, 7_200].map(|seconds| pushed(begun + Duration::from_secs(seconds), 5));
    let mut mail = pushed(ago(35), 5);
    mail.run.queue = Name::new("mail").ok();
    store.push(due.into_iter().chain(ahead).chain([mail]).collect()).await.unwrap();
    let load = store.load().await.unwrap();
    assert_eq!((load.waiting, load.ahead, load.under_way), (5, 2, 0));
    assert_eq!(load.oldest_due, Some(ago(50)), "whatever its priority");

    // That of the highest priority, and the oldest of the next one.
    let claimed = store.step(&[], &Claim::new(2, LEASE)).await.unwrap().claimed;
    let load = store.load().await.unwrap();
    assert_eq!((load.waiting, load.ahead, load.under_way), (3, 2, 2));
    assert_eq!(load.oldest_due, Some(ago(35)), "whatever its queue");

    let ack = |place: usize, state: RunState, next| {
        let mut run = claimed[place].run.clone();
        run.state = state;
        run.finished_at = state.is_end().then(now);
        Ack { run, fence: claimed[place].fence, next, is_followed: false }
    };
    let acks = [ack(0, RunState::Failed, Next::End), ack(1, RunState::Retrying, Next::Again(LEASE))];
    store.step(&acks, &Claim::new(0, LEASE)).await.unwrap();
    let load = store.load().await.unwrap();
    assert_eq!((load.waiting, load.ahead, load.under_way, load.dead_letters), (3, 3, 0, Some(1)));
}

#[tokio::test]
async fn the_model_does() {
    says_what_there_is_to_do(&Model::default()).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn sqlite_does() {
    says_what_there_is_to_do(&crate::sqlite_test::Bench::new().await.store).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn redis_does() {
    says_what_there_is_to_do(&crate::redis_test::fresh().await).await;
}
