//! The seam for workflow engines: what one must do, and what it may do besides.
//!
//! Only starting, following, cancelling and listing runs is common to all engines. What else one can do stands in its
//! [`Capabilities`]; a call it has no way to serve answers an error of kind `Unsupported`.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::{Error, Result, Timestamp, Trigger};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

pub use crate::engine_run::{
    CancelOutcome, EngineLogLine, EngineRun, EngineRunFilter, EngineRunId, EngineRuns, Launch, Launched,
    Phase, Told,
};
pub use crate::engine_schedule::{EngineSchedule, Rendered, ScheduleSpec};
pub use crate::engine_workflow::{Hosted, Hosting, Workflow, WorkflowId, WorkflowName};

/// The first pause between two looks at a run that is waited for, and the longest.
const GLANCES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

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

    /// Judges the parameters of runs that are to come; those of which the engine says nothing in advance pass.
    ///
    /// # Errors
    /// As [`trigger`](Self::trigger).
    async fn check(&self, workflow: &WorkflowId, parameters: &Map<String, Value>) -> Result<()> {
        let _ = (workflow, parameters);
        Ok(())
    }

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

    /// Waits until a run has ended or `limit` has passed, and answers where it stands then. An engine that has no call
    /// for it is asked again and again, less often the longer it takes.
    ///
    /// # Errors
    /// As [`status`](Self::status); one that may pass only when `limit` has passed.
    async fn wait(&self, run: &EngineRunId, limit: Duration) -> Result<EngineRun> {
        let (began, (mut pause, longest)) = (Instant::now(), GLANCES);
        loop {
            let seen = self.status(run).await;
            let left = limit.saturating_sub(began.elapsed());
            match seen {
                Ok(seen) if seen.phase.is_end() || left.is_zero() => return Ok(seen),
                Err(error) if !error.is_transient() || left.is_zero() => return Err(error),
                Ok(_) | Err(_) => tokio::time::sleep(pause.min(left)).await,
            }
            pause = pause.mul_f64(1.5).min(longest);
        }
    }

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
