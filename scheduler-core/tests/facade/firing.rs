//! The fires of a backend without schedules: which there are, each once, whatever the backend does.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use scheduler_core::{
    Backend, Bounds, Event, MisfirePolicy, Overlap, RunId, Scheduler, TestClock, Tier, Timestamp, Trigger,
    TriggerRequest,
};
use serde_json::json;

use crate::faulty::Faulty;
use crate::stage::{BEGIN, SECOND, at, in_memory, name, runs, scheduler, story, task, ticking};

pub(crate) async fn running(clock: &TestClock) -> (Scheduler, Arc<Faulty>) {
    let backend = Arc::new(Faulty::on("m", Tier::Local));
    let scheduler = scheduler(clock, [backend.clone()]);
    scheduler.start().await.unwrap();
    (scheduler, backend)
}

async fn fires_within(seconds: u32, trigger: Trigger, takes: u64) -> Vec<String> {
    let clock = TestClock::at(BEGIN);
    let (scheduler, _) = running(&clock).await;
    let submitted = task(|task| {
        task.trigger = Some(trigger);
        task.args = json!({"seconds": takes});
    });
    scheduler.submit(submitted).await.unwrap();
    clock.advance(SECOND * seconds).await;
    story(&scheduler).await.iter().map(|run| run.split(':').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn each_rule_fires_when_it_says() {
    let within = |trigger: Trigger, bounds| trigger.within(bounds).unwrap();
    let every = |seconds| Trigger::every(SECOND * seconds).unwrap();
    let bounds = Bounds::default;
    let cases = [
        (every(20), 0, vec!["0", "20", "40", "60"]),
        (Trigger::cron("*/2 * * * *", "UTC").unwrap(), 0, vec!["0"]),
        (Trigger::cron("15,45 * * * * *", "Europe/Berlin").unwrap(), 0, vec!["15", "45"]),
        (Trigger::at(at(33)).unwrap(), 0, vec!["33"]),
        (Trigger::after_finish(SECOND * 20).unwrap(), 7, vec!["0", "27", "54"]),
        (within(every(20), Bounds { max_runs: NonZeroU64::new(2), ..bounds() }), 0, vec!["0", "20"]),
        (
            within(every(20), Bounds { start: Some(at(5)), end: Some(at(45)), ..bounds() }),
            0,
            vec!["5", "25", "45"],
        ),
    ];
    for (trigger, takes, expected) in cases {
        let words = trigger.to_string();
        assert_eq!(fires_within(60, trigger, takes).await, expected, "{words}");
    }
}

#[tokio::test]
async fn a_run_begins_within_the_jitter_and_keeps_its_fire_time() {
    let clock = TestClock::at(BEGIN);
    let (scheduler, _) = running(&clock).await;
    let jitter = Bounds { jitter: SECOND * 8, ..Bounds::default() };
    let trigger = Trigger::every(SECOND * 10).unwrap().within(jitter).unwrap();
    scheduler.submit(task(|task| task.trigger = Some(trigger.clone()))).await.unwrap();

    clock.advance(SECOND * 98).await;

    let runs = runs(&scheduler).await;
    assert_eq!(runs.len(), 10);
    for run in &runs {
        assert_eq!(run.started_at, Some(trigger.due(run.fire_time, run.id)));
    }
    assert!(runs.iter().any(|run| run.started_at.unwrap() > run.fire_time + SECOND));
}

#[tokio::test]
async fn a_scheduled_run_is_known_by_its_fire_time() {
    let clock = TestClock::at(BEGIN);
    let (scheduler, backend) = running(&clock).await;
    scheduler.submit(ticking(0, |_| ())).await.unwrap();

    clock.advance(SECOND * 25).await;

    let expected: Vec<RunId> =
        [0, 10, 20].map(|second| RunId::scheduled(scheduler.namespace(), &name("t"), at(second))).to_vec();
    assert_eq!(*backend.enqueued.lock().unwrap(), expected);
    assert_eq!(backend.duplicates.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_task_submitted_at_a_fire_time_fires_under_every_misfire_policy() {
    for policy in MisfirePolicy::ALL {
        let clock = TestClock::at(BEGIN);
        let (scheduler, _) = running(&clock).await;
        scheduler.submit(ticking(0, |task| task.misfire.policy = *policy)).await.unwrap();

        clock.advance(SECOND).await;

        assert_eq!(story(&scheduler).await, ["0: succeeded"], "misfire = {policy}");
    }
}

#[tokio::test]
async fn an_edit_keeps_what_fired_and_takes_the_new_rule() {
    let clock = TestClock::at(BEGIN);
    let (scheduler, backend) = running(&clock).await;
    scheduler.submit(ticking(0, |_| ())).await.unwrap();
    clock.advance(SECOND * 10).await;

    scheduler.submit(ticking(0, |_| ())).await.unwrap();
    clock.advance(SECOND * 5).await;
    scheduler
        .submit(ticking(0, |task| task.trigger = Some(Trigger::every(SECOND * 30).unwrap())))
        .await
        .unwrap();
    clock.advance(SECOND * 50).await;

    assert_eq!(story(&scheduler).await, ["0: succeeded", "10: succeeded", "30: succeeded", "60: succeeded"]);
    assert_eq!(backend.duplicates.load(Ordering::Relaxed), 0, "nothing was even tried twice");
}

#[tokio::test]
async fn an_edit_that_takes_the_trigger_away_ends_the_fires() {
    let clock = TestClock::at(BEGIN);
    let (scheduler, _) = running(&clock).await;
    scheduler.submit(ticking(0, |_| ())).await.unwrap();
    clock.advance(SECOND * 5).await;

    scheduler.submit(task(|_| ())).await.unwrap();
    clock.advance(SECOND * 20).await;

    assert_eq!(story(&scheduler).await, ["0: succeeded"]);
    assert_eq!(scheduler.statuses().await.unwrap()[0].next, None);
}

#[tokio::test]
async fn a_removed_task_fires_no_more() {
    let clock = TestClock::at(BEGIN);
    let (scheduler, _) = running(&clock).await;
    scheduler.submit(ticking(0, |_| ())).await.unwrap();
    clock.advance(SECOND * 5).await;

    assert!(scheduler.remove(&name("t")).await.unwrap());
    assert!(!scheduler.remove(&name("t")).await.unwrap());
    clock.advance(SECOND * 30).await;

    assert_eq!(story(&scheduler).await, ["0: succeeded"]);
    assert!(scheduler.statuses().await.unwrap().is_empty() && scheduler.tasks().is_empty());
}

#[tokio::test]
async fn a_run_asked_for_tomorrow_is_no_run_that_lives_today() {
    for overlap in Overlap::ALL {
        let clock = TestClock::at(BEGIN);
        let (scheduler, _) = running(&clock).await;
        scheduler.submit(ticking(0, |task| task.overlap = *overlap)).await.unwrap();
        scheduler.trigger(&name("t"), TriggerRequest::at(at(35))).await.unwrap();

        clock.advance(SECOND * 36).await;

        let expected = ["0: succeeded", "10: succeeded", "20: succeeded", "30: succeeded", "35: succeeded"];
        assert_eq!(story(&scheduler).await, expected, "overlap = {overlap}");
    }
}

#[tokio::test]
async fn statuses_show_the_next_fire_and_the_runs_that_live() {
    let clock = TestClock::at(BEGIN);
    let (scheduler, _) = running(&clock).await;
    scheduler.submit(ticking(25, |task| task.overlap = Overlap::Queue)).await.unwrap();
    clock.advance(SECOND * 15).await;

    let status = scheduler.statuses().await.unwrap().remove(0);

    assert_eq!((status.next, status.paused, status.live), (Some(at(20)), None, 2), "one runs, one waits");
    clock.advance(SECOND).await;
    assert_eq!(scheduler.statuses().await.unwrap()[0].next, Some(at(20)));
}

#[tokio::test]
async fn nothing_fires_before_the_start_and_the_first_start_misses_nothing() {
    let clock = TestClock::at(BEGIN);
    let scheduler = scheduler(&clock, [Arc::new(in_memory("m", Tier::Local)) as Arc<dyn Backend>]);
    scheduler.submit(ticking(0, |_| ())).await.unwrap();
    clock.advance(SECOND * 25).await;

    scheduler.start().await.unwrap();
    clock.advance(SECOND * 10).await;

    assert_eq!(story(&scheduler).await, ["30: succeeded"]);
}

#[tokio::test]
async fn a_clock_that_jumps_makes_no_burst() {
    let clock = TestClock::at(BEGIN);
    let (scheduler, _) = running(&clock).await;
    scheduler.submit(ticking(0, |_| ())).await.unwrap();
    clock.advance(SECOND).await;

    clock.jump(SECOND * 86_400).await;
    clock.advance(SECOND * 9).await;

    assert_eq!(
        story(&scheduler).await,
        ["0: succeeded", "86390: skipped", "86400: succeeded", "86410: succeeded"]
    );
}

#[tokio::test]
async fn a_wall_clock_set_back_by_a_day_is_told_once_and_ends_no_schedule() {
    let clock = TestClock::at(BEGIN);
    let (scheduler, _) = running(&clock).await;
    let steps = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&steps);
    scheduler.events().listen(move |event| {
        if let Event::ClockStepped { .. } = event {
            seen.fetch_add(1, Ordering::Relaxed);
        }
    });
    scheduler.submit(ticking(0, |_| ())).await.unwrap();
    clock.advance(SECOND * 5).await;

    let yesterday = BEGIN - SECOND * 86_400;
    clock.set_wall(yesterday);
    clock.advance(SECOND * 60).await;

    assert_eq!(steps.load(Ordering::Relaxed), 1);
    let again = runs(&scheduler).await.iter().filter(|run| run.fire_time > yesterday).count();
    assert!(again > 4, "{:?}", story(&scheduler).await);
}

#[tokio::test]
async fn an_interval_goes_on_when_the_wall_clock_is_set_back_a_little_and_fires_nothing_twice() {
    let clock = TestClock::at(BEGIN);
    let (scheduler, backend) = running(&clock).await;
    scheduler.submit(ticking(0, |_| ())).await.unwrap();
    clock.advance(SECOND * 25).await;

    clock.set_wall(at(5));
    clock.advance(SECOND * 40).await;

    assert_eq!(backend.duplicates.load(Ordering::Relaxed), 0);
    let expected = [0, 10, 20, 30, 40, 50, 60].map(|second| format!("{second}: succeeded"));
    assert_eq!(story(&scheduler).await, expected);
}

#[tokio::test]
async fn a_pause_after_each_run_goes_on_when_the_wall_clock_is_set_back_a_little() {
    let clock = TestClock::at(BEGIN);
    let (scheduler, _) = running(&clock).await;
    scheduler
        .submit(ticking(0, |task| task.trigger = Some(Trigger::after_finish(SECOND * 10).unwrap())))
        .await
        .unwrap();
    clock.advance(SECOND * 25).await;
    let before = runs(&scheduler).await.len();

    clock.set_wall(Timestamp::from_millis(BEGIN.as_millis() - 3_600_000));
    clock.advance(SECOND * 60).await;

    let after = runs(&scheduler).await.len() - before;
    assert!((5..=6).contains(&after), "{after}: {:?}", story(&scheduler).await);
}

#[tokio::test]
async fn a_cron_waits_when_the_wall_clock_is_set_back_a_little() {
    let clock = TestClock::at(BEGIN);
    let (scheduler, backend) = running(&clock).await;
    let cron = || Some(Trigger::cron("*/10 * * * * *", "UTC").unwrap());
    scheduler.submit(ticking(0, |task| task.trigger = cron())).await.unwrap();
    clock.advance(SECOND * 25).await;
    let before = story(&scheduler).await.len();

    clock.set_wall(at(5));
    clock.advance(SECOND * 20).await;
    assert_eq!(story(&scheduler).await.len(), before, "the clock shows again what has fired");
    clock.advance(SECOND * 20).await;

    assert_eq!(story(&scheduler).await.len(), before + 2);
    assert_eq!(backend.duplicates.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_edited_trigger_begins_at_the_edit() {
    let clock = TestClock::at(BEGIN);
    let (scheduler, _) = running(&clock).await;
    let cron = |seconds: &str| Some(Trigger::cron(&format!("{seconds} * * * * *"), "UTC").unwrap());
    scheduler.submit(ticking(0, |task| task.trigger = cron("50"))).await.unwrap();
    clock.advance(SECOND * 20).await;
    let before = story(&scheduler).await.len();

    // The new rule names a time that has passed in this minute, which it did not when that passed.
    let now = scheduler_core::Clock::now(&clock);
    let passed = (now.as_millis() / 1_000 % 60 + 55) % 60;
    scheduler.submit(ticking(0, |task| task.trigger = cron(&passed.to_string()))).await.unwrap();
    clock.advance(SECOND * 2).await;

    assert_eq!(story(&scheduler).await.len(), before, "{:?}", story(&scheduler).await);
    clock.advance(SECOND * 60).await;
    assert_eq!(story(&scheduler).await.len(), before + 1, "{:?}", story(&scheduler).await);
}

#[tokio::test]
async fn a_trigger_that_has_passed_is_refused() {
    let scheduler =
        scheduler(&TestClock::at(BEGIN), [Arc::new(in_memory("m", Tier::Local)) as Arc<dyn Backend>]);
    let yesterday = Timestamp::from_millis(BEGIN.as_millis() - 1);

    let error = scheduler.submit(task(|task| task.trigger = Some(Trigger::at(yesterday).unwrap()))).await;

    assert_eq!(error.unwrap_err().code(), "trigger/passed");
    assert!(scheduler.submit(task(|task| task.trigger = Some(Trigger::at(BEGIN).unwrap()))).await.is_ok());
}
