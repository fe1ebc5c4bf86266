//! Runs that are asked for, followed and ended, whatever backend has them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use scheduler_core::{
    Backend, Cancelled, Enqueued, FileStateStore, JobDescriptor, JobError, Name, Output, PageToken, Registry,
    RunFilter, RunId, RunState, StateStore, Task, TestClock, Tier, Timestamp, TriggerRequest, Way, source,
};
use serde_json::{Value, json};

use crate::faulty::{Call, Fault, Faulty};
use crate::stage::{BEGIN, SECOND, at, builder, in_memory, name, runs, scheduler, story, task, ticking};

fn memory(tier: Tier) -> Arc<dyn Backend> {
    Arc::new(in_memory(tier.as_str(), tier))
}

#[tokio::test]
async fn a_run_begins_when_it_was_asked_for_with_its_parameters() {
    let clock = TestClock::at(BEGIN);
    let scheduler = scheduler(&clock, [memory(Tier::Local)]);
    scheduler.start().await.unwrap();
    scheduler.submit(task(|_| ())).await.unwrap();
    let asked = |request: TriggerRequest, n: u64| request.with_param("n", json!(n));

    scheduler.trigger(&name("t"), asked(TriggerRequest::now(), 1)).await.unwrap();
    scheduler.trigger(&name("t"), asked(TriggerRequest::at(at(30)), 2)).await.unwrap();
    clock.advance(SECOND * 29).await;
    assert_eq!(story(&scheduler).await, ["0: succeeded", "30: scheduled"]);
    clock.advance(SECOND).await;

    let runs = runs(&scheduler).await;
    assert_eq!(runs[1].started_at, Some(at(30)));
    assert_eq!(runs[0].output, json!({"params": {"n": 1}}));
    assert_eq!(runs[1].output, json!({"params": {"n": 2}}));
}

#[tokio::test]
async fn a_key_makes_one_run_however_often_it_is_used() {
    let clock = TestClock::at(BEGIN);
    let scheduler = scheduler(&clock, [memory(Tier::Local)]);
    scheduler.start().await.unwrap();
    scheduler.submit(task(|_| ())).await.unwrap();
    let keyed = |key: &str| TriggerRequest::now().with_key(key);

    let first = scheduler.trigger(&name("t"), keyed("a")).await.unwrap();
    clock.advance(SECOND).await;
    let again = scheduler.trigger(&name("t"), keyed("a")).await.unwrap();
    let other = scheduler.trigger(&name("t"), keyed("b")).await.unwrap();

    assert_eq!(again, Enqueued::Duplicate(first.run_id()));
    assert!(matches!(first, Enqueued::Inserted(_)) && matches!(other, Enqueued::Inserted(_)));
}

#[tokio::test]
async fn history_pages_over_every_backend_show_each_run_once_and_in_order() {
    let clock = TestClock::at(BEGIN);
    let tiers = [Tier::Local, Tier::Queue, Tier::Workflow];
    let short = Arc::new(Faulty::on("workflow", Tier::Workflow).with_short_pages(2));
    let scheduler = scheduler(&clock, [memory(tiers[0]), memory(tiers[1]), short]);
    scheduler.start().await.unwrap();
    for tier in tiers {
        scheduler
            .submit(task(|task| (task.name, task.tier) = (name(tier.as_str()), Some(tier))))
            .await
            .unwrap();
    }
    for n in 0..100_u64 {
        // Most lie on one backend, and many at the same instant.
        let tier = if n % 10 < 8 { tiers[0] } else { tiers[(n % 10 - 7) as usize] };
        let request = TriggerRequest::at(at(n / 6));
        scheduler.trigger(&name(tier.as_str()), request).await.unwrap();
    }

    for size in [1, 7, 50, 100, 1_000] {
        let mut seen: Vec<PageToken> = Vec::new();
        let mut filter = RunFilter::all().limited(size);
        loop {
            let page = scheduler.history(&filter).await.unwrap();
            assert!(page.runs.len() <= size);
            seen.extend(page.runs.iter().map(PageToken::of));
            filter.after = page.next;
            if page.next.is_none() {
                break;
            }
        }
        assert!(seen.is_sorted_by(|a, b| a > b), "each once, newest first, {size} a page");
        assert_eq!(seen.len(), 100, "{size} a page");
    }
}

#[tokio::test]
async fn a_run_is_cancelled_wherever_it_is_even_beside_a_backend_that_is_away() {
    let clock = TestClock::at(BEGIN);
    let away = Arc::new(Faulty::on("queue", Tier::Queue));
    let scheduler = scheduler(&clock, [away.clone() as Arc<dyn Backend>, memory(Tier::Local)]);
    scheduler.start().await.unwrap();
    scheduler.submit(task(|task| task.args = json!({"seconds": 100}))).await.unwrap();
    let under_way = scheduler.trigger(&name("t"), TriggerRequest::now()).await.unwrap().run_id();
    let ahead = scheduler.trigger(&name("t"), TriggerRequest::at(at(50))).await.unwrap().run_id();
    clock.advance(SECOND).await;

    away.set(Call::Cancel, Fault::Away);
    assert_eq!(scheduler.cancel(&under_way).await.unwrap(), Cancelled::Requested);
    assert_eq!(scheduler.cancel(&ahead).await.unwrap(), Cancelled::Prevented);
    clock.settle().await;

    assert_eq!(scheduler.cancel(&ahead).await.unwrap(), Cancelled::AlreadyFinished);
    assert_eq!(story(&scheduler).await, ["0: cancelled", "50: cancelled"]);
    let unknown = RunId::manual(BEGIN);
    assert_eq!(scheduler.cancel(&unknown).await.unwrap_err().code(), "faulty/away", "it might be there");
    away.set(Call::Cancel, None);
    assert_eq!(scheduler.cancel(&unknown).await.unwrap_err().code(), "run/unknown");
}

