//! Unique runs on each store: how a kind becomes free, that one of many gets it, and that nothing is left of it.

use std::time::Duration;

use scheduler_core::{
    Entry, HeldLetters, Name, Run, RunFilter, RunId, RunState, Tier, Timestamp, Unique, UniqueUntil,
};

use crate::model::Model;
use crate::store::{
    Ack, Cancel, Claim, Decided, Decision, Delivery, Effect, Next, Pushed, Retention, Standing, Store,
};

const LEASE: Duration = Duration::from_secs(60);
const NOTHING_STAYS: Retention =
    Retention { runs: 0, age: Duration::ZERO, letters: 0, letter_age: Duration::ZERO };

fn now() -> Timestamp {
    Timestamp::from(std::time::SystemTime::now())
}

/// A run of the kind of this customer.
fn of(customer: &str, until: Option<UniqueUntil>, window: Option<Duration>) -> Pushed {
    let name = |text| Name::new(text).unwrap();
    let mut run = Run::queued(RunId::manual(now()), name("t"), name("queue"), Tier::Queue, now());
    run.params.insert("customer".into(), customer.into());
    let mut unique = Unique::default();
    (unique.param, unique.until, unique.window) = (Some("customer".into()), until, window);
    run.unique = Some(unique.key_of(&run.task, &run.params));
    Pushed { run, due: now(), priority: 5, max_attempts: 1, alone: false }
}

fn done(customer: &str) -> Pushed {
    of(customer, Some(UniqueUntil::Done), None)
}

async fn add(store: &dyn Store, pushed: Pushed) -> Option<RunId> {
    store.push_unique(vec![pushed]).await.unwrap().remove(0)
}

async fn claim(store: &dyn Store) -> Delivery {
    store.step(&[], &Claim::new(1, LEASE)).await.unwrap().claimed.remove(0)
}

async fn end(store: &dyn Store, delivery: &Delivery, state: RunState) {
    let mut run = delivery.run.clone();
    (run.state, run.finished_at) = (state, Some(now()));
    let ack = Ack { run, fence: delivery.fence, next: Next::End, is_followed: false };
    assert!(store.step(&[ack], &Claim::new(0, LEASE)).await.unwrap().refused.is_empty());
}

async fn a_kind_is_free_when_its_run_has_ended_however(store: &dyn Store) {
    for end_state in [RunState::Succeeded, RunState::Failed, RunState::Cancelled] {
        let first = done("ana");
        let id = first.run.id;
        assert_eq!(add(store, first).await, None, "{end_state}");
        assert_eq!(add(store, done("ana")).await, Some(id), "it waits");
        assert_eq!(add(store, done("bo")).await.is_some(), end_state != RunState::Succeeded, "others go on");
        let delivery = loop {
            let delivery = claim(store).await;
            if delivery.run.id == id {
                break delivery;
            }
        };
        assert_eq!(add(store, done("ana")).await, Some(id), "it runs");
        end(store, &delivery, end_state).await;
    }
    let waiting = done("ana");
    let id = waiting.run.id;
    assert_eq!(add(store, waiting).await, None, "it was cancelled");
    assert!(matches!(store.cancel(id, "asked").await.unwrap(), Cancel::Ended(_)));
    assert_eq!(add(store, done("ana")).await, None, "it was cancelled before it began");
}

async fn a_kind_is_free_when_its_window_has_passed_and_not_when_its_run_has_succeeded(store: &dyn Store) {
    let window = Some(Duration::from_secs(2));
    let (ana, bo) = (of("ana", None, window), of("bo", None, window));
    let id = ana.run.id;
    let began = std::time::Instant::now();
    assert_eq!(add(store, ana).await, None);
    let delivery = claim(store).await;
    end(store, &delivery, RunState::Succeeded).await;
    assert_eq!(add(store, of("ana", None, window)).await, Some(id), "it has succeeded within the window");
    assert_eq!(add(store, bo).await, None);
    let delivery = claim(store).await;
    end(store, &delivery, RunState::Failed).await;
    assert_eq!(add(store, of("bo", None, window)).await, None, "what failed keeps nobody out");

    while add(store, of("ana", None, window)).await.is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() >= Duration::from_millis(1_990), "after {:?}", began.elapsed());
}

async fn a_kind_until_it_is_started_is_free_when_its_run_begins(store: &dyn Store) {
    let started = || of("ana", Some(UniqueUntil::Started), None);
    assert_eq!(add(store, started()).await, None);
    assert!(add(store, started()).await.is_some());
    claim(store).await;
    assert_eq!(add(store, started()).await, None);
}

