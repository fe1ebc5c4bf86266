//! A daemon whose wall clock is ours to set, by libfaketime and a file.
//!
//! The clock that is never set keeps telling the truth unless a test says otherwise, as it does when an operator, NTP
//! or a virtual machine sets the other one.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use scheduler_core::Timestamp;
use tempfile::TempDir;

use crate::seen::{Said, Seen, doubled, fires, read, skips};

/// Where libfaketime is.
const TEST_FAKETIME: &str = "TEST_FAKETIME";

/// Longer than anything here takes on a busy machine; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(90);

/// Where the tasks of a configuration run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// The local tier.
    Local,
    /// The durable tier, in a file.
    Queue,
}

/// How a clock that lies does so.
#[derive(Clone, Debug)]
pub(crate) struct Lie {
    /// What the wall clock shows at the start.
    pub(crate) begin: Timestamp,
    /// How fast it goes.
    pub(crate) rate: &'static str,
    /// Whether the clock that is never set lies as well: then a jump is time that passed.
    pub(crate) is_whole: bool,
    /// Where the zones of the daemon are, if they are not the machine's.
    pub(crate) zones: Option<PathBuf>,
}

impl Lie {
    pub(crate) fn beginning(begin: &str) -> Self {
        Self { begin: begin.parse().unwrap(), rate: "", is_whole: false, zones: None }
    }
}

/// The daemon, and what it said so far.
pub(crate) struct Liar {
    name: String,
    on: On,
    folder: TempDir,
    child: Child,
    lines: Receiver<Seen>,
    pub(crate) seen: Vec<Seen>,
    /// What its wall clock is ahead of ours.
    ahead: i64,
    rate: &'static str,
    /// How far it was set altogether.
    moved: i64,
    environment: Vec<(&'static str, OsString)>,
    account: String,
    cpu: f64,
    began: Instant,
    since: Instant,
}

/// A task of a configuration.
pub(crate) fn task(name: &str, trigger: &str, more: &str) -> String {
    format!(
        "[tasks.{name}]\njob = \"exec\"\nargs.program = \"true\"\ntimeout = \"30s\"\ntrigger = {{ {trigger} }}\n{more}\n\n"
    )
}

impl Liar {
    /// Starts a daemon with these tasks on a tier, whose clock lies.
    pub(crate) fn start(name: &str, on: On, lie: &Lie, tasks: &str) -> Self {
        let faketime = std::env::var(TEST_FAKETIME);
        let faketime = faketime.expect("TEST_FAKETIME is not set; run `cargo xtask integration clocks`");
        let folder = tempfile::tempdir().unwrap();
        let tier = match on {
            On::Local => "",
            On::Queue => "tier = \"queue\"\n",
        };
        let tasks = tasks.replace("timeout =", &format!("{tier}timeout ="));
        std::fs::write(folder.path().join("scheduler.toml"), tasks).unwrap();
        let ahead = lie.begin.as_millis() - Timestamp::from(SystemTime::now()).as_millis();
        let (sender, lines) = channel();
        let mut environment: Vec<(&'static str, OsString)> = vec![
            ("LD_PRELOAD", faketime.into()),
            ("FAKETIME_TIMESTAMP_FILE", folder.path().join("clock").into()),
            ("FAKETIME_NO_CACHE", "1".into()),
        ];
        if !lie.is_whole {
            environment.push(("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()));
        }
        if let Some(zones) = &lie.zones {
            environment.push(("TZDIR", zones.into()));
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_scheduler"));
        command.args(["run", "--log", "json"]).current_dir(folder.path());
        command.envs(environment.iter().cloned()).env_remove("RUST_LOG");
        write_clock(&folder, ahead, lie.rate);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let at = Instant::now();
                if let Some(said) = read(&line)
                    && sender.send(Seen { at, said }).is_err()
                {
                    return;
                }
            }
        });
        let mut liar = Self {
            name: name.to_owned(),
            on,
            folder,
            child,
            lines,
            seen: Vec::new(),
            ahead,
            rate: lie.rate,
            moved: 0,
            environment,
            account: String::new(),
            cpu: 0.0,
            began: Instant::now(),
            since: Instant::now(),
        };
        liar.wait("it to start", |seen| seen.iter().any(|seen| matches!(seen.said, Said::Started)));
        liar.mark();
        liar
    }

    /// Sets the wall clock, so much from where it stands.
    pub(crate) fn step(&mut self, seconds: i64) {
        self.injected(&format!("the wall clock steps by {seconds} s, from {}", self.now()));
        self.ahead += seconds * 1_000;
        self.moved += seconds.abs() * 1_000;
        self.mark();
        write_clock(&self.folder, self.ahead, self.rate);
    }

    /// Sets the wall clock to an instant.
    pub(crate) fn set(&mut self, to: &str) {
        let to: Timestamp = to.parse().unwrap();
        self.injected(&format!("the wall clock is set from {} to {to}", self.now()));
        self.moved += (to.as_millis() - self.now().as_millis()).abs();
        self.ahead = to.as_millis() - Timestamp::from(SystemTime::now()).as_millis();
        self.mark();
        write_clock(&self.folder, self.ahead, self.rate);
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        self.injected(match signal {
            Signal::STOP => "the process is stopped",
            Signal::CONT => "the process goes on",
            _ => "a signal",
        });
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// What its wall clock shows, unless that is too fast or too slow.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(Timestamp::from(SystemTime::now()).as_millis() + self.ahead)
    }

    pub(crate) fn injected(&mut self, what: &str) {
        writeln!(self.account, "    injected  {what}").unwrap();
    }

