//! The seam for workflow engines: what one must do, and what it may do besides.
//!
//! Only starting, following, cancelling and listing runs is common to all engines. What else one can do stands in its
//! [`Capabilities`]; a call it has no way to serve answers an error of kind `Unsupported`.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::{Error, Overlap, Result, Timestamp, Trigger};
use serde::Serialize;
use serde_json::{Map, Value};

/// A workflow engine, reached from here.
///
/// # Errors of every call
/// Of kind `Unavailable` when it does not answer in time, answers too much or something that is no answer of it,
/// or says that it is overloaded; of kind `Unauthorized` when it refuses the credentials.
#[async_trait]
pub trait WorkflowEngine: Debug + Send + Sync + 'static {
    /// What it can do; always the same answer.
    fn capabilities(&self) -> Capabilities;

    /// Asks what it is, by a call that also proves the credentials.
    ///
    /// # Errors
    /// `engine/wrong_version` when it is one that is not spoken here.
    async fn probe(&self) -> Result<EngineInfo>;

    /// Looks a workflow up.
    ///
    /// # Errors
    /// `engine/unknown_workflow` when it has none of that name; `engine/bad_name` for a name that none can have.
    async fn workflow(&self, name: &WorkflowName) -> Result<Workflow>;

    /// Starts a run, now or later. The same key again starts nothing and answers the run that there is.
    ///
    /// # Errors
    /// `engine/bad_parameters` when they do not fit the workflow's schema; `engine/unknown_workflow`.
    async fn trigger(&self, request: &Launch) -> Result<Launched>;

    /// Where a run stands.
    ///
    /// # Errors
    /// `engine/unknown_run`.
    async fn status(&self, run: &EngineRunId) -> Result<EngineRun>;

    /// Ends a run.
    ///
    /// # Errors
    /// `engine/unknown_run`.
    async fn cancel(&self, run: &EngineRunId) -> Result<CancelOutcome>;

    /// Ends those of these runs that no worker has fetched, and answers how many it ended. A run that began meanwhile
    /// goes on.
    async fn cancel_waiting(&self, runs: &[EngineRunId]) -> Result<usize>;

    /// One page of the runs that match, newest first.
    async fn list_runs(&self, filter: &EngineRunFilter) -> Result<EngineRuns>;

    /// Waits until a run has ended or `limit` has passed, and answers where it stands then.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    async fn wait(&self, run: &EngineRunId, limit: Duration) -> Result<EngineRun>;

    /// Makes the workflow that runs a task of ours on a worker of the engine, or brings it up to date; with
    /// `dry_run` it writes nothing and answers what it would do.
    ///
    /// # Errors
    /// `engine/unsupported`, unless [`Capabilities::hosting`]. `engine/foreign_workflow` when somebody else's has that name.
    async fn host(&self, hosting: &Hosting, dry_run: bool) -> Result<Hosted> {
        let _ = (hosting, dry_run);
        Err(unsupported("host tasks of ours"))
    }

    /// The workflows that [`host`](Self::host) made, and whose deployment's name begins with `prefix`.
    ///
    /// # Errors
    /// `engine/unsupported`, unless [`Capabilities::hosting`].
    async fn hosted(&self, prefix: &str) -> Result<Vec<Workflow>> {
        let _ = prefix;
        Err(unsupported("host tasks of ours"))
    }

    /// Removes a workflow that [`host`](Self::host) made, with what it has ahead; runs that began stay. Says whether it
    /// was there.
    ///
    /// # Errors
    /// `engine/unsupported`, unless [`Capabilities::hosting`]. `engine/foreign_workflow` for somebody else's.
    async fn unhost(&self, workflow: &WorkflowId) -> Result<bool> {
        let _ = workflow;
        Err(unsupported("host tasks of ours"))
    }

    /// How the engine would say a trigger, and what differs then from what we do.
    ///
    /// # Errors
    /// `engine/unsupported`; `engine/trigger_not_sayable` when the engine has no way to say it.
    fn render(&self, trigger: &Trigger) -> Result<Rendered> {
        let _ = trigger;
        Err(unsupported("hold schedules"))
    }

    /// Every schedule on a workflow, foreign ones too.
    ///
    /// # Errors
    /// `engine/unsupported`; `engine/unknown_workflow`.
    async fn schedules(&self, workflow: &WorkflowId) -> Result<Vec<EngineSchedule>> {
        let _ = workflow;
        Err(unsupported("hold schedules"))
    }

    /// The workflows that carry schedules whose slug begins with `prefix`, whether a task names them or not.
    ///
    /// # Errors
    /// `engine/unsupported`.
    async fn workflows_with(&self, prefix: &str) -> Result<Vec<Workflow>> {
        let _ = prefix;
        Err(unsupported("hold schedules"))
    }

    /// Creates the schedule with that slug, or changes it in place: its id stays. The caller has compared.
    ///
    /// # Errors
    /// `engine/unsupported`; `engine/unknown_workflow`.
    async fn upsert_schedule(&self, workflow: &WorkflowId, schedule: &ScheduleSpec) -> Result<()> {
        let _ = (workflow, schedule);
        Err(unsupported("hold schedules"))
    }

    /// Removes a schedule; says whether it was there.
    ///
    /// # Errors
    /// `engine/unsupported`.
    async fn delete_schedule(&self, workflow: &WorkflowId, slug: &str) -> Result<bool> {
        let _ = (workflow, slug);
        Err(unsupported("hold schedules"))
    }

    /// Lets a schedule fire or keeps it from firing; says whether it was there.
    ///
    /// # Errors
    /// `engine/unsupported`.
    async fn set_schedule_active(&self, workflow: &WorkflowId, slug: &str, active: bool) -> Result<bool> {
        let _ = (workflow, slug, active);
        Err(unsupported("hold schedules"))
    }

    /// What a run logged, oldest first, from the line `offset` on.
    ///
    /// # Errors
    /// `engine/unsupported`; `engine/unknown_run`.
    async fn logs(&self, run: &EngineRunId, offset: usize, limit: usize) -> Result<Vec<EngineLogLine>> {
        let _ = (run, offset, limit);
        Err(unsupported("show logs"))
    }

    /// Makes the runs that a workflow's schedules name between two instants, which may lie in the past. A run that
    /// exists is not made again.
    ///
    /// # Errors
    /// `engine/unsupported`.
    async fn backfill(
        &self,
        workflow: &WorkflowId,
        from: Timestamp,
        to: Timestamp,
        at_most: usize,
    ) -> Result<()> {
        let _ = (workflow, from, to, at_most);
        Err(unsupported("fill in what was missed"))
    }

    /// Tells which runs with this tag change, as it happens, until the stream of that ends.
    ///
    /// # Errors
    /// `engine/unsupported`, unless [`Capabilities::events`]. Every end of the stream is one.
    async fn watch(&self, tag: &str, tell: &(dyn Fn(Told) + Send + Sync)) -> Result<()> {
        let _ = (tag, tell);
        Err(unsupported("tell what happens"))
    }

    /// What keeps the engine from doing its work although it answers: a schedule without a future run, a late run that
    /// nobody fetches, a run that hangs before its start. Each names the thing.
    async fn findings(&self, workflows: &[Workflow], now: Timestamp) -> Result<Vec<String>> {
        let _ = (workflows, now);
        Ok(Vec::new())
    }
}

