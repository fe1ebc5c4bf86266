//! Values at the edge of their types: nothing panics, nothing spins.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{
    Bounds, FileStateStore, JobDescriptor, JobError, Output, RetryPolicy, Rule, RunFilter, RunHost, RunId,
    RunIdentity, StateStore, TestClock, Tier, Timestamp, Trigger, TriggerRequest, Way, source,
};
use serde_json::Value;

use crate::stage::{
    BEGIN, SECOND, at, builder, in_memory, name, registry, runs, scheduler, story, task, ticking,
};

#[test]
fn no_trigger_panics_at_the_ends_of_time() {
    let instants = [Timestamp::MIN, Timestamp::from_millis(-1), BEGIN, Timestamp::MAX];
    let periods = [Duration::from_millis(1), SECOND, Duration::from_secs(u64::MAX / 2_000), Duration::MAX];
    let mut rules: Vec<Rule> = instants.map(Rule::At).to_vec();
    rules.extend(periods.iter().flat_map(|period| [Rule::Every(*period), Rule::AfterFinish(*period)]));
    for zone in ["UTC", "Asia/Kathmandu"] {
        rules.push(Rule::Cron(scheduler_core::cron::Cron::parse("* * * * * *", zone, "").unwrap()));
    }
    let edges = || instants.map(Some).into_iter().chain([None]);

    for rule in rules {
        for (start, end) in edges().flat_map(|start| edges().map(move |end| (start, end))) {
            for jitter in [Duration::ZERO, Duration::MAX] {
                let Ok(trigger) = Trigger::new(rule.clone(), Bounds { start, end, jitter, max_runs: None })
                else {
                    continue;
                };
                for after in instants {
                    let next = trigger.next_after(after);
                    assert!(next.is_none_or(|next| next >= after), "{trigger} after {after}");
                    let run = RunId::scheduled(&name("n"), &name("t"), after);
                    assert!(trigger.due(after, run) >= after);
                    assert!(trigger.next_after_finish(after).is_none_or(|next| next >= after));
                }
                let _ = (trigger.to_string(), trigger.frequency());
            }
        }
    }
}

#[tokio::test]
async fn a_task_with_the_longest_of_all_durations_runs() {
    let clock = TestClock::at(BEGIN);
    let sleeper = JobDescriptor::function("sleeper", "", |ctx| async move {
        match ctx.attempt() {
            1 => Err(JobError::retry("once more")),
            _ => {
                let _ = ctx.unless_cancelled(ctx.sleep(Duration::MAX)).await;
                Ok(Output::Null)
            }
        }
    });
    let mut jobs = registry();
    jobs.add_job(sleeper, source!(), Way::Explicit).unwrap();
    let backend = Arc::new(in_memory("m", Tier::Local));
    let scheduler = builder(&clock).registry(jobs).backend(backend).build().unwrap();
    scheduler.start().await.unwrap();
    let retry = RetryPolicy { max_attempts: std::num::NonZeroU32::new(2), ..RetryPolicy::default() };
    let submitted = task(|task| {
        task.job = name("sleeper");
        task.retry = retry;
        task.timeout = Some(Duration::MAX);
    });
    scheduler.submit(submitted).await.unwrap();
    let run = scheduler.trigger(&name("t"), TriggerRequest::now()).await.unwrap().run_id();

    clock.advance(SECOND * 60).await;
    scheduler.cancel(&run).await.unwrap();
    clock.settle().await;

    assert_eq!(story(&scheduler).await, ["0: succeeded"]);
}

#[tokio::test]
async fn a_stop_without_limit_waits_for_the_runs_and_no_longer() {
    let clock = TestClock::at(BEGIN);
    let scheduler = scheduler(&clock, [Arc::new(in_memory("m", Tier::Local)) as _]);
    scheduler.start().await.unwrap();
    scheduler.submit(ticking(5, |_| ())).await.unwrap();
    clock.settle().await;

    let (drained, ()) = tokio::join!(scheduler.stop(Duration::MAX), clock.advance(SECOND * 6));

    assert_eq!(drained.unwrap().finished, 1);
}

#[tokio::test]
async fn a_schedule_at_the_end_of_time_ends() {
    let clock = TestClock::at(Timestamp::from_millis(Timestamp::MAX.as_millis() - 25_000));
    let scheduler = scheduler(&clock, [Arc::new(in_memory("m", Tier::Local)) as _]);
    scheduler.start().await.unwrap();
    scheduler.submit(ticking(0, |_| ())).await.unwrap();

    clock.advance(SECOND * 60).await;

    assert_eq!(runs(&scheduler).await.len(), 2);
    assert_eq!(scheduler.statuses().await.unwrap()[0].next, None);
}

#[tokio::test]
async fn damaged_state_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStateStore::new(folder.path());
    let last = format!(r#"{{"v":1,"version":{},"value":null}}"#, u64::MAX);
    for text in [b"\xff\xfe".as_slice(), b"", last.as_bytes()] {
        std::fs::write(folder.path().join("t.json"), text).unwrap();

        let error = store.store(&name("t"), u64::MAX, Value::Null).await.unwrap_err();

        assert_eq!(error.code(), "state/damaged", "{error}");
        assert!(!error.is_transient(), "no use in trying again");
    }
}

#[test]
fn progress_that_is_no_number_is_none() {
    let host = RunHost::standalone(Arc::new(TestClock::at(BEGIN)));
    let identity = RunIdentity {
        namespace: name("n"),
        task: name("t"),
        tier: Tier::Local,
        backend: name("m"),
        run_id: RunId::manual(BEGIN),
        fire_time: at(0),
        attempt: 1,
        fence: 1,
        params: serde_json::Map::new(),
    };
    let ctx = scheduler_core::RunContext::new(identity, host);

    for (said, kept) in [(f64::NAN, 0.0), (-1.0, 0.0), (7.0, 1.0), (0.5, 0.5)] {
        ctx.set_progress(said, "");
        assert_eq!(ctx.progress().unwrap().done, kept);
    }
}

#[tokio::test]
async fn a_listener_may_listen_and_may_panic() {
    let clock = TestClock::at(BEGIN);
    let scheduler = scheduler(&clock, [Arc::new(in_memory("m", Tier::Local)) as _]);
    let events = scheduler.events().clone();
    scheduler.events().listen(move |_| events.listen(|_| ()));
    scheduler.events().listen(|_| panic!("a listener's own fault"));
    scheduler.start().await.unwrap();
    scheduler.submit(ticking(15, |_| ())).await.unwrap();

    clock.advance(SECOND * 45).await;

    assert_eq!(story(&scheduler).await.len(), 5);
    assert!(scheduler.history(&RunFilter::all()).await.is_ok());
}
