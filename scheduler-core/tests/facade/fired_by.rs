//! A backend that fires some of its tasks and leaves others to the scheduler.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use scheduler_core::{FiredBy, MisfirePolicy, Pause, Scheduler, Task, TestClock, Tier};

use crate::faulty::{Call, Fault, Faulty};
use crate::stage::{BEGIN, SECOND, at, name, scheduler, story, ticking};

fn picky() -> Arc<Faulty> {
    Arc::new(Faulty::on("m", Tier::Workflow).with_schedules().leaving(FiredBy::Scheduler))
}

fn fired(by: FiredBy) -> Task {
    ticking(0, |task| (task.tier, task.fired_by) = (Some(Tier::Workflow), by))
}

#[tokio::test]
async fn what_a_backend_leaves_is_fired_by_the_scheduler_and_nothing_else_is() {
    for before_start in [true, false] {
        for (by, fires, held) in [(FiredBy::Scheduler, 3, 0), (FiredBy::Engine, 0, 1)] {
            let clock = TestClock::at(BEGIN);
            let backend = picky();
            let scheduler = scheduler(&clock, [backend.clone()]);
            if before_start {
                scheduler.submit(fired(by)).await.unwrap();
            }
            scheduler.start().await.unwrap();
            if !before_start {
                scheduler.submit(fired(by)).await.unwrap();
            }

            clock.advance(SECOND * 25).await;

            let found = (backend.enqueued.lock().unwrap().len(), backend.tasks().len());
            assert_eq!(found, (fires, held), "fired by {by}, before the start: {before_start}");
            let next = scheduler.statuses().await.unwrap()[0].next;
            assert_eq!(next, (by == FiredBy::Scheduler).then(|| at(30)));
        }
    }
}

#[tokio::test]
async fn what_a_backend_leaves_is_paused_and_resumed_by_the_scheduler() {
    let clock = TestClock::at(BEGIN);
    let scheduler = scheduler(&clock, [picky()]);
    scheduler.start().await.unwrap();
    scheduler.submit(fired(FiredBy::Scheduler)).await.unwrap();
    clock.advance(SECOND * 5).await;
    scheduler.pause(&name("t"), Pause::default()).await.unwrap();
    clock.advance(SECOND * 10).await;
    scheduler.resume(&name("t")).await.unwrap();

    clock.advance(SECOND * 10).await;

    assert_eq!(story(&scheduler).await, ["0: succeeded", "10: succeeded", "20: succeeded"]);
}

#[tokio::test]
async fn an_edit_moves_a_task_between_the_two_and_back_on_the_same_backend() {
    let clock = TestClock::at(BEGIN);
    let backend = picky();
    let scheduler = scheduler(&clock, [backend.clone()]);
    scheduler.start().await.unwrap();
    let fires = || backend.enqueued.lock().unwrap().len();
    scheduler.submit(fired(FiredBy::Engine)).await.unwrap();
    clock.advance(SECOND * 5).await;
    assert_eq!((backend.tasks().len(), fires()), (1, 0));

    // Neither side may be left with half a move.
    backend.set(Call::Remove, Fault::Away);
    scheduler.submit(fired(FiredBy::Scheduler)).await.unwrap_err();
    clock.advance(SECOND * 10).await;
    assert_eq!((backend.tasks().len(), fires()), (1, 0), "it stays where it was");
    backend.set(Call::Remove, None);

    scheduler.submit(fired(FiredBy::Scheduler)).await.unwrap();
    clock.advance(SECOND * 10).await;
    assert_eq!((backend.tasks().len(), fires()), (0, 1), "at 20");

    scheduler.submit(fired(FiredBy::Engine)).await.unwrap();
    clock.advance(SECOND * 30).await;
    assert_eq!((backend.tasks().len(), fires()), (1, 1));
    assert!(scheduler.remove(&name("t")).await.unwrap());
    assert!(backend.tasks().is_empty(), "it is taken from who has it");
}

/// What fires when a process is away from 5 to 35, over a backend that keeps its runs.
async fn after_an_absence(backend: Arc<Faulty>, policy: MisfirePolicy) -> Vec<String> {
    let clock = TestClock::at(BEGIN);
    let submitted = || {
        let mut task = fired(FiredBy::Scheduler);
        task.misfire.policy = policy;
        task
    };
    let process = |backend: Arc<Faulty>| scheduler(&clock, [backend]);
    let first: Scheduler = process(backend.clone());
    first.start().await.unwrap();
    first.submit(submitted()).await.unwrap();
    clock.advance(SECOND * 5).await;
    first.stop(SECOND).await.unwrap();
    drop(first);
    clock.advance(SECOND * 30).await;

    let second = process(backend.clone());
    second.submit(submitted()).await.unwrap();
    second.start().await.unwrap();
    clock.advance(SECOND * 7).await;

    assert_eq!(backend.duplicates.load(Ordering::Relaxed), 0, "what fired does not fire again");
    story(&second).await
}

#[tokio::test]
async fn fires_during_a_restart_follow_the_misfire_policy_where_runs_are_kept_outside() {
    let expected = [
        (MisfirePolicy::Latest, vec!["0: succeeded", "20: skipped", "30: succeeded", "40: succeeded"]),
        (MisfirePolicy::Skip, vec!["0: succeeded", "30: skipped", "40: succeeded"]),
        (
            MisfirePolicy::All,
            vec!["0: succeeded", "10: succeeded", "20: succeeded", "30: succeeded", "40: succeeded"],
        ),
    ];
    for (policy, story) in expected {
        assert_eq!(after_an_absence(picky(), policy).await, story, "misfire = {policy}");
    }
}

#[tokio::test]
async fn a_backend_without_schedules_of_its_own_begins_anew_with_the_process() {
    let plain = Arc::new(Faulty::on("m", Tier::Workflow));

    assert_eq!(after_an_absence(plain, MisfirePolicy::Latest).await, ["0: succeeded", "40: succeeded"]);
}

#[tokio::test]
async fn a_backend_that_cannot_tell_its_runs_yet_is_started_all_the_same() {
    let clock = TestClock::at(BEGIN);
    let backend = picky();
    backend.set(Call::Runs, Fault::Away);
    let scheduler = scheduler(&clock, [backend.clone()]);
    scheduler.submit(fired(FiredBy::Scheduler)).await.unwrap();
    scheduler.start().await.unwrap();
    backend.set(Call::Runs, None);

    clock.advance(SECOND * 5).await;

    assert_eq!(backend.enqueued.lock().unwrap().len(), 1);
}
