//! A backend that is away, refuses, panics or hangs: what becomes of the fires.

use std::sync::Arc;

use scheduler_core::{Misfire, MisfirePolicy, Overlap, RunState, SkipReason, TestClock, Tier, Trigger};

use crate::faulty::{Call, Fault, Faulty};
use crate::firing::running;
use crate::stage::{BEGIN, SECOND, at, name, runs, scheduler, story, task, ticking};

#[tokio::test]
async fn an_outage_loses_no_fire_and_doubles_none() {
    for call in [Call::Enqueue, Call::Runs] {
        for overlap in Overlap::ALL {
            let clock = TestClock::at(BEGIN);
            let (scheduler, backend) = running(&clock).await;
            let all = Misfire { policy: MisfirePolicy::All, ..Misfire::default() };
            let submitted = ticking(0, |task| (task.misfire, task.overlap) = (all, *overlap));
            scheduler.submit(submitted).await.unwrap();
            clock.advance(SECOND * 5).await;
            backend.set(call, Fault::Away);
            clock.advance(SECOND * 33).await;
            backend.set(call, None);
            clock.advance(SECOND * 30).await;

            let expected: Vec<_> = (0..7).map(|n| format!("{}: succeeded", n * 10)).collect();
            assert_eq!(story(&scheduler).await, expected, "{call:?}, overlap = {overlap}");
            assert_eq!(backend.enqueued.lock().unwrap().len(), 7, "each once");
        }
    }
}

#[tokio::test]
async fn what_an_outage_leaves_out_is_in_history_with_its_reason() {
    let clock = TestClock::at(BEGIN);
    let (scheduler, backend) = running(&clock).await;
    scheduler.submit(ticking(0, |_| ())).await.unwrap();
    clock.advance(SECOND * 5).await;
    backend.set(Call::Runs, Fault::Away);
    clock.advance(SECOND * 33).await;
    backend.set(Call::Runs, None);
    clock.advance(SECOND * 10).await;

    let skipped: Vec<_> =
        runs(&scheduler).await.into_iter().filter(|r| r.state == RunState::Skipped).collect();

    assert_eq!(story(&scheduler).await, ["0: succeeded", "20: skipped", "30: succeeded", "40: succeeded"]);
    let reason = SkipReason::Missed { count: 2, more: false, first: at(10), policy: MisfirePolicy::Latest }
        .to_string();
    assert_eq!(skipped[0].reason.as_deref(), Some(reason.as_str()));
}

#[tokio::test]
async fn an_outage_beside_a_long_run_keeps_no_heap_of_fires() {
    let clock = TestClock::at(BEGIN);
    let (scheduler, backend) = running(&clock).await;
    let beside = |task: &mut scheduler_core::Task| {
        task.overlap = Overlap::Allow;
        task.misfire.policy = MisfirePolicy::All;
    };
    scheduler.submit(ticking(300, beside)).await.unwrap();
    clock.advance(SECOND * 5).await;
    backend.set(Call::Enqueue, Fault::Away);
    clock.advance(SECOND * 60).await;
    assert_eq!(scheduler.statuses().await.unwrap()[0].live, 2, "one runs and one waits for the backend");

    backend.set(Call::Enqueue, None);
    clock.advance(SECOND * 4).await;

    assert_eq!(backend.enqueued.lock().unwrap().len(), 7, "`allow` waits for no run");
}

#[tokio::test]
async fn a_refused_fire_is_a_skipped_run_that_names_the_reason() {
    let clock = TestClock::at(BEGIN);
    let (scheduler, backend) = running(&clock).await;
    backend.set(Call::Enqueue, Fault::Refused);
    scheduler.submit(ticking(0, |_| ())).await.unwrap();
    clock.advance(SECOND * 15).await;
    backend.set(Call::Enqueue, None);
    clock.advance(SECOND * 10).await;

    assert_eq!(story(&scheduler).await, ["0: skipped", "10: skipped", "20: succeeded"]);
    let reason = runs(&scheduler).await[0].reason.clone();
    assert_eq!(reason.as_deref(), Some("not enqueued: `m` refuses (Enqueue)"));
}

#[tokio::test]
async fn a_backend_that_panics_or_hangs_keeps_no_other_from_firing() {
    for (call, fault) in [
        (Call::Enqueue, Fault::Panics),
        (Call::Enqueue, Fault::Hangs),
        (Call::Runs, Fault::Panics),
        (Call::Runs, Fault::Hangs),
    ] {
        let clock = TestClock::at(BEGIN);
        let (bad, good) =
            (Arc::new(Faulty::on("bad", Tier::Local)), Arc::new(Faulty::on("good", Tier::Queue)));
        let scheduler = scheduler(&clock, [bad.clone(), good.clone()]);
        for tier in [Tier::Local, Tier::Queue] {
            let submitted = ticking(0, |task| {
                task.name = name(tier.as_str());
                task.tier = Some(tier);
            });
            scheduler.submit(submitted).await.unwrap();
        }
        bad.set(call, fault);

        scheduler.start().await.unwrap();
        let fired = async {
            while good.enqueued.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SECOND * 10, fired).await.unwrap_or_else(|_| panic!("{call:?} {fault:?}"));

        tokio::time::timeout(SECOND * 10, scheduler.abort()).await.expect("it ends").unwrap();
    }
}

#[tokio::test]
async fn a_panic_of_the_backend_costs_no_fire() {
    let clock = TestClock::at(BEGIN);
    let (scheduler, backend) = running(&clock).await;
    backend.set(Call::Enqueue, Fault::Panics);
    scheduler.submit(ticking(0, |_| ())).await.unwrap();
    clock.advance(SECOND * 3).await;
    backend.set(Call::Enqueue, None);

    clock.advance(SECOND * 42).await;

    assert_eq!(story(&scheduler).await[0], "0: succeeded");
    assert_eq!(story(&scheduler).await.last().unwrap(), "40: succeeded");
}

#[tokio::test]
async fn a_pause_after_the_finish_is_kept_when_history_forgets() {
    let clock = TestClock::at(BEGIN);
    let (scheduler, backend) = running(&clock).await;
    let trigger = Trigger::after_finish(SECOND * 20).unwrap();
    scheduler.submit(task(|task| task.trigger = Some(trigger))).await.unwrap();
    clock.advance(SECOND * 5).await;

    // A refused fire leaves no run that could have finished.
    backend.set(Call::Enqueue, Fault::Refused);
    clock.advance(SECOND * 60).await;

    assert_eq!(story(&scheduler).await, ["0: succeeded", "20: skipped", "40: skipped", "60: skipped"]);
}
