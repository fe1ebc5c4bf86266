//! What the Redis store promises by itself.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use scheduler_core::{
    DeadLetterFilter, Entry, HeldLetters, Name, Replayed, Run, RunFilter, RunId, RunState, Tier, Timestamp,
};

use crate::redis_stage;
use crate::redis_store::RedisStore;
use crate::store::{
    Ack, Claim, Decided, Decision, Delivery, Effect, Held, Next, Pushed, Replay, Retention, Standing, Store,
};

pub(crate) const NO_LEASE: Duration = Duration::ZERO;
pub(crate) const LONG_LEASE: Duration = Duration::from_secs(3_600);
pub(crate) const NOTHING: Claim = Claim::new(0, LONG_LEASE);
/// Longer than any machine takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn now() -> Timestamp {
    Timestamp::from(std::time::SystemTime::now())
}

pub(crate) async fn fresh() -> RedisStore {
    redis_stage::open(&redis_stage::url(), &redis_stage::namespace()).await.unwrap()
}

pub(crate) fn pushed(max_attempts: u32) -> Pushed {
    let (task, backend) = (Name::new("t").unwrap(), Name::new("queue").unwrap());
    let run = Run::queued(RunId::manual(now()), task, backend, Tier::Queue, now());
    Pushed { run, due: now(), priority: 5, max_attempts, alone: false }
}

pub(crate) fn ended(delivery: &Delivery, state: RunState) -> Ack {
    let mut run = delivery.run.clone();
    run.state = state;
    run.finished_at = Some(now());
    Ack { run, fence: delivery.fence, next: Next::End, is_followed: false }
}

pub(crate) fn done(delivery: &Delivery) -> Ack {
    ended(delivery, RunState::Succeeded)
}

/// It is given back as it was taken.
fn back(delivery: &Delivery) -> Ack {
    let mut run = delivery.run.clone();
    (run.state, run.attempt) = (RunState::Queued, run.attempt - 1);
    Ack { run, fence: delivery.fence, next: Next::Back, is_followed: false }
}

pub(crate) async fn push(store: &RedisStore, count: usize) -> Vec<RunId> {
    let runs: Vec<Pushed> = (0..count).map(|_| pushed(3)).collect();
    let ids = runs.iter().map(|pushed| pushed.run.id).collect();
    assert!(store.push(runs).await.unwrap().into_iter().all(|is_new| is_new));
    ids
}

pub(crate) async fn claim(store: &RedisStore, limit: u32, lease: Duration) -> Vec<Delivery> {
    store.step(&[], &Claim::new(limit, lease)).await.unwrap().claimed
}

async fn reap(store: &RedisStore) -> Vec<Run> {
    // The lease of no length has expired as soon as the clock has moved on.
    loop {
        let reaped = store.reap(10).await.unwrap();
        if !reaped.is_empty() {
            return reaped;
        }
    }
}

pub(crate) async fn state(store: &RedisStore, id: RunId) -> RunState {
    store.runs(&RunFilter::of_run(id)).await.unwrap().runs.remove(0).state
}

/// The ends of the names of the keys that hold something.
pub(crate) async fn keys(store: &RedisStore) -> Vec<String> {
    let mut command = redis::cmd("KEYS");
    command.arg(format!("{}*", store.link.base.replace(['{', '}'], "?")));
    let mut keys: Vec<String> = store.link.ask(&command).await.unwrap();
    keys.iter_mut().for_each(|key| drop(key.drain(..store.link.base.len())));
    keys.sort();
    keys
}