fn unsupported(what: &str) -> Error {
    Error::unsupported("engine/unsupported", format!("this engine cannot {what}"))
}

/// What an engine can do beyond its duties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// It holds schedules and fires them.
    pub schedules: bool,
    /// A run can be started in advance.
    pub delayed: bool,
    /// It runs tasks of ours on its workers.
    pub hosting: bool,
    /// It shows what a run logged.
    pub logs: bool,
    /// It makes runs of the past.
    pub backfill: bool,
    /// It tells what happens to runs.
    pub events: bool,
}

/// What an engine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EngineInfo {
    /// Its product.
    pub kind: String,
    /// Its version.
    pub version: String,
}

/// How people name a workflow; in Prefect a flow and one of its deployments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct WorkflowName {
    /// The flow.
    pub flow: String,
    /// The deployment of it.
    pub deployment: String,
}

/// The engine's own id of a workflow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct WorkflowId(pub String);

/// What [`WorkflowEngine::watch`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Whatever changes from now on is told.
    Begun,
    /// This run changed.
    Changed(EngineRunId),
}

/// The engine's own id of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct EngineRunId(pub String);

/// A workflow that the engine has.
#[derive(Clone, Debug, PartialEq)]
pub struct Workflow {
    /// Its id.
    pub id: WorkflowId,
    /// Its name.
    pub name: WorkflowName,
    /// The JSON Schema of its parameters, if it is enforced.
    pub parameters: Option<Value>,
    /// Where a person looks at it.
    pub page: Option<String>,
    /// Whether it was made here: see [`WorkflowEngine::host`].
    pub hosted: bool,
}

/// A run to be started.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// Of what.
    pub workflow: WorkflowId,
    /// The same key again is the same run.
    pub key: String,
    /// How the run is called.
    pub name: String,
    /// What it is given.
    pub parameters: Map<String, Value>,
    /// When; at once when left out.
    pub at: Option<Timestamp>,
    /// Words to find it by.
    pub tags: Vec<String>,
}

/// The answer to [`WorkflowEngine::trigger`].
#[derive(Clone, Debug, PartialEq)]
pub struct Launched {
    /// The run.
    pub run: EngineRun,
    /// Whether it is new; else a run of that key was there.
    pub created: bool,
}