/// A fire that was enqueued already, and whose kind its run has.
async fn a_fire_whose_run_is_there_makes_none_and_ends_nothing(store: &dyn Store) {
    let fire = done("ana");
    let (task, id) = (fire.run.task.clone(), fire.run.id);
    let revision = store.register(&task, "definition", LEASE).await.unwrap();
    assert_eq!(add(store, fire.clone()).await, None);

    for entry in [Entry::Start, Entry::CancelOthers] {
        let again = |Standing { mut cursor, paused, .. }, at| {
            (cursor.decided, cursor.runs) = (at, cursor.runs + 1);
            Decision { cursor, paused, effect: Effect::Fire(Box::new(fire.clone()), entry) }
        };
        let decided = store.decide(&task, revision, &again).await.unwrap();

        let Decided::Done { ended, marked } = decided else { panic!("{entry:?}: {decided:?}") };
        assert!(ended.is_empty() && marked.is_empty(), "{entry:?}: {ended:?}, {marked:?}");
    }
    assert_eq!(claim(store).await.run.id, id);
}

/// One of many that ask at once, in two processes, gets the kind, and all others hear which.
async fn one_of_many_at_once_gets_a_kind(one: &dyn Store, two: &dyn Store) {
    let runs: [Pushed; 4] = std::array::from_fn(|_| done("ana"));
    let ids = runs.each_ref().map(|pushed| pushed.run.id);
    let [a, b, c, d] = runs;
    let answers: [Option<RunId>; 4] = tokio::join!(add(one, a), add(two, b), add(one, c), add(two, d)).into();

    let new: Vec<RunId> =
        ids.iter().zip(&answers).filter(|(_, answer)| answer.is_none()).map(|(id, _)| *id).collect();
    assert_eq!(new.len(), 1, "{answers:?}");
    assert!(answers.iter().flatten().all(|owner| *owner == new[0]), "{answers:?}");
    assert_eq!(one.waiting().await.unwrap(), 1);
}

/// Forgets all that has ended.
async fn forget_all(store: &dyn Store) {
    while store.forget(&NOTHING_STAYS, 100).await.unwrap() > 0 {}
}

async fn a_run_that_is_forgotten_keeps_others_out_only_for_the_time_that_it_won(store: &dyn Store) {
    let window = || Some(LEASE);
    let asked = || {
        [
            of("won", None, window()),
            of("failed", None, window()),
            of("cancelled", None, window()),
            done("done"),
            of("until", Some(UniqueUntil::Done), window()),
        ]
    };
    let first = asked();
    let ids = first.each_ref().map(|pushed| pushed.run.id);
    assert_eq!(store.push_unique(first.to_vec()).await.unwrap(), [None; 5]);
    store.cancel(ids[2], "asked").await.unwrap();
    for _ in 0..4 {
        let delivery = claim(store).await;
        let is_bad = delivery.run.id == ids[1];
        end(store, &delivery, if is_bad { RunState::Failed } else { RunState::Succeeded }).await;
    }
    store.discard(&[ids[1]], HeldLetters::Leave).await.unwrap();
    forget_all(store).await;

    assert!(store.runs(&RunFilter::all()).await.unwrap().runs.is_empty(), "nobody knows any of them");
    let answers = store.push_unique(asked().to_vec()).await.unwrap();
    assert_eq!(answers, [Some(ids[0]), None, None, None, None]);
}

/// Leaves kinds of each sort behind, all of whose runs are forgotten.
async fn leave_kinds(store: &dyn Store) {
    let short = Some(Duration::from_millis(1));
    let runs = vec![
        done("a"),
        done("b"),
        of("c", Some(UniqueUntil::Started), None),
        of("d", None, short),
        of("e", Some(UniqueUntil::Done), short),
    ];
    let ids: Vec<RunId> = runs.iter().map(|pushed| pushed.run.id).collect();
    assert_eq!(store.push_unique(runs).await.unwrap(), [None; 5]);
    let failed = claim(store).await;
    end(store, &failed, RunState::Failed).await;
    store.discard(&[failed.run.id], HeldLetters::Leave).await.unwrap();
    for id in ids.iter().filter(|id| **id != failed.run.id) {
        store.cancel(*id, "asked").await.unwrap();
    }
    // Another run has the kind of the first by now, which is not let go with the first.
    assert_eq!(add(store, done("a")).await, None);
    tokio::time::sleep(Duration::from_millis(10)).await;
    forget_all(store).await;
    let waiting = claim(store).await;
    assert!(add(store, done("a")).await.is_some(), "the one that is there keeps others out");
    end(store, &waiting, RunState::Succeeded).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    forget_all(store).await;
}