#[tokio::test]
async fn runs_are_claimed_by_priority_then_by_due_time_then_as_they_came() {
    let store = fresh().await;
    let made = |priority: u8, earlier: u64| {
        let mut pushed = pushed(3);
        pushed.priority = priority;
        pushed.due = pushed.due - Duration::from_millis(earlier);
        pushed
    };
    let same = made(5, 100).due;
    let mut runs = vec![made(5, 50), made(9, 0), made(5, 200), made(0, 5_000), made(5, 100), made(5, 100)];
    runs[4].due = same;
    runs[5].due = same;
    let ids: Vec<RunId> = runs.iter().map(|pushed| pushed.run.id).collect();
    store.push(runs).await.unwrap();

    let stepped = store.step(&[], &Claim::new(5, LONG_LEASE)).await.unwrap();

    let claimed: Vec<RunId> = stepped.claimed.iter().map(|delivery| delivery.run.id).collect();
    assert_eq!(claimed, [1, 2, 4, 5, 0].map(|index| ids[index]));
    assert!(stepped.has_more);
    assert_eq!(store.waiting().await.unwrap(), 1);
}

#[tokio::test]
async fn what_is_given_back_has_its_place_again() {
    let store = fresh().await;
    let ids = push(&store, 4).await;
    let taken = claim(&store, 2, LONG_LEASE).await;

    let acks: Vec<Ack> = taken.iter().map(back).collect();
    let refused = store.step(&acks, &NOTHING).await.unwrap().refused;
    let again = claim(&store, 4, LONG_LEASE).await;

    let order: Vec<RunId> = again.iter().map(|delivery| delivery.run.id).collect();
    assert_eq!((refused, order), (vec![], ids));
    assert!(again.iter().all(|delivery| delivery.run.attempt == 1));
}

#[tokio::test]
async fn what_is_given_back_and_was_cancelled_meanwhile_does_not_go_on() {
    let store = fresh().await;
    let id = push(&store, 1).await[0];
    let taken = claim(&store, 1, LONG_LEASE).await.remove(0);
    store.cancel(id, "asked").await.unwrap();

    let told = store.step(&[back(&taken)], &NOTHING).await.unwrap();

    assert_eq!((told.refused, told.marked), (vec![], vec![(0, "asked".to_owned())]));
    assert_eq!(state(&store, id).await, RunState::Running);
}

#[tokio::test]
async fn a_page_of_large_runs_is_shorter_and_the_next_one_goes_on() {
    let store = fresh().await;
    let large = |_| {
        let mut pushed = pushed(3);
        pushed.run.params.insert("x".into(), "y".repeat(400_000).into());
        pushed
    };
    let all: Vec<Pushed> = (0..60).map(large).collect();
    let mut ids: Vec<RunId> = all.iter().map(|pushed| pushed.run.id).collect();
    store.push(all).await.unwrap();

    let (mut filter, mut pages) = (RunFilter::all().limited(100), Vec::new());
    loop {
        let page = store.runs(&filter).await.unwrap();
        pages.push(page.runs.iter().map(|run| run.id).collect::<Vec<_>>());
        filter.after = page.next;
        if page.next.is_none() {
            break;
        }
    }

    assert!(pages.len() > 1 && pages.iter().all(|page| !page.is_empty()));
    let mut seen = pages.concat();
    seen.sort();
    ids.sort();
    assert_eq!(seen, ids);
}

#[tokio::test]
async fn a_late_acknowledgement_of_an_older_delivery_is_refused() {
    let store = fresh().await;
    let id = push(&store, 1).await[0];

    let first = claim(&store, 1, NO_LEASE).await.remove(0);
    let reaped = reap(&store).await.remove(0);
    let second = claim(&store, 1, LONG_LEASE).await.remove(0);
    let late = store.step(&[done(&first)], &NOTHING).await.unwrap();
    let renewed = store.renew(&[Held { run: id, fence: first.fence }], LONG_LEASE).await.unwrap();
    let right = store.step(&[done(&second), done(&second)], &NOTHING).await.unwrap();

    assert_eq!((reaped.state, reaped.failures.len()), (RunState::Queued, 1));
    assert_eq!((first.run.attempt, second.run.attempt), (1, 2));
    assert!(second.fence > first.fence);
    assert_eq!((late.refused, renewed.lost), (vec![0], vec![id]));
    assert_eq!((right.refused, state(&store, id).await), (vec![1], RunState::Succeeded));
}

