//! A configuration on the suite's Prefect server, in a namespace of its own, with the binary to try on it.

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::bench::{Answer, Bench};
use crate::records::{Records, until, variable};

/// A flow of somebody else.
const DEMO: &str = include_str!("../../../backend-workflow/tests/prefect/demo.py");

/// The configuration, and Prefect's side of it.
pub(crate) struct Site {
    pub(crate) bench: Bench,
    pub(crate) records: Records,
    pub(crate) namespace: String,
    /// What the section of the tier says besides.
    section: String,
}

impl Site {
    /// With these tasks.
    pub(crate) fn new(tasks: &str) -> Self {
        let site = Self::on(Records::of_suite(), String::new());
        site.configure(tasks);
        site
    }

    /// On the server that wants credentials, with no tasks; the password stands in the file `password`.
    pub(crate) fn guarded() -> Self {
        let guard = variable("TEST_PREFECT_GUARD");
        let (user, password) = guard.split_once(':').unwrap();
        let section = format!(
            "username = \"{user}\"\npassword = {{ file = \"password\" }}\nevents = true\nidle_poll = \"2s\"\n"
        );
        let site = Self::on(Records::guarded(), section);
        site.bench.write("password", password);
        site
    }

    fn on(records: Records, section: String) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("suite_{}_{count}", std::process::id());
        let site = Self { bench: Bench::new(""), records, namespace, section };
        let folder = site.bench.path("").display().to_string();
        let installed = site.bench.run(&["workflow", "install", "--to", &folder]);
        assert_eq!(installed.code, 0, "{installed:?}");
        site.bench.write("demo.py", DEMO);
        site
    }

    /// Gives the configuration these tasks instead.
    pub(crate) fn configure(&self, tasks: &str) {
        self.configure_with(&self.records.url, tasks);
    }

    /// And another address of the engine.
    pub(crate) fn configure_with(&self, url: &str, tasks: &str) {
        let folder = self.bench.path("");
        let config = format!(
            "[scheduler]\nnamespace = \"{}\"\n[backends.local]\n[backends.workflow]\nurl = \"{url}\"\n\
             work_pool = \"{}\"\nprogram = \"{}\"\nconfig_file = \"{}\"\nflow_folder = \"{}\"\npoll = \"500ms\"\n\
             timeout = \"30s\"\n{}{tasks}\n",
            self.namespace,
            variable("TEST_PREFECT_POOL"),
            env!("CARGO_BIN_EXE_scheduler"),
            self.bench.path("scheduler.toml").display(),
            folder.display(),
            self.section,
        );
        self.bench.write("scheduler.toml", &config);
    }

    /// A deployment of the demo flow that is somebody else's; its name is the namespace.
    pub(crate) fn demo(&self, more: &Value) -> Value {
        let flow = self.records.post("/flows/", &json!({ "name": "demo" }));
        let folder = self.bench.path("");
        let mut wanted = json!({
            "name": self.namespace,
            "flow_id": flow["id"],
            "work_pool_name": variable("TEST_PREFECT_POOL"),
            "entrypoint": "demo.py:demo",
            "path": folder,
            "pull_steps": [{ "prefect.deployments.steps.set_working_directory": { "directory": folder } }],
            "parameter_openapi_schema": {
                "type": "object",
                "properties": { "who": { "type": "string" }, "seconds": { "type": "number" } },
            },
            "enforce_parameter_schema": true,
        });
        wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.records.post("/deployments/", &wanted)
    }

    /// A task `words` that is a run of the demo.
    pub(crate) fn task_on_demo(&self, parameters: &str, more: &str) -> String {
        format!(
            "[tasks.words]\njob = \"prefect\"\ntier = \"workflow\"\n{more}\n\
             args = {{ flow = \"demo\", deployment = \"{}\", parameters = {{ {parameters} }} }}\n",
            self.namespace
        )
    }

    /// Runs a command that may be run again, until Prefect answers: one on SQLite says nothing for up to a minute
    /// while two of its own tasks wait for each other.
    pub(crate) fn run(&self, arguments: &[&str]) -> Answer {
        until("an answer of Prefect", || Some(self.bench.run(arguments)).filter(|answer| answer.code != 3))
    }

    /// Starts a daemon with one task, waits until Prefect has what the configuration says, and stops it.
    pub(crate) fn start_and_stop(&self) {
        let mut daemon = self.bench.daemon(&[]);
        daemon.line(&["1 task"]);
        until("a plan without changes", || (self.run(&["plan"]).code == 0).then_some(()));
        daemon.signal(Signal::TERM);
        let (code, log) = daemon.end();
        assert_eq!(code, 0, "{log}");
    }

    /// The runs of a task by our own history, the newest first.
    pub(crate) fn history(&self, task: &str) -> Vec<Value> {
        let answer = self.run(&["history", task, "-n", "1000", "-o", "json"]);
        answer.json()["runs"].as_array().unwrap_or_else(|| panic!("{answer:?}")).clone()
    }

    /// The schedules on the deployment that holds the task, by Prefect's records.
    pub(crate) fn schedules(&self, flow: &str, deployment: &str) -> Vec<Value> {
        self.records.deployment(flow, deployment)["schedules"].as_array().unwrap().clone()
    }
}

impl Drop for Site {
    /// Schedules would go on making runs beside those of the other tests.
    fn drop(&mut self) {
        let of_us = format!("{}%", self.namespace);
        let named = json!({ "deployments": { "name": { "like_": of_us } }, "limit": 200 });
        let (_, found) = self.records.call("POST", "/deployments/filter", &named);
        // A site with one more digit begins with the same.
        let of_task = format!("{}.", self.namespace);
        let is_ours = |deployment: &&Value| {
            let name = deployment["name"].as_str().unwrap_or_default();
            name == self.namespace || name.starts_with(&of_task)
        };
        for deployment in found.as_array().into_iter().flatten().filter(is_ours) {
            let path = format!("/deployments/{}", deployment["id"].as_str().unwrap_or_default());
            self.records.call("DELETE", &path, &Value::Null);
        }
    }
}
