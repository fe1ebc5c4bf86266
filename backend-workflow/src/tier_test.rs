//! The tier as a whole, on an engine in memory: starting, showing, cancelling and following runs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use scheduler_core::{
    Backend, BackendContext, BackendInfo, Cancelled, Enqueued, Event, HealthStatus, JobDescriptor, Name,
    Placed, RetryPolicy, Run, RunFilter, RunId, RunRequest, RunState, SystemClock, Task, TestClock, Tier,
    Timestamp,
};
use serde_json::{Value, json};

use crate::engine::Phase;
use crate::memory::Memory;
use crate::{WorkflowBackend, WorkflowConfig, job};

/// A backend on an engine in memory, and what it told.
pub(crate) struct Stage {
    pub(crate) engine: Memory,
    pub(crate) backend: Arc<WorkflowBackend>,
    pub(crate) ctx: BackendContext,
    told: Arc<Mutex<Vec<String>>>,
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from(std::time::SystemTime::now())
}

/// A task of a deployment that exists already.
pub(crate) fn foreign(task: &str) -> Task {
    let mut task = Task::new(name(task), name("prefect"));
    task.args = json!({"flow": "etl", "deployment": "nightly", "parameters": {"who": "x"}, "tags": ["team"]});
    task.tier = Some(Tier::Workflow);
    task
}

/// A task that the engine's workers run for us.
pub(crate) fn hosted(task: &str) -> Task {
    let mut task = Task::new(name(task), name("tick"));
    task.tier = Some(Tier::Workflow);
    task
}

impl Stage {
    pub(crate) fn set(engine: Memory) -> Self {
        Self::with(engine, WorkflowConfig::default())
    }

    pub(crate) fn with(engine: Memory, config: WorkflowConfig) -> Self {
        let (poll, idle_poll) = (Duration::from_millis(10), Duration::from_millis(20));
        Self::exactly(engine, WorkflowConfig { poll, idle_poll, ..config })
    }

    pub(crate) fn exactly(engine: Memory, config: WorkflowConfig) -> Self {
        let backend = WorkflowBackend::new(name("workflow"), config, Arc::new(engine.clone()));
        let ctx = BackendContext::standalone(name("default"), Arc::new(SystemClock::new()));
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = Arc::clone(&told);
        ctx.events.listen(move |event| {
            let line = match event {
                Event::AttemptStarted { run, .. } => format!("{} started {}", run.id, run.attempt),
                Event::AttemptEnded { run, .. } => format!("{} again {}", run.id, run.attempt),
                Event::RunEnded { run, .. } => format!("{} {}", run.id, run.state),
                _ => return,
            };
            heard.lock().unwrap().push(line);
        });
        Self { engine, backend: Arc::new(backend), ctx, told }
    }

    /// Another process beside this one, on the same engine and with the same tasks.
    pub(crate) fn beside(&self) -> Self {
        let mut other = Self::set(self.engine.clone());
        other.ctx.tasks = self.ctx.tasks.clone();
        other
    }

    pub(crate) fn define(&self, task: Task) -> Arc<Placed> {
        let placed = self.placed(task);
        self.ctx.tasks.insert(Arc::clone(&placed));
        placed
    }

    pub(crate) fn placed(&self, task: Task) -> Arc<Placed> {
        self.placed_on(task, self.backend.info())
    }

    /// The task on a backend that may be another.
    pub(crate) fn placed_on(&self, task: Task, info: BackendInfo) -> Arc<Placed> {
        let tick = JobDescriptor::function("tick", "ticks", |_| async { Ok(Value::Null) });
        let descriptor = if task.job == name("tick") { tick } else { job() };
        let job = descriptor.build(&task.args).unwrap();
        let site = scheduler_core::Site { info, is_default: true, is_down: false };
        let placement = scheduler_core::place(&task, &descriptor, &[site]).unwrap();
        Arc::new(Placed { task, job, placement: placement.into() })
    }

    pub(crate) async fn start(&self) {
        self.backend.start(self.ctx.clone()).await.unwrap();
    }

    pub(crate) async fn ask(&self, task: &str) -> RunId {
        let at = now();
        let id = RunId::manual(at);
        let answer = self.backend.enqueue(RunRequest::manual(id, name(task), at)).await.unwrap();
        assert_eq!(answer, Enqueued::Inserted(id));
        id
    }

    pub(crate) async fn runs(&self) -> Vec<Run> {
        self.backend.runs(&RunFilter::all()).await.unwrap().runs
    }

    pub(crate) fn told(&self, run: RunId) -> Vec<String> {
        let prefix = format!("{run} ");
        let told = self.told.lock().unwrap();
        told.iter().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
    }

