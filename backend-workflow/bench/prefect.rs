//! Prefect by plain calls: the load generator that we are compared with, and the hand that changes states.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backend_workflow::{PrefectSettings, WorkflowId, WorkflowName};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The flow of which runs are made. Nothing serves its deployments, so they stay where they are put.
pub(crate) const FLOW: &str = "measured";

/// How often a call is sent while the server says that it cannot answer now, and the pause between.
const MOST_SENT: u32 = 20;
const PAUSE: Duration = Duration::from_millis(250);
/// How long a connection is kept that is not used.
const IDLE: Duration = Duration::from_secs(3);

/// A server.
#[derive(Clone, Debug)]
pub(crate) struct Prefect {
    http: Client,
    pub(crate) url: String,
    /// How many calls were sent again.
    repeated: Arc<AtomicU64>,
}

impl Prefect {
    /// The server at that URL.
    pub(crate) async fn at(url: &str) -> Result<Self> {
        let roots = rustls::RootCertStore::empty();
        let tls =
            rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_no_client_auth();
        // The server closes a connection that was idle for five seconds, and between two rounds each is.
        let http =
            Client::builder().tls_backend_preconfigured(tls).pool_idle_timeout(IDLE).no_proxy().build()?;
        Ok(Self { http, url: url.to_owned(), repeated: Arc::default() })
    }

    /// How we reach it. On SQLite it says nothing for a minute now and then, which the plain calls wait for as well.
    pub(crate) fn settings(&self) -> PrefectSettings {
        let mut settings = PrefectSettings::new(&self.url);
        settings.patience = Duration::from_secs(600);
        (settings.attempts, settings.failures_to_open) = (u32::MAX, 0);
        settings
    }

    pub(crate) fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    pub(crate) async fn version(&self) -> Result<String> {
        let answer = self.call(Method::GET, "/admin/version", None).await?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    /// Makes a deployment.
    pub(crate) async fn deployment(&self, name: &str) -> Result<(WorkflowName, WorkflowId)> {
        let flow = self.call(Method::POST, "/flows/", Some(&json!({ "name": FLOW }))).await?;
        let wanted = json!({ "name": name, "flow_id": flow["id"] });
        let made = self.call(Method::POST, "/deployments/", Some(&wanted)).await?;
        let id = made["id"].as_str().ok_or("a deployment without an id")?.to_owned();
        Ok((WorkflowName { flow: FLOW.to_owned(), deployment: name.to_owned() }, WorkflowId(id)))
    }

    /// Starts a run.
    pub(crate) async fn start(&self, deployment: &WorkflowId, order: &Value) -> Result<()> {
        let path = format!("/deployments/{}/create_flow_run", deployment.0);
        self.call(Method::POST, &path, Some(order)).await.map(|_| ())
    }

    /// Puts a run into a state, as a worker does.
    pub(crate) async fn put(&self, run: &str, state: &str) -> Result<()> {
        let path = format!("/flow_runs/{run}/set_state");
        let body = json!({ "state": { "type": state }, "force": true });
        self.call(Method::POST, &path, Some(&body)).await.map(|_| ())
    }

    /// Asks how a run stands.
    pub(crate) async fn look(&self, run: &str) -> Result<()> {
        let body = json!({ "flow_runs": { "id": { "any_": [run] } }, "limit": 1 });
        self.call(Method::POST, "/flow_runs/filter", Some(&body)).await.map(|_| ())
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut sent = 0;
        let (status, text) = loop {
            let mut request = self.http.request(method.clone(), format!("{}{path}", self.url));
            if let Some(body) = body {
                request = request.json(body);
            }
            let answer = request.send().await;
            sent += 1;
            match answer {
                // While its database is locked, which is nobody's fault here.
                Ok(answer) if answer.status() == StatusCode::SERVICE_UNAVAILABLE && sent < MOST_SENT => {}
                // A server that is slow closes a connection as idle that is in use again.
                Err(_) if sent < MOST_SENT => {}
                answer => {
                    let answer = answer?;
                    break (answer.status(), answer.text().await?);
                }
            }
            self.repeated.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PAUSE).await;
        };
        if !status.is_success() {
            return Err(format!("{path} answered {status}: {text}").into());
        }
        Ok(serde_json::from_str(&text)?)
    }
}