#[tokio::test]
async fn a_run_that_is_forgotten_keeps_others_out_only_for_the_time_that_it_won_in_memory() {
    a_run_that_is_forgotten_keeps_others_out_only_for_the_time_that_it_won(&Model::default()).await;
}

#[tokio::test]
async fn a_fire_whose_run_is_there_makes_none_and_ends_nothing_in_memory() {
    a_fire_whose_run_is_there_makes_none_and_ends_nothing(&Model::default()).await;
}

#[cfg(feature = "sqlite")]
mod in_a_file {
    use crate::sqlite_test::{Bench, open};

    #[tokio::test]
    async fn a_fire_whose_run_is_there_makes_none_and_ends_nothing() {
        super::a_fire_whose_run_is_there_makes_none_and_ends_nothing(&Bench::new().await.store).await;
    }

    #[tokio::test]
    async fn a_kind_is_free_when_its_run_has_ended_however() {
        super::a_kind_is_free_when_its_run_has_ended_however(&Bench::new().await.store).await;
    }

    #[tokio::test]
    async fn a_kind_is_free_when_its_window_has_passed_and_not_when_its_run_has_succeeded() {
        let bench = Bench::new().await;
        super::a_kind_is_free_when_its_window_has_passed_and_not_when_its_run_has_succeeded(&bench.store)
            .await;
    }

    #[tokio::test]
    async fn a_kind_until_it_is_started_is_free_when_its_run_begins() {
        super::a_kind_until_it_is_started_is_free_when_its_run_begins(&Bench::new().await.store).await;
    }

    #[tokio::test]
    async fn a_run_that_is_forgotten_keeps_others_out_only_for_the_time_that_it_won() {
        let bench = Bench::new().await;
        super::a_run_that_is_forgotten_keeps_others_out_only_for_the_time_that_it_won(&bench.store).await;
    }

    #[tokio::test]
    async fn one_of_many_at_once_gets_a_kind() {
        let bench = Bench::new().await;
        let other = open(bench.folder.path()).await.unwrap();
        super::one_of_many_at_once_gets_a_kind(&bench.store, &other).await;
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_kind_when_its_run_is_forgotten() {
        let bench = Bench::new().await;
        super::leave_kinds(&bench.store).await;
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM unique_run")
            .fetch_one(&mut bench.raw().await)
            .await
            .unwrap();
        assert_eq!(left, 0);
    }
}

#[cfg(feature = "redis")]
mod on_redis {
    use crate::redis_stage::{namespace, open, url};
    use crate::redis_test::fresh;

    #[tokio::test]
    async fn a_fire_whose_run_is_there_makes_none_and_ends_nothing() {
        super::a_fire_whose_run_is_there_makes_none_and_ends_nothing(&fresh().await).await;
    }

    #[tokio::test]
    async fn a_kind_is_free_when_its_run_has_ended_however() {
        super::a_kind_is_free_when_its_run_has_ended_however(&fresh().await).await;
    }

    #[tokio::test]
    async fn a_kind_is_free_when_its_window_has_passed_and_not_when_its_run_has_succeeded() {
        super::a_kind_is_free_when_its_window_has_passed_and_not_when_its_run_has_succeeded(&fresh().await)
            .await;
    }

    #[tokio::test]
    async fn a_kind_until_it_is_started_is_free_when_its_run_begins() {
        super::a_kind_until_it_is_started_is_free_when_its_run_begins(&fresh().await).await;
    }

    #[tokio::test]
    async fn a_run_that_is_forgotten_keeps_others_out_only_for_the_time_that_it_won() {
        super::a_run_that_is_forgotten_keeps_others_out_only_for_the_time_that_it_won(&fresh().await).await;
    }

    #[tokio::test]
    async fn one_of_many_at_once_gets_a_kind() {
        let namespace = namespace();
        let (one, two) = (open(&url(), &namespace).await.unwrap(), open(&url(), &namespace).await.unwrap());
        super::one_of_many_at_once_gets_a_kind(&one, &two).await;
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_kind_when_its_run_is_forgotten() {
        let store = fresh().await;
        super::leave_kinds(&store).await;
        let mut left = redis::cmd("EXISTS");
        left.arg(format!("{}unique", store.link.base)).arg(format!("{}windows", store.link.base));
        assert_eq!(store.link.ask::<u64>(&left).await.unwrap(), 0);
    }
}
