//! The ability of a backend to fire tasks by itself.
//!
//! A backend may leave some tasks to the [`Scheduler`](crate::Scheduler): those for which it answers `false` to
//! [`Schedules::fires`] are planned by the facade, like every task of a backend without this ability.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{FiredBy, Name, Placed, Result, Timestamp};

/// Keeps schedules and fires them.
#[async_trait]
pub trait Schedules: Send + Sync {
    /// Whether it fires a task that wants to be fired so; always the same answer. A task that it does not fire is
    /// never handed to it, and taken from it when an edit makes it one.
    fn fires(&self, by: FiredBy) -> bool {
        let _ = by;
        true
    }

    /// Accepts a task or its new definition. A fire that happened does not happen again; runs under way end on
    /// the old definition.
    async fn upsert(&self, task: Arc<Placed>) -> Result<()>;

    /// Forgets a task; says whether it was known. Runs under way end.
    async fn remove(&self, task: &Name) -> Result<bool>;

    /// The accepted tasks and when they fire next.
    async fn statuses(&self) -> Result<Vec<ScheduleStatus>>;

    /// Keeps a task from firing until it is resumed or `pause.until` has come.
    ///
    /// # Errors
    /// `task/unknown`.
    async fn pause(&self, task: &Name, pause: Pause) -> Result<()>;

    /// Lets a paused task fire again; what it missed follows its misfire policy.
    ///
    /// # Errors
    /// `task/unknown`.
    async fn resume(&self, task: &Name) -> Result<()>;
}

/// A task that a backend has accepted.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ScheduleStatus {
    /// The task.
    pub task: Name,
    /// When its next run is due; `None` when it never fires again, is paused or waits for its run to finish.
    pub next: Option<Timestamp>,
    /// Why it does not fire, while it is paused.
    pub paused: Option<Pause>,
    /// Its runs that have not ended.
    pub live: usize,
}

impl ScheduleStatus {
    /// A task that fires next at `next`.
    pub fn new(task: Name, next: Option<Timestamp>) -> Self {
        Self { task, next, paused: None, live: 0 }
    }
}

/// Who keeps a task from firing, why, and until when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pause {
    /// Who paused it.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// When it resumes by itself; never when left out.
    pub until: Option<Timestamp>,
}
