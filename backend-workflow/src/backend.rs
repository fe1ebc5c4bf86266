//! The backend's outside: it starts and stops those that follow and keep, and passes every call to its session.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::{
    Backend, BackendContext, BackendInfo, CancelReason, Cancelled, Capability, Drained, Enqueued, Error,
    Health, Name, Page, Planning, Result, RunFilter, RunId, RunLogs, RunRequest, Schedules, Task, Tier,
    Warning,
};
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;

use crate::WorkflowConfig;
use crate::engine::{CancelOutcome, EngineInfo, WorkflowEngine};
use crate::follow::follow;
use crate::judge::judge;
use crate::keep::keep;
use crate::session::{Session, lock};

/// How long the engine may take to say what it is when somebody asks for the health. At the start it has as long as
/// for every call.
const HEALTH_LIMIT: Duration = Duration::from_secs(5);

/// Runs tasks on a workflow engine.
#[derive(Debug)]
pub struct WorkflowBackend {
    name: Name,
    config: WorkflowConfig,
    data_dir: Option<PathBuf>,
    pub(crate) engine: Arc<dyn WorkflowEngine>,
    standing: Mutex<Standing>,
}

/// What the backend does.
#[derive(Debug, Default)]
enum Standing {
    #[default]
    New,
    /// It acts beside whoever runs it.
    Connected(Arc<Session>),
    Running(Arc<Session>, JoinSet<()>),
    /// It shows what there is, and takes nothing.
    Stopped(Arc<Session>),
}

impl WorkflowBackend {
    /// A backend of this name on an engine.
    pub fn new(name: Name, config: WorkflowConfig, engine: Arc<dyn WorkflowEngine>) -> Self {
        Self { name, config, data_dir: None, engine, standing: Mutex::default() }
    }

    /// The same with a folder for files, for when it is started without one.
    #[must_use]
    pub fn in_folder(mut self, data_dir: Option<PathBuf>) -> Self {
        self.data_dir = data_dir;
        self
    }

    /// The session to act with.
    ///
    /// # Errors
    /// `backend/stopped` while it neither runs nor is connected.
    pub(crate) fn session(&self) -> Result<Arc<Session>> {
        match &*lock(&self.standing) {
            Standing::Connected(session) | Standing::Running(session, _) => Ok(Arc::clone(session)),
            Standing::New | Standing::Stopped(_) => {
                Err(Error::unavailable("backend/stopped", format!("backend `{}` does not run", self.name)))
            }
        }
    }

    /// The session to show what there is, if there was one.
    fn last_session(&self) -> Option<Arc<Session>> {
        match &*lock(&self.standing) {
            Standing::New => None,
            Standing::Connected(session) | Standing::Running(session, _) | Standing::Stopped(session) => {
                Some(Arc::clone(session))
            }
        }
    }

    fn is_running(&self) -> bool {
        matches!(&*lock(&self.standing), Standing::Running(..))
    }

    /// A session with an engine that answered.
    async fn open(&self, mut ctx: BackendContext) -> Result<Arc<Session>> {
        ctx.data_dir = ctx.data_dir.or_else(|| self.data_dir.clone());
        let session = Session::new(&self.name, &self.config, Arc::clone(&self.engine), ctx);
        let EngineInfo { kind, version } = probe(&session, self.config.timeout).await?;
        tracing::info!(backend = %self.name, "{kind} {version} at {}", self.config.shown_url());
        Ok(Arc::new(session))
    }

    async fn end(&self, grace: Duration) -> Drained {
        let running = {
            let mut standing = lock(&self.standing);
            match std::mem::take(&mut *standing) {
                Standing::Running(session, loops) => {
                    *standing = Standing::Stopped(Arc::clone(&session));
                    Some((session, loops))
                }
                other => {
                    *standing = other;
                    None
                }
            }
        };
        if let Some((session, mut loops)) = running {
            session.stopping.cancel(CancelReason::Shutdown);
            let ended = async { while loops.join_next().await.is_some() {} };
            // What they have under way is dropped then; runs go on in the engine.
            let _ = tokio::time::timeout(grace, ended).await;
            loops.abort_all();
        }
        Drained::default()
    }
}

/// Asks the engine what it is.
async fn probe(session: &Session, limit: Duration) -> Result<EngineInfo> {
    match tokio::time::timeout(limit, session.link.call(WorkflowEngine::probe)).await {
        Ok(answer) => answer,
        Err(_) => {
            let message =
                format!("the engine at {} did not answer within {limit:?}", session.config.shown_url());
            session.link.note_failure(&message);
            Err(Error::unavailable("workflow/no_answer", message))
        }
    }
}

