//! The backend's outside: it passes every call to the loop and waits for the answer.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apalis_core::task::Task as ApalisTask;
use async_trait::async_trait;
use scheduler_core::{
    Backend, BackendContext, BackendInfo, BackendKind, BackendSettings, CancelReason, Cancelled, Capability,
    DeadLetters, Drained, Enqueued, Error, Health, Name, Output, Page, Queues, Result, Retention, RunFilter,
    RunId, RunRequest, Schedules, Task, Tier, Warning, Workload,
};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tower_layer::Layer;
use tower_service::Service;

use crate::config::StoreKind;
use crate::layers::{Attempt, AttemptService, BoxError, Layers};
#[cfg(feature = "redis")]
use crate::redis_store::RedisStore;
use crate::requests::{self, Command, Reply, cancelled, push_outside, requested, unknown_queue};
#[cfg(feature = "sqlite")]
use crate::sqlite::SqliteStore;
use crate::store::{Cancel, Store};
use crate::{QueueConfig, adopt, limits, threads};

/// Runs tasks that must survive the process.
#[derive(Debug)]
pub struct QueueBackend {
    pub(crate) name: Name,
    pub(crate) config: QueueConfig,
    data_dir: Option<PathBuf>,
    pub(crate) layers: Layers,
    /// Since when it runs.
    #[cfg(feature = "board")]
    since: Mutex<Option<scheduler_core::Timestamp>>,
    commands: Mutex<Option<UnboundedSender<Command>>>,
    /// What was opened; it answers also while nothing runs.
    store: Mutex<Option<Arc<dyn Store>>>,
    /// What [`Backend::connect`] was given.
    connected: Mutex<Option<Arc<BackendContext>>>,
}

/// The kind `queue`, for a [`Registry`](scheduler_core::Registry).
pub fn kind() -> BackendKind {
    kind_with(|backend| backend)
}

/// The same for a program of its own, which may change each backend before it is used, as to add a
/// [`layer`](QueueBackend::layer).
pub fn kind_with(change: impl Fn(QueueBackend) -> QueueBackend + Send + Sync + 'static) -> BackendKind {
    let build = move |settings: &BackendSettings| {
        let config = QueueConfig::from_value(&settings.config)?;
        let mut backend = QueueBackend::new(settings.name.clone(), config);
        backend.data_dir.clone_from(&settings.data_dir);
        Ok(Arc::new(change(backend)) as Arc<dyn Backend>)
    };
    BackendKind::new("queue", Tier::Queue, "durable, on embedded SQLite or on Redis", build)
        .with_schema(QueueConfig::schema())
}

impl QueueBackend {
    /// A backend of this name. Its file counts from the data folder that it is started with.
    pub fn new(name: Name, config: QueueConfig) -> Self {
        Self {
            name,
            config,
            data_dir: None,
            layers: Layers::default(),
            #[cfg(feature = "board")]
            since: Mutex::default(),
            commands: Mutex::default(),
            store: Mutex::default(),
            connected: Mutex::default(),
        }
    }

    /// Wraps a layer of tower around every attempt, inside of those that were added before. Leases, fences and retries
    /// of runs stay outside: an error that the layer makes is a failed attempt, one that it gives up while it is under
    /// way is ended, and one during which it panics has panicked.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use backend_queue::{QueueBackend, QueueConfig};
    /// # use scheduler_core::Name;
    /// # fn backend() -> scheduler_core::Result<QueueBackend> {
    /// let backend = QueueBackend::new(Name::new("queue")?, QueueConfig::default())
    ///     .layer(tower::limit::ConcurrencyLimitLayer::new(4))
    ///     .layer(tower::timeout::TimeoutLayer::new(Duration::from_secs(60)));
    /// # Ok(backend)
    /// # }
    /// ```
    #[must_use]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<AttemptService> + Send + Sync + 'static,
        L::Service: Service<ApalisTask<Attempt>, Response = Output> + Clone + Send + 'static,
        <L::Service as Service<ApalisTask<Attempt>>>::Error: Into<BoxError>,
        <L::Service as Service<ApalisTask<Attempt>>>::Future: Send + 'static,
    {
        self.layers.add(layer);
        self
    }

