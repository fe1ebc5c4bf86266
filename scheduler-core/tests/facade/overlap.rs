//! Fires that meet a run that lives, and fires that nobody served.

use std::num::NonZeroU32;
use std::sync::Arc;

use scheduler_core::{
    Bounds, Misfire, MisfirePolicy, Overlap, Pause, Run, Scheduler, Task, TestClock, Tier, Timestamp,
};

use crate::stage::{BEGIN, SECOND, at, in_memory, name, runs, scheduler, story, ticking};

async fn running(clock: &TestClock, task: Task) -> Scheduler {
    let scheduler = scheduler(clock, [Arc::new(in_memory("m", Tier::Local)) as _]);
    scheduler.start().await.unwrap();
    scheduler.submit(task).await.unwrap();
    scheduler
}

#[tokio::test]
async fn a_fire_meets_a_live_run_as_the_overlap_says() {
    // Each run takes 15 s of a period of 10 s; the fires end at 30 s.
    let cases = [
        (Overlap::Skip, vec!["0 0-15 succeeded", "10 skipped", "20 20-35 succeeded", "30 skipped"]),
        (
            Overlap::Queue,
            vec!["0 0-15 succeeded", "10 15-30 succeeded", "20 30-45 succeeded", "30 45-60 succeeded"],
        ),
        (
            Overlap::CancelOther,
            vec!["0 0-10 cancelled", "10 10-20 cancelled", "20 20-30 cancelled", "30 30-45 succeeded"],
        ),
        (
            Overlap::Allow,
            vec!["0 0-15 succeeded", "10 10-25 succeeded", "20 20-35 succeeded", "30 30-45 succeeded"],
        ),
    ];
    for (overlap, expected) in cases {
        let clock = TestClock::at(BEGIN);
        let bounds = Bounds { end: Some(at(30)), ..Bounds::default() };
        let submitted = ticking(15, |task| {
            task.overlap = overlap;
            task.trigger = task.trigger.take().map(|trigger| trigger.within(bounds).unwrap());
        });
        let scheduler = running(&clock, submitted).await;
        clock.advance(SECOND * 90).await;

        let span = |run: &Run| {
            let second = |at: Timestamp| at.since(BEGIN).as_secs();
            let span =
                run.started_at.zip(run.finished_at).map(|(a, b)| format!("{}-{} ", second(a), second(b)));
            format!("{} {}{}", second(run.fire_time), span.unwrap_or_default(), run.state)
        };
        let seen: Vec<_> = runs(&scheduler).await.iter().map(span).collect();
        assert_eq!(seen, expected, "overlap = {overlap}");
    }
}

#[tokio::test]
async fn missed_fires_follow_the_policy_when_a_pause_ends() {
    let all = |max| Misfire {
        policy: MisfirePolicy::All,
        max: NonZeroU32::new(max).unwrap(),
        ..Misfire::default()
    };
    let only = |policy| Misfire { policy, ..Misfire::default() };
    let cases = [
        (only(MisfirePolicy::Latest), vec!["30: skipped", "40: succeeded"]),
        (only(MisfirePolicy::Skip), vec!["40: skipped"]),
        (all(100), vec!["10: succeeded", "20: succeeded", "30: succeeded", "40: succeeded"]),
        (all(2), vec!["20: skipped", "30: succeeded", "40: succeeded"]),
    ];
    for (misfire, expected) in cases {
        let clock = TestClock::at(BEGIN);
        let scheduler = running(&clock, ticking(0, |task| task.misfire = misfire)).await;
        clock.advance(SECOND * 5).await;
        let pause = Pause { by: Some("me".into()), ..Pause::default() };
        scheduler.pause(&name("t"), pause.clone()).await.unwrap();
        clock.advance(SECOND * 40).await;
        let status = scheduler.statuses().await.unwrap().remove(0);
        assert_eq!((status.next, status.paused), (None, Some(pause)));

        scheduler.resume(&name("t")).await.unwrap();
        clock.advance(SECOND * 10).await;

        let expected = [vec!["0: succeeded"], expected, vec!["50: succeeded"]].concat();
        assert_eq!(story(&scheduler).await, expected, "{misfire:?}");
        assert_eq!(scheduler.statuses().await.unwrap()[0].paused, None);
    }
}

#[tokio::test]
async fn a_pause_ends_by_itself_at_its_time() {
    let clock = TestClock::at(BEGIN);
    let scheduler = running(&clock, ticking(0, |_| ())).await;
    clock.advance(SECOND * 5).await;
    scheduler.pause(&name("t"), Pause { until: Some(at(23)), ..Pause::default() }).await.unwrap();

    clock.advance(SECOND * 30).await;

    assert_eq!(story(&scheduler).await, ["0: succeeded", "10: skipped", "20: succeeded", "30: succeeded"]);
    assert_eq!(runs(&scheduler).await[2].started_at, Some(at(23)));
}

#[tokio::test]
async fn a_fire_that_waited_and_was_replaced_is_in_history() {
    let clock = TestClock::at(BEGIN);
    let scheduler = running(&clock, ticking(100, |task| task.overlap = Overlap::Queue)).await;
    clock.advance(SECOND * 15).await;

    scheduler.submit(ticking(100, |task| task.overlap = Overlap::CancelOther)).await.unwrap();
    clock.advance(SECOND * 10).await;

    assert_eq!(story(&scheduler).await, ["0: cancelled", "10: skipped", "20: running"]);
    assert_eq!(runs(&scheduler).await[1].reason.as_deref(), Some("replaced by a newer run"));
}

#[tokio::test]
async fn a_fire_that_waited_for_its_turn_when_the_task_went_is_in_history() {
    let clock = TestClock::at(BEGIN);
    let scheduler = running(&clock, ticking(100, |task| task.overlap = Overlap::Queue)).await;
    clock.advance(SECOND * 15).await;

    scheduler.remove(&name("t")).await.unwrap();
    clock.advance(SECOND * 100).await;

    assert_eq!(story(&scheduler).await, ["0: succeeded", "10: skipped"]);
    assert_eq!(runs(&scheduler).await[1].reason.as_deref(), Some("its task was removed"));
}

#[tokio::test]
async fn at_most_a_hundred_fires_wait_for_their_turn() {
    let clock = TestClock::at(BEGIN);
    let scheduler = running(&clock, ticking(100_000, |task| task.overlap = Overlap::Queue)).await;

    clock.advance(SECOND * 1_050).await;

    assert_eq!(scheduler.statuses().await.unwrap()[0].live, 101);
    let skipped = runs(&scheduler).await.into_iter().filter(|run| run.reason.is_some()).count();
    assert_eq!(skipped, 5);
}