    /// Waits until `holds`, which the backend brings about by itself.
    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        for _ in 0..2_000 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("in vain for 20 s: {what}");
    }
}

#[tokio::test]
async fn a_run_is_started_once_under_its_key_and_shown_as_it_was_asked_for() {
    let stage = Stage::set(Memory::without_schedules());
    stage.engine.add_workflow("etl", "nightly");
    stage.define(foreign("load"));
    stage.start().await;
    let at = now();
    let id = RunId::manual(at);
    let mut request = RunRequest::manual(id, name("load"), at);
    request.params.insert("day".into(), json!("monday"));

    assert_eq!(stage.backend.enqueue(request.clone()).await.unwrap(), Enqueued::Inserted(id));
    assert_eq!(stage.backend.enqueue(request.clone()).await.unwrap(), Enqueued::Duplicate(id));

    let launch = stage.engine.world().launches[0].clone();
    assert_eq!(launch.key, format!("hs:default:{id}"));
    assert_eq!(Value::Object(launch.parameters), json!({"who": "x", "day": "monday"}));
    assert!(launch.tags.contains(&"team".to_owned()));
    let runs = stage.runs().await;
    assert_eq!(runs.len(), 1);
    assert_eq!((runs[0].id, &runs[0].task, &runs[0].params), (id, &name("load"), &request.params));
}

#[tokio::test]
async fn a_task_of_another_job_is_run_by_a_workflow_of_ours() {
    let stage = Stage::set(Memory::with_schedules());
    stage.define(hosted("backup"));
    stage.start().await;

    let id = stage.ask("backup").await;
    stage.ask("backup").await;

    let world = stage.engine.world();
    assert_eq!((world.hosted.len(), world.hosted[0].deployment.as_str()), (1, "default.backup"));
    let launch = &world.launches[0];
    assert_eq!(launch.parameters["run_id"], json!(id));
    let fire_time: Timestamp = launch.parameters["fire_time"].as_str().unwrap().parse().unwrap();
    assert_eq!(Some(fire_time), launch.at, "the engine is given our fire time");
}

#[tokio::test]
async fn an_answer_that_is_lost_doubles_nothing_and_the_policy_covers_the_call() {
    let stage = Stage::set(Memory::without_schedules());
    stage.engine.add_workflow("etl", "nightly");
    let once = foreign("once");
    let mut thrice = foreign("thrice");
    thrice.retry = RetryPolicy {
        max_attempts: 3.try_into().ok(),
        initial: Duration::from_millis(1),
        ..RetryPolicy::default()
    };
    stage.define(once);
    stage.define(thrice);
    stage.start().await;
    let at = now();
    let request = |task: &str| {
        RunRequest::scheduled(RunId::scheduled(&name("default"), &name(task), at), name(task), at)
    };

    stage.engine.lose_answers(2);
    assert!(stage.backend.enqueue(request("once")).await.unwrap_err().is_transient());
    let id = request("thrice").run_id;
    assert_eq!(stage.backend.enqueue(request("thrice")).await.unwrap(), Enqueued::Duplicate(id));

    assert_eq!(stage.engine.world().runs.len(), 2, "one run each");
    assert_eq!(stage.engine.world().launches.len(), 3);
}

#[tokio::test]
async fn every_change_of_a_run_is_told_once() {
    let stage = Stage::set(Memory::without_schedules());
    stage.engine.add_workflow("etl", "nightly");
    stage.define(foreign("load"));
    stage.start().await;
    let id = stage.ask("load").await;

    stage.engine.set(0, |run| (run.phase, run.attempts) = (Phase::Running, 1));
    stage.until("the start is told", |stage| stage.told(id) == ["started 1"]).await;
    stage.engine.end(0, Phase::Crashed);
    stage.until("the end is told", |stage| stage.told(id).len() == 2).await;
    let calls = stage.engine.calls();
    stage.until("some looks more", |stage| stage.engine.calls() > calls + 5).await;

    assert_eq!(stage.told(id), ["started 1", "failed"]);
    assert_eq!(stage.runs().await[0].state, RunState::Failed);
}

/// A daemon that hears events, and looks by itself this often at most.
async fn hearing(poll: Duration) -> Stage {
    let hour = Duration::from_secs(3_600);
    let config = WorkflowConfig { events: true, poll, idle_poll: hour, ..WorkflowConfig::default() };
    let stage = Stage::exactly(Memory::with_schedules(), config);
    stage.define(hosted("backup"));
    stage.start().await;
    stage.until("the stream is open", |stage| stage.engine.world().streams == 1).await;
    stage
}