    pub(crate) async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
        let commands = lock(&self.commands).clone().ok_or_else(|| self.stopped())?;
        let (reply, answer) = oneshot::channel();
        commands.send(command(reply)).map_err(|_| self.stopped())?;
        answer.await.map_err(|_| self.stopped())
    }

    async fn end(&self, grace: Option<Duration>) -> Result<Drained> {
        let drained = self.ask(|reply| Command::Stop(grace, reply)).await;
        lock(&self.commands).take();
        match drained {
            Err(error) if error.code() == "backend/stopped" => Ok(Drained::default()),
            answer => answer,
        }
    }

    fn file(&self, data_dir: Option<&Path>) -> Result<PathBuf> {
        let file = Path::new(self.config.url.strip_prefix("sqlite:").unwrap_or(&self.config.url));
        match data_dir.or(self.data_dir.as_deref()) {
            _ if file.is_absolute() => Ok(file.to_owned()),
            Some(data_dir) => Ok(data_dir.join(file)),
            None => {
                let message = format!("`{}` counts from a data folder, and there is none", self.config.url);
                Err(Error::invalid("queue/no_data_dir", format!("{message}; give an absolute path")))
            }
        }
    }

    async fn open(&self, namespace: Option<&Name>, data_dir: Option<&Path>) -> Result<Arc<dyn Store>> {
        let store = self.open_store(namespace, data_dir).await?;
        *lock(&self.store) = Some(Arc::clone(&store));
        Ok(store)
    }

    async fn open_store(&self, namespace: Option<&Name>, data_dir: Option<&Path>) -> Result<Arc<dyn Store>> {
        match self.config.store() {
            Some(StoreKind::Redis) => self.open_redis(namespace).await,
            Some(StoreKind::Sqlite(_)) | None => self.open_sqlite(namespace, data_dir).await,
        }
    }

    #[cfg(feature = "sqlite")]
    async fn open_sqlite(&self, namespace: Option<&Name>, data_dir: Option<&Path>) -> Result<Arc<dyn Store>> {
        let file = self.file(data_dir)?;
        let (namespace, backend) = (namespace.cloned(), self.name.clone());
        Ok(Arc::new(SqliteStore::open(&file, self.config.synchronous, namespace, backend).await?))
    }

    #[cfg(not(feature = "sqlite"))]
    async fn open_sqlite(&self, _: Option<&Name>, _: Option<&Path>) -> Result<Arc<dyn Store>> {
        Err(self.without_store("sqlite"))
    }

    /// Runs of Redis are those of a namespace; one nobody named has none.
    #[cfg(feature = "redis")]
    async fn open_redis(&self, namespace: Option<&Name>) -> Result<Arc<dyn Store>> {
        let namespace = namespace.ok_or_else(|| self.stopped())?;
        Ok(Arc::new(RedisStore::open(&self.config, namespace, self.name.clone()).await?))
    }

    #[cfg(not(feature = "redis"))]
    async fn open_redis(&self, _: Option<&Name>) -> Result<Arc<dyn Store>> {
        Err(self.without_store("redis"))
    }

    #[cfg(not(all(feature = "sqlite", feature = "redis")))]
    fn without_store(&self, feature: &str) -> Error {
        let message = format!("this program was built without the store of `{}`", self.config.shown_url());
        Error::unsupported("queue/no_store", format!("{message}; build it with the feature `{feature}`"))
    }

    /// What it was connected with, while nothing runs here.
    fn outside(&self) -> Option<Arc<BackendContext>> {
        lock(&self.connected).clone().filter(|_| !self.runs_here())
    }

    /// The store; `None` while nobody has put anything into it, which is no reason to make one.
    pub(crate) async fn found(&self) -> Result<Option<Arc<dyn Store>>> {
        let opened = lock(&self.store).clone();
        if opened.is_some() {
            return Ok(opened);
        }
        match self.outside() {
            Some(ctx) if self.is_there(ctx.data_dir.as_deref()) => {
                self.open(Some(&ctx.namespace), ctx.data_dir.as_deref()).await.map(Some)
            }
            Some(_) => Ok(None),
            None => Err(self.stopped()),
        }
    }

    /// The store, which is made if nobody has put anything into it.
    pub(crate) async fn made(&self) -> Result<Arc<dyn Store>> {
        if let Some(store) = self.found().await? {
            return Ok(store);
        }
        let ctx = self.outside().ok_or_else(|| self.stopped())?;
        self.open(Some(&ctx.namespace), ctx.data_dir.as_deref()).await
    }

    /// Whether there is a store already. A server is asked for its own.
    fn is_there(&self, data_dir: Option<&Path>) -> bool {
        self.config.store() == Some(StoreKind::Redis) || self.is_file_there(data_dir)
    }

    fn is_file_there(&self, data_dir: Option<&Path>) -> bool {
        let is_file = matches!(self.config.store(), Some(StoreKind::Sqlite(_)));
        is_file && self.file(data_dir).is_ok_and(|file| file.exists())
    }

    fn runs_here(&self) -> bool {
        lock(&self.commands).as_ref().is_some_and(|commands| !commands.is_closed())
    }

    /// Since when it runs here, if it does.
    #[cfg(feature = "board")]
    pub(crate) fn runs_since(&self) -> Option<scheduler_core::Timestamp> {
        (*lock(&self.since)).filter(|_| self.runs_here())
    }

    fn stopped(&self) -> Error {
        Error::unavailable("backend/stopped", format!("backend `{}` does not run", self.name))
    }

    /// Ends as a crash would: nothing is written or given back.
    #[cfg(test)]
    pub(crate) fn crash(&self) {
        // The loop ends where it stands when nobody can ask it any more.
        drop(lock(&self.commands).take());
    }
}

