//! What the tests of `git_poll` act on: repositories, runs of one task that share a state, and a scheduler around
//! them whose backend only takes down what it is asked to run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use scheduler_core::{
    AttemptEnd, Backend, BackendContext, BackendInfo, Cancelled, Drained, Enqueued, Error, FileStateStore,
    Health, Job, JobDescriptor, Name, Page, Printed, Registry, Result, RunContext, RunFilter, RunHost, RunId,
    RunIdentity, RunRequest, Scheduler, StateStore, Task, TestClock, Tier, Timestamp, Way, async_trait,
    attempt, source,
};
use serde_json::{Map, Value, json};

/// Takes down each run once.
#[derive(Debug, Default)]
pub(crate) struct Book {
    runs: Mutex<(BTreeMap<RunId, usize>, Vec<RunRequest>)>,
    pub(crate) is_down: AtomicBool,
}

#[async_trait]
impl Backend for Book {
    fn info(&self) -> BackendInfo {
        BackendInfo::new(name("book"), "book", Tier::Local, &[])
    }

    async fn start(&self, _: BackendContext) -> Result<()> {
        Ok(())
    }

    async fn enqueue(&self, request: RunRequest) -> Result<Enqueued> {
        if self.is_down.load(Ordering::SeqCst) {
            return Err(Error::unavailable("backend/down", "the book is closed"));
        }
        let mut runs = self.runs.lock().unwrap();
        let id = request.run_id;
        if runs.0.contains_key(&id) {
            return Ok(Enqueued::Duplicate(id));
        }
        let place = runs.1.len();
        runs.0.insert(id, place);
        runs.1.push(request);
        Ok(Enqueued::Inserted(id))
    }

    async fn runs(&self, _: &RunFilter) -> Result<Page> {
        Ok(Page { runs: Vec::new(), next: None })
    }

    async fn cancel(&self, _: &RunId) -> Result<Cancelled> {
        Ok(Cancelled::AlreadyFinished)
    }

    async fn health(&self) -> Health {
        Health::up()
    }

    async fn stop(&self, _: Duration) -> Result<Drained> {
        Ok(Drained::default())
    }
}

/// A task, its clock, its folder and the scheduler around it.
pub(crate) struct Stage {
    pub(crate) began: Timestamp,
    pub(crate) clock: TestClock,
    pub(crate) book: Arc<Book>,
    scheduler: Scheduler,
    folder: tempfile::TempDir,
}

/// What a run said.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) output: Value,
    /// The error, of a run that failed, with what it wishes.
    pub(crate) error: Option<String>,
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

impl Stage {
    /// A stage whose scheduler knows the tasks `deploy` and `release`.
    pub(crate) async fn new() -> Self {
        let began = SystemTime::now().into();
        let clock = TestClock::at(began);
        let mut registry = Registry::new();
        let work = JobDescriptor::function("work", "does nothing", |_| async { Ok(Value::Null) });
        registry.add_job(work, source!(), Way::Explicit).unwrap();
        let book = Arc::new(Book::default());
        let backend: Arc<dyn Backend> = Arc::clone(&book) as _;
        let scheduler =
            Scheduler::builder(Arc::new(clock.clone())).registry(registry).backend(backend).build().unwrap();
        scheduler.start().await.unwrap();
        for task in ["deploy", "release"] {
            scheduler.submit(Task::new(name(task), name("work"))).await.unwrap();
        }
        Self { began, clock, book, scheduler, folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A script in place of git. Another process writes it: what is open for writing cannot be executed, and a child
    /// that a test beside this one starts just then would hold it open.
    pub(crate) fn git_that(&self, text: &str) -> PathBuf {
        let (draft, path) = (self.path("git.draft"), self.path("git"));
        std::fs::write(&draft, format!("#!/bin/sh\n{text}\n")).unwrap();
        let installed = Command::new("install").args(["-m", "755"]).args([&draft, &path]).status();
        assert!(installed.unwrap().success());
        path
    }

    /// What this stage keeps between runs.
    pub(crate) fn state(&self) -> Arc<dyn StateStore> {
        Arc::new(FileStateStore::new(self.path("state")))
    }

    /// A new run, as a new process would begin it.
    pub(crate) fn context(&self, state: Arc<dyn StateStore>) -> RunContext {
        let identity = RunIdentity {
            namespace: name("default"),
            task: name("poll"),
            tier: Tier::Local,
            backend: name("book"),
            run_id: RunId::manual(self.began),
            fire_time: self.began,
            attempt: 1,
            fence: 1,
            params: Map::new(),
        };
        let host = RunHost {
            clock: Arc::new(self.clock.clone()),
            state,
            scheduler: self.scheduler.downgrade(),
            printed: Printed::default(),
        };
        RunContext::new(identity, host)
    }

    /// Runs the job once.
    pub(crate) async fn run(&self, args: &Value) -> Told {
        match attempt(&*git_poll(args), &self.context(self.state()), None).await {
            AttemptEnd::Succeeded(output) => Told { output, error: None },
            AttemptEnd::Failed(error) => {
                Told { output: error.output().clone(), error: Some(format!("{error:?}")) }
            }
            end => panic!("{end:?}"),
        }
    }

    /// Everything that was triggered, in order: the task and its parameters, commits cut to their beginnings.
    pub(crate) fn triggered(&self) -> Vec<String> {
        let runs = self.book.runs.lock().unwrap();
        let tell = |request: &RunRequest| {
            let param = |name: &str| request.params.get(name).and_then(Value::as_str).unwrap_or("-");
            let (old, new) = (param("old"), param("new"));
            format!(
                "{} {} {} {} {}>{}",
                request.task,
                param("repository"),
                param("ref"),
                param("change"),
                &old[..old.len().min(7)],
                &new[..new.len().min(7)]
            )
        };
        runs.1.iter().map(tell).collect()
    }

    /// An empty repository.
    pub(crate) fn repository(&self, name: &str) -> Repository {
        let repository = Repository(self.path(name));
        std::fs::create_dir(&repository.0).unwrap();
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository
    }
}

/// A repository of this machine.
pub(crate) struct Repository(PathBuf);

impl Repository {
    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.0.display())
    }

    /// Runs git in it and returns what it printed.
    pub(crate) fn git(&self, words: &[&str]) -> String {
        let mut git = Command::new("git");
        git.args(words).current_dir(&self.0).env("GIT_CONFIG_GLOBAL", "/dev/null");
        for role in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{role}_NAME"), "A").env(format!("GIT_{role}_EMAIL"), "a@example.com");
        }
        let said = git.output().unwrap();
        assert!(said.status.success(), "{words:?}: {said:?}");
        String::from_utf8(said.stdout).unwrap().trim().to_owned()
    }

    /// Commits something and returns the beginning of the commit's name.
    pub(crate) fn commit(&self, message: &str) -> String {
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])[..7].to_owned()
    }
}

/// Args for one repository called `r`.
pub(crate) fn args(url: &str, more: Value) -> Value {
    let mut args = json!({"repositories": [{"url": url, "name": "r"}], "task": "deploy", "spread": "0s"});
    if let Value::Object(more) = more {
        args.as_object_mut().unwrap().extend(more);
    }
    args
}

/// The job `git_poll` with these args.
pub(crate) fn git_poll(args: &Value) -> Arc<dyn Job> {
    descriptor().build(args).unwrap_or_else(|faults| panic!("{faults:?}"))
}

pub(crate) fn descriptor() -> JobDescriptor {
    builtin_jobs::all().into_iter().find(|job| *job.name() == "git_poll").unwrap()
}