#[async_trait]
impl Backend for WorkflowBackend {
    fn info(&self) -> BackendInfo {
        let mut capabilities = vec![Capability::Durable, Capability::CancelRunning];
        if self.engine.capabilities().schedules {
            capabilities.push(Capability::Schedules);
        }
        BackendInfo::new(self.name.clone(), "workflow", Tier::Workflow, &capabilities)
    }

    /// # Errors
    /// `workflow/no_answer`, and those of the engine: it does not answer, is of another version, or refuses the
    /// credentials.
    async fn start(&self, ctx: BackendContext) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let session = self.open(ctx).await?;
        let mut standing = lock(&self.standing);
        // Of two that start at once, one stays.
        if !matches!(&*standing, Standing::Running(..)) {
            let (handed, followers) = unbounded_channel();
            let (looked_at, tasks) = unbounded_channel();
            session.attend(handed, looked_at);
            let mut loops = JoinSet::new();
            loops.spawn(follow(Arc::clone(&session), followers));
            loops.spawn(keep(Arc::clone(&session), tasks));
            *standing = Standing::Running(session, loops);
        }
        Ok(())
    }

    async fn connect(&self, ctx: BackendContext) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let session = self.open(ctx).await?;
        let mut standing = lock(&self.standing);
        if !matches!(&*standing, Standing::Running(..)) {
            *standing = Standing::Connected(session);
        }
        Ok(())
    }

    async fn enqueue(&self, request: RunRequest) -> Result<Enqueued> {
        self.session()?.launch(&request).await
    }

    async fn enqueue_all(&self, requests: Vec<RunRequest>) -> Result<Vec<Enqueued>> {
        self.session()?.launch_all(requests).await
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Page> {
        match self.last_session() {
            Some(session) => session.page(filter).await,
            None => Ok(Page::default()),
        }
    }

    /// # Errors
    /// `run/unknown`; `workflow/cancel_refused` when the engine will not.
    async fn cancel(&self, run: &RunId) -> Result<Cancelled> {
        let session = self.session()?;
        let unknown = || Error::not_found("run/unknown", format!("backend `{}` has no run {run}", self.name));
        let (_, found) = session.find(*run).await?.ok_or_else(unknown)?;
        match session.link.call(|engine| engine.cancel(&found.id)).await {
            Ok(CancelOutcome::Prevented) => Ok(Cancelled::Prevented),
            Ok(CancelOutcome::Requested) => Ok(Cancelled::Requested),
            Ok(CancelOutcome::AlreadyFinished) => Ok(Cancelled::AlreadyFinished),
            Ok(CancelOutcome::Refused(why)) => {
                let message = format!("the engine does not cancel run {run}: {why}");
                Err(Error::conflict("workflow/cancel_refused", message))
            }
            Err(error) if error.code() == "engine/unknown_run" => Err(unknown()),
            Err(error) => Err(error),
        }
    }

    async fn health(&self) -> Health {
        let session = match self.session() {
            Ok(session) => session,
            Err(error) => return Health::down(error.to_string()),
        };
        match probe(&session, HEALTH_LIMIT).await {
            Ok(_) => match session.all_findings() {
                findings if findings.is_empty() => Health::up(),
                findings => Health::degraded(findings),
            },
            // Runs that are due wait until it answers again, by the policy of their task.
            Err(error) if error.is_transient() => Health::degraded(vec![error.to_string()]),
            Err(error) => Health::down(error.to_string()),
        }
    }

    /// Runs go on in the engine; nothing is given back or cut off.
    async fn stop(&self, grace: Duration) -> Result<Drained> {
        Ok(self.end(grace.max(Duration::from_secs(1))).await)
    }

    async fn abort(&self) -> Result<Drained> {
        Ok(self.end(Duration::ZERO).await)
    }

    fn schedules(&self) -> Option<&dyn Schedules> {
        self.engine.capabilities().schedules.then_some(self)
    }

    fn run_logs(&self) -> Option<&dyn RunLogs> {
        self.engine.capabilities().logs.then_some(self)
    }

    fn planning(&self) -> Option<&dyn Planning> {
        Some(self)
    }

    /// # Errors
    /// `workflow/not_keepable` and `workflow/not_hostable`.
    fn judge(&self, task: &Task) -> Result<Vec<Warning>> {
        judge(&*self.engine, task)
    }
}
