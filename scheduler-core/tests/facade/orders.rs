//! Many runs asked for at once, and jobs without a task.

use std::sync::Arc;

use scheduler_core::{
    Adhoc, Backend, Enqueued, ErrorKind, JobDescriptor, Order, RunFilter, TestClock, Tier, TriggerRequest,
    Way, source,
};
use serde_json::{Value, json};

use crate::stage::{BEGIN, SECOND, at, builder, in_memory, name, registry, scheduler, story, task};

fn keyed(task: &str, key: &str) -> Order {
    Order::Task(name(task), TriggerRequest::now().with_key(key))
}

#[tokio::test]
async fn many_runs_are_answered_in_the_order_they_were_asked_for_whatever_backend_takes_them() {
    let clock = TestClock::at(BEGIN);
    let local: Arc<dyn Backend> = Arc::new(in_memory("local", Tier::Local));
    let scheduler = scheduler(&clock, [local, Arc::new(in_memory("queue", Tier::Queue))]);
    scheduler.start().await.unwrap();
    scheduler.submit(task(|_| ())).await.unwrap();
    scheduler.submit(task(|task| (task.name, task.tier) = (name("q"), Some(Tier::Queue)))).await.unwrap();
    let orders = [keyed("t", "a"), keyed("q", "a"), keyed("t", "b"), keyed("q", "a"), keyed("t", "a")];

    let answers = scheduler.enqueue_all(&orders).await.unwrap();

    let ids: Vec<_> = answers.iter().map(|answer| answer.run_id()).collect();
    assert_eq!((ids[0], ids[1]), (ids[4], ids[3]));
    let is_new: Vec<bool> = answers.iter().map(|answer| matches!(answer, Enqueued::Inserted(_))).collect();
    assert_eq!(is_new, [true, true, true, false, false]);
    for (order, id) in orders.iter().zip(ids) {
        let run = scheduler.history(&RunFilter::of_run(id)).await.unwrap().runs.remove(0);
        assert!(matches!(order, Order::Task(task, _) if *task == run.task));
    }
}

#[tokio::test]
async fn an_order_that_is_refused_keeps_every_other_from_being_taken() {
    let clock = TestClock::at(BEGIN);
    let scheduler = scheduler(&clock, [Arc::new(in_memory("local", Tier::Local)) as Arc<dyn Backend>]);
    scheduler.start().await.unwrap();
    scheduler.submit(task(|_| ())).await.unwrap();

    let refused = scheduler.enqueue_all(&[keyed("t", "a"), keyed("unknown", "a")]).await.unwrap_err();

    assert_eq!(refused.code(), "task/unknown");
    clock.settle().await;
    assert_eq!(story(&scheduler).await, [] as [&str; 0]);
    assert_eq!(scheduler.check_order(&keyed("t", "a")).unwrap(), "local");
}

#[tokio::test]
async fn a_job_runs_without_a_task_only_if_it_may_and_only_where_a_backend_can() {
    let clock = TestClock::at(BEGIN);
    let mut jobs = registry();
    let free = JobDescriptor::function("free", "", |_| async { Ok(Value::Null) }).adhoc();
    jobs.add_job(free, source!(), Way::Explicit).unwrap();
    let queue: Arc<dyn Backend> = Arc::new(in_memory("queue", Tier::Queue));
    let scheduler = builder(&clock).registry(jobs).backend(queue).build().unwrap();
    scheduler.start().await.unwrap();
    let ask = async |job: &str, args: Value| {
        scheduler.run_job(Adhoc::new(name(job), args), TriggerRequest::now()).await.unwrap_err()
    };

    assert_eq!(ask("none", Value::Null).await.code(), "job/unknown");
    assert_eq!(ask("work", Value::Null).await.code(), "job/not_adhoc");
    assert_eq!(ask("free", json!({"x": 1})).await.code(), "task/bad_args");
    let refused = ask("free", Value::Null).await;
    assert_eq!((refused.code(), refused.kind()), ("backend/no_adhoc", ErrorKind::Unsupported));
}

#[tokio::test]
async fn a_task_that_never_fires_again_can_be_defined_and_asked_for() {
    let clock = TestClock::at(BEGIN);
    let scheduler = scheduler(&clock, [Arc::new(in_memory("local", Tier::Local)) as Arc<dyn Backend>]);
    scheduler.start().await.unwrap();
    clock.advance(SECOND * 10).await;
    let passed = task(|task| task.trigger = Some(scheduler_core::Trigger::at(at(5)).unwrap()));

    assert_eq!(scheduler.submit(passed.clone()).await.unwrap_err().code(), "trigger/passed");
    scheduler.define(passed).await.unwrap();
    clock.advance(SECOND).await;
    assert_eq!(story(&scheduler).await, [] as [&str; 0], "it is too late");
    scheduler.trigger(&name("t"), TriggerRequest::now()).await.unwrap();
    clock.settle().await;

    assert_eq!(story(&scheduler).await, ["11: succeeded"]);
}
