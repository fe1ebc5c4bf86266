//! Schedules in an engine in memory: kept as the tasks want them, and nothing else touched.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{
    Backend, Cancelled, FiredBy, HealthStatus, Misfire, MisfirePolicy, Name, Overlap, Pause, Placed,
    PlannedAction, Planning, RunFilter, RunId, RunLogs, RunOrigin, RunState, Schedules, Task, Tier,
    Timestamp, Trigger,
};
use serde_json::json;

use crate::engine::Phase;
use crate::memory::Memory;
use crate::tier_test::{Stage, foreign, hosted, name, now};
use crate::{EngineSchedule, WorkflowConfig, WorkflowId};

fn every(mut task: Task, seconds: u64) -> Task {
    task.trigger = Some(Trigger::every(Duration::from_secs(seconds)).unwrap());
    task
}

fn schedules(stage: &Stage) -> Vec<(WorkflowId, EngineSchedule)> {
    stage.engine.world().schedules.clone()
}

fn slugs(stage: &Stage) -> Vec<String> {
    schedules(stage).into_iter().filter_map(|(_, schedule)| schedule.slug).collect()
}

fn add_schedule(engine: &Memory, workflow: &WorkflowId, slug: Option<&str>) -> EngineSchedule {
    let mut world = engine.world();
    let schedule = EngineSchedule {
        id: format!("added-{}", world.schedules.len()),
        slug: slug.map(str::to_owned),
        rule: json!({"theirs": true}),
        active: true,
        parameters: Default::default(),
    };
    world.schedules.push((workflow.clone(), schedule.clone()));
    schedule
}

/// A daemon of its own on the same engine, with these tasks, started.
async fn daemon(engine: &Memory, config: WorkflowConfig, tasks: &[Task]) -> Stage {
    let stage = Stage::with(engine.clone(), config);
    for task in tasks {
        stage.define(task.clone());
    }
    stage.start().await;
    for placed in stage.ctx.tasks.all() {
        if stage.backend.fires(placed.task.fired_by) {
            stage.backend.upsert(placed).await.unwrap();
        }
    }
    stage
}

async fn plan(stage: &Stage) -> Vec<(PlannedAction, String)> {
    let changes = stage.backend.plan(&stage.ctx.tasks.all(), false).await.unwrap();
    changes.into_iter().map(|change| (change.action, change.subject)).collect()
}

