//! What the backend works with from its start, or from being connected, on.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scheduler_core::{BackendContext, CancelToken, Error, Name, Placed, Result, RunId};
use tokio::sync::mpsc::UnboundedSender;

use crate::WorkflowConfig;
use crate::directory::Directory;
use crate::engine::{Capabilities, EngineRun, EngineRunId, WorkflowEngine};
use crate::link::Link;
use crate::names::Names;
use crate::pauses::Pauses;

/// So many runs are remembered by their id in the engine.
const REMEMBERED: usize = 20_000;

/// The engine and everything that is known of it.
pub(crate) struct Session {
    pub(crate) backend: Name,
    pub(crate) config: WorkflowConfig,
    pub(crate) ctx: BackendContext,
    pub(crate) names: Names,
    pub(crate) link: Link,
    pub(crate) directory: Mutex<Directory>,
    /// Cancelled when the backend stops.
    pub(crate) stopping: CancelToken,
    /// The ids of runs that were seen, so that they are not searched for.
    ids: Mutex<Remembered>,
    /// Hands runs to those that follow them, while somebody does.
    followers: Mutex<Option<UnboundedSender<EngineRun>>>,
    /// Hands tasks to those that keep the engine in step, while somebody does.
    keepers: Mutex<Option<UnboundedSender<Name>>>,
    /// Who paused what, as far as it was done here.
    pub(crate) pauses: Mutex<Pauses>,
    /// What keeps the tier from its work, for the health.
    pub(crate) findings: Mutex<Findings>,
    /// How many runs of each task live, by those that follow.
    pub(crate) live: Mutex<HashMap<Name, usize>>,
}

/// What keeps the tier from its work.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// What is wrong with single tasks.
    pub(crate) faults: Vec<String>,
    /// What no task wants any more.
    pub(crate) left: Vec<String>,
    /// What the engine was found to suffer from.
    pub(crate) engine: Vec<String>,
}

#[derive(Debug, Default)]
struct Remembered {
    ids: HashMap<RunId, EngineRunId>,
    order: VecDeque<RunId>,
}

impl Session {
    pub(crate) fn new(
        backend: &Name,
        config: &WorkflowConfig,
        engine: Arc<dyn WorkflowEngine>,
        ctx: BackendContext,
    ) -> Self {
        Self {
            backend: backend.clone(),
            config: config.clone(),
            names: Names { namespace: ctx.namespace.clone() },
            link: Link::new(engine, backend, &ctx),
            directory: Mutex::default(),
            stopping: CancelToken::new(),
            ids: Mutex::default(),
            followers: Mutex::default(),
            keepers: Mutex::default(),
            pauses: Mutex::new(Pauses::read(ctx.data_dir.as_deref(), backend)),
            findings: Mutex::default(),
            live: Mutex::default(),
            ctx,
        }
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        self.link.engine.capabilities()
    }

    /// The definition of a task.
    ///
    /// # Errors
    /// `task/unknown`.
    pub(crate) fn task(&self, task: &Name) -> Result<Arc<Placed>> {
        self.ctx
            .tasks
            .find(task)
            .ok_or_else(|| Error::not_found("task/unknown", format!("no task `{task}` in this process")))
    }

    /// Remembers where a run is.
    pub(crate) fn remember(&self, run: RunId, id: &EngineRunId) {
        let mut remembered = lock(&self.ids);
        if remembered.ids.insert(run, id.clone()).is_some() {
            return;
        }
        remembered.order.push_back(run);
        if remembered.order.len() > REMEMBERED
            && let Some(oldest) = remembered.order.pop_front()
        {
            remembered.ids.remove(&oldest);
        }
    }

    pub(crate) fn remembered(&self, run: RunId) -> Option<EngineRunId> {
        lock(&self.ids).ids.get(&run).cloned()
    }

    /// From now on runs are handed to `followers`, and tasks to `keepers`.
    pub(crate) fn attend(&self, followers: UnboundedSender<EngineRun>, keepers: UnboundedSender<Name>) {
        *lock(&self.followers) = Some(followers);
        *lock(&self.keepers) = Some(keepers);
    }

    /// Whether anybody follows runs.
    pub(crate) fn is_attended(&self) -> bool {
        lock(&self.followers).as_ref().is_some_and(|followers| !followers.is_closed())
    }

    /// Has the schedule of a task brought in step.
    pub(crate) fn look_at(&self, task: &Name) {
        if let Some(keepers) = &*lock(&self.keepers) {
            // Nobody keeps it in step any longer once the backend stops.
            let _ = keepers.send(task.clone());
        }
    }

    /// Everything that is known to be wrong.
    pub(crate) fn all_findings(&self) -> Vec<String> {
        let findings = lock(&self.findings);
        [&findings.faults, &findings.left, &findings.engine].into_iter().flatten().cloned().collect()
    }

    /// Hands a run to those that follow.
    pub(crate) fn hand_over(&self, run: EngineRun) {
        if let Some(followers) = &*lock(&self.followers) {
            // Nobody follows any longer once the backend stops.
            let _ = followers.send(run);
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("backend", &self.backend).finish_non_exhaustive()
    }
}