impl Drop for QueueBackend {
    /// Ends the loop, if nobody stopped it: what runs is given back.
    fn drop(&mut self) {
        if let Some(commands) = lock(&self.commands).take() {
            let (reply, _) = oneshot::channel();
            let _ = commands.send(Command::Stop(None, reply));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Backend for QueueBackend {
    fn info(&self) -> BackendInfo {
        let capabilities = [
            Capability::Schedules,
            Capability::Durable,
            Capability::Priorities,
            Capability::CancelRunning,
            Capability::Adhoc,
            Capability::DeadLetters,
        ];
        BackendInfo::new(self.name.clone(), "queue", Tier::Queue, &capabilities)
    }

    /// # Errors
    /// Those of opening its file: `queue/unreadable`, `queue/corrupt`, `queue/newer_store`, `queue/locked`; of
    /// reaching Redis: `queue/unreachable`, `queue/refused`, `queue/old_redis`, `queue/newer_store`; of what it takes
    /// over: `job/unknown`, `job/not_adhoc`, `placement/job_not_on_tier`.
    async fn start(&self, ctx: BackendContext) -> Result<()> {
        if self.runs_here() {
            return Ok(());
        }
        adopt::check(&self.config.adopt, &ctx.registry)?;
        let store = self.open(Some(&ctx.namespace), ctx.data_dir.as_deref()).await?;
        let started = threads::start(&self.name, self.config.clone(), ctx, store, &self.layers)?;
        #[cfg(feature = "board")]
        {
            *lock(&self.since) = Some(std::time::SystemTime::now().into());
        }
        // Of two that start at once, one stays; the other ends when its sender is dropped.
        lock(&self.commands).get_or_insert(started);
        Ok(())
    }

    async fn connect(&self, ctx: BackendContext) -> Result<()> {
        if self.runs_here() {
            return Ok(());
        }
        if self.is_there(ctx.data_dir.as_deref()) {
            self.open(Some(&ctx.namespace), ctx.data_dir.as_deref()).await?;
        }
        *lock(&self.connected) = Some(Arc::new(ctx));
        Ok(())
    }

    async fn enqueue(&self, request: RunRequest) -> Result<Enqueued> {
        let answers = self.enqueue_all(vec![request]).await?;
        answers.into_iter().next().ok_or_else(|| self.stopped())
    }

    async fn enqueue_all(&self, requests: Vec<RunRequest>) -> Result<Vec<Enqueued>> {
        let Some(ctx) = self.outside() else {
            return self.ask(|reply| Command::Enqueue(requests, reply)).await?;
        };
        let runs = requested(&ctx, &self.name, &self.config, requests)?;
        push_outside(&*self.made().await?, runs).await
    }

    fn refusal(&self, request: &RunRequest) -> Option<Error> {
        requests::refusal(&self.name, &self.config, request)
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Page> {
        match self.found().await {
            Ok(Some(store)) => store.runs(filter).await,
            Err(error) if error.code() != "backend/stopped" => Err(error),
            // Nobody has said which namespace: what is there is shown.
            Err(_) if self.is_file_there(None) => self.open(None, None).await?.runs(filter).await,
            _ => Ok(Page::default()),
        }
    }

    async fn cancel(&self, run: &RunId) -> Result<Cancelled> {
        if self.outside().is_some() {
            let answer = match self.found().await? {
                Some(store) => store.cancel(*run, CancelReason::Requested.as_str()).await?,
                None => Cancel::Unknown,
            };
            return cancelled(*run, &answer);
        }
        self.ask(|reply| Command::Cancel(*run, reply)).await?
    }

    async fn health(&self) -> Health {
        match self.ask(Command::Health).await {
            Ok(findings) if findings.is_empty() => Health::up(),
            Ok(findings) => Health::degraded(findings),
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

    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        Some(self)
    }

    fn retention(&self) -> Option<&dyn Retention> {
        Some(self)
    }

    fn workload(&self) -> Option<&dyn Workload> {
        Some(self)
    }

    fn queues(&self) -> Option<&dyn Queues> {
        Some(self)
    }

    fn adhoc_jobs(&self) -> Vec<(String, Name)> {
        adopt::jobs(&self.config.adopt)
    }

    /// # Errors
    /// `queue/unknown_queue`.
    fn judge(&self, task: &Task) -> Result<Vec<Warning>> {
        let unknown = task.queue.as_ref().and_then(|queue| unknown_queue(&self.name, &self.config, queue));
        unknown.map_or_else(|| Ok(limits::turns_by_key(&self.config.queues, task).into_iter().collect()), Err)
    }
}