#[tokio::test]
async fn nothing_is_left_of_what_retention_does_not_keep() {
    let store = fresh().await;
    let mut runs: Vec<Pushed> = (0..6).map(|_| pushed(1)).collect();
    runs[0].run.params.insert("large".into(), "x".repeat(10_000).into());
    runs[1].alone = true;
    store.push(runs).await.unwrap();
    let taken = claim(&store, 10, LONG_LEASE).await;
    store.cancel(taken[3].run.id, "asked").await.unwrap();
    let states = [RunState::Succeeded, RunState::Failed, RunState::Cancelled];
    let acks = taken.iter().zip(states.iter().cycle()).map(|(taken, state)| ended(taken, *state));
    store.step(&acks.collect::<Vec<_>>(), &NOTHING).await.unwrap();
    // The one that waited for its turn.
    let last = claim(&store, 10, LONG_LEASE).await.remove(0);
    store.step(&[done(&last)], &NOTHING).await.unwrap();
    let letter = store.letters(&DeadLetterFilter::all()).await.unwrap().letters.remove(0).run.id;
    assert!(store.hold(letter, Some("look")).await.unwrap());
    let nothing = Retention { runs: 0, age: LONG_LEASE, letters: 0, letter_age: LONG_LEASE };

    let forgotten = store.forget(&nothing, 100).await.unwrap();
    let kept = store.runs(&RunFilter::all()).await.unwrap().runs;
    assert_eq!(store.discard(&[letter], HeldLetters::Stay).await.unwrap(), [false]);
    assert_eq!(store.discard(&[letter], HeldLetters::Leave).await.unwrap(), [true]);
    store.forget(&nothing, 100).await.unwrap();

    // Of the two that failed one was a letter that nobody held, and went from there to history to nowhere.
    assert_eq!((taken.len(), forgotten, kept.len(), kept[0].id), (5, 6, 1, letter));
    let keys = keys(&store).await;
    let is_counter =
        |key: &String| ["fence", "seq", "version"].contains(&key.as_str()) || key.starts_with("told:");
    assert!(keys.iter().all(is_counter), "{keys:?}");
}

#[tokio::test]
async fn a_letter_is_replayed_once_and_not_while_it_is_held() {
    let store = fresh().await;
    let id = push(&store, 1).await[0];
    let taken = claim(&store, 1, LONG_LEASE).await.remove(0);
    store.step(&[ended(&taken, RunState::Failed)], &NOTHING).await.unwrap();
    let again = RunId::manual(now());

    store.hold(id, Some("a: reason")).await.unwrap();
    let held = store.letters(&DeadLetterFilter::of_run(id)).await.unwrap().letters.remove(0);
    let refused = store.replay(&[Replay::new(id, again)]).await.unwrap();
    store.hold(id, None).await.unwrap();
    let free = store.letters(&DeadLetterFilter::all()).await.unwrap().letters.remove(0);
    let replayed =
        store.replay(&[Replay::new(id, again), Replay::new(id, RunId::manual(now()))]).await.unwrap();

    assert_eq!((held.held.as_deref(), free.held), (Some("a: reason"), None));
    assert_eq!(held.died_at, free.died_at);
    assert!(held.died_at >= taken.run.fire_time && held.died_at <= now() + PATIENCE, "{}", held.died_at);
    assert_eq!(refused, [Replayed::Held]);
    assert_eq!(replayed, [Replayed::As(again), Replayed::Unknown]);
    let run = claim(&store, 1, LONG_LEASE).await.remove(0).run;
    assert_eq!((run.id, run.replay_of, run.attempt), (again, Some(id), 1));
}

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