/// A run, as the engine shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineRun {
    /// Its id.
    pub id: EngineRunId,
    /// Of which workflow.
    pub workflow: Option<WorkflowId>,
    /// The key it was started with.
    pub key: Option<String>,
    /// The engine's schedule that made it.
    pub schedule: Option<String>,
    /// Where it stands, in our words.
    pub phase: Phase,
    /// Where it stands, in the engine's words.
    pub raw_state: String,
    /// What the engine says about that.
    pub message: Option<String>,
    /// When it was to start.
    pub scheduled_for: Option<Timestamp>,
    /// When it started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How often it was started.
    pub attempts: u32,
    /// What it was given.
    pub parameters: Map<String, Value>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Where a person looks at it.
    pub page: Option<String>,
}

/// Where a run of an engine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its time lies ahead.
    Scheduled,
    /// It waits for a worker, or for its turn.
    Queued,
    /// It runs.
    Running,
    /// It was halted and may go on.
    Paused,
    /// It waits for its next attempt.
    Retrying,
    /// It was told to end.
    Cancelling,
    /// It ended well.
    Succeeded,
    /// It ended badly.
    Failed,
    /// What ran it went away.
    Crashed,
    /// It was ended from outside.
    Cancelled,
}

impl Phase {
    /// Whether the run has ended.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Crashed | Self::Cancelled)
    }
}

/// The answer to [`WorkflowEngine::cancel`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CancelOutcome {
    /// It had not begun and never will.
    Prevented,
    /// It was told to end.
    Requested,
    /// It had ended already.
    AlreadyFinished,
    /// The engine would not; it says why.
    Refused(String),
}

/// Which runs to list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineRunFilter {
    /// Of these workflows; of all when empty.
    pub workflows: Vec<WorkflowId>,
    /// These runs; all when empty.
    pub runs: Vec<EngineRunId>,
    /// With one of these keys; with any when empty.
    pub keys: Vec<String>,
    /// With all of these tags.
    pub tags: Vec<String>,
    /// In one of these phases; in any when empty.
    pub phases: Vec<Phase>,
    /// To start at this instant or before.
    pub scheduled_up_to: Option<Timestamp>,
    /// To start at this instant or after.
    pub scheduled_from: Option<Timestamp>,
    /// How many runs to pass over.
    pub offset: usize,
    /// How many at most; the engine may answer fewer.
    pub limit: usize,
}

/// A page of runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineRuns {
    /// Newest first, by the instant at which they were to start.
    pub runs: Vec<EngineRun>,
    /// Whether there may be more behind them.
    pub more: bool,
}

/// A task of ours that a workflow of the engine shall run.
#[derive(Clone, Debug, PartialEq)]
pub struct Hosting {
    /// The namespace and the task, as `namespace.task`; the name of the deployment.
    pub deployment: String,
    /// The task.
    pub task: String,
    /// The program that runs a task: `scheduler`, or a path on the worker's machine.
    pub program: String,
    /// The configuration that the program reads, a path on the worker's machine.
    pub config: Option<String>,
    /// What happens to a run that would begin beside another.
    pub overlap: Overlap,
    /// The pool whose workers run it.
    pub pool: String,
    /// The folder on the worker's machine that holds our flow.
    pub flow_folder: String,
    /// Environment variables for the worker's process.
    pub env: BTreeMap<String, String>,
}

/// The answer to [`WorkflowEngine::host`].
#[derive(Clone, Debug, PartialEq)]
pub struct Hosted {
    /// The workflow; `None` when a dry run would create it.
    pub workflow: Option<Workflow>,
    /// What was done, or would be: one line each, empty when nothing differs.
    pub changes: Vec<String>,
}

/// A trigger in an engine's words.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// The rule, as the engine's API writes it.
    pub rule: Value,
    /// What the engine does differently: one sentence each.
    pub notes: Vec<String>,
}

/// A schedule as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleSpec {
    /// Ours for good; begins with our prefix.
    pub slug: String,
    /// The rule, from [`WorkflowEngine::render`].
    pub rule: Value,
    /// Whether it fires.
    pub active: bool,
    /// What its runs are given.
    pub parameters: Map<String, Value>,
}

/// A schedule as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineSchedule {
    /// The engine's id of it.
    pub id: String,
    /// Its slug, if it has one.
    pub slug: Option<String>,
    /// The rule, in the form of [`WorkflowEngine::render`]: equal rules are equal values.
    pub rule: Value,
    /// Whether it fires.
    pub active: bool,
    /// What its runs are given.
    pub parameters: Map<String, Value>,
}

/// A line that a run logged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EngineLogLine {
    /// When.
    pub at: Timestamp,
    /// How important: `debug`, `info`, `warning`, `error` or `critical`.
    pub level: String,
    /// What it says.
    pub message: String,
}
