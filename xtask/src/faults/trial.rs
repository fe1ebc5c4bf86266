//! One row on one store: its folder, its configuration, its daemons and its server. All of it is gone afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::faults::account::Account;
use crate::faults::beat::Beat;
use crate::faults::chance::Chance;
use crate::faults::daemon::Daemon;
use crate::faults::recorder::Recorder;
use crate::redis::{Redis, Settings};
use crate::resp::Client;
use crate::scratch::Scratch;

/// Longer than anything takes that holds; who waits for it has found something.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Where the queue is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Store {
    Sqlite,
    Redis,
}

impl Store {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Redis => "redis",
        }
    }
}

/// What all rows share.
#[derive(Debug)]
pub(crate) struct Lab {
    /// The binary under test.
    pub(crate) scheduler: PathBuf,
    /// The same with jobs that do what no job should.
    pub(crate) faulty_jobs: PathBuf,
    pub(crate) seed: u64,
    /// How long the row lasts that looks for growth.
    pub(crate) soak: Duration,
    pub(crate) is_quick: bool,
}

impl Lab {
    /// The shorter or smaller of two, when time matters.
    pub(crate) fn size<T>(&self, quick: T, full: T) -> T {
        if self.is_quick { quick } else { full }
    }
}

/// A row under way.
pub(crate) struct Trial<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) store: Store,
    pub(crate) chance: Chance,
    pub(crate) account: Account,
    pub(crate) recorder: Recorder,
    /// How long before its first fire a schedule is given to a daemon.
    pub(crate) lead: Duration,
    /// The binary under test.
    program: PathBuf,
    pub(super) server: Option<Redis>,
    /// Where the daemons find the queue, when that is not where it is.
    pub(super) url: Option<String>,
    /// Last, so that all else has ended when it goes.
    scratch: Scratch,
}