#[test]
fn a_fire_that_many_decide_at_once_is_enqueued_once() {
    let (url, namespace, task) = (redis_stage::url(), redis_stage::namespace(), Name::new("t").unwrap());
    let all_have_read = Barrier::new(4);
    // A thread each, since each waits until all have read where the schedule stands.
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let decide_first = || async {
        let store = redis_stage::open(&url, &namespace).await.unwrap();
        let revision = store.register(&task, "same", LONG_LEASE).await.unwrap();
        let is_first = AtomicBool::new(true);
        let decide = |standing: Standing, at: Timestamp| {
            if is_first.swap(false, Ordering::Relaxed) {
                all_have_read.wait();
            }
            fire_once(standing, at)
        };
        store.decide(&task, revision, &decide).await.unwrap()
    };

    let decided: Vec<Decided> = std::thread::scope(|scope| {
        let deciding: Vec<_> = (0..4).map(|_| scope.spawn(|| runtime().block_on(decide_first()))).collect();
        deciding.into_iter().map(|decided| decided.join().unwrap()).collect()
    });

    assert!(decided.iter().all(|decided| matches!(decided, Decided::Done { .. })), "{decided:?}");
    let runs = runtime().block_on(async {
        let store = redis_stage::open(&url, &namespace).await.unwrap();
        store.runs(&RunFilter::all()).await.unwrap().runs
    });
    assert_eq!(runs.len(), 1);
}

#[tokio::test]
async fn an_older_definition_fires_no_more_once_a_newer_one_is_registered() {
    let store = fresh().await;
    let task = Name::new("t").unwrap();
    let older = store.register(&task, "older", LONG_LEASE).await.unwrap();
    let same = store.register(&task, "older", LONG_LEASE).await.unwrap();
    let newer = store.register(&task, "newer", LONG_LEASE).await.unwrap();

    let stale = store.decide(&task, older, &fire_once).await.unwrap();
    let lost = store.decide(&task, newer + 1, &fire_once).await.unwrap();
    let done = store.decide(&task, newer, &fire_once).await.unwrap();

    assert_eq!((same, newer), (older, older + 1));
    assert!(matches!(stale, Decided::Stale) && matches!(lost, Decided::Unknown), "{stale:?} {lost:?}");
    assert!(matches!(done, Decided::Done { .. }), "{done:?}");
}

#[tokio::test]
async fn an_edited_trigger_begins_at_the_edit_and_another_edit_moves_nothing() {
    let store = fresh().await;
    let task = Name::new("t").unwrap();
    let decided = async || store.standing(&task).await.unwrap().unwrap().cursor.decided;
    store.register(&task, "0000000000000000-every hour", LONG_LEASE).await.unwrap();
    let begun = decided().await;
    while now() <= begun + Duration::from_millis(5) {
        tokio::task::yield_now().await;
    }

    store.register(&task, "1111111111111111-every hour", LONG_LEASE).await.unwrap();
    assert_eq!(decided().await, begun, "the trigger is the same");
    store.register(&task, "2222222222222222-every day", LONG_LEASE).await.unwrap();
    assert!(decided().await > begun);
}

#[tokio::test]
async fn work_that_one_store_adds_wakes_another_at_once() {
    let namespace = redis_stage::namespace();
    let waiting = redis_stage::open(&redis_stage::url(), &namespace).await.unwrap();
    let adding = redis_stage::open(&redis_stage::url(), &namespace).await.unwrap();
    // It resolves when it begins to listen.
    waiting.changed().await;
    let mut later = pushed(3);
    later.due = now() + LONG_LEASE;

    for runs in [vec![later], vec![pushed(3)]] {
        adding.push(runs).await.unwrap();
        tokio::time::timeout(PATIENCE, waiting.changed()).await.unwrap();
    }

    // Nobody has taken the run, so one more is no news.
    adding.push(vec![pushed(3)]).await.unwrap();
    let silence = tokio::time::timeout(Duration::from_millis(200), waiting.changed()).await;
    assert!(silence.is_err());
}
