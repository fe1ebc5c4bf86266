//! Limits of queues in real time, on each store: what the model cannot tell, which has no time between two calls.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{Name, Run, RunId, Tier, Timestamp};

use crate::limits::{GOOD, Limits, Pace};
use crate::store::{Claim, Pushed, Share, Store};

const LEASE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(300);

fn pushed() -> Pushed {
    let name = |text| Name::new(text).unwrap();
    let now = Timestamp::from(std::time::SystemTime::now());
    let run = Run::queued(RunId::manual(now), name("t"), name("queue"), Tier::Queue, now);
    Pushed { run, due: now, priority: 5, max_attempts: 3, alone: false }
}

/// Everything of a queue of which a run may begin each [`INTERVAL`].
fn claim() -> Claim {
    let pace = Pace { interval: i64::try_from(INTERVAL.as_micros()).unwrap(), tolerance: 0 };
    let limits = Limits { concurrency: None, pace: Some(pace), per_key: None };
    let share = Share { queue: None, count: 100, limits: Some(Arc::new(limits)) };
    Claim { from: vec![share], ..Claim::new(100, LEASE) }
}

async fn a_slot_that_nobody_served_is_lost(store: &dyn Store) {
    store.push((0..4).map(|_| pushed()).collect()).await.unwrap();

    let first = store.step(&[], &claim()).await.unwrap();
    assert_eq!(first.claimed.len(), 1);
    let wait = first.next_due.unwrap();
    // What is left of a millisecond is rounded up on both sides.
    assert!(wait <= INTERVAL + Duration::from_millis(1), "the next begins in {wait:?}");
    // Every slot that was given has come by then, and is no longer good.
    tokio::time::sleep(INTERVAL * 3 + GOOD + Duration::from_millis(200)).await;
    let later = store.step(&[], &claim()).await.unwrap();

    assert_eq!(later.claimed.len(), 1, "what was kept back does not begin all at once");
}

async fn a_run_begins_in_its_slot_and_not_before(store: &dyn Store) {
    let began = Timestamp::from(std::time::SystemTime::now());
    store.push((0..4).map(|_| pushed()).collect()).await.unwrap();

    let mut count: u32 = 0;
    while count < 4 {
        let stepped = store.step(&[], &claim()).await.unwrap();
        let passed = Timestamp::from(std::time::SystemTime::now()).since(began);
        for _ in &stepped.claimed {
            assert!(passed >= INTERVAL * count, "the run behind {count} others began after {passed:?}");
            count += 1;
        }
        tokio::time::sleep(stepped.next_due.unwrap_or_default()).await;
    }
}

#[cfg(feature = "sqlite")]
mod in_a_file {
    #[tokio::test]
    async fn a_slot_that_nobody_served_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        super::a_slot_that_nobody_served_is_lost(&crate::sqlite_test::open(folder.path()).await.unwrap())
            .await;
    }

    #[tokio::test]
    async fn a_run_begins_in_its_slot_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let store = crate::sqlite_test::open(folder.path()).await.unwrap();
        super::a_run_begins_in_its_slot_and_not_before(&store).await;
    }
}

#[cfg(feature = "redis")]
mod on_redis {
    use crate::redis_stage::{namespace, open, url};

    #[tokio::test]
    async fn a_slot_that_nobody_served_is_lost() {
        super::a_slot_that_nobody_served_is_lost(&open(&url(), &namespace()).await.unwrap()).await;
    }

    #[tokio::test]
    async fn a_run_begins_in_its_slot_and_not_before() {
        super::a_run_begins_in_its_slot_and_not_before(&open(&url(), &namespace()).await.unwrap()).await;
    }
}
