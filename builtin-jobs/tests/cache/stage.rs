//! What the tests of `cache_cleanup` act on: a folder with files of known ages, and runs of the job.

use std::collections::BTreeSet;
use std::fs::{File, FileTimes};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use scheduler_core::{
    AttemptEnd, Clock, Job, JobDescriptor, Name, RunContext, RunHost, RunId, RunIdentity, SystemClock, Tier,
    Timestamp, attempt,
};
use serde_json::{Map, Value, json};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// A folder `cache` with a neighbour `outside`.
pub(crate) struct Stage {
    folder: tempfile::TempDir,
    began: SystemTime,
}

/// What a run said.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) output: Value,
    /// The error, of a run that failed, with what it wishes.
    pub(crate) error: Option<String>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let stage = Self { folder: tempfile::tempdir().unwrap(), began: SystemTime::now() };
        std::fs::create_dir(stage.path("cache")).unwrap();
        std::fs::create_dir(stage.path("outside")).unwrap();
        stage
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file below `cache` that was used last so many hours ago.
    pub(crate) fn file(&self, name: &str, hours: u32, bytes: usize) {
        self.file_at(&format!("cache/{name}"), hours, bytes);
    }

    pub(crate) fn file_at(&self, name: &str, hours: u32, bytes: usize) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, vec![b'x'; bytes]).unwrap();
        let used = self.began - HOUR * hours;
        let times = FileTimes::new().set_accessed(used).set_modified(used);
        File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
    }

    /// What there is below `cache`, folders with a slash at their ends.
    pub(crate) fn left(&self) -> BTreeSet<String> {
        below(&self.path("cache"))
    }

    /// Args for the folder `cache`.
    pub(crate) fn args(&self, more: Value) -> Value {
        json!({"targets": [self.target(more)]})
    }

    pub(crate) fn target(&self, more: Value) -> Value {
        let mut target = json!({"kind": "directory", "path": self.path("cache"), "name": "it"});
        if let Value::Object(more) = more {
            target.as_object_mut().unwrap().extend(more);
        }
        target
    }
}

/// Everything below a folder.
pub(crate) fn below(folder: &Path) -> BTreeSet<String> {
    fn list(root: &Path, folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.path().strip_prefix(root).unwrap().display().to_string();
            if entry.file_type().unwrap().is_dir() {
                found.insert(format!("{name}/"));
                list(root, &entry.path(), found);
            } else {
                found.insert(name);
            }
        }
    }
    let mut found = BTreeSet::new();
    list(folder, folder, &mut found);
    found
}

pub(crate) fn context() -> RunContext {
    let clock = SystemClock::new();
    let identity = RunIdentity {
        namespace: Name::new("default").unwrap(),
        task: Name::new("clean").unwrap(),
        tier: Tier::Local,
        backend: Name::new("local").unwrap(),
        run_id: RunId::manual(clock.now()),
        fire_time: Timestamp::from_millis(1_774_695_600_000),
        attempt: 1,
        fence: 1,
        params: Map::new(),
    };
    RunContext::new(identity, RunHost::standalone(Arc::new(clock)))
}

/// Runs the job once.
pub(crate) async fn run(args: &Value) -> Told {
    told(attempt(&*cache_cleanup(args), &context(), None).await)
}

pub(crate) fn told(end: AttemptEnd) -> Told {
    match end {
        AttemptEnd::Succeeded(output) => Told { output, error: None },
        AttemptEnd::Failed(error) => {
            Told { output: error.output().clone(), error: Some(format!("{error:?}")) }
        }
        end => panic!("{end:?}"),
    }
}

/// Runs the job dry and then in earnest, and asserts that both say the same.
pub(crate) async fn dry_and_real(stage: &Stage, args: &Value) -> Told {
    let before = stage.left();
    let mut dry_args = args.clone();
    dry_args["dry_run"] = json!(true);

    let mut dry = run(&dry_args).await;
    assert_eq!(stage.left(), before, "a dry run removes nothing");
    let real = run(args).await;

    assert_eq!((dry.output["dry_run"].take(), &real.output["dry_run"]), (json!(true), &json!(false)));
    dry.output["dry_run"] = json!(false);
    dry.output["targets"][0]["duration_ms"] = real.output["targets"][0]["duration_ms"].clone();
    // The line for people says which of the two it was.
    let line =
        |output: &Value| output["summary"].as_str().map(|line| line.replace("would remove", "removed"));
    assert_eq!(line(&dry.output), line(&real.output));
    dry.output["summary"] = real.output["summary"].clone();
    assert_eq!((&dry.output, &dry.error), (&real.output, &real.error));
    let gone = before.difference(&stage.left()).count();
    assert_eq!(real.output["removed"], json!(gone), "{real:?}");
    real
}

/// The items that a run listed.
pub(crate) fn listed(told: &Told) -> Vec<&str> {
    let items = told.output["targets"][0]["listed"].as_array().unwrap();
    items.iter().map(|item| item["item"].as_str().unwrap()).collect()
}

pub(crate) fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

/// The job `cache_cleanup` with these args.
pub(crate) fn cache_cleanup(args: &Value) -> Arc<dyn Job> {
    descriptor().build(args).unwrap_or_else(|faults| panic!("{faults:?}"))
}

pub(crate) fn descriptor() -> JobDescriptor {
    builtin_jobs::all().into_iter().find(|job| *job.name() == "cache_cleanup").unwrap()
}
