//! The ability of a backend to keep several queues and to pause each of them, and the queues of all backends as one
//! list.

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use crate::scheduler::Member;
use crate::{Error, Name, Pause, Result, Scheduler, Timestamp};

/// Keeps runs in queues by name. What is said of a queue is kept where its runs are, so it holds for every process
/// that takes runs from there, also for one that starts later.
#[async_trait]
pub trait Queues: Send + Sync {
    /// The queues that are configured here, and those in which there is something, by name.
    async fn queues(&self) -> Result<Vec<QueueStatus>>;

    /// Keeps runs of a queue from being taken until it is resumed or `pause.until` has come. Runs under way go on.
    ///
    /// # Errors
    /// Of kind `NotFound` when there is no such queue.
    async fn pause_queue(&self, queue: &Name, pause: Pause) -> Result<()>;

    /// Lets runs of a queue be taken again; says whether it was paused.
    ///
    /// # Errors
    /// Of kind `NotFound` when there is no such queue.
    async fn resume_queue(&self, queue: &Name) -> Result<bool>;

    /// The time by the clock that decides when a pause is over: that of where the runs are kept.
    async fn now(&self) -> Result<Timestamp>;
}

/// How a queue stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct QueueStatus {
    /// The queue.
    pub queue: Name,
    /// Its runs that are due and wait for a worker, or for their turn by its limits.
    pub waiting: usize,
    /// Its runs under way, in whatever process.
    pub running: usize,
    /// Since when the run that has waited longest is due.
    pub oldest: Option<Timestamp>,
    /// Who keeps its runs from being taken, why, and until when, while somebody does.
    pub paused: Option<Pause>,
    /// Its share beside the other queues; nothing where it is not configured here, so that nobody here takes from it.
    pub weight: Option<u32>,
    /// Its limits in words.
    pub limits: Vec<String>,
}

impl QueueStatus {
    /// A queue in which there is nothing.
    pub fn new(queue: Name, weight: Option<u32>) -> Self {
        Self { queue, waiting: 0, running: 0, oldest: None, paused: None, weight, limits: Vec::new() }
    }
}

/// A queue with its backend.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BackendQueue {
    /// The backend.
    pub backend: Name,
    /// How it stands.
    #[serde(flatten)]
    pub status: QueueStatus,
}

impl Scheduler {
    /// The queues of every backend that has several.
    ///
    /// # Errors
    /// Those of the first backend that does not answer.
    pub async fn queues(&self) -> Result<Vec<BackendQueue>> {
        let mut all = Vec::new();
        for (member, queues) in self.queued(None)? {
            let backend = &member.info.name;
            let queue = |status| BackendQueue { backend: backend.clone(), status };
            all.extend(queues.queues().await?.into_iter().map(queue));
        }
        Ok(all)
    }

    /// Keeps runs of a queue from being taken, on one backend or on every one that has such a queue; answers on
    /// which, with the pause as it is kept there. A length is counted from now on by the clock of each of them, and
    /// comes in place of the end that the pause names.
    ///
    /// # Errors
    /// Of kind `NotFound` when no backend has it; those of the first backend that does not answer.
    pub async fn pause_queue(
        &self,
        backend: Option<&Name>,
        queue: &Name,
        pause: &Pause,
        length: Option<Duration>,
    ) -> Result<Vec<(Name, Pause)>> {
        let (mut paused, mut missing) = (Vec::new(), None);
        for (member, queues) in self.queued(backend)? {
            let mut pause = pause.clone();
            if let Some(length) = length {
                pause.until = Some(queues.now().await? + length);
            }
            match queues.pause_queue(queue, pause.clone()).await {
                Ok(()) => paused.push((member.info.name.clone(), pause)),
                Err(error) if error.kind() == crate::ErrorKind::NotFound => missing = Some(error),
                Err(error) => return Err(error),
            }
        }
        missing.filter(|_| paused.is_empty()).map_or(Ok(paused), Err)
    }

    /// Lets runs of a queue be taken again; answers on which backends it was paused.
    ///
    /// # Errors
    /// Of kind `NotFound` when no backend has it; those of the first backend that does not answer.
    pub async fn resume_queue(&self, backend: Option<&Name>, queue: &Name) -> Result<Vec<Name>> {
        let (mut resumed, mut is_known, mut missing) = (Vec::new(), false, None);
        for (member, queues) in self.queued(backend)? {
            match queues.resume_queue(queue).await {
                Ok(was_paused) => {
                    is_known = true;
                    resumed.extend(was_paused.then(|| member.info.name.clone()));
                }
                Err(error) if error.kind() == crate::ErrorKind::NotFound => missing = Some(error),
                Err(error) => return Err(error),
            }
        }
        missing.filter(|_| !is_known).map_or(Ok(resumed), Err)
    }

    /// What has queues, of one backend or of all; an error when there is none, or for one that is known to be down.
    pub(crate) fn queued(&self, backend: Option<&Name>) -> Result<Vec<(&Member, &dyn Queues)>> {
        let mut found = Vec::new();
        for member in &self.0.backends {
            let is_meant = backend.is_none_or(|name| member.info.name == *name);
            if is_meant && member.backend.queues().is_some() {
                found.extend(member.answering()?.queues().map(|queues| (member, queues)));
            }
        }
        if found.is_empty() {
            let message = match backend {
                Some(name) => format!("backend `{name}` has no queues"),
                None => "no backend of this configuration has queues".to_owned(),
            };
            return Err(Error::unsupported("backend/no_queues", message));
        }
        Ok(found)
    }
}
