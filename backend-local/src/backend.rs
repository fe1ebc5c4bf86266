//! The backend's outside: it passes every call to the loop and waits for the answer.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use scheduler_core::{
    Backend, BackendContext, BackendInfo, BackendKind, Cancelled, Capability, Clock, Drained, Enqueued,
    Error, Health, Load, Name, Page, Partial, Pause, Placed, Result, Retention, RunFilter, RunId, RunRequest,
    ScheduleStatus, Schedules, Tier, Timestamp, Workload,
};
use tokio::sync::oneshot;

use crate::LocalConfig;
use crate::command::{Command, Message, Reply};
use crate::engine::{self, SharedHistory};
use crate::history::History;
use crate::history_file;
use crate::inbox::Inbox;
use crate::live::Owner;
use crate::page::page;
use crate::tasks::Tasks;

/// Runs tasks in this process.
#[derive(Debug)]
pub struct LocalBackend {
    name: Name,
    config: LocalConfig,
    data_dir: Option<PathBuf>,
    engine: Mutex<Option<Handle>>,
    /// What the last loop remembered; it outlives the loop.
    history: SharedHistory,
    /// The namespace of the last loop.
    namespace: Mutex<Option<Name>>,
}

/// A way to the loop.
#[derive(Clone, Debug)]
struct Handle {
    inbox: Arc<Inbox>,
    clock: Arc<dyn Clock>,
}

/// The kind `local`, for a [`Registry`](scheduler_core::Registry).
pub fn kind() -> BackendKind {
    let build = |settings: &scheduler_core::BackendSettings| {
        let config = LocalConfig::from_value(&settings.config)?;
        let mut backend = LocalBackend::new(settings.name.clone(), config);
        backend.data_dir.clone_from(&settings.data_dir);
        Ok(Arc::new(backend) as Arc<dyn Backend>)
    };
    BackendKind::new("local", Tier::Local, "in this process, on tokio", build)
        .with_schema(LocalConfig::schema())
}

impl LocalBackend {
    /// A backend of this name. It keeps history in a file if it is started with a data folder.
    pub fn new(name: Name, config: LocalConfig) -> Self {
        Self {
            name,
            config,
            data_dir: None,
            engine: Mutex::default(),
            history: SharedHistory::default(),
            namespace: Mutex::default(),
        }
    }

    fn engine(&self) -> MutexGuard<'_, Option<Handle>> {
        lock(&self.engine)
    }

    pub(crate) async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
        let stopped =
            || Error::unavailable("backend/stopped", format!("backend `{}` does not run", self.name));
        let Some(handle) = self.engine().clone() else { return Err(stopped()) };
        let (reply, answer) = oneshot::channel();
        let message = Message { command: command(reply), held: handle.clock.busy() };
        handle.inbox.send(message).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())
    }

    async fn end(&self, grace: Option<Duration>) -> Result<Drained> {
        let drained = self.ask(|reply| Command::Stop { grace, reply }).await;
        self.engine().take();
        match drained {
            Err(error) if error.code() == "backend/stopped" => Ok(Drained::default()),
            answer => answer,
        }
    }
}

