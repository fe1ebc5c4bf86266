//! The ability of a backend to fire tasks by itself.
//!
//! A backend may leave some tasks to the [`Scheduler`](crate::Scheduler): those for which it answers `false` to
//! [`Schedules::fires`] are planned by the facade, like every task of a backend without this ability.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Error, FiredBy, Name, Placed, Result, Timestamp};

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

    /// Accepts many tasks, of distinct names, as [`upsert`](Self::upsert) does each: as one step where it can, else
    /// one after the other up to the first that is refused.
    async fn upsert_all(&self, tasks: Vec<Arc<Placed>>) -> Result<(), Partial> {
        for (done, task) in tasks.into_iter().enumerate() {
            self.upsert(task).await.map_err(|error| Partial { done, error })?;
        }
        Ok(())
    }

    /// Forgets a task; says whether it was known. Runs under way end.
    async fn remove(&self, task: &Name) -> Result<bool>;

    /// Forgets many tasks, as [`remove`](Self::remove) does each, and answers in their order.
    async fn remove_all(&self, tasks: &[Name]) -> Result<Vec<bool>, Partial> {
        let mut known = Vec::with_capacity(tasks.len());
        for (done, task) in tasks.iter().enumerate() {
            known.push(self.remove(task).await.map_err(|error| Partial { done, error })?);
        }
        Ok(known)
    }

    /// The accepted tasks and when they fire next.
    async fn statuses(&self) -> Result<Vec<ScheduleStatus>>;

    /// Keeps a task from firing until it is resumed or `pause.until` has come.
    ///
    /// # Errors
    /// `task/unknown`.
    async fn pause(&self, task: &Name, pause: Pause) -> Result<()>;

    /// Keeps many tasks from firing, as [`pause`](Self::pause) does each.
    ///
    /// # Errors
    /// As [`pause`](Self::pause), for the first task that is refused.
    async fn pause_all(&self, tasks: &[Name], pause: &Pause) -> Result<(), Partial> {
        for (done, task) in tasks.iter().enumerate() {
            self.pause(task, pause.clone()).await.map_err(|error| Partial { done, error })?;
        }
        Ok(())
    }

    /// Lets a paused task fire again; what it missed follows its misfire policy.
    ///
    /// # Errors
    /// `task/unknown`.
    async fn resume(&self, task: &Name) -> Result<()>;

    /// Lets many paused tasks fire again, as [`resume`](Self::resume) does each.
    ///
    /// # Errors
    /// As [`resume`](Self::resume), for the first task that is refused.
    async fn resume_all(&self, tasks: &[Name]) -> Result<(), Partial> {
        for (done, task) in tasks.iter().enumerate() {
            self.resume(task).await.map_err(|error| Partial { done, error })?;
        }
        Ok(())
    }
}

/// How far a call on many tasks came before it was refused.
#[derive(Debug)]
pub struct Partial {
    /// For how many tasks, from the first, it is done.
    pub done: usize,
    /// Why it is not for the one after them.
    pub error: Error,
}

impl From<Partial> for Error {
    fn from(partial: Partial) -> Self {
        partial.error
    }
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