    pub(crate) fn saw(&mut self, what: &str) {
        writeln!(self.account, "    seen      {what}").unwrap();
    }

    /// From here on its CPU time is counted.
    pub(crate) fn mark(&mut self) {
        (self.cpu, self.since) = (self.cpu_seconds(), Instant::now());
    }

    /// Reads what it says until that is enough; answers how much was read before.
    pub(crate) fn wait(&mut self, what: &str, is_enough: impl Fn(&[Seen]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_enough(&self.seen) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(seen) => self.seen.push(seen),
                Err(_) => panic!("{}: no sign of {what} in\n{}", self.title(), self.told()),
            }
        }
    }

    /// Waits until each of these tasks ran so often after the first `from` signs.
    pub(crate) fn wait_for_fires(&mut self, from: usize, wanted: &[(&str, usize)]) {
        let what = format!("{wanted:?} after {from} signs");
        self.wait(&what, |seen| {
            wanted
                .iter()
                .all(|(name, count)| fires(seen.get(from..).unwrap_or_default(), name).len() >= *count)
        });
    }

    /// Waits until it says that its clock was set; answers where in what was seen.
    pub(crate) fn wait_for_step(&mut self, from: usize) -> (usize, i64) {
        let is_step = |seen: &Seen| matches!(seen.said, Said::Stepped { .. });
        self.wait("a step of the clock", |seen| seen.get(from..).unwrap_or_default().iter().any(is_step));
        let at = from + self.seen[from..].iter().position(is_step).unwrap();
        let Said::Stepped { from, to } = self.seen[at].said else { unreachable!() };
        let took = self.seen[at].at.duration_since(self.since);
        self.saw(&format!(
            "\"the wall clock stepped\" from {from} to {to}, {:.1} s after it did",
            took.as_secs_f64()
        ));
        (at, to.as_millis() - from.as_millis())
    }

    /// Fails unless it used little of the CPU since the mark.
    pub(crate) fn is_calm(&mut self) {
        let (used, took) = (self.cpu_seconds() - self.cpu, self.since.elapsed().as_secs_f64());
        self.saw(&format!("{used:.2} s of CPU in {took:.1} s"));
        assert!(used < 0.8 + took * 0.4, "{}: a hot loop\n{}", self.title(), self.told());
    }

    /// Says of each task what it did in a stretch of what was seen.
    pub(crate) fn tell(&mut self, stretch: &str, from: usize, to: usize, tasks: &[&str]) {
        for name in tasks {
            let seen = &self.seen[from..to];
            let (fired, skipped) = (fires(seen, name), skips(seen, name));
            let ends = match (fired.first(), fired.last()) {
                (Some(first), Some(last)) if first != last => format!(", {first} to {last}"),
                (Some(only), _) => format!(", {only}"),
                _ => String::new(),
            };
            let mut text = format!("{stretch}: {name} fired {} times{ends}", fired.len());
            for skip in skipped.iter().take(2) {
                write!(text, "; {skip}").unwrap();
            }
            self.saw(&text);
        }
    }

    /// Ends it, prints what was seen, and fails where a fire ran twice or the history says otherwise.
    pub(crate) fn end(mut self) {
        let doubled = doubled(&self.seen);
        assert!(doubled.is_empty(), "{}: {doubled:?}\n{}", self.title(), self.told());
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while let Ok(seen) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.seen.push(seen);
        }
        let status = self.child.wait().unwrap();
        let runs = self.history();
        let ended = self.seen.iter().filter(|seen| matches!(seen.said, Said::Ran { .. })).count();
        self.saw(&format!("{runs} runs in history, {ended} in the log; it ended with {status}"));
        assert!(status.success(), "{}\n{}", self.title(), self.told());
        // What is older than a month by a clock that lies is forgotten.
        let is_kept = self.moved < 20 * 86_400_000;
        assert!(!is_kept || runs == ended, "{}\n{}", self.title(), self.told());
        println!("--> {}\n{}    held", self.title(), self.account);
    }

    fn history(&self) -> usize {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scheduler"));
        command.args(["history", "-n", "10000", "-o", "json"]).current_dir(self.folder.path());
        command.envs(self.environment.iter().cloned());
        let output = command.output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let has_ended = |run: &&serde_json::Value| !run["finished_at"].is_null();
        json["runs"].as_array().map_or(0, |runs| runs.iter().filter(has_ended).count())
    }

    fn title(&self) -> String {
        format!("{} on {:?}", self.name, self.on).to_lowercase()
    }

    /// What was done and seen, for whoever looks for the fault.
    pub(crate) fn told(&self) -> String {
        let mut text = self.account.clone();
        for Seen { at, said } in &self.seen {
            let at = at.duration_since(self.began).as_secs_f64();
            writeln!(text, "    {at:8.2}  {said:?}").unwrap();
        }
        text
    }

    /// What the process itself used, without its children.
    fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks =
            |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        // Linux counts them in hundredths of a second, whatever it uses inside.
        (ticks(11) + ticks(12)) / 100.0
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Renamed into its place, so that nobody reads half of it.
fn write_clock(folder: &TempDir, ahead: i64, rate: &str) {
    let (sign, ahead) = (if ahead < 0 { '-' } else { '+' }, ahead.abs());
    let text = format!("{sign}{}.{:03}{rate}\n", ahead / 1_000, ahead % 1_000);
    std::fs::write(folder.path().join("clock.new"), text).unwrap();
    std::fs::rename(folder.path().join("clock.new"), folder.path().join("clock")).unwrap();
}