/// What a verb answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl<'a> Trial<'a> {
    pub(crate) fn new(lab: &'a Lab, row: &str, store: Store, more: Duration) -> Result<Self> {
        let scratch = Scratch::new()?;
        let recorder = Recorder::at(scratch.path().join("recorder"));
        let chance = Chance::of(lab.seed, row, store.name());
        Ok(Self {
            lead: lead(&lab.scheduler)? + more,
            lab,
            store,
            chance,
            account: Account::default(),
            recorder,
            program: lab.scheduler.clone(),
            server: None,
            url: None,
            scratch,
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub(crate) fn injected(&mut self, line: impl Into<String>) {
        self.account.injected.push(line.into());
    }

    pub(crate) fn expected(&mut self, line: impl Into<String>) {
        self.account.expected.push(line.into());
    }

    pub(crate) fn counted(&mut self, line: impl Into<String>) {
        self.account.counted.push(line.into());
    }

    /// Notes that the row broke where this does not hold.
    pub(crate) fn must(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.account.broken.push(otherwise());
        }
    }

    /// The SQLite file of the queue.
    pub(crate) fn file(&self) -> PathBuf {
        let elsewhere = self.url.as_ref().and_then(|url| url.strip_prefix("sqlite:"));
        elsewhere.map_or_else(|| self.path("queue.db"), PathBuf::from)
    }

    /// The Redis server, which is started with what the row needs, else with the defaults.
    pub(crate) fn start_server(&mut self, settings: &Settings) -> Result<()> {
        self.server = Some(Redis::start(&self.path("redis"), settings)?);
        Ok(())
    }

    pub(crate) fn server(&mut self) -> Result<&mut Redis> {
        self.server.as_mut().context("no Redis server was started for this row")
    }

    /// A connection of ours to that server.
    pub(crate) fn connect(&self) -> Result<Client> {
        self.server.as_ref().context("no Redis server was started for this row")?.connect()
    }

    /// Takes the binary whose jobs do what no job should.
    pub(crate) fn use_faulty_jobs(&mut self) {
        self.program.clone_from(&self.lab.faulty_jobs);
    }

    /// Lets the daemons find the queue elsewhere from the next configuration on.
    pub(crate) fn set_url(&mut self, url: impl Into<String>) {
        self.url = Some(url.into());
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(self.scratch.path());
        for (variable, _) in std::env::vars_os() {
            let is_ours = variable.to_str().is_some_and(|variable| variable.starts_with("SCHEDULER_"));
            if is_ours || ["RUST_LOG", "COLUMNS"].iter().any(|other| *other == variable) {
                command.env_remove(variable);
            }
        }
        command.env("SCHEDULER_SCHEDULER__DATA_DIR", self.path(name));
        command
    }

    /// The command that starts a daemon with a data folder of its own.
    pub(crate) fn daemon_command(&self, name: &str) -> Command {
        let mut command = self.command(&format!("data-{name}"));
        command.args(["run", "--log", "text"]);
        command
    }

    /// Starts a daemon, or starts it again.
    pub(crate) fn daemon(&self, name: &str) -> Result<Daemon> {
        self.start(self.daemon_command(name), name)
    }

    /// Starts a daemon and waits until it knows the schedule.
    ///
    /// # Errors
    /// Its first fire was due before that.
    pub(crate) fn first_daemon(&self, name: &str, beat: &Beat) -> Result<Daemon> {
        let daemon = self.daemon(name)?;
        beat.is_known_to(self, &daemon)?;
        Ok(daemon)
    }

    pub(crate) fn start(&self, command: Command, name: &str) -> Result<Daemon> {
        Daemon::start(command, &self.path(&format!("{name}.log")))
    }

    /// Runs a verb beside the daemons.
    pub(crate) fn verb(&self, arguments: &[&str]) -> Result<Answer> {
        let mut command = self.command("data-verbs");
        let output = command.args(arguments).output().context("cannot start the scheduler")?;
        Ok(Answer::of(&output))
    }

    /// The runs of a task by the product's own account, to be held against what was recorded.
    pub(crate) fn history(&self, task: &str) -> Result<Vec<Value>> {
        let answer = self.verb(&["history", task, "-n", "200000", "-o", "json"])?;
        let told: Value = serde_json::from_str(&answer.stdout).with_context(|| {
            let first = answer.stderr.trim().lines().take(2).collect::<Vec<_>>().join(" | ");
            format!("`history` ends with {} and no JSON: {first}", answer.code)
        })?;
        Ok(told["runs"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until something holds; says whether it came to hold.
    pub(crate) fn until(&self, patience: Duration, mut holds: impl FnMut(&Self) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            if holds(self) {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Waits until something holds without which the row says nothing.
    ///
    /// # Errors
    /// It does not come to hold.
    pub(crate) fn await_that(&self, what: &str, holds: impl FnMut(&Self) -> bool) -> Result<()> {
        if !self.until(PATIENCE, holds) {
            bail!("waited in vain: {what}");
        }
        Ok(())
    }

    /// Keeps what the processes of a row that broke said and noted.
    pub(crate) fn keep(&self, folder: &Path) -> Result<()> {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for entry in fs::read_dir(self.scratch.path())? {
            let entry = entry?;
            let name = entry.file_name();
            let is_told = name.to_str().is_some_and(|name| {
                name.ends_with(".log")
                    || name.starts_with("queue.db")
                    || name == "recorder"
                    || name == "scheduler.toml"
            });
            if is_told && entry.file_type()?.is_file() {
                fs::copy(entry.path(), folder.join(name))?;
            }
        }
        Ok(())
    }
}

/// How long a daemon may need until it serves, by how long the program takes just now to do nothing.
fn lead(program: &Path) -> Result<Duration> {
    let began = Instant::now();
    Command::new(program)
        .arg("version")
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    Ok(Duration::from_millis(700) + began.elapsed() * 15)
}

impl Answer {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
