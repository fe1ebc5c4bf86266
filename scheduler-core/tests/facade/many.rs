//! Many tasks in one call: all of them or none, each as it would be alone.

use std::sync::Arc;

use scheduler_core::{JobDescriptor, Name, Pause, Scheduler, Task, TestClock, Tier, Trigger, Way, source};
use serde_json::{Value, json};

use crate::faulty::{Call, Fault, Faulty};
use crate::stage::{BEGIN, SECOND, builder, in_memory, name, registry, scheduler, story, task, ticking};

/// A task of this name on this tier.
fn on(text: &str, tier: Tier) -> Task {
    ticking(0, |task| {
        task.name = name(text);
        task.tier = Some(tier);
    })
}

/// A backend that fires by itself on the local tier and one on the durable tier, under a scheduler that runs.
async fn two() -> (Arc<Faulty>, Arc<Faulty>, Scheduler) {
    let backend = |name, tier| Arc::new(Faulty::on(name, tier).with_schedules());
    let (a, b) = (backend("a", Tier::Local), backend("b", Tier::Queue));
    let scheduler = scheduler(&TestClock::at(BEGIN), [a.clone(), b.clone()]);
    scheduler.start().await.unwrap();
    (a, b, scheduler)
}

/// Each task as `name on backend: timeout`.
fn book(scheduler: &Scheduler) -> Vec<String> {
    let tell = |placed: &Arc<scheduler_core::Placed>| {
        format!("{} on {}: {:?}", placed.task.name, placed.placement.backend, placed.task.timeout)
    };
    scheduler.tasks().iter().map(tell).collect()
}

#[tokio::test]
async fn many_tasks_are_accepted_and_answered_in_their_order() {
    let (a, b, scheduler) = two().await;

    let all = [on("z", Tier::Queue), on("y", Tier::Local), on("x", Tier::Queue)];
    let placements = scheduler.submit_all(all).await.unwrap();

    let backends: Vec<&str> = placements.iter().map(|placement| placement.backend.as_str()).collect();
    assert_eq!(backends, ["b", "a", "b"]);
    assert_eq!((a.tasks(), b.tasks()), (vec!["y".to_owned()], vec!["x".to_owned(), "z".to_owned()]));
    assert_eq!(book(&scheduler), ["x on b: None", "y on a: None", "z on b: None"]);
}

#[tokio::test]
async fn tasks_that_wait_for_the_start_are_handed_over_then_and_fire() {
    let clock = TestClock::at(BEGIN);
    let memory = |name, tier| Arc::new(in_memory(name, tier));
    let scheduler = scheduler(&clock, [memory("a", Tier::Local), memory("b", Tier::Queue)]);

    scheduler.submit_all([on("x", Tier::Local), on("y", Tier::Queue)]).await.unwrap();
    scheduler.start().await.unwrap();
    clock.advance(SECOND * 5).await;

    assert_eq!(story(&scheduler).await, ["0: succeeded", "0: succeeded"]);
}

#[tokio::test]
async fn however_many_come_later_those_before_are_known_and_named_as_ever() {
    let (_, _, scheduler) = two().await;
    let named = |number: usize| name(&format!("t{number:04}"));
    let mut known = 0;
    for more in [1, 20, 3, 300, 40, 2_000] {
        // Two of each call are known already.
        let from = usize::saturating_sub(known, 2);
        known += more;
        let all = (from..known).map(|number| on(named(number).as_str(), Tier::Local));
        assert_eq!(scheduler.submit_all(all).await.unwrap().len(), known - from);
        let names: Vec<Name> = scheduler.tasks().iter().map(|placed| placed.task.name.clone()).collect();
        assert_eq!(names, (0..known).map(named).collect::<Vec<_>>());
    }

    let every: Vec<Name> = (0..known).map(named).collect();
    scheduler.resume_all(&every).await.unwrap();
    let third: Vec<Name> = every.iter().step_by(3).cloned().collect();
    assert!(scheduler.remove_all(&third).await.unwrap().iter().all(|known| *known));
    assert_eq!(scheduler.tasks().len(), known - third.len());
    assert!(
        scheduler
            .remove_all(&every)
            .await
            .unwrap()
            .iter()
            .enumerate()
            .all(|(number, known)| *known == (number % 3 != 0))
    );
}

