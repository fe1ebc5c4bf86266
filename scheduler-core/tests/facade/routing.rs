//! Which tasks are taken, and by which backend.

use std::sync::Arc;

use scheduler_core::{
    ArgsError, Job, JobDescriptor, JobError, OnUnavailable, Output, Registry, RunContext, Scheduler,
    TestClock, Tier, TriggerRequest, Way, async_trait, source,
};
use serde_json::json;

use crate::custom_backend::CustomBackend;
use crate::faulty::{Call, Fault, Faulty};
use crate::stage::{
    BEGIN, SECOND, builder, in_memory, name, optional, runs, scheduler, story, task, ticking,
};

fn memory(name: &str, tier: Tier) -> Arc<CustomBackend> {
    Arc::new(in_memory(name, tier))
}

#[tokio::test]
async fn every_fault_of_the_args_is_in_one_error_and_nothing_changes() {
    let scheduler = scheduler(&TestClock::at(BEGIN), [memory("m", Tier::Local)]);
    scheduler.submit(task(|_| ())).await.unwrap();
    let wrong = task(|task| task.args = json!({"secs": 1, "retries": 2}));

    let error = scheduler.submit(wrong).await.unwrap_err();

    assert_eq!(error.code(), "task/bad_args");
    let text = error.to_string();
    assert!(text.contains("args.retries: unknown key") && text.contains("args.secs: unknown key"), "{text}");
    assert_eq!(scheduler.tasks()[0].task.args, json!({}), "the definition before stays");
}

#[tokio::test]
async fn what_a_job_misses_on_this_machine_is_told_when_its_task_is_submitted() {
    struct Homeless;
    #[async_trait]
    impl Job for Homeless {
        async fn run(&self, _: &RunContext) -> Result<Output, JobError> {
            unreachable!("it is never submitted")
        }
        fn check(&self) -> Vec<ArgsError> {
            vec![ArgsError::new("/folder", "no such folder"), ArgsError::new("/program", "no such program")]
        }
    }
    let mut registry = Registry::new();
    let job = JobDescriptor::new("work", "", |_| Ok(Arc::new(Homeless)));
    registry.add_job(job, source!(), Way::Explicit).unwrap();
    let clock = TestClock::at(BEGIN);
    let scheduler = builder(&clock).registry(registry).backend(memory("m", Tier::Local)).build().unwrap();

    let error = scheduler.submit(task(|_| ())).await.unwrap_err().to_string();

    assert!(error.contains("no such folder") && error.contains("no such program"), "{error}");
}

#[tokio::test]
async fn an_unknown_job_is_answered_with_those_that_are_registered() {
    let scheduler = scheduler(&TestClock::at(BEGIN), [memory("m", Tier::Local)]);

    let error = scheduler.submit(task(|task| task.job = name("wrok"))).await.unwrap_err();

    assert_eq!(error.code(), "job/unknown");
    assert!(error.to_string().contains("registered: work"), "{error}");
}

#[tokio::test]
async fn a_task_that_moves_fires_on_its_new_backend_alone() {
    for before_start in [true, false] {
        let clock = TestClock::at(BEGIN);
        let scheduler = scheduler(&clock, [memory("a", Tier::Local), memory("b", Tier::Queue)]);
        let on = |tier| ticking(0, move |task| task.tier = Some(tier));
        scheduler.submit(on(Tier::Local)).await.unwrap();
        if before_start {
            scheduler.submit(on(Tier::Queue)).await.unwrap();
        }
        scheduler.start().await.unwrap();
        clock.advance(SECOND * 5).await;
        scheduler.submit(on(Tier::Queue)).await.unwrap();
        clock.advance(SECOND * 20).await;

        let places: Vec<_> = runs(&scheduler).await.iter().map(|run| run.backend.to_string()).collect();
        assert_eq!(places, [if before_start { "b" } else { "a" }, "b", "b"]);
    }
}

