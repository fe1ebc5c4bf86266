//! What the tests of `secret_rotation_check` act on: a folder of secrets, and runs of one task that share a state.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use scheduler_core::{
    AttemptEnd, FileStateStore, Job, JobDescriptor, Name, Printed, RunContext, RunHost, RunId, RunIdentity,
    SystemClock, Tier, Timestamp, WeakScheduler, attempt,
};
use serde_json::{Value, json};

/// A value that must appear nowhere but in its file.
pub(crate) const OLD: &str = "canary-old-7f3a9c";
pub(crate) const NEW: &str = "canary-new-51d0be";

const DAY: Duration = Duration::from_secs(86_400);

pub(crate) struct Stage {
    folder: tempfile::TempDir,
}

/// What a run said.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) output: Value,
    pub(crate) error: Option<String>,
}

impl Told {
    /// What it said of its first secret.
    pub(crate) fn first(&self) -> &Value {
        &self.output["secrets"][0]
    }

    pub(crate) fn steps(&self) -> Vec<&str> {
        let events = self.first()["rotation"]["events"].as_array().unwrap().iter();
        events.map(|event| event["step"].as_str().unwrap()).collect()
    }
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file of this mode that was changed so many days ago.
    pub(crate) fn file(&self, name: &str, content: &str, mode: u32, days: u32) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - DAY * days).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Everything beside the secrets that was written.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(crate) fn context(&self, params: &Value) -> RunContext {
        let now: Timestamp = SystemTime::now().into();
        let identity = RunIdentity {
            namespace: Name::new("default").unwrap(),
            task: Name::new("secrets").unwrap(),
            tier: Tier::Local,
            backend: Name::new("local").unwrap(),
            run_id: RunId::manual(now),
            fire_time: now,
            attempt: 1,
            fence: 1,
            params: params.as_object().cloned().unwrap_or_default(),
        };
        let host = RunHost {
            clock: Arc::new(SystemClock::new()),
            state: Arc::new(FileStateStore::new(self.path("state"))),
            scheduler: WeakScheduler::default(),
            printed: Printed::default(),
        };
        RunContext::new(identity, host)
    }

    pub(crate) async fn run(&self, args: &Value) -> Told {
        self.run_in(args, &self.context(&Value::Null)).await
    }

    pub(crate) async fn run_in(&self, args: &Value, context: &RunContext) -> Told {
        match attempt(&*job(args), context, None).await {
            AttemptEnd::Succeeded(output) => Told { output, error: None },
            AttemptEnd::Failed(error) => {
                Told { output: error.output().clone(), error: Some(error.to_string()) }
            }
            AttemptEnd::Cancelled { output, .. } => Told { output, error: Some("cancelled".to_owned()) },
            end => panic!("{end:?}"),
        }
    }

    /// Looks at one secret.
    pub(crate) async fn look(&self, secret: Value) -> Told {
        self.run(&json!({"secrets": [named(secret)]})).await
    }

    /// Begins a run and drops it when `happened` says so, as a kill does.
    pub(crate) async fn kill_when(&self, args: &Value, happened: impl Fn() -> bool) {
        let (job, context) = (job(args), self.context(&Value::Null));
        let watching = async {
            let until = std::time::Instant::now() + Duration::from_secs(30);
            while !happened() {
                assert!(std::time::Instant::now() < until, "what the run is killed after never happened");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            ended = job.run(&context) => panic!("it was to be killed: {ended:?}"),
            () = watching => {}
        }
    }

    /// The args of a rotation of the file `live/key`, which is due, with these commands in place of the usual ones.
    pub(crate) fn rotation(&self, more: Value) -> Value {
        let mut rotation = json!({
            "generate": sh(&format!("printf {NEW}")),
            "verify": sh("test -s /dev/stdin"),
            "timeout": "20s",
        });
        let Value::Object(more) = more else { panic!("{more}") };
        rotation.as_object_mut().unwrap().extend(more);
        json!({
            "rotate": true,
            "audit": self.path("audit.jsonl"),
            "secrets": [{
                "name": "api", "kind": "file", "path": self.path("live/key"), "rotation": rotation,
            }],
        })
    }
}

/// A script as the words of a command.
pub(crate) fn sh(script: &str) -> Value {
    json!(["sh", "-c", script])
}

pub(crate) fn named(mut secret: Value) -> Value {
    secret["name"] = json!("it");
    secret
}

pub(crate) fn job(args: &Value) -> Arc<dyn Job> {
    descriptor().build(args).unwrap_or_else(|faults| panic!("{faults:?}"))
}

pub(crate) fn descriptor() -> JobDescriptor {
    let mut jobs = builtin_jobs::all().into_iter();
    jobs.find(|job| *job.name() == "secret_rotation_check").unwrap()
}
