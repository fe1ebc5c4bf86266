//! The ability of a backend to say what it would change outside of the process before it does, and the plans of
//! all backends behind one call.
//!
//! What is wanted is the tasks; what is there is outside. A plan is the difference, and applying it writes nothing
//! but that.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;

use crate::characteristics::words;
use crate::scheduler::Member;
use crate::{Name, Placed, Result, Scheduler};

/// Keeps something outside of the process in step with the tasks.
#[async_trait]
pub trait Planning: Send + Sync {
    /// What [`apply`](Self::apply) would do, and what it would leave alone. Writes nothing. `tasks` are all that are
    /// placed here, also those that the scheduler fires; with `prune`, what no task wants any more goes.
    async fn plan(&self, tasks: &[Arc<Placed>], prune: bool) -> Result<Vec<PlannedChange>>;

    /// Makes what is outside as the tasks want it, and answers what it did. Doing it again changes nothing. What
    /// others made is never touched.
    async fn apply(&self, tasks: &[Arc<Placed>], prune: bool) -> Result<Vec<PlannedChange>>;
}

/// One thing outside, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PlannedChange {
    /// What becomes of it.
    pub action: PlannedAction,
    /// What it is, in a few words that name it.
    pub subject: String,
    /// The task that wants it, if there still is one.
    pub task: Option<Name>,
    /// What is there and would go: of an update only what differs.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub before: Value,
    /// What would be there: of an update only what differs.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub after: Value,
    /// What a person should know about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl PlannedChange {
    /// A change of `subject` that says nothing else yet.
    pub fn new(action: PlannedAction, subject: impl Into<String>) -> Self {
        let subject = subject.into();
        Self { action, subject, task: None, before: Value::Null, after: Value::Null, notes: Vec::new() }
    }

    /// The same change for a task.
    #[must_use]
    pub fn of_task(mut self, task: Name) -> Self {
        self.task = Some(task);
        self
    }

    /// The same change with what is there and what would be.
    #[must_use]
    pub fn between(mut self, before: Value, after: Value) -> Self {
        (self.before, self.after) = (before, after);
        self
    }

    /// The same change with one more note.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}

words! {
    /// What becomes of something outside.
    PlannedAction {
        /// It is made.
        Create = "create",
        /// It is changed in place.
        Update = "update",
        /// It is kept from firing.
        Pause = "pause",
        /// It may fire again.
        Resume = "resume",
        /// It is removed.
        Delete = "delete",
        /// It is as it should be, or somebody else's.
        Keep = "keep",
        /// It cannot be as its task wants it; the notes say why.
        Fault = "fault",
    }
}

impl PlannedAction {
    /// Whether anything is written.
    pub fn is_change(self) -> bool {
        !matches!(self, Self::Keep | Self::Fault)
    }
}

/// What a backend would change, or has changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BackendPlan {
    /// The backend.
    pub backend: Name,
    /// Thing by thing.
    pub changes: Vec<PlannedChange>,
}

impl Scheduler {
    /// What every backend that keeps something outside in step would change for the accepted tasks. Writes nothing.
    ///
    /// # Errors
    /// Those of the first backend that does not answer.
    pub async fn plan(&self, prune: bool) -> Result<Vec<BackendPlan>> {
        let mut plans = Vec::new();
        for (member, planning) in self.planners() {
            let changes = planning.plan(&self.0.tasks_on(member), prune).await?;
            plans.push(BackendPlan { backend: member.info.name.clone(), changes });
        }
        Ok(plans)
    }

    /// Does what [`plan`](Self::plan) says, and answers what was done.
    ///
    /// # Errors
    /// Those of the first backend that does not answer. What was done before stays done.
    pub async fn apply(&self, prune: bool) -> Result<Vec<BackendPlan>> {
        let mut plans = Vec::new();
        for (member, planning) in self.planners() {
            let changes = planning.apply(&self.0.tasks_on(member), prune).await?;
            plans.push(BackendPlan { backend: member.info.name.clone(), changes });
        }
        Ok(plans)
    }

    /// Makes a task known whose backend is not here, so that a plan tells one that moved from one that is gone. It
    /// is neither fired nor run; of a backend that is here nothing is changed.
    pub fn acquaint(&self, placed: Placed) {
        if self.0.backends.iter().all(|member| member.info.name != placed.placement.backend) {
            self.0.tasks.insert(Arc::new(placed));
        }
    }

    fn planners(&self) -> impl Iterator<Item = (&Member, &dyn Planning)> {
        self.0.backends.iter().filter_map(|member| Some((member, member.backend.planning()?)))
    }
}