async fn is_in_step(stage: &Stage) {
    for _ in 0..2_000 {
        if plan(stage).await.iter().all(|(action, _)| *action == PlannedAction::Keep) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in step after 20 s: {:?}", plan(stage).await);
}

#[tokio::test]
async fn edits_and_restarts_keep_every_id_and_write_only_differences() {
    let engine = Memory::with_schedules();
    let workflow = engine.add_workflow("etl", "nightly");
    let theirs = add_schedule(&engine, &workflow, Some("nightly"));
    let unnamed = add_schedule(&engine, &workflow, None);
    let mut ids: Vec<String> = Vec::new();
    for seconds in [3_600, 7_200, 7_200] {
        let tasks = [every(foreign("load"), 3_600), every(hosted("backup"), seconds)];
        let stage = daemon(&engine, WorkflowConfig::default(), &tasks).await;
        is_in_step(&stage).await;
        stage.backend.stop(Duration::from_secs(5)).await.unwrap();
        let found: Vec<String> = schedules(&stage).into_iter().map(|(_, schedule)| schedule.id).collect();
        assert!(ids.is_empty() || ids == found, "{ids:?} {found:?}");
        ids = found;
    }

    let mut writes = engine.world().writes.clone();
    writes.sort();
    let expected = [
        "create default.backup",
        "create hs:default:backup",
        "create hs:default:load",
        "update hs:default:backup",
    ];
    assert_eq!(writes, expected);
    let world = engine.world();
    let kept: Vec<&EngineSchedule> = world.schedules.iter().take(2).map(|(_, schedule)| schedule).collect();
    assert_eq!(kept, [&theirs, &unnamed], "what is not ours is as it was");
}

#[tokio::test]
async fn a_plan_says_what_would_be_written_and_writes_nothing_and_applied_nothing_is_left() {
    let engine = Memory::with_schedules();
    let workflow = engine.add_workflow("etl", "nightly");
    add_schedule(&engine, &workflow, Some("nightly"));
    let stage = Stage::set(engine.clone());
    stage.define(every(foreign("load"), 60));
    stage.define(every(hosted("backup"), 60));
    stage.backend.connect(stage.ctx.clone()).await.unwrap();

    let planned = plan(&stage).await;

    let create = |subject: &str| (PlannedAction::Create, subject.to_owned());
    assert_eq!(planned[..2], [create("deployment default.backup"), create("schedule hs:default:backup")]);
    assert_eq!(planned[2], create("schedule hs:default:load"));
    assert_eq!(planned[3], (PlannedAction::Keep, "schedule nightly of etl/nightly".to_owned()));
    assert!(engine.world().writes.is_empty());

    let tasks = stage.ctx.tasks.all();
    stage.backend.apply(&tasks, false).await.unwrap();
    is_in_step(&stage).await;
    engine.world().schedules[2].1.rule = json!({"edited": "by hand"});
    let changes = stage.backend.plan(&tasks, false).await.unwrap();
    let update = changes.iter().find(|change| change.action == PlannedAction::Update).unwrap();
    assert_eq!(update.before["rule"], json!({"edited": "by hand"}));
    assert!(update.after["rule"]["trigger"].is_string());
}

#[tokio::test]
async fn what_the_configuration_dropped_is_reported_and_deleted_only_when_asked() {
    let engine = Memory::with_schedules();
    let task = every(hosted("backup"), 60);
    is_in_step(&daemon(&engine, WorkflowConfig::default(), &[task]).await).await;

    let stage = daemon(&engine, WorkflowConfig::default(), &[]).await;
    for _ in 0..2_000 {
        if stage.backend.health().await.status == HealthStatus::Degraded {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let findings = stage.backend.health().await.findings;
    assert!(findings[0].contains("hs:default:backup"), "{findings:?}");
    assert_eq!(slugs(&stage), ["hs:default:backup"]);

    let pruning = WorkflowConfig { prune: true, ..WorkflowConfig::default() };
    let stage = daemon(&engine, pruning, &[]).await;
    stage.until("it is deleted", |stage| slugs(stage).is_empty()).await;
}

#[tokio::test]
async fn a_task_that_moved_or_that_we_fire_ourselves_is_not_fired_by_the_engine_as_well() {
    let engine = Memory::with_schedules();
    let other = engine.add_workflow("etl", "weekly");
    engine.add_workflow("etl", "nightly");
    let tasks = [every(hosted("moved"), 60), every(hosted("ours"), 60), every(foreign("turned"), 60)];
    is_in_step(&daemon(&engine, WorkflowConfig::default(), &tasks).await).await;
    assert_eq!(engine.world().schedules.len(), 3);

    let stage = Stage::set(engine.clone());
    let mut moved = every(hosted("moved"), 60);
    moved.tier = Some(Tier::Queue);
    let queue = scheduler_core::BackendInfo::new(name("queue"), "queue", Tier::Queue, &[]);
    let placed = stage.placed_on(moved, queue);
    stage.ctx.tasks.insert(placed);
    let mut ours = every(hosted("ours"), 60);
    (ours.fired_by, ours.overlap) = (FiredBy::Scheduler, Overlap::CancelOther);
    stage.define(ours);
    let mut turned = every(foreign("turned"), 60);
    turned.args["deployment"] = json!("weekly");
    stage.define(turned);
    stage.start().await;

    stage.until("only what is to fire is left", |stage| slugs(stage) == ["hs:default:turned"]).await;
    assert_eq!(schedules(&stage)[0].0, other);
    let hosts = |stage: &Stage| {
        let world = stage.engine.world();
        let hosted = world.hosted.iter().find(|hosting| hosting.task == "ours");
        hosted.map(|hosting| hosting.overlap)
    };
    stage.until("overlap is ours to keep", |stage| hosts(stage) == Some(Overlap::Allow)).await;
}

#[tokio::test]
async fn a_pause_holds_over_edits_and_restarts_until_it_is_resumed() {
    let engine = Memory::with_schedules();
    let stage = daemon(&engine, WorkflowConfig::default(), &[every(hosted("backup"), 3_600)]).await;
    is_in_step(&stage).await;
    let backup = name("backup");
    let next =
        |statuses: Vec<scheduler_core::ScheduleStatus>| (statuses[0].next, statuses[0].paused.is_some());
    let (first, paused) = next(stage.backend.statuses().await.unwrap());
    assert!(first.is_some_and(|at| at > now()) && !paused);

    stage.backend.pause(&backup, Pause { reason: Some("tests".into()), ..Pause::default() }).await.unwrap();
    assert_eq!(next(stage.backend.statuses().await.unwrap()), (None, true));
    stage.backend.stop(Duration::from_secs(5)).await.unwrap();
    let stage = daemon(&engine, WorkflowConfig::default(), &[every(hosted("backup"), 60)]).await;
    is_in_step(&stage).await;
    assert_eq!(next(stage.backend.statuses().await.unwrap()), (None, true));

    stage.backend.resume(&backup).await.unwrap();
    assert!(!next(stage.backend.statuses().await.unwrap()).1);
    let soon = Pause { until: Some(now() + Duration::from_millis(300)), ..Pause::default() };
    stage.backend.pause(&backup, soon).await.unwrap();
    stage.until("the pause ends by itself", |stage| schedules(stage)[0].1.active).await;
    assert_eq!(
        stage.backend.pause(&name("nobody"), Pause::default()).await.unwrap_err().code(),
        "task/unknown"
    );
}

#[tokio::test]
async fn a_paused_schedule_that_was_lost_in_the_engine_is_made_again_and_does_not_fire() {
    let engine = Memory::with_schedules();
    let stage = daemon(&engine, WorkflowConfig::default(), &[every(hosted("backup"), 3_600)]).await;
    is_in_step(&stage).await;
    let pause = Pause { by: Some("ada".into()), reason: Some("tests".into()), until: None };
    stage.backend.pause(&name("backup"), pause).await.unwrap();
    let kept = stage.backend.plan(&stage.ctx.tasks.all(), false).await.unwrap();
    assert!(kept[1].notes.contains(&"it stays paused by ada: tests".to_owned()), "{kept:?}");
    engine.world().schedules.clear();

    let planned = stage.backend.apply(&stage.ctx.tasks.all(), false).await.unwrap();

    let of = |action| planned.iter().find(|change| change.action == action).unwrap();
    assert_eq!(of(PlannedAction::Create).subject, "schedule hs:default:backup");
    assert_eq!(of(PlannedAction::Pause).notes, ["paused by ada: tests"]);
    assert!(!schedules(&stage)[0].1.active);
    stage.backend.resume(&name("backup")).await.unwrap();
    assert!(schedules(&stage)[0].1.active);
    is_in_step(&stage).await;
}

#[tokio::test]
async fn who_paused_a_task_is_known_after_a_restart_and_the_pause_ends_then() {
    let (engine, folder) = (Memory::with_schedules(), tempfile::tempdir().unwrap());
    let start = async || {
        let mut stage = Stage::set(engine.clone());
        stage.ctx.data_dir = Some(folder.path().to_owned());
        let placed = stage.define(every(hosted("backup"), 3_600));
        stage.start().await;
        stage.backend.upsert(placed).await.unwrap();
        is_in_step(&stage).await;
        stage
    };
    let until = now() + Duration::from_secs(3);
    let pause = Pause { by: Some("ada".into()), reason: Some("tests".into()), until: Some(until) };
    let first = start().await;
    first.backend.pause(&name("backup"), pause.clone()).await.unwrap();
    first.backend.stop(Duration::from_secs(5)).await.unwrap();

    let second = start().await;
    let paused = second.backend.statuses().await.unwrap()[0].paused.clone();

    assert!(paused == Some(pause) || now() > until, "{paused:?}");
    second.until("the pause ends by itself", |stage| schedules(stage)[0].1.active).await;
    assert_eq!(second.backend.statuses().await.unwrap()[0].paused, None);
}

#[tokio::test]
async fn the_workflow_of_a_task_that_is_gone_is_deleted_with_its_schedule_when_nothing_needs_it() {
    let engine = Memory::with_schedules();
    let tasks = [every(hosted("idle"), 60), every(hosted("shared"), 60), hosted("busy"), hosted("moved")];
    let before = daemon(&engine, WorkflowConfig::default(), &tasks).await;
    is_in_step(&before).await;
    for task in ["busy", "moved"] {
        before.ask(task).await;
    }
    before.backend.stop(Duration::from_secs(5)).await.unwrap();
    engine.set(0, |run| run.phase = Phase::Running);
    let id_of = |deployment: &str| {
        let world = engine.world();
        world.workflows.iter().find(|known| known.name.deployment == deployment).unwrap().id.clone()
    };
    add_schedule(&engine, &id_of("default.shared"), Some("of-others"));
    let stage = Stage::set(engine.clone());
    let mut moved = hosted("moved");
    moved.tier = Some(Tier::Queue);
    let queue = scheduler_core::BackendInfo::new(name("queue"), "queue", Tier::Queue, &[]);
    stage.ctx.tasks.insert(stage.placed_on(moved, queue));
    stage.backend.connect(stage.ctx.clone()).await.unwrap();

    let kept = stage.backend.apply(&[], false).await.unwrap();
    let pruned = stage.backend.apply(&[], true).await.unwrap();

    assert!(kept.iter().all(|change| change.action == PlannedAction::Keep), "{kept:?}");
    let of = |subject: &str| {
        let change = pruned.iter().find(|change| change.subject == subject).unwrap();
        (change.action, change.notes.join("; "))
    };
    assert_eq!(of("deployment default.idle").0, PlannedAction::Delete);
    let (shared, busy) = (of("deployment default.shared"), of("deployment default.busy"));
    assert!(shared.0 == PlannedAction::Keep && shared.1.contains("somebody else"), "{shared:?}");
    assert!(busy.0 == PlannedAction::Keep && busy.1.contains("goes on"), "{busy:?}");
    let left: Vec<String> =
        engine.world().workflows.iter().map(|known| known.name.deployment.clone()).collect();
    assert_eq!(left, ["default.busy", "default.moved", "default.shared"]);
}

#[tokio::test]
async fn a_run_of_the_engines_schedule_is_ours_by_its_time_and_is_told_shown_and_cancelled() {
    let engine = Memory::with_schedules();
    engine.add_workflow("etl", "nightly");
    let stage = daemon(&engine, WorkflowConfig::default(), &[every(foreign("load"), 3_600)]).await;
    is_in_step(&stage).await;
    let (past, ahead) = (now() - Duration::from_secs(5), now() + Duration::from_secs(3_600));

    engine.fire("hs:default:load", past, "Scheduled");
    engine.fire("hs:default:load", ahead, "Scheduled");

    let id = RunId::scheduled(&name("default"), &name("load"), past);
    let runs = stage.runs().await;
    assert_eq!(runs.len(), 1, "what is only announced is no run yet");
    assert_eq!((runs[0].id, runs[0].origin, runs[0].fire_time), (id, RunOrigin::Schedule, past));
    let beside = stage.beside();
    beside.backend.connect(beside.ctx.clone()).await.unwrap();
    assert_eq!(beside.backend.cancel(&id).await.unwrap(), Cancelled::Prevented);
    let page = beside.backend.runs(&RunFilter::of_run(id)).await.unwrap();
    assert_eq!(page.runs[0].state, RunState::Cancelled);
    let lines = beside.backend.logs(&id, 1, 10).await.unwrap();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].message.ends_with(" 1"));
    assert_eq!(beside.backend.logs(&RunId::manual(now()), 0, 9).await.unwrap_err().code(), "run/unknown");
    stage.until("its end is told", |stage| stage.told(id) == ["cancelled"]).await;
}

#[tokio::test]
async fn late_runs_of_the_engines_schedules_follow_the_policy_and_no_others() {
    let engine = Memory::with_schedules();
    let with = |policy| {
        let mut task = every(hosted(MisfirePolicy::as_str(policy)), 60);
        task.misfire = Misfire { policy, ..Misfire::default() };
        task
    };
    let policies = [MisfirePolicy::Latest, MisfirePolicy::Skip, MisfirePolicy::All];
    let tasks = policies.map(with);
    is_in_step(&daemon(&engine, WorkflowConfig::default(), &tasks).await).await;
    for policy in policies {
        for minutes in [10, 20, 30] {
            let slug = format!("hs:default:{policy}");
            engine.fire(&slug, now() - Duration::from_secs(minutes * 60), "Late");
        }
    }
    engine.fire("hs:default:skip", now() - Duration::from_secs(900), "AwaitingConcurrencySlot");

    let stage = daemon(&engine, WorkflowConfig::default(), &tasks).await;

    let cancelled = |stage: &Stage| -> Vec<usize> {
        let world = stage.engine.world();
        let runs = world.runs.iter().enumerate();
        runs.filter(|(_, run)| run.phase == Phase::Cancelled).map(|(at, _)| at).collect()
    };
    // Of `latest` the two older ones, of `skip` all that are late, of `all` none.
    stage.until("those that are missed are cancelled", |stage| cancelled(stage) == [1, 2, 3, 4, 5]).await;
    assert_eq!(cancelled(&stage), [1, 2, 3, 4, 5]);
    // The rest of what a task has missed is cancelled together.
    let bulks = stage.engine.world().bulks.clone();
    assert!(bulks == [2, 3] || bulks == [3, 2], "{bulks:?}");
}

#[tokio::test]
async fn what_is_wrong_with_one_task_is_a_finding_and_keeps_no_other_from_its_schedule() {
    let engine = Memory::with_schedules();
    let tasks = [every(foreign("broken"), 60), every(hosted("fine"), 60)];
    let stage = daemon(&engine, WorkflowConfig::default(), &tasks).await;

    stage.until("the other one is written", |stage| slugs(stage) == ["hs:default:fine"]).await;

    let findings = stage.backend.health().await.findings;
    assert!(
        findings[0].contains("task `broken`")
            && findings[0].contains("etl")
            && findings[0].contains("/nightly"),
        "{findings:?}"
    );
    let changes = stage.backend.apply(&stage.ctx.tasks.all(), false).await.unwrap();
    let (at_fault, fine): (Vec<_>, Vec<_>) =
        changes.into_iter().partition(|change| change.action == PlannedAction::Fault);
    assert_eq!((at_fault.len(), at_fault[0].task.as_ref()), (1, Some(&name("broken"))));
    assert!(at_fault[0].notes[0].contains("no workflow etl/nightly"), "{at_fault:?}");
    assert!(fine.iter().any(|change| change.subject == "schedule hs:default:fine"), "{fine:?}");
    engine.world().findings.push("no worker polls pool `x`".into());
    let has_both =
        |stage: Arc<crate::WorkflowBackend>| async move { stage.health().await.findings.len() == 2 };
    for _ in 0..2_000 {
        if has_both(Arc::clone(&stage.backend)).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the engine's finding is not in the health");
}

#[tokio::test]
async fn a_schedule_whose_runs_could_not_start_is_not_written() {
    let engine = Memory::with_schedules();
    engine.add_workflow("etl", "nightly");
    let mut unfit = every(foreign("load"), 60);
    unfit.args["parameters"] = json!({ "unfit": 1 });
    let stage = daemon(&engine, WorkflowConfig::default(), &[unfit.clone()]).await;

    let planned = stage.backend.apply(&stage.ctx.tasks.all(), false).await.unwrap();

    assert_eq!((planned.len(), planned[0].action), (1, PlannedAction::Fault), "{planned:?}");
    assert!(planned[0].notes[0].contains("task `load`: `unfit` does not fit"), "{planned:?}");
    assert_eq!(schedules(&stage), []);
    unfit.trigger = None;
    let by_hand = Stage::set(Memory::with_schedules());
    by_hand.engine.add_workflow("etl", "nightly");
    let by_hand_only = by_hand.define(unfit);
    by_hand.start().await;
    assert_eq!(by_hand.backend.plan(&[by_hand_only], false).await.unwrap(), []);
}

#[tokio::test]
async fn a_schedule_is_written_when_the_engine_is_back_and_a_removed_task_fires_no_more() {
    let engine = Memory::with_schedules();
    let stage = daemon(&engine, WorkflowConfig::default(), &[]).await;
    engine.set_down(true);
    let placed: Arc<Placed> = stage.define(every(hosted("backup"), 60));
    stage.backend.upsert(placed).await.unwrap();
    assert!(slugs(&stage).is_empty());

    engine.set_down(false);
    stage.until("it is written", |stage| slugs(stage) == ["hs:default:backup"]).await;

    let backup: Name = name("backup");
    assert!(stage.backend.remove(&backup).await.unwrap());
    stage.ctx.tasks.remove(&backup);
    assert!(slugs(&stage).is_empty());
    assert!(!stage.backend.remove(&backup).await.unwrap());
}

#[tokio::test]
async fn runs_that_the_engine_never_made_are_filled_in_where_the_policy_runs_them_all() {
    let engine = Memory::with_schedules();
    let mut task = every(hosted("backup"), 600);
    task.misfire = Misfire { policy: MisfirePolicy::All, ..Misfire::default() };
    is_in_step(&daemon(&engine, WorkflowConfig::default(), std::slice::from_ref(&task)).await).await;
    let period = 600_000;
    let tick = |back: i64| Timestamp::from_millis((now().as_millis() / period - back) * period);
    let (seen, last) = (tick(4), tick(1));
    engine.fire("hs:default:backup", seen, "Completed");
    engine.end(0, Phase::Succeeded);

    let stage = daemon(&engine, WorkflowConfig::default(), &[task]).await;

    stage.until("it is asked for", |stage| !stage.engine.world().backfills.is_empty()).await;
    let (_, from, to, most) = stage.engine.world().backfills[0].clone();
    // The newest fire may be a moment ago, which is no absence yet.
    assert!(from == tick(3) && (to == last || to == tick(0)) && most <= 4, "{from} {to} {most}");
}

#[tokio::test]
async fn an_engine_without_schedules_leaves_the_firing_to_us() {
    let stage = Stage::set(Memory::without_schedules());
    assert!(stage.backend.schedules().is_none() && stage.backend.run_logs().is_none());
    let with = Stage::set(Memory::with_schedules());
    let schedules = with.backend.schedules().unwrap();
    assert!(schedules.fires(FiredBy::Engine) && !schedules.fires(FiredBy::Scheduler));
}
