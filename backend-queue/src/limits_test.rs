//! Limits of queues in real time, on each store: what the model cannot tell, which has no time between two calls.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{Name, Run, RunId, RunState, Tier, Timestamp};

use crate::limits::{ByKey, GOOD, IN_LINE, Limits, Pace};
use crate::store::{Ack, Cancel, Claim, Delivery, Next, Pushed, Share, Store};

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

/// Everything of a queue of which one run of each customer is under way at once.
fn one_by_customer() -> Claim {
    let by = ByKey { param: "customer".to_owned(), concurrency: Some(1), pace: None };
    let limits = Limits { concurrency: None, pace: None, per_key: Some(by) };
    let share = Share { queue: None, count: 100, limits: Some(Arc::new(limits)) };
    Claim { from: vec![share], ..Claim::new(100, LEASE) }
}

fn of(customer: &str) -> Pushed {
    let mut pushed = pushed();
    pushed.run.params.insert("customer".into(), customer.into());
    pushed
}

fn done(delivery: &Delivery) -> Ack {
    let mut run = delivery.run.clone();
    run.state = RunState::Succeeded;
    run.finished_at = Some(Timestamp::from(std::time::SystemTime::now()));
    Ack { run, fence: delivery.fence, next: Next::End, is_followed: false }
}

async fn the_next_of_a_key_goes_on_when_one_has_ended(store: &dyn Store) {
    let runs = vec![of("ana"), of("ana"), of("ana"), of("bo"), pushed(), pushed()];
    let ids: Vec<RunId> = runs.iter().map(|pushed| pushed.run.id).collect();
    store.push(runs).await.unwrap();
    let claimed = async |acks: &[Ack]| {
        let stepped = store.step(acks, &one_by_customer()).await.unwrap();
        assert!(!stepped.has_more && stepped.refused.is_empty(), "{stepped:?}");
        stepped.claimed
    };

    let first = claimed(&[]).await;
    let taken: Vec<RunId> = first.iter().map(|taken| taken.run.id).collect();
    assert_eq!(taken, [ids[0], ids[3], ids[4]], "one of each customer, and one without");
    assert!(claimed(&[]).await.is_empty(), "nothing has ended");
    assert_eq!(store.waiting().await.unwrap(), 3);
    // One that waits in line can be cancelled like any other.
    assert!(matches!(store.cancel(ids[1], "asked").await.unwrap(), Cancel::Ended(_)));
    let second = claimed(&[done(&first[0])]).await;
    assert_eq!(second.iter().map(|taken| taken.run.id).collect::<Vec<_>>(), [ids[2]]);
    let rest = claimed(&[done(&second[0]), done(&first[1]), done(&first[2])]).await;
    assert_eq!(rest.iter().map(|taken| taken.run.id).collect::<Vec<_>>(), [ids[5]]);
}

async fn without_the_limit_nothing_waits_in_line_for_long(store: &dyn Store) {
    store.push(vec![of("ana"), of("ana")]).await.unwrap();
    assert_eq!(store.step(&[], &one_by_customer()).await.unwrap().claimed.len(), 1);

    let next_due = store.step(&[], &Claim::new(100, LEASE)).await.unwrap().next_due.unwrap();

    assert!(next_due <= IN_LINE + Duration::from_millis(1), "it is looked at again in {next_due:?}");
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
    async fn the_next_of_a_key_goes_on_when_one_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let store = crate::sqlite_test::open(folder.path()).await.unwrap();
        super::the_next_of_a_key_goes_on_when_one_has_ended(&store).await;
    }

    #[tokio::test]
    async fn without_the_limit_nothing_waits_in_line_for_long() {
        let folder = tempfile::tempdir().unwrap();
        let store = crate::sqlite_test::open(folder.path()).await.unwrap();
        super::without_the_limit_nothing_waits_in_line_for_long(&store).await;
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
    async fn the_next_of_a_key_goes_on_when_one_has_ended() {
        super::the_next_of_a_key_goes_on_when_one_has_ended(&open(&url(), &namespace()).await.unwrap()).await;
    }

    #[tokio::test]
    async fn without_the_limit_nothing_waits_in_line_for_long() {
        let store = open(&url(), &namespace()).await.unwrap();
        super::without_the_limit_nothing_waits_in_line_for_long(&store).await;
    }

    #[tokio::test]
    async fn a_run_begins_in_its_slot_and_not_before() {
        super::a_run_begins_in_its_slot_and_not_before(&open(&url(), &namespace()).await.unwrap()).await;
    }
}