#[tokio::test]
async fn a_task_nobody_knows_is_answered_with_those_that_are_known() {
    let scheduler = scheduler(&TestClock::at(BEGIN), [memory(Tier::Local)]);
    scheduler.submit(task(|_| ())).await.unwrap();

    let error = scheduler.trigger(&name("u"), TriggerRequest::now()).await.unwrap_err();

    assert_eq!((error.code(), error.to_string().as_str()), ("task/unknown", "no task `u`; there are: t"));
}

fn jobs(describe: impl IntoIterator<Item = JobDescriptor>) -> Registry {
    let mut registry = crate::stage::registry();
    for job in describe {
        registry.add_job(job, source!(), Way::Explicit).unwrap();
    }
    registry
}

#[tokio::test]
async fn a_job_can_submit_tasks_and_read_history() {
    let clock = TestClock::at(BEGIN);
    let plant = JobDescriptor::function("plant", "", |ctx| async move {
        let scheduler = ctx.scheduler()?;
        scheduler.submit(Task::new(name("planted"), name("work"))).await?;
        scheduler.trigger(&name("planted"), TriggerRequest::now()).await?;
        let seen = scheduler.history(&RunFilter::all()).await?.runs;
        Ok(json!(seen.iter().filter(|run| run.task == *ctx.task()).map(|run| run.state).collect::<Vec<_>>()))
    });
    let scheduler = builder(&clock).registry(jobs([plant])).backend(memory(Tier::Local)).build().unwrap();
    scheduler.submit(task(|task| task.job = name("plant"))).await.unwrap();
    scheduler.start().await.unwrap();

    let id = scheduler.trigger(&name("t"), TriggerRequest::now()).await.unwrap().run_id();
    clock.advance(SECOND).await;

    let runs = runs(&scheduler).await;
    assert_eq!(runs.iter().find(|run| run.id == id).unwrap().output, json!(["running"]));
    assert!(runs.iter().any(|run| run.task == "planted" && run.state == RunState::Succeeded));
}

#[tokio::test]
async fn what_a_task_keeps_survives_the_scheduler() {
    let folder = tempfile::tempdir().unwrap();
    let count = || {
        JobDescriptor::function("count", "", |ctx| async move {
            Ok(json!(ctx.state().update(|n: Option<u32>| n.unwrap_or(0) + 1).await?))
        })
    };
    for life in 1..=2 {
        let clock = TestClock::at(BEGIN);
        let builder = builder(&clock).registry(jobs([count()])).data_dir(folder.path());
        let scheduler = builder.backend(memory(Tier::Local)).build().unwrap();
        scheduler.submit(task(|task| task.job = name("count"))).await.unwrap();
        scheduler.start().await.unwrap();
        for _ in 0..3 {
            scheduler.trigger(&name("t"), TriggerRequest::now()).await.unwrap();
        }
        clock.advance(SECOND).await;
        let counted: BTreeSet<u64> =
            runs(&scheduler).await.iter().filter_map(|run| run.output.as_u64()).collect();
        assert_eq!(counted, BTreeSet::from([1, 2, 3].map(|n| n + 3 * (life - 1))));
    }

    let store = FileStateStore::new(folder.path().join("state"));
    let kept = store.load(&name("t")).await.unwrap().unwrap();
    assert_eq!((kept.version, kept.value), (6, json!(6)));
    assert_eq!(store.store(&name("t"), 5, Value::Null).await.unwrap_err().code(), "state/conflict");
}

#[tokio::test]
async fn a_failing_job_is_tried_again_as_its_policy_says() {
    let clock = TestClock::at(BEGIN);
    let attempts = Arc::new(Mutex::new(Vec::<(u32, Timestamp)>::new()));
    let seen = Arc::clone(&attempts);
    let fail = JobDescriptor::function("fail", "", move |ctx| {
        seen.lock().unwrap().push((ctx.attempt(), ctx.clock().now()));
        async { Err::<Output, _>(JobError::retry("not yet")) }
    });
    let scheduler = builder(&clock).registry(jobs([fail])).backend(memory(Tier::Local)).build().unwrap();
    scheduler.start().await.unwrap();
    let submitted = task(|task| {
        task.job = name("fail");
        task.retry.max_attempts = std::num::NonZeroU32::new(3);
        task.retry.jitter = false;
    });
    scheduler.submit(submitted).await.unwrap();

    scheduler.trigger(&name("t"), TriggerRequest::now()).await.unwrap();
    clock.advance(SECOND * 60).await;

    assert_eq!(*attempts.lock().unwrap(), [(1, at(0)), (2, at(10)), (3, at(30))]);
    assert_eq!(story(&scheduler).await, ["0: failed"]);
}

#[tokio::test]
async fn skipped_fires_stand_in_history_among_the_runs() {
    let clock = TestClock::at(BEGIN);
    let scheduler = scheduler(&clock, [memory(Tier::Local)]);
    scheduler.start().await.unwrap();
    scheduler.submit(ticking(15, |_| ())).await.unwrap();
    clock.advance(SECOND * 50).await;

    let mut skipped = RunFilter::of_task(Name::new("t").unwrap()).in_states(&[RunState::Skipped]).limited(1);
    let newest = scheduler.history(&skipped).await.unwrap();

    assert_eq!((newest.runs.len(), newest.runs[0].fire_time), (1, at(50)));
    skipped.after = newest.next;
    let older = scheduler.history(&skipped).await.unwrap();
    assert_eq!((older.runs[0].fire_time, older.runs[0].reason.is_some()), (at(30), true));
}
