//! What the tests of `exec` act on: a job from its args, a run around it, a folder, and processes to look at.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use scheduler_core::{
    AttemptEnd, Clock, Job, JobDescriptor, Name, RetryPolicy, RunContext, RunHost, RunId, RunIdentity,
    SystemClock, Tier, Timestamp, Verdict, attempt, verdict,
};
use serde_json::{Map, Value, json};

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks a copy of this test binary to play a daemon that runs `exec` with the args in this variable.
pub(crate) const DAEMON: &str = "EXEC_TEST_DAEMON";

/// How the job is registered.
pub(crate) fn descriptor() -> JobDescriptor {
    builtin_jobs::all().into_iter().find(|job| *job.name() == "exec").unwrap()
}

/// The job `exec` with these args.
pub(crate) fn exec(args: &Value) -> Arc<dyn Job> {
    descriptor().build(args).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// A shell script as args; it may find the stage's folder in `$1`.
pub(crate) fn script(text: &str, stage: &Stage) -> Value {
    json!({"program": text, "shell": true, "args": [stage.folder()]})
}

/// A new run of the task `backup`.
pub(crate) fn context() -> RunContext {
    let clock = SystemClock::new();
    let identity = RunIdentity {
        namespace: Name::new("default").unwrap(),
        task: Name::new("backup").unwrap(),
        tier: Tier::Local,
        backend: Name::new("local").unwrap(),
        run_id: RunId::manual(clock.now()),
        fire_time: Timestamp::from_millis(1_774_695_600_000),
        attempt: 2,
        fence: 7,
        params: Map::new(),
    };
    RunContext::new(identity, RunHost::standalone(Arc::new(clock)))
}

/// Runs `exec` once, without a time limit.
pub(crate) async fn run(args: &Value) -> AttemptEnd {
    attempt(&*exec(args), &context(), None).await
}

/// Runs `exec` once and returns its output.
pub(crate) async fn output(args: &Value) -> Value {
    match run(args).await {
        AttemptEnd::Succeeded(output) => output,
        end => panic!("{end:?}"),
    }
}

/// Runs `exec` once and returns what would follow if five attempts were allowed.
pub(crate) async fn what_follows(args: &Value) -> Verdict {
    verdict(run(args).await, &RetryPolicy::default(), 1, 5, 0)
}

/// A folder in which scripts leave word.
pub(crate) struct Stage(tempfile::TempDir);

impl Stage {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn folder(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What the file holds; `None` until its first line is complete.
    pub(crate) fn word(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.path(name)).ok().filter(|text| text.ends_with('\n'))
    }

    /// Waits until a script has written its process id to the file.
    pub(crate) async fn pid(&self, name: &str) -> u32 {
        eventually(name, || self.word(name).is_some()).await;
        self.word(name).unwrap().trim().parse().unwrap()
    }

    /// Starts a copy of this test binary that runs `exec` with these args.
    pub(crate) fn daemon(&self, args: &Value) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "orphans::a_copy_of_this_binary_plays_the_daemon"]);
        command.env(DAEMON, args.to_string()).current_dir(self.folder());
        command.stdout(std::process::Stdio::null());
        command
    }
}

/// Polls until it holds.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "waited {PATIENCE:?} for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The letter of the process' state; `None` when there is no such process.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Whether the process runs; what nobody has reaped yet does not.
pub(crate) fn lives(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}

/// Kills a process that a test started.
pub(crate) fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// A process that is killed and reaped at the end of a test.
pub(crate) struct Daemon(pub(crate) Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a folder or file exists.
pub(crate) fn exists(path: &Path) -> bool {
    path.exists()
}