#[tokio::test]
async fn a_task_that_moves_while_it_fires_fires_once() {
    let clock = TestClock::at(BEGIN);
    let (a, b) = (Arc::new(Faulty::on("a", Tier::Local)), Arc::new(Faulty::on("b", Tier::Queue)));
    let scheduler = scheduler(&clock, [a.clone(), b.clone()]);
    let on = |tier| ticking(0, move |task| task.tier = Some(tier));
    scheduler.start().await.unwrap();
    a.set(Call::Enqueue, Fault::Hangs);
    scheduler.submit(on(Tier::Local)).await.unwrap();
    while a.calls(Call::Enqueue) == 0 {
        tokio::task::yield_now().await;
    }

    scheduler.submit(on(Tier::Queue)).await.unwrap();
    while b.calls(Call::Runs) == 0 {
        tokio::task::yield_now().await;
    }
    a.set(Call::Enqueue, None);
    clock.advance(SECOND * 15).await;

    assert_eq!(
        (a.enqueued.lock().unwrap().len(), b.enqueued.lock().unwrap().len()),
        (1, 1),
        "at 0 and at 10"
    );
}

#[tokio::test]
async fn a_task_that_moves_is_handed_over_and_taken_away() {
    let backend = |name, tier| Arc::new(Faulty::on(name, tier).with_schedules());
    let (a, b) = (backend("a", Tier::Local), backend("b", Tier::Queue));
    let scheduler = scheduler(&TestClock::at(BEGIN), [a.clone(), b.clone()]);
    let on = |tier| ticking(0, move |task| task.tier = Some(tier));
    scheduler.start().await.unwrap();
    scheduler.submit(on(Tier::Local)).await.unwrap();
    let held = || (a.tasks().len(), b.tasks().len(), scheduler.tasks()[0].placement.backend.to_string());
    assert_eq!(held(), (1, 0, "a".into()));

    // Neither side may be left with half a move.
    for (backend, call) in [(&b, Call::Upsert), (&a, Call::Remove)] {
        backend.set(call, Fault::Away);
        assert_eq!(scheduler.submit(on(Tier::Queue)).await.unwrap_err().code(), "faulty/away");
        assert_eq!(held(), (1, 0, "a".into()), "{call:?}");
        backend.set(call, None);
    }
    scheduler.submit(on(Tier::Queue)).await.unwrap();

    assert_eq!(held(), (0, 1, "b".into()));
}