#[tokio::test]
async fn a_change_that_the_engine_tells_is_seen_without_a_look() {
    let stage = hearing(Duration::from_secs(3_600)).await;
    let id = stage.ask("backup").await;

    stage.engine.set(0, |run| (run.phase, run.attempts) = (Phase::Running, 1));
    stage.until("the start is told", |stage| stage.told(id) == ["started 1"]).await;
    stage.engine.end(0, Phase::Succeeded);
    stage.until("the end is told", |stage| stage.told(id).len() == 2).await;
}

#[tokio::test]
async fn while_the_stream_of_events_is_broken_runs_are_looked_at_and_it_is_opened_again() {
    let stage = hearing(Duration::from_millis(50)).await;
    let id = stage.ask("backup").await;

    stage.engine.world().broken_streams = 3;
    stage.until("it was opened again", |stage| stage.engine.world().streams > 2).await;
    stage.engine.end(0, Phase::Succeeded);
    stage.until("the end is told", |stage| stage.told(id).len() == 2).await;
    stage.until("the stream is open again", |stage| stage.engine.world().streams == 4).await;

    let looks = stage.engine.world().looks.len();
    let second = stage.ask("backup").await;
    stage.engine.end(1, Phase::Failed);
    stage.until("what follows is told again", |stage| stage.told(second) == ["started 1", "failed"]).await;
    assert!(stage.engine.world().looks.len() < looks + 10, "runs are looked at when they changed");
}

#[tokio::test]
async fn a_run_is_found_and_cancelled_from_another_process_and_by_any_name() {
    let stage = Stage::set(Memory::with_schedules());
    stage.define(hosted("backup"));
    stage.start().await;
    let (first, second) = (stage.ask("backup").await, stage.ask("backup").await);
    let beside = stage.beside();
    beside.backend.connect(beside.ctx.clone()).await.unwrap();

    assert_eq!(beside.backend.cancel(&first).await.unwrap(), Cancelled::Prevented);
    stage.engine.set(1, |run| run.phase = Phase::Running);
    assert_eq!(beside.backend.cancel(&second).await.unwrap(), Cancelled::Requested);
    assert_eq!(beside.backend.cancel(&first).await.unwrap(), Cancelled::AlreadyFinished);

    let unknown = RunId::manual(now());
    assert_eq!(beside.backend.cancel(&unknown).await.unwrap_err().code(), "run/unknown");
    stage.until("the end is told", |stage| stage.told(first) == ["cancelled"]).await;
}

#[tokio::test]
async fn runs_are_shown_newest_first_without_gap_or_repetition_and_only_ours() {
    let stage = Stage::set(Memory::with_schedules());
    stage.engine.add_workflow("etl", "nightly");
    stage.define(foreign("load"));
    stage.start().await;
    let at = now();
    for n in 0..450_u64 {
        // Three of each instant, so that an instant lies across pages.
        let fire_time = at - Duration::from_secs(n / 3);
        let id = RunId::keyed(&name("default"), &name("load"), &n.to_string());
        stage.backend.enqueue(RunRequest::manual(id, name("load"), fire_time)).await.unwrap();
    }
    let foreign_run = crate::memory_world::run("theirs");
    let workflow = stage.engine.world().workflows[0].id.clone();
    stage.engine.world().runs.push(crate::EngineRun {
        workflow: Some(workflow),
        scheduled_for: Some(at),
        ..foreign_run
    });

    let mut filter = RunFilter::all().limited(7);
    let mut seen: Vec<Run> = Vec::new();
    loop {
        let page = stage.backend.runs(&filter).await.unwrap();
        seen.extend(page.runs);
        filter.after = page.next;
        if filter.after.is_none() {
            break;
        }
    }

    let ids: std::collections::HashSet<RunId> = seen.iter().map(|run| run.id).collect();
    assert_eq!((seen.len(), ids.len()), (450, 450));
    assert!(seen.is_sorted_by(|a, b| (a.fire_time, a.id) > (b.fire_time, b.id)));
}

#[tokio::test]
async fn an_engine_that_is_away_is_told_in_the_health_and_comes_back() {
    let stage = Stage::set(Memory::without_schedules());
    stage.engine.add_workflow("etl", "nightly");
    stage.define(foreign("load"));
    assert_eq!(stage.backend.health().await.status, HealthStatus::Down);
    stage.engine.set_down(true);
    let refused = stage.backend.start(stage.ctx.clone()).await.unwrap_err();
    assert!(refused.is_transient());
    stage.engine.set_down(false);
    stage.start().await;
    let id = stage.ask("load").await;

    stage.engine.set_down(true);
    let health = stage.backend.health().await;
    assert_eq!(health.status, HealthStatus::Degraded);
    assert!(health.findings[0].contains("down"), "{health:?}");
    stage.engine.refuse(Some("engine/unauthorized"));
    stage.engine.set_down(false);
    assert_eq!(stage.backend.health().await.status, HealthStatus::Down);
    stage.engine.refuse(None);
    assert_eq!(stage.backend.health().await.status, HealthStatus::Up);

    stage.engine.end(0, Phase::Succeeded);
    stage
        .until("what happened meanwhile is told", |stage| stage.told(id).contains(&"succeeded".to_owned()))
        .await;
}

