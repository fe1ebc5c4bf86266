//! Prefect 3 as a workflow engine, by its HTTP API.
//!
//! This file names what is needed to reach one and joins the calls of the seam with the files that make them.
//! Nothing here depends on Prefect's Python client. What the API answers is read leniently, and never trusted.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use scheduler_core::{Result, Secret, Timestamp, Trigger};
use serde_json::{Map, Value};

use crate::engine::{
    CancelOutcome, Capabilities, EngineInfo, EngineLogLine, EngineRun, EngineRunFilter, EngineRunId,
    EngineRuns, EngineSchedule, Hosted, Hosting, Launch, Launched, Rendered, ScheduleSpec, Told, Workflow,
    WorkflowEngine, WorkflowId, WorkflowName,
};
use crate::prefect_breaker::Patience;
use crate::prefect_cron;
use crate::prefect_http::Client;
use crate::prefect_links::Links;
use crate::prefect_parameters::Known;

/// How a Prefect server is reached.
#[derive(Clone, Debug)]
pub struct PrefectSettings {
    /// The address of its API, such as `http://127.0.0.1:4200/api`.
    pub api_url: String,
    /// The address of its pages; by default the one that belongs to the API.
    pub ui_url: Option<String>,
    /// Who asks.
    pub auth: Auth,
    /// A PEM file of certificates to trust besides those of the operating system.
    pub ca_file: Option<PathBuf>,
    /// How long the connection may take.
    pub connect_timeout: Duration,
    /// How long one request may take, to the last byte of its answer.
    pub timeout: Duration,
    /// How long a call goes on repeating a request. A request that is under way is not cut short by it.
    pub patience: Duration,
    /// How often a request is sent at most before the call fails; by default `patience` ends it earlier.
    pub attempts: u32,
    /// The wait before the first repetition; it doubles with each.
    pub backoff: Duration,
    /// How many bytes of an answer are read.
    pub max_answer: usize,
    /// After how many failures in a row requests stop.
    pub failures_to_open: u32,
    /// How long they stop before another is tried.
    pub open_for: Duration,
}

/// Who asks.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Nobody in particular.
    None,
    /// A user with a password: the `PREFECT_SERVER_API_AUTH_STRING` of a server, split at its first colon.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// The holder of a key, as Prefect Cloud wants it.
    Bearer(Secret),
}

impl PrefectSettings {
    /// The defaults, for the API at `api_url`.
    pub fn new(api_url: impl Into<String>) -> Self {
        Self {
            api_url: api_url.into(),
            ui_url: None,
            auth: Auth::None,
            ca_file: None,
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            patience: Duration::from_secs(60),
            attempts: 20,
            backoff: Duration::from_millis(250),
            max_answer: 8 << 20,
            failures_to_open: 5,
            open_for: Duration::from_secs(10),
        }
    }
}

/// A Prefect 3 server, or a workspace of Prefect Cloud.
#[derive(Debug)]
pub struct PrefectEngine {
    pub(crate) client: Client,
    pub(crate) links: Links,
    /// What was last seen of the workflows that runs are started of.
    pub(crate) known: Mutex<HashMap<WorkflowId, Known>>,
}

impl PrefectEngine {
    /// Prepares to reach it; sends nothing.
    ///
    /// # Errors
    /// `engine/bad_url`; `tls/bad_certificate` when `ca_file` cannot be read.
    pub fn new(settings: PrefectSettings) -> Result<Self> {
        let patience = Patience { failures: settings.failures_to_open, pause: settings.open_for };
        let ui_url = settings.ui_url.clone();
        let client = Client::new(settings, patience)?;
        let links = Links::new(client.base(), ui_url.as_deref())?;
        Ok(Self { client, links, known: Mutex::default() })
    }

    /// How many requests were sent again so far, because the one before was not answered.
    pub fn repeated_requests(&self) -> u64 {
        self.client.repeated()
    }
}

#[async_trait]
impl WorkflowEngine for PrefectEngine {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            schedules: true,
            delayed: true,
            hosting: true,
            logs: true,
            backfill: true,
            events: true,
        }
    }

    async fn probe(&self) -> Result<EngineInfo> {
        self.ask_version().await
    }

    async fn workflow(&self, name: &WorkflowName) -> Result<Workflow> {
        self.find_workflow(name).await
    }

    async fn check(&self, workflow: &WorkflowId, parameters: &Map<String, Value>) -> Result<()> {
        self.check_parameters(workflow, parameters).await
    }

    async fn trigger(&self, request: &Launch) -> Result<Launched> {
        self.launch(request).await
    }

    async fn status(&self, run: &EngineRunId) -> Result<EngineRun> {
        self.read_run(run).await
    }

    async fn cancel(&self, run: &EngineRunId) -> Result<CancelOutcome> {
        self.end_run(run).await
    }

    async fn cancel_waiting(&self, runs: &[EngineRunId]) -> Result<usize> {
        self.end_waiting(runs).await
    }

    async fn list_runs(&self, filter: &EngineRunFilter) -> Result<EngineRuns> {
        self.page_of_runs(filter).await
    }

    async fn host(&self, hosting: &Hosting, dry_run: bool) -> Result<Hosted> {
        self.host_task(hosting, dry_run).await
    }

    async fn hosted(&self, prefix: &str) -> Result<Vec<Workflow>> {
        self.find_hosted(prefix).await
    }

    async fn unhost(&self, workflow: &WorkflowId) -> Result<bool> {
        self.remove_hosted(workflow).await
    }

    fn render(&self, trigger: &Trigger) -> Result<Rendered> {
        prefect_cron::render(trigger, Timestamp::from(SystemTime::now()))
    }

    async fn schedules(&self, workflow: &WorkflowId) -> Result<Vec<EngineSchedule>> {
        self.read_schedules(workflow).await
    }

    async fn workflows_with(&self, prefix: &str) -> Result<Vec<Workflow>> {
        self.find_scheduled(prefix).await
    }

    async fn upsert_schedule(&self, workflow: &WorkflowId, schedule: &ScheduleSpec) -> Result<()> {
        self.write_schedule(workflow, schedule).await
    }

    async fn delete_schedule(&self, workflow: &WorkflowId, slug: &str) -> Result<bool> {
        self.remove_schedule(workflow, slug).await
    }

    async fn set_schedule_active(&self, workflow: &WorkflowId, slug: &str, active: bool) -> Result<bool> {
        self.switch_schedule(workflow, slug, active).await
    }

    async fn logs(&self, run: &EngineRunId, offset: usize, limit: usize) -> Result<Vec<EngineLogLine>> {
        self.read_logs(run, offset, limit).await
    }

    async fn backfill(
        &self,
        workflow: &WorkflowId,
        from: Timestamp,
        to: Timestamp,
        at_most: usize,
    ) -> Result<()> {
        self.fill_in(workflow, from, to, at_most).await
    }

    async fn watch(&self, tag: &str, tell: &(dyn Fn(Told) + Send + Sync)) -> Result<()> {
        self.hear(tag, tell).await
    }

    async fn findings(&self, workflows: &[Workflow], now: Timestamp) -> Result<Vec<String>> {
        self.look_around(workflows, now).await
    }
}
