//! A flow in Python on the suite's server, deployed as its own author would.

use backend_workflow::{
    Auth, Launch, PrefectEngine, PrefectSettings, Workflow, WorkflowEngine, WorkflowId, WorkflowName,
};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::records::{PATIENCE, Records, variable};

const FLOW: &str = include_str!("demo.py");

/// A deployment of the flow, and what it takes to look at it from both sides.
pub(crate) struct Demo {
    pub(crate) records: Records,
    pub(crate) engine: PrefectEngine,
    pub(crate) deployment: Value,
    pub(crate) workflow: Workflow,
    _folder: TempDir,
}

impl Demo {
    /// A new deployment; `more` is added to what Prefect is told of it.
    pub(crate) async fn new(more: &Value) -> Self {
        let records = Records::of_suite();
        let engine = engine(&records);
        Self::on(records, engine, more).await
    }

    /// The same on another server.
    pub(crate) async fn on(records: Records, engine: PrefectEngine, more: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("demo.py"), FLOW).unwrap();
        let flow = records.post("/flows/", &json!({ "name": "demo" }));
        let mut wanted = json!({
            "name": folder.path().file_name().unwrap().to_string_lossy(),
            "flow_id": flow["id"],
            "work_pool_name": variable("TEST_PREFECT_POOL"),
            "entrypoint": "demo.py:demo",
            "path": folder.path(),
            "pull_steps": [
                { "prefect.deployments.steps.set_working_directory": { "directory": folder.path() } }
            ],
            "parameter_openapi_schema": {
                "type": "object",
                "properties": { "who": { "type": "string" }, "seconds": { "type": "number" } },
            },
            "enforce_parameter_schema": true,
        });
        wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let deployment = records.post("/deployments/", &wanted);
        let name = WorkflowName {
            flow: "demo".to_owned(),
            deployment: deployment["name"].as_str().unwrap().to_owned(),
        };
        let workflow = engine.workflow(&name).await.unwrap();
        assert_eq!(workflow.id.0, deployment["id"].as_str().unwrap());
        Self { records, engine, deployment, workflow, _folder: folder }
    }

    /// What starts a run of it.
    pub(crate) fn launch(&self, key: &str, parameters: &Value) -> Launch {
        launch(&self.workflow.id, &self.key(key), parameters)
    }

    /// A key of this deployment, since one counts for all deployments of a flow.
    pub(crate) fn key(&self, key: &str) -> String {
        format!("{}-{key}", self.workflow.name.deployment)
    }

    /// Its runs, as Prefect records them.
    pub(crate) fn runs(&self) -> Vec<Value> {
        self.records.runs_of(&self.deployment)
    }
}

impl Drop for Demo {
    /// Its schedules would go on making runs beside those of the other tests.
    fn drop(&mut self) {
        let path = format!("/deployments/{}", self.workflow.id.0);
        self.records.call("DELETE", &path, &Value::Null);
    }
}

/// A client of the suite's server.
pub(crate) fn engine(records: &Records) -> PrefectEngine {
    engine_at(&records.url)
}

/// A client of the server that is reached there.
pub(crate) fn engine_at(url: &str) -> PrefectEngine {
    engine_as(url, Auth::None)
}

/// A client that says who asks.
pub(crate) fn engine_as(url: &str, auth: Auth) -> PrefectEngine {
    let mut settings = PrefectSettings::new(url);
    // A server on SQLite answers 503 while its database is locked, on a busy machine for long.
    settings.patience = PATIENCE;
    settings.auth = auth;
    (settings.attempts, settings.failures_to_open) = (u32::MAX, u32::MAX);
    PrefectEngine::new(settings).unwrap()
}

pub(crate) fn launch(workflow: &WorkflowId, key: &str, parameters: &Value) -> Launch {
    Launch {
        workflow: workflow.clone(),
        key: key.to_owned(),
        name: key.to_owned(),
        parameters: parameters.as_object().cloned().unwrap_or_else(Map::new),
        at: None,
        tags: vec!["of-the-suite".to_owned()],
    }
}
