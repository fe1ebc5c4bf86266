//! What the tests of `health_check` act on: runs of one task that share a clock and a state.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use scheduler_core::{
    AttemptEnd, FileStateStore, Job, Name, Printed, RunContext, RunHost, RunId, RunIdentity, TestClock, Tier,
    Timestamp, WeakScheduler, attempt,
};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A task, its clock and its folder.
pub(crate) struct Stage {
    pub(crate) began: Timestamp,
    pub(crate) clock: TestClock,
    pub(crate) scheduler: WeakScheduler,
    folder: tempfile::TempDir,
}

/// What a run said.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) output: Value,
    /// The error, of a run that failed.
    pub(crate) error: Option<String>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let began = SystemTime::now().into();
        let folder = tempfile::tempdir().unwrap();
        Self { began, clock: TestClock::at(began), scheduler: WeakScheduler::default(), folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new run, as a new process would begin it: of the state there is what the disk holds.
    pub(crate) fn context(&self) -> RunContext {
        let identity = RunIdentity {
            namespace: Name::new("default").unwrap(),
            task: Name::new("health").unwrap(),
            tier: Tier::Local,
            backend: Name::new("local").unwrap(),
            run_id: RunId::manual(self.began),
            fire_time: self.began,
            attempt: 1,
            fence: 1,
            params: Map::new(),
        };
        let state = Arc::new(FileStateStore::new(self.path("state")));
        RunContext::new(
            identity,
            RunHost {
                clock: Arc::new(self.clock.clone()),
                state,
                scheduler: self.scheduler.clone(),
                printed: Printed::default(),
            },
        )
    }

    /// Runs the job once.
    pub(crate) async fn run(&self, args: &Value) -> Told {
        match attempt(&*health_check(args), &self.context(), None).await {
            AttemptEnd::Succeeded(output) => Told { output, error: None },
            AttemptEnd::Failed(error) => {
                assert!(format!("{error:?}").starts_with("Abort("), "the next run looks again: {error:?}");
                Told { output: error.output().clone(), error: Some(error.to_string()) }
            }
            end => panic!("{end:?}"),
        }
    }

    /// Runs the job once with this check alone, and returns its status and message.
    pub(crate) async fn look(&self, check: Value) -> (String, String) {
        let told = Stage::new().with(self).run(&json!({"checks": [named("it", check)]})).await;
        let shown = &told.output["checks"][0];
        (shown["status"].as_str().unwrap().to_owned(), shown["message"].as_str().unwrap().to_owned())
    }

    fn with(self, other: &Self) -> Self {
        Self { scheduler: other.scheduler.clone(), ..self }
    }
}

/// The check with a name.
pub(crate) fn named(name: &str, mut check: Value) -> Value {
    check["name"] = json!(name);
    check
}

/// The job `health_check` with these args.
pub(crate) fn health_check(args: &Value) -> Arc<dyn Job> {
    descriptor().build(args).unwrap_or_else(|faults| panic!("{faults:?}"))
}

pub(crate) fn descriptor() -> scheduler_core::JobDescriptor {
    builtin_jobs::all().into_iter().find(|job| *job.name() == "health_check").unwrap()
}

/// A server that hands each connection, once it has said something, to `answer`.
pub(crate) async fn server<F, R>(answer: F) -> SocketAddr
where
    F: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((wire, _)) = listener.accept().await {
            tokio::spawn(answer(wire));
        }
    });
    address
}

/// A server that answers every request with this status.
pub(crate) async fn web(status: &'static str) -> SocketAddr {
    server(move |mut wire| async move {
        let _ = wire.read(&mut [0; 4096]).await;
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        let _ = wire.write_all(answer.as_bytes()).await;
    })
    .await
}

/// A port at which nobody listens.
pub(crate) fn closed_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