#[tokio::test]
async fn nothing_is_taken_while_it_does_not_run_and_history_stays() {
    let stage = Stage::set(Memory::without_schedules());
    stage.engine.add_workflow("etl", "nightly");
    stage.define(foreign("load"));
    assert!(stage.runs().await.is_empty());
    stage.start().await;
    stage.start().await;
    stage.ask("load").await;

    for _ in 0..2 {
        let drained = stage.backend.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!(drained, scheduler_core::Drained::default());
    }

    let request = RunRequest::manual(RunId::manual(now()), name("load"), now());
    assert_eq!(stage.backend.enqueue(request.clone()).await.unwrap_err().code(), "backend/stopped");
    assert_eq!(stage.runs().await.len(), 1);
    stage.start().await;
    assert!(stage.backend.enqueue(request).await.is_ok());
}

#[tokio::test]
async fn a_thousand_runs_that_live_are_looked_at_in_five_calls() {
    let stage = Stage::set(Memory::without_schedules());
    stage.engine.add_workflow("etl", "nightly");
    stage.define(foreign("load"));
    stage.start().await;
    let at = now();
    let request = |n: u64| {
        let id = RunId::keyed(&name("default"), &name("load"), &n.to_string());
        RunRequest::manual(id, name("load"), at)
    };
    let requests: Vec<RunRequest> = (0..1_000).map(request).collect();
    let ids: Vec<Enqueued> = requests.iter().map(|request| Enqueued::Inserted(request.run_id)).collect();
    assert_eq!(stage.backend.enqueue_all(requests).await.unwrap(), ids);

    stage.engine.world().looks.clear();
    let is_whole = |stage: &Stage| {
        stage.engine.world().looks.windows(10).any(|looks| looks.iter().all(|ids| *ids == 200))
    };
    stage.until("two rounds go over all of them, 200 in a call", is_whole).await;

    for run in 0..1_000 {
        stage.engine.end(run, Phase::Succeeded);
    }
    stage.until("the last end is told", |stage| stage.told(ids[999].run_id()).len() == 2).await;
}

#[tokio::test]
async fn a_run_that_lives_is_looked_at_every_two_seconds_and_an_idle_engine_is_left_in_peace() {
    let clock = TestClock::at(now());
    let mut stage = Stage::exactly(Memory::without_schedules(), WorkflowConfig::default());
    stage.ctx.clock = Arc::new(clock.clone());
    stage.engine.add_workflow("etl", "nightly");
    stage.define(foreign("load"));
    stage.start().await;
    // The version, the runs that live, and what keeps the engine from its work: everybody has begun then.
    stage.until("the first calls", |stage| stage.engine.calls() >= 3).await;
    let minute = Duration::from_secs(60);
    let asked = async || {
        let (calls, looks) = (stage.engine.calls(), stage.engine.world().looks.len());
        clock.advance(minute).await;
        (stage.engine.calls() - calls, stage.engine.world().looks.len() - looks)
    };
    asked().await;

    let (quiet, _) = asked().await;
    let id = stage.ask("load").await;
    // So that it is followed before the clock moves.
    tokio::task::yield_now().await;
    let (_, busy) = asked().await;
    stage.engine.end(0, Phase::Succeeded);
    asked().await;
    let (quiet_again, looks) = asked().await;

    assert_eq!(stage.told(id).last().map(String::as_str), Some("succeeded"));
    assert!((28..=32).contains(&busy), "{busy} looks at a run in a minute");
    // New runs are looked for four times, and what keeps the engine from its work twice.
    assert!(quiet <= 8 && quiet_again <= 8 && looks == 0, "{quiet}, {quiet_again} calls, {looks} looks");
}

#[tokio::test]
async fn of_many_runs_the_first_that_is_refused_is_told() {
    let stage = Stage::set(Memory::without_schedules());
    stage.engine.add_workflow("etl", "nightly");
    stage.define(foreign("load"));
    stage.start().await;
    let request = |task: &str| RunRequest::manual(RunId::manual(now()), name(task), now());

    let refused = stage.backend.enqueue_all(vec![request("load"), request("nobody"), request("load")]).await;

    assert_eq!(refused.unwrap_err().code(), "task/unknown");
}