#[tokio::test]
async fn one_task_that_is_refused_keeps_all_out_and_every_fault_is_told() {
    let (a, b, scheduler) = two().await;
    scheduler.submit(on("kept", Tier::Local)).await.unwrap();
    let wrong = |text: &str| {
        let mut task = on(text, Tier::Local);
        task.args = json!({"secs": 1});
        task
    };
    let mut passed = on("passed", Tier::Local);
    passed.trigger = Some(Trigger::at(BEGIN - SECOND).unwrap());

    let all = [on("good", Tier::Queue), wrong("bad"), passed, wrong("worse"), on("kept", Tier::Queue)];
    let error = scheduler.submit_all(all.clone()).await.unwrap_err();

    assert_eq!(error.code(), "task/bad_args");
    let text = error.to_string();
    for part in ["`bad`: args.secs", "`passed` never fires", "`worse`: args.secs"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!((a.tasks().len(), b.tasks().len()), (1, 0));
    assert_eq!(book(&scheduler), ["kept on a: None"]);
    let error = scheduler.define_all(all).await.unwrap_err().to_string();
    assert!(!error.contains("passed"), "one that has passed can be defined: {error}");
}

#[tokio::test]
async fn a_name_that_stands_twice_among_many_is_refused() {
    let (a, _, scheduler) = two().await;
    scheduler.submit(on("kept", Tier::Local)).await.unwrap();
    let limited = |text: &str| {
        let mut task = on(text, Tier::Local);
        task.timeout = Some(SECOND);
        task
    };

    for twice in ["kept", "new"] {
        let all = [on("other", Tier::Local), limited(twice), on("third", Tier::Local), limited(twice)];
        let error = scheduler.submit_all(all).await.unwrap_err();

        assert_eq!(error.code(), "task/duplicate");
        assert!(error.to_string().contains(&format!("`{twice}`")), "{error}");
        assert_eq!(
            (a.tasks(), book(&scheduler)),
            (vec!["kept".to_owned()], vec!["kept on a: None".to_owned()])
        );
    }
}

#[tokio::test]
async fn a_backend_that_refuses_one_of_many_leaves_all_as_they_were() {
    let (a, b, scheduler) = two().await;
    let mut kept = on("kept", Tier::Local);
    kept.timeout = Some(SECOND);
    scheduler.submit_all([kept, on("moves", Tier::Queue)]).await.unwrap();
    let held = || (a.tasks().join(" "), b.tasks().join(" "), book(&scheduler));
    let before = held();
    assert_eq!(before.2, ["kept on a: Some(1s)", "moves on b: None"]);
    // The last of its backend is refused, after everything else has been accepted.
    let all = || {
        let (local, queue) = (Tier::Local, Tier::Queue);
        [on("new", local), on("kept", local), on("moves", local), on("other", queue), on("last", queue)]
    };
    let limit = || a.book.as_ref().unwrap().lock().unwrap()[&name("kept")].task.timeout;

    *b.unwanted.lock().unwrap() = Some(name("last"));
    assert_eq!(scheduler.submit_all(all()).await.unwrap_err().code(), "faulty/unwanted");
    assert_eq!((held(), limit()), (before.clone(), Some(SECOND)));
    *b.unwanted.lock().unwrap() = None;

    b.set(Call::Remove, Fault::Away);
    let without_last = all().into_iter().filter(|task| task.tier == Some(Tier::Local));
    assert_eq!(scheduler.submit_all(without_last).await.unwrap_err().code(), "faulty/away");
    assert_eq!((held(), limit()), (before, Some(SECOND)), "the one that moves cannot be taken away");
    b.set(Call::Remove, None);

    scheduler.submit_all(all()).await.unwrap();
    assert_eq!((a.tasks().join(" "), b.tasks().join(" ")), ("kept moves new".into(), "last other".into()));
    assert_eq!(limit(), None);
}

#[tokio::test]
async fn many_tasks_are_paused_resumed_and_removed_in_their_order() {
    let clock = TestClock::at(BEGIN);
    let memory = |name, tier| Arc::new(in_memory(name, tier));
    let scheduler = scheduler(&clock, [memory("a", Tier::Local), memory("b", Tier::Queue)]);
    scheduler.start().await.unwrap();
    scheduler.submit_all([on("x", Tier::Local), on("y", Tier::Queue), on("z", Tier::Local)]).await.unwrap();
    let paused = async || {
        let statuses = scheduler.statuses().await.unwrap();
        let paused = statuses.iter().filter(|status| status.paused.is_some());
        paused.map(|status| status.task.to_string()).collect::<Vec<_>>().join(" ")
    };

    let unknown = scheduler.pause_all(&[name("x"), name("w")], &Pause::default()).await.unwrap_err();
    assert_eq!((unknown.code(), paused().await.as_str()), ("task/unknown", ""));
    scheduler.pause_all(&[name("y"), name("x")], &Pause::default()).await.unwrap();
    assert_eq!(paused().await, "x y");
    scheduler.resume_all(&[name("x"), name("z")]).await.unwrap();
    assert_eq!(paused().await, "y");

    let asked = ["z", "w", "y", "z"].map(name);
    assert_eq!(scheduler.remove_all(&asked).await.unwrap(), [true, false, true, false]);
    assert_eq!(book(&scheduler), ["x on a: None"]);
    assert_eq!(scheduler.statuses().await.unwrap().len(), 1);
}

#[tokio::test]
async fn those_before_the_one_that_cannot_be_removed_are_gone() {
    let (_, b, scheduler) = two().await;
    let all = [on("x", Tier::Local), on("y", Tier::Queue), on("z", Tier::Local)];
    scheduler.submit_all(all).await.unwrap();
    b.set(Call::Remove, Fault::Away);

    let error = scheduler.remove_all(&["x", "y", "z"].map(name)).await.unwrap_err();

    assert_eq!(error.code(), "faulty/away");
    assert_eq!(
        book(&scheduler),
        ["y on b: None"],
        "each backend is told once, in the order of its first task"
    );
}

#[tokio::test]
async fn tasks_that_are_alike_share_what_is_said_of_them() {
    let mut jobs = registry();
    let other = JobDescriptor::function("other", "", |_| async { Ok(Value::Null) });
    jobs.add_job(other, source!(), Way::Explicit).unwrap();
    let local = Arc::new(in_memory("a", Tier::Local));
    let scheduler = builder(&TestClock::at(BEGIN)).registry(jobs).backend(local).build().unwrap();
    let named = |text: &str, job: &str| {
        let mut task = Task::new(name(text), name(job));
        task.trigger = Some(Trigger::every(SECOND).unwrap());
        task
    };

    let placements =
        scheduler.submit_all([named("x", "work"), named("y", "work"), named("z", "other")]).await.unwrap();
    let alone = scheduler.submit(named("w", "work")).await.unwrap();

    assert!(Arc::ptr_eq(&placements[0], &placements[1]) && Arc::ptr_eq(&placements[0], &alone));
    assert!(!Arc::ptr_eq(&placements[0], &placements[2]));
}

#[tokio::test]
async fn a_task_among_very_many_that_is_not_there_is_answered_with_a_few_of_them() {
    let scheduler = scheduler(&TestClock::at(BEGIN), [Arc::new(in_memory("a", Tier::Local))]);
    let all = (0..1_000).map(|number| task(|task| task.name = name(&format!("t{number:04}"))));
    scheduler.submit_all(all).await.unwrap();

    let error = scheduler.resume(&name("absent")).await.unwrap_err().to_string();

    assert!(error.contains("t0000, t0001") && error.ends_with("t0019, and 980 more"), "{error}");
}
