//! The runs of an engine, as the seam names them: asked for, shown, listed and ended.

use scheduler_core::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::engine::WorkflowId;

/// The engine's own id of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct EngineRunId(pub String);

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

/// The answer to [`WorkflowEngine::trigger`](crate::WorkflowEngine::trigger).
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

/// The answer to [`WorkflowEngine::cancel`](crate::WorkflowEngine::cancel).
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

/// What [`WorkflowEngine::watch`](crate::WorkflowEngine::watch) tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Whatever changes from now on is told.
    Begun,
    /// This run changed.
    Changed(EngineRunId),
}
