//! What the tests of `metrics_collection` act on: runs of one task that share a clock, a state and a file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use builtin_jobs::metrics_series::{Point, SeriesFile};
use scheduler_core::{
    AttemptEnd, FileStateStore, Job, JobError, Name, Printed, RunContext, RunHost, RunId, RunIdentity,
    TestClock, Tier, Timestamp, WeakScheduler, attempt,
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
    pub(crate) error: Option<JobError>,
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

    /// These sources and other args, with a file in the folder.
    pub(crate) fn args(&self, sources: &Value, other: Value) -> Value {
        let mut args = other;
        args["sources"] = sources.clone();
        args["file"] = json!(self.path("metrics.db"));
        args
    }

    /// A new run, as a new process would begin it: of the state there is what the disk holds.
    pub(crate) fn context(&self) -> RunContext {
        let identity = RunIdentity {
            namespace: Name::new("default").unwrap(),
            task: Name::new("metrics").unwrap(),
            tier: Tier::Local,
            backend: Name::new("local").unwrap(),
            run_id: RunId::manual(self.began),
            fire_time: self.began,
            attempt: 1,
            fence: 1,
            params: Map::new(),
        };
        let host = RunHost {
            clock: Arc::new(self.clock.clone()),
            state: Arc::new(FileStateStore::new(self.path("state"))),
            scheduler: self.scheduler.clone(),
            printed: Printed::default(),
        };
        RunContext::new(identity, host)
    }

    /// Runs the job once.
    pub(crate) async fn run(&self, args: &Value) -> Told {
        match attempt(&*job(args), &self.context(), None).await {
            AttemptEnd::Succeeded(output) => Told { output, error: None },
            AttemptEnd::Failed(error) => Told { output: error.output().clone(), error: Some(error) },
            end => panic!("{end:?}"),
        }
    }

    /// Runs the job once with this source alone.
    pub(crate) async fn look(&self, source: Value) -> Told {
        self.run(&self.args(&json!([source]), json!({}))).await
    }

    /// The points of each series that is like this, by its name and labels.
    pub(crate) async fn kept(&self, pattern: &str) -> Vec<(String, Vec<Point>)> {
        let mut file = SeriesFile::open(&self.path("metrics.db")).await.unwrap();
        let mut kept = Vec::new();
        for series in file.series(pattern).await.unwrap() {
            let points = file.points(&series, Timestamp::from_millis(0)).await.unwrap();
            kept.push((series.full_name(), points));
        }
        kept
    }

    /// The last value of each series that is like this, by its name and labels.
    pub(crate) async fn values(&self, pattern: &str) -> Vec<(String, f64)> {
        let last = |(name, points): (String, Vec<Point>)| Some((name, points.last()?.value));
        self.kept(pattern).await.into_iter().filter_map(last).collect()
    }

    pub(crate) async fn advance(&self, duration: Duration) {
        self.clock.advance(duration).await;
    }
}

impl Told {
    /// What it says of a source.
    pub(crate) fn of(&self, name: &str) -> &Value {
        let sources = self.output["sources"].as_array().unwrap();
        sources.iter().find(|source| source["name"] == name).unwrap_or_else(|| panic!("{name}: {self:?}"))
    }

    pub(crate) fn fault(&self, name: &str) -> &str {
        self.of(name)["error"].as_str().unwrap_or_default()
    }

    pub(crate) fn message(&self) -> String {
        self.error.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    /// Whether another attempt is asked for.
    pub(crate) fn asks_again(&self) -> bool {
        self.error.as_ref().is_some_and(JobError::is_transient)
    }
}

pub(crate) fn descriptor() -> scheduler_core::JobDescriptor {
    builtin_jobs::metrics_collection::descriptor()
}

/// The job with these args.
pub(crate) fn job(args: &Value) -> Arc<dyn Job> {
    descriptor().build(args).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// A server that hands each connection, once it has said something, to `answer`.
pub(crate) async fn server<F, R>(answer: F) -> SocketAddr
where
    F: Fn(TcpStream, String) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut wire, _)) = listener.accept().await {
            let mut said = [0; 4096];
            let count = wire.read(&mut said).await.unwrap_or(0);
            tokio::spawn(answer(wire, String::from_utf8_lossy(&said[..count]).into_owned()));
        }
    });
    address
}

/// A server that answers every request with this.
pub(crate) async fn endpoint(status: &'static str, body: impl Into<String>) -> String {
    let body: String = body.into();
    let address = server(move |mut wire, _| {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        async move {
            let _ = wire.write_all(answer.as_bytes()).await;
        }
    })
    .await;
    format!("http://{address}/metrics")
}

/// A source that runs a script.
pub(crate) fn script(name: &str, script: &str) -> Value {
    json!({"name": name, "kind": "command", "program": "/bin/sh", "args": ["-c", script]})
}