#[tokio::test]
async fn a_task_whose_removal_fails_is_still_known_and_can_be_removed() {
    let backend = Arc::new(Faulty::on("a", Tier::Local).with_schedules());
    let scheduler = scheduler(&TestClock::at(BEGIN), [backend.clone()]);
    scheduler.start().await.unwrap();
    scheduler.submit(ticking(0, |_| ())).await.unwrap();
    backend.set(Call::Remove, Fault::Away);
    scheduler.remove(&name("t")).await.unwrap_err();
    backend.set(Call::Remove, None);

    assert!(scheduler.remove(&name("t")).await.unwrap(), "it is still there");

    assert!(backend.tasks().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_task_is_lost_between_submitting_and_starting() {
    for _ in 0..50 {
        let backend = Arc::new(Faulty::on("a", Tier::Local).with_schedules());
        let scheduler = scheduler(&TestClock::at(BEGIN), [backend.clone()]);
        let submitting: Vec<_> = (0..8)
            .map(|n| {
                let (scheduler, task) =
                    (scheduler.clone(), ticking(0, |task| task.name = name(&format!("t{n}"))));
                tokio::spawn(async move { scheduler.submit(task).await })
            })
            .collect();
        scheduler.start().await.unwrap();
        for submitted in submitting {
            submitted.await.unwrap().unwrap();
        }

        assert_eq!(backend.tasks().len(), 8);
    }
}

#[tokio::test]
async fn a_task_that_fires_at_once_is_known_to_its_backend() {
    for _ in 0..20 {
        let clock = TestClock::at(BEGIN);
        let scheduler = scheduler(&clock, [memory("m", Tier::Local)]);
        scheduler.start().await.unwrap();

        scheduler.submit(ticking(0, |_| ())).await.unwrap();
        clock.settle().await;

        assert_eq!(story(&scheduler).await, ["0: succeeded"]);
    }
}

fn fallback(task: &mut scheduler_core::Task) {
    task.tier = Some(Tier::Workflow);
    task.on_unavailable = OnUnavailable::Fallback;
}

/// Three tiers, of which the workflow tier's is optional.
fn three_tiers(clock: &TestClock, registry: Option<Registry>) -> (Scheduler, Arc<Faulty>, Arc<Faulty>) {
    let queue = Arc::new(Faulty::on("queue", Tier::Queue));
    let workflow = Arc::new(Faulty::on("workflow", Tier::Workflow));
    let builder = builder(clock).backend(memory("local", Tier::Local)).backend(queue.clone());
    let builder = builder.backend_as(workflow.clone(), optional());
    let builder = registry.into_iter().fold(builder, scheduler_core::SchedulerBuilder::registry);
    (builder.build().unwrap(), queue, workflow)
}

#[tokio::test]
async fn a_task_whose_tier_is_down_is_refused_or_falls_back_and_says_so() {
    let (scheduler, _, workflow) = three_tiers(&TestClock::at(BEGIN), None);
    workflow.set(Call::Start, Fault::Away);
    scheduler.start().await.unwrap();

    let refused = scheduler.submit(task(|task| task.tier = Some(Tier::Workflow))).await.unwrap_err();
    let placed = scheduler.submit(task(fallback)).await.unwrap();

    assert_eq!(refused.code(), "placement/backend_down");
    assert_eq!(placed.backend, "queue");
    let said = placed.reasons.last().unwrap();
    assert!(said.starts_with("fallback to queue: ") && said.contains("`workflow`, which is down"), "{said}");
}

#[tokio::test]
async fn a_task_falls_back_to_a_tier_that_its_job_can_run_on() {
    let mut registry = Registry::new();
    let job = JobDescriptor::function("work", "", |_| async { Ok(Output::Null) });
    registry.add_job(job.on(&[Tier::Workflow, Tier::Local]), source!(), Way::Explicit).unwrap();
    let (scheduler, _, workflow) = three_tiers(&TestClock::at(BEGIN), Some(registry));
    workflow.set(Call::Start, Fault::Away);
    scheduler.start().await.unwrap();

    assert_eq!(scheduler.submit(task(fallback)).await.unwrap().backend, "local");
}

#[tokio::test]
async fn a_fire_falls_back_while_its_backend_is_away() {
    for call in [Call::Enqueue, Call::Runs] {
        let clock = TestClock::at(BEGIN);
        let (scheduler, queue, workflow) = three_tiers(&clock, None);
        scheduler.start().await.unwrap();
        workflow.set(call, Fault::Away);
        workflow.set(Call::Enqueue, Fault::Away);
        scheduler
            .submit(ticking(15, |task| {
                fallback(task);
                task.overlap = scheduler_core::Overlap::Skip;
            }))
            .await
            .unwrap();

        clock.advance(SECOND * 25).await;

        assert_eq!(queue.enqueued.lock().unwrap().len(), 2, "at 0 and at 20: the run at 10 would overlap");
        workflow.set(call, None);
        workflow.set(Call::Enqueue, None);
        clock.advance(SECOND * 20).await;
        assert_eq!(
            workflow.enqueued.lock().unwrap().len(),
            1,
            "the fire at 40 goes home, the one at 30 overlaps"
        );
    }
}

#[tokio::test]
async fn a_run_asked_for_falls_back_while_its_backend_is_away() {
    let clock = TestClock::at(BEGIN);
    let (scheduler, queue, workflow) = three_tiers(&clock, None);
    workflow.set(Call::Start, Fault::Away);
    scheduler.submit(task(fallback)).await.unwrap();
    scheduler
        .submit(task(|task| (task.name, task.tier) = (name("strict"), Some(Tier::Workflow))))
        .await
        .unwrap();
    scheduler.start().await.unwrap();

    scheduler.trigger(&name("t"), TriggerRequest::now()).await.unwrap();
    let strict = scheduler.trigger(&name("strict"), TriggerRequest::now()).await.unwrap_err();

    assert_eq!((queue.enqueued.lock().unwrap().len(), workflow.calls(Call::Enqueue)), (1, 0));
    assert!(strict.is_transient(), "{strict}");
}
