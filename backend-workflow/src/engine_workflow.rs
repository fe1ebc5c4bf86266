//! The workflows of an engine, as the seam names them: somebody else's, and those that run tasks of ours.

use std::collections::BTreeMap;

use scheduler_core::Overlap;
use serde::Serialize;
use serde_json::{Map, Value};

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
    /// Whether it was made here: see [`WorkflowEngine::host`](crate::WorkflowEngine::host).
    pub hosted: bool,
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

/// The answer to [`WorkflowEngine::host`](crate::WorkflowEngine::host).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hosted {
    /// The workflow; `None` when a dry run would create it.
    pub workflow: Option<Workflow>,
    /// What was done, or would be, besides changing fields: one line each.
    pub changes: Vec<String>,
    /// The fields that differ, as they were and as they should be. What may be a secret stands in neither.
    pub before: Map<String, Value>,
    /// See [`before`](Self::before).
    pub after: Map<String, Value>,
}

impl Hosted {
    /// Whether nothing was to be done.
    pub fn is_same(&self) -> bool {
        self.changes.is_empty() && self.after.is_empty()
    }
}
