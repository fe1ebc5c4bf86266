//! What the tests of `dead_letter_processing` act on: letters, a clock, and runs of one task that share a state.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use scheduler_core::{
    AttemptEnd, BackendRole, FileStateStore, Job, JobDescriptor, Printed, RunContext, RunHost, RunId,
    RunIdentity, Scheduler, TestClock, Tier, Timestamp, attempt,
};
use serde_json::{Value, json};

use crate::keeper::{Keeper, name};

/// Longer than a run takes that does not wait for its clock.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Stage {
    pub(crate) keeper: Keeper,
    pub(crate) clock: TestClock,
    scheduler: Scheduler,
    folder: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let (keeper, clock) = (Keeper::default(), TestClock::at(SystemTime::now().into()));
        let builder = Scheduler::builder(Arc::new(clock.clone()));
        let scheduler = builder.backend_as(Arc::new(keeper.clone()), BackendRole::default()).build().unwrap();
        Self { keeper, clock, scheduler, folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        scheduler_core::Clock::now(&self.clock)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A run of a task that failed just now.
    pub(crate) fn fail(&self, task: &str, error: &str) -> RunId {
        self.keeper.fail(task, error, self.now())
    }

    pub(crate) fn fail_many(&self, count: usize, task: &str, error: &str) {
        for _ in 0..count {
            self.fail(task, error);
        }
    }

    pub(crate) async fn pass(&self, time: Duration) {
        self.clock.advance(time).await;
    }

    /// A new run, as a new process would begin it.
    pub(crate) fn context(&self, params: &Value) -> RunContext {
        let identity = RunIdentity {
            namespace: name("default"),
            task: name("dead_letters"),
            tier: Tier::Local,
            backend: name("local"),
            run_id: RunId::manual(self.now()),
            fire_time: self.now(),
            attempt: 1,
            fence: 1,
            params: params.as_object().cloned().unwrap_or_default(),
        };
        let host = RunHost {
            clock: Arc::new(self.clock.clone()),
            state: Arc::new(FileStateStore::new(self.path("state"))),
            scheduler: self.scheduler.downgrade(),
            printed: Printed::default(),
        };
        RunContext::new(identity, host)
    }

    /// Runs the job to its end.
    pub(crate) async fn end(&self, args: &Value) -> AttemptEnd {
        self.ended(args, &Value::Null).await
    }

    async fn ended(&self, args: &Value, params: &Value) -> AttemptEnd {
        let (job, context) = (job(args), self.context(params));
        let ended = tokio::time::timeout(PATIENCE, attempt(&*job, &context, None)).await;
        ended.expect("the run waits, and nobody moves its clock: it replays what should wait for a canary")
    }

    /// Runs the job, which must succeed; what it said.
    pub(crate) async fn run(&self, args: &Value) -> Value {
        match self.end(args).await {
            AttemptEnd::Succeeded(output) => output,
            end => panic!("{end:?}"),
        }
    }

    pub(crate) async fn dry_run(&self, args: &Value) -> Value {
        match self.ended(args, &json!({"dry_run": true})).await {
            AttemptEnd::Succeeded(output) => output,
            end => panic!("{end:?}"),
        }
    }

    /// Begins a run and drops it when `happened` says so, as a kill does.
    pub(crate) async fn kill_when(&self, args: &Value, happened: impl Fn() -> bool) {
        let (job, context) = (job(args), self.context(&Value::Null));
        let watching = async {
            while !happened() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            ended = job.run(&context) => panic!("it was to be killed: {ended:?}"),
            () = watching => {}
        }
    }
}

/// Rules by which everything runs again at once, twice.
pub(crate) fn at_once() -> Value {
    json!([{"class": "all", "policy": "immediate", "replays": 2}])
}

/// What was done with which runs, sorted: `(action, run)`.
pub(crate) fn actions(output: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let actions = output["actions"].as_array().unwrap().iter();
    let mut actions: Vec<_> =
        actions.map(|action| (text(&action["action"]), text(&action["run_id"]))).collect();
    actions.sort();
    actions
}

pub(crate) fn job(args: &Value) -> Arc<dyn Job> {
    descriptor().build(args).unwrap_or_else(|faults| panic!("{faults:?}"))
}

pub(crate) fn descriptor() -> JobDescriptor {
    let mut jobs = builtin_jobs::all().into_iter();
    jobs.find(|job| *job.name() == "dead_letter_processing").unwrap()
}
