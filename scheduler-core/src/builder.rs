//! What a scheduler is made of, and what it refuses to be made of.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::driver::Driver;
use crate::lifecycle::Lifecycle;
use crate::scheduler::{Inner, Member};
use crate::shapes::Shapes;
use crate::tally::Counting;
use crate::{
    Backend, Clock, Error, Events, FileStateStore, MemoryStateStore, Name, Registry, Result, Scheduler,
    StateStore, TaskBook,
};

/// Collects what a scheduler is made of.
#[derive(Debug)]
pub struct SchedulerBuilder {
    namespace: Name,
    clock: Arc<dyn Clock>,
    state: Option<Arc<dyn StateStore>>,
    data_dir: Option<PathBuf>,
    registry: Registry,
    backends: Vec<(Arc<dyn Backend>, BackendRole)>,
}

/// The part a backend plays in a scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendRole {
    /// Whether its tier uses it when a task names none.
    pub is_default: bool,
    /// Whether the scheduler refuses to start without it; else it runs degraded and tries again.
    pub required: bool,
}

impl Default for BackendRole {
    fn default() -> Self {
        Self { is_default: false, required: true }
    }
}

impl SchedulerBuilder {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            namespace: Name::new("default").expect("`default` is a name"),
            clock,
            state: None,
            data_dir: None,
            registry: Registry::new(),
            backends: Vec::new(),
        }
    }

    /// The namespace, `default` unless set.
    #[must_use]
    pub fn namespace(mut self, namespace: Name) -> Self {
        self.namespace = namespace;
        self
    }

    /// A folder for files: state and history live there. Without one they live in memory.
    #[must_use]
    pub fn data_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(folder.into());
        self
    }

    /// Where tasks keep state, instead of `state/` in the data folder, or memory.
    #[must_use]
    pub fn state(mut self, state: Arc<dyn StateStore>) -> Self {
        self.state = Some(state);
        self
    }

    /// The jobs that tasks may name.
    #[must_use]
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// Adds a backend that must start and serves its tier.
    #[must_use]
    pub fn backend(self, backend: Arc<dyn Backend>) -> Self {
        self.backend_as(backend, BackendRole::default())
    }

    /// Adds a backend with a role.
    #[must_use]
    pub fn backend_as(mut self, backend: Arc<dyn Backend>, role: BackendRole) -> Self {
        self.backends.push((backend, role));
        self
    }

    /// Makes the scheduler. Nothing runs yet.
    ///
    /// # Errors
    /// `registry/duplicate_backend` for two backends of one name, `backend/contract` for one that was built
    /// against another version of the contract.
    pub fn build(self) -> Result<Scheduler> {
        let mut names: Vec<Name> = Vec::new();
        for (backend, _) in &self.backends {
            let info = backend.info();
            if names.contains(&info.name) {
                let message = format!("two backends are named `{}`", info.name);
                return Err(Error::conflict("registry/duplicate_backend", message));
            }
            if info.contract != crate::CONTRACT {
                let message = format!(
                    "backend `{}` was built against contract {}, this program speaks {}",
                    info.name,
                    info.contract,
                    crate::CONTRACT
                );
                return Err(Error::unsupported("backend/contract", message));
            }
            names.push(info.name);
        }
        let in_folder = || {
            self.data_dir.as_ref().map_or_else(
                || Arc::new(MemoryStateStore::default()) as Arc<dyn StateStore>,
                |folder| Arc::new(FileStateStore::new(folder.join("state"))),
            )
        };
        let state = self.state.clone().unwrap_or_else(in_folder);
        let member = |(backend, role): (Arc<dyn Backend>, BackendRole)| Member {
            info: backend.info(),
            backend,
            is_default: role.is_default,
            required: role.required,
            standing: Mutex::default(),
        };
        let backends: Vec<Member> = self.backends.into_iter().map(member).collect();
        let events = Events::default();
        let driven = backends.iter().filter(|member| member.needs_driver());
        let driven = driven.map(|member| member.info.name.clone());
        Ok(Scheduler(Arc::new(Inner {
            driver: Driver::new(&self.namespace, &self.clock, &events, driven),
            namespace: self.namespace,
            clock: self.clock,
            state,
            data_dir: self.data_dir,
            registry: Arc::new(self.registry),
            backends,
            tasks: TaskBook::default(),
            shapes: Shapes::default(),
            events,
            counting: Counting::default(),
            lifecycle: Lifecycle::default(),
            accepting: futures_util::lock::Mutex::default(),
        })))
    }
}