impl Drop for LocalBackend {
    /// Ends the loop, if nobody stopped it: what runs is cut off.
    fn drop(&mut self) {
        if let Some(handle) = lock(&self.engine).take() {
            let (reply, _) = oneshot::channel();
            let command = Command::Stop { grace: None, reply };
            let _ = handle.inbox.send(Message { command, held: handle.clock.busy() });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Backend for LocalBackend {
    fn info(&self) -> BackendInfo {
        let capabilities = [Capability::Schedules, Capability::Priorities, Capability::CancelRunning];
        BackendInfo::new(self.name.clone(), "local", Tier::Local, &capabilities)
    }

    /// # Errors
    /// `local/no_runtime` outside of a tokio runtime, and those of the history file.
    async fn start(&self, ctx: BackendContext) -> Result<()> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|error| {
            Error::invalid("local/no_runtime", "the local tier needs a tokio runtime around it")
                .with_source(error)
        })?;
        let mut engine = self.engine();
        if engine.as_ref().is_some_and(|handle| !handle.inbox.is_closed()) {
            return Ok(());
        }
        let clock = Arc::clone(&ctx.clock);
        let data_dir = ctx.data_dir.clone().or_else(|| self.data_dir.clone());
        *lock(&self.namespace) = Some(ctx.namespace.clone());
        let before = Arc::clone(&self.history);
        let inbox = engine::spawn(&self.name, self.config.clone(), data_dir, before, ctx, runtime)?;
        *engine = Some(Handle { inbox, clock });
        Ok(())
    }

    async fn enqueue(&self, request: RunRequest) -> Result<Enqueued> {
        self.ask(|reply| Command::Enqueue(Box::new(request), reply)).await?
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Page> {
        match self.ask(|reply| Command::Runs(Box::new(filter.clone()), reply)).await {
            Err(error) if error.code() == "backend/stopped" => {}
            answer => return answer,
        }
        // Without a namespace it never ran, and what a file holds is whole.
        let namespace = lock(&self.namespace).clone().unwrap_or_else(|| self.name.clone());
        let owner = Owner { namespace, backend: self.name.clone() };
        let shown = |history: &History| page(filter, history, &Tasks::default(), &[], &owner);
        if let Some(history) = &*lock(&self.history) {
            return Ok(shown(history));
        }
        let Some(data_dir) = &self.data_dir else { return Ok(Page::default()) };
        let now = Timestamp::from(SystemTime::now());
        Ok(shown(&history_file::load(&history_file::path(data_dir, &self.name), &self.config, now)?))
    }

    async fn cancel(&self, run: &RunId) -> Result<Cancelled> {
        self.ask(|reply| Command::Cancel(*run, reply)).await?
    }

    async fn health(&self) -> Health {
        // An answer proves that the loop turns.
        match self.ask(Command::Ping).await {
            Ok(()) => Health::up(),
            Err(error) => Health::down(error.to_string()),
        }
    }

    async fn stop(&self, grace: Duration) -> Result<Drained> {
        self.end(Some(grace)).await
    }

    async fn abort(&self) -> Result<Drained> {
        self.end(None).await
    }

    fn schedules(&self) -> Option<&dyn Schedules> {
        Some(self)
    }

    fn retention(&self) -> Option<&dyn Retention> {
        Some(self)
    }

    fn workload(&self) -> Option<&dyn Workload> {
        Some(self)
    }
}

#[async_trait]
impl Workload for LocalBackend {
    async fn load(&self) -> Result<Load> {
        self.ask(Command::Load).await
    }
}

#[async_trait]
impl Schedules for LocalBackend {
    async fn upsert(&self, task: Arc<Placed>) -> Result<()> {
        self.ask(|reply| Command::Upsert(task, reply)).await?
    }

    async fn upsert_all(&self, tasks: Vec<Arc<Placed>>) -> Result<(), Partial> {
        let none_done = |error| Partial { done: 0, error };
        self.ask(|reply| Command::UpsertAll(tasks, reply)).await.map_err(none_done)
    }

    async fn remove_all(&self, tasks: &[Name]) -> Result<Vec<bool>, Partial> {
        let none_done = |error| Partial { done: 0, error };
        self.ask(|reply| Command::RemoveAll(tasks.to_vec(), reply)).await.map_err(none_done)
    }

    async fn pause_all(&self, tasks: &[Name], pause: &Pause) -> Result<(), Partial> {
        let none_done = |error| Partial { done: 0, error };
        self.ask(|reply| Command::PauseAll(tasks.to_vec(), pause.clone(), reply)).await.map_err(none_done)?
    }

    async fn resume_all(&self, tasks: &[Name]) -> Result<(), Partial> {
        let none_done = |error| Partial { done: 0, error };
        self.ask(|reply| Command::ResumeAll(tasks.to_vec(), reply)).await.map_err(none_done)?
    }

    async fn remove(&self, task: &Name) -> Result<bool> {
        self.ask(|reply| Command::Remove(task.clone(), reply)).await?
    }

    async fn statuses(&self) -> Result<Vec<ScheduleStatus>> {
        self.ask(Command::Statuses).await
    }

    async fn pause(&self, task: &Name, pause: Pause) -> Result<()> {
        self.ask(|reply| Command::Pause(task.clone(), pause, reply)).await?
    }

    async fn resume(&self, task: &Name) -> Result<()> {
        self.ask(|reply| Command::Resume(task.clone(), reply)).await?
    }
}
