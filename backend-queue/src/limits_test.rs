//! Limits of queues in real time, on the model and on each store.

use std::sync::Arc;
use std::time::{Duration, Instant};

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

pub(crate) fn of(customer: &str) -> Pushed {
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

async fn what_waits_in_line_waits_in_its_queue(store: &dyn Store) {
    let in_mail = |mut pushed: Pushed| {
        pushed.run.queue = Some(Name::new("mail").unwrap());
        pushed
    };
    let mut oldest = of("ana");
    oldest.due = oldest.due - Duration::from_secs(3_600);
    oldest.run.fire_time = oldest.due;
    let later = Pushed { due: oldest.due + Duration::from_secs(7_200), ..of("ana") };
    let runs = vec![of("ana"), of("ana"), of("bo"), of("bo"), in_mail(of("cid")), later];
    store.push(runs.clone()).await.unwrap();
    let mail = Some(Name::new("mail").unwrap());
    let mut claim = one_by_customer();
    claim.from.push(Share { queue: mail.clone(), ..claim.from[0].clone() });
    let waiting = async || -> Vec<(Option<Name>, usize, usize, Option<Timestamp>)> {
        let queues = store.queues().await.unwrap();
        queues.into_iter().map(|queue| (queue.queue, queue.waiting, queue.running, queue.oldest)).collect()
    };

    let first = store.step(&[], &claim).await.unwrap().claimed;
    store.push(vec![oldest.clone(), in_mail(of("cid")), in_mail(of("cid"))]).await.unwrap();
    assert!(store.step(&[], &claim).await.unwrap().claimed.is_empty());
    let in_line = waiting().await;
    let counts: Vec<_> =
        in_line.iter().map(|(queue, waiting, running, _)| (queue.clone(), *waiting, *running)).collect();
    assert_eq!(
        (first.len(), counts),
        (3, vec![(None, 3, 2), (mail.clone(), 2, 1)]),
        "what is for later is not due"
    );
    assert_eq!(in_line[0].3, Some(oldest.due), "it is as old as it is");

    let first_of_mail = first.iter().find(|taken| taken.run.queue == mail).unwrap();
    store.cancel(runs[1].run.id, "asked").await.unwrap();
    store.step(&[done(first_of_mail)], &Claim::new(0, LEASE)).await.unwrap();
    let counts: Vec<_> =
        waiting().await.into_iter().map(|(_, waiting, running, _)| (waiting, running)).collect();
    assert_eq!(
        counts,
        [(2, 2), (2, 0)],
        "one was cancelled in its line, and nothing of the other queue is under way"
    );
    assert_eq!(store.step(&[], &claim).await.unwrap().claimed.len(), 1);
    assert_eq!(waiting().await[1].1, 1, "one has left its line");
}

async fn without_the_limit_nothing_waits_in_line_for_long(store: &dyn Store) {
    store.push(vec![of("ana"), of("ana")]).await.unwrap();
    assert_eq!(store.step(&[], &one_by_customer()).await.unwrap().claimed.len(), 1);

    let next_due = store.step(&[], &Claim::new(100, LEASE)).await.unwrap().next_due.unwrap();

    assert!(next_due <= IN_LINE + Duration::from_millis(1), "it is looked at again in {next_due:?}");
}

/// Everything of a queue with these limits.
pub(crate) fn within(limits: Limits) -> Claim {
    let share = Share { queue: None, count: 2_000, limits: Some(Arc::new(limits)) };
    Claim { from: vec![share], ..Claim::new(2_000, LEASE) }
}

pub(crate) fn pace(interval: Duration, burst: i64) -> Pace {
    let interval = i64::try_from(interval.as_micros()).unwrap();
    Pace { interval, tolerance: interval * (burst - 1) }
}

pub(crate) fn whole(pace: Pace) -> Limits {
    Limits { concurrency: None, pace: Some(pace), per_key: None }
}

pub(crate) fn by_customer(concurrency: Option<u32>, pace: Option<Pace>) -> Limits {
    let by = ByKey { param: "customer".to_owned(), concurrency, pace };
    Limits { concurrency: None, pace: None, per_key: Some(by) }
}

async fn claimed(store: &dyn Store, acks: &[Ack], claim: &Claim) -> Vec<RunId> {
    let stepped = store.step(acks, claim).await.unwrap();
    stepped.claimed.into_iter().map(|delivery| delivery.run.id).collect()
}

async fn push(store: &dyn Store, runs: Vec<Pushed>) -> Vec<RunId> {
    let ids = runs.iter().map(|pushed| pushed.run.id).collect();
    store.push(runs).await.unwrap();
    ids
}

async fn a_missed_slot_of_a_key_goes_to_the_next_in_line(store: &dyn Store) {
    let ids = push(store, (0..4).map(|_| of("ana")).collect()).await;
    let claim = within(by_customer(None, Some(pace(INTERVAL, 1))));

    assert_eq!(claimed(store, &[], &claim).await, ids[..1]);
    // Of three slots that come meanwhile the first is over, and the others would still be good.
    tokio::time::sleep(INTERVAL + GOOD + Duration::from_millis(300)).await;
    assert_eq!(claimed(store, &[], &claim).await, ids[1..2], "what was kept back does not begin all at once");
    tokio::time::sleep(INTERVAL).await;
    assert_eq!(claimed(store, &[], &claim).await, ids[2..3], "each has its place in line");
}

async fn lateness_does_not_add_up(store: &dyn Store) {
    for (limits, customer) in
        [(whole(pace(INTERVAL, 1)), "a"), (by_customer(None, Some(pace(INTERVAL, 1))), "b")]
    {
        push(store, (0..12).map(|_| of(customer)).collect()).await;
        assert_eq!(claimed(store, &[], &within(limits.clone())).await.len(), 1);
        let (mut began, mut count, mut last) = (Instant::now(), 1, Instant::now());
        for _ in 0..4 {
            tokio::time::sleep(INTERVAL + INTERVAL / 2).await;
            let (passed, gap) = (began.elapsed(), last.elapsed());
            count += claimed(store, &[], &within(limits.clone())).await.len();
            if gap >= GOOD {
                // This machine is too slow to be in time.
                (began, count) = (Instant::now(), 1);
            }
            last = Instant::now();
            let due = passed.as_millis() / INTERVAL.as_millis();
            assert!(gap >= GOOD || count as u128 > due, "{count} began in {passed:?}");
        }
        // What is left of it is not in the way of the others.
        while !claimed(store, &[], &Claim::new(100, LEASE)).await.is_empty() {}
    }
}

async fn a_rate_waits_for_no_slot_that_it_did_not_give(store: &dyn Store) {
    for (before, after) in [
        (whole(pace(LEASE, 8)), whole(pace(INTERVAL, 1))),
        (by_customer(None, Some(pace(LEASE, 8))), by_customer(None, Some(pace(INTERVAL, 1)))),
    ] {
        push(store, (0..9).map(|_| of("ana")).collect()).await;
        assert_eq!(claimed(store, &[], &within(before)).await.len(), 8);

        let first = store.step(&[], &within(after.clone())).await.unwrap();

        assert!(first.claimed.is_empty());
        let wait = first.next_due.unwrap();
        assert!(wait <= INTERVAL + Duration::from_millis(1), "the next begins in {wait:?}");
        tokio::time::sleep(wait + Duration::from_millis(2)).await;
        assert_eq!(claimed(store, &[], &within(after)).await.len(), 1);
    }
}

async fn a_run_that_waits_for_its_key_takes_no_slot_of_the_queue(store: &dyn Store) {
    let ids = push(store, vec![of("ana"), of("ana"), of("ana"), of("bo"), of("bo"), of("cy")]).await;
    let mut limits = by_customer(None, Some(pace(LEASE, 1)));
    limits.pace = Some(pace(LEASE, 3));

    let stepped = store.step(&[], &within(limits.clone())).await.unwrap();
    let begun: Vec<RunId> = stepped.claimed.iter().map(|delivery| delivery.run.id).collect();

    assert_eq!(begun, [ids[0], ids[3], ids[5]], "one of each customer, and three of the queue");
    push(store, vec![of("di")]).await;
    assert!(claimed(store, &[], &within(limits)).await.is_empty(), "the queue has no slot left");
}

async fn who_waited_in_line_goes_before_what_came_meanwhile(store: &dyn Store) {
    let ids = push(store, vec![of("ana"), of("ana")]).await;
    let first = store.step(&[], &one_by_customer()).await.unwrap().claimed;
    assert_eq!(first.len(), 1);
    tokio::time::sleep(Duration::from_millis(5)).await;
    push(store, vec![of("bo"), of("cy")]).await;
    tokio::time::sleep(Duration::from_millis(5)).await;

    let mut one = one_by_customer();
    (one.limit, one.from[0].count) = (1, 1);

    assert_eq!(claimed(store, &[done(&first[0])], &one).await, ids[1..]);
}

async fn what_is_alike_only_at_a_glance_is_told_apart(store: &dyn Store) {
    let of = |value: serde_json::Value| {
        let mut pushed = pushed();
        pushed.run.params.insert("customer".into(), value);
        pushed
    };
    let values = [123_456_789_012_345_u64.into(), 123_456_789_012_346_u64.into(), false.into(), true.into()];
    let mut ids = push(store, values.into_iter().map(of).chain([pushed()]).collect()).await;

    let mut begun = claimed(store, &[], &one_by_customer()).await;
    // Those made in different milliseconds have an order of their own.
    begun.sort_unstable();
    ids.sort_unstable();
    assert_eq!(begun, ids, "each is a customer of its own");
}

/// More than any store looks at in one step.
const LINES: usize = 1_200;

async fn each_of_many_lines_has_its_turn(store: &dyn Store) {
    let two = |index: usize| {
        let customer = format!("{index:05}");
        [of(&customer), of(&customer)]
    };
    store.push((0..LINES).flat_map(two).collect()).await.unwrap();
    let claim = within(by_customer(Some(1), None));
    let mut first = Vec::new();
    loop {
        let stepped = store.step(&[], &claim).await.unwrap();
        first.extend(stepped.claimed);
        if !stepped.has_more {
            break;
        }
    }
    assert_eq!(first.len(), LINES, "one of each begins");
    // Those in front of these stay where they are.
    first.sort_by_key(|delivery| delivery.run.params["customer"].to_string());
    let acks: Vec<Ack> = first[LINES - 50..].iter().map(done).collect();

    let (mut acks, mut count) = (&acks[..], 0);
    for _ in 0..20 {
        let stepped = store.step(acks, &claim).await.unwrap();
        acks = &[];
        count += stepped.claimed.len();
        if count == 50 {
            return;
        }
        tokio::time::sleep(stepped.next_due.unwrap().min(Duration::from_secs(1))).await;
    }
    panic!("of 50 that may go on {count} did");
}

macro_rules! on_each_store {
    ($($promise:ident),+ $(,)?) => {
        mod in_memory {
            $(
                #[tokio::test]
                async fn $promise() {
                    super::$promise(&crate::model::Model::default()).await;
                }
            )+
        }

        #[cfg(feature = "sqlite")]
        mod in_a_file {
            $(
                #[tokio::test]
                async fn $promise() {
                    let folder = tempfile::tempdir().unwrap();
                    super::$promise(&crate::sqlite_test::open(folder.path()).await.unwrap()).await;
                }
            )+
        }

        #[cfg(feature = "redis")]
        mod on_redis {
            use crate::redis_stage::{namespace, open, url};

            $(
                #[tokio::test]
                async fn $promise() {
                    super::$promise(&open(&url(), &namespace()).await.unwrap()).await;
                }
            )+
        }
    };
}

on_each_store!(
    a_slot_that_nobody_served_is_lost,
    a_run_begins_in_its_slot_and_not_before,
    the_next_of_a_key_goes_on_when_one_has_ended,
    what_waits_in_line_waits_in_its_queue,
    without_the_limit_nothing_waits_in_line_for_long,
    a_missed_slot_of_a_key_goes_to_the_next_in_line,
    lateness_does_not_add_up,
    a_rate_waits_for_no_slot_that_it_did_not_give,
    a_run_that_waits_for_its_key_takes_no_slot_of_the_queue,
    who_waited_in_line_goes_before_what_came_meanwhile,
    what_is_alike_only_at_a_glance_is_told_apart,
    each_of_many_lines_has_its_turn,
);

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_run_that_left_its_line_by_itself_is_in_none_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = crate::sqlite_test::open(folder.path()).await.unwrap();
    let ids = push(&store, vec![of("ana"), of("ana")]).await;
    assert_eq!(claimed(&store, &[], &one_by_customer()).await, ids[..1]);
    let mut change = store.change().await.unwrap();
    let due =
        sqlx::query("UPDATE run SET due = 0 WHERE line IS NOT NULL").execute(&mut change.connection).await;
    assert_eq!(change.end(due).await.unwrap().rows_affected(), 1);

    // Nobody limits it, and it asks for a long sleep.
    let second = store.step(&[], &Claim::new(100, LEASE)).await.unwrap().claimed;
    let mut run = second[0].run.clone();
    run.state = RunState::Queued;
    let again = Ack { run, fence: second[0].fence, next: Next::Again(LEASE), is_followed: false };

    assert!(claimed(&store, &[again], &within(by_customer(Some(5), None))).await.is_empty(), "it sleeps");
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn all_that_is_under_way_is_counted_on_redis() {
    const MANY: usize = 10_050;
    let store =
        crate::redis_stage::open(&crate::redis_stage::url(), &crate::redis_stage::namespace()).await.unwrap();
    push(&store, (0..=MANY).map(|index| of(&format!("{}", index % 7))).collect()).await;
    let mut under_way = Vec::new();
    while under_way.len() < MANY {
        let left = u32::try_from(MANY - under_way.len()).unwrap().min(1_000);
        under_way.extend(store.step(&[], &Claim::new(left, LEASE)).await.unwrap().claimed);
    }
    let most = Some(u32::try_from(MANY).unwrap());
    let limits = Limits { concurrency: most, pace: None, per_key: None };
    // It takes some steps to count them.
    let settled = async |acks: &[Ack], limits: &Limits| {
        let (mut begun, mut acks) = (0, acks);
        loop {
            let stepped = store.step(acks, &within(limits.clone())).await.unwrap();
            (begun, acks) = (begun + stepped.claimed.len(), &[]);
            if stepped.next_due.is_none_or(|due| due > Duration::ZERO) && !stepped.has_more {
                return begun;
            }
        }
    };

    assert_eq!(settled(&[], &limits).await, 0, "as many as may be are under way");
    assert_eq!(store.queues().await.unwrap()[0].running, MANY);
    let mut of_one = limits.clone();
    let by = ByKey { param: "customer".to_owned(), concurrency: Some(1_435), pace: None };
    (of_one.concurrency, of_one.per_key) = (None, Some(by));
    assert_eq!(settled(&[], &of_one).await, 0, "as many of that customer");
    let last = (MANY % 7).to_string();
    let like_the_last = |other: &&Delivery| other.run.params["customer"].as_str() == Some(last.as_str());
    let other = under_way.iter().find(like_the_last).unwrap();
    assert_eq!(settled(&[done(other)], &of_one).await, 1, "it goes on when another has ended");
}
