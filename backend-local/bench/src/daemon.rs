//! The daemon with ten tasks on the local tier: how soon it fires, and the memory it has in use.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::machine::resident;
use crate::ours::median;

const STARTS: usize = 9;
const TASKS: usize = 10;

/// Starts it a few times, and then lets it run for a while.
///
/// # Errors
/// It cannot be started, or never fires.
pub(crate) fn measure(program: &Path, seconds: u64) -> Result<Value> {
    let folder = tempfile::tempdir()?;
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let began = Instant::now();
        let mut daemon = Daemon::start(program, folder.path(), "1ms")?;
        daemon.wait_for("\"started\"")?;
        starts.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let mut daemon = Daemon::start(program, folder.path(), "1s")?;
    daemon.wait_for("\"started\"")?;
    std::thread::sleep(Duration::from_secs(seconds));
    let bytes = resident(Some(daemon.0.id()));
    Ok(json!({
        "tasks": TASKS,
        "first_fire_ms": median(&starts),
        "samples": starts,
        "daemon_rss_mb": bytes / 1e6,
    }))
}

/// Ends with this value.
struct Daemon(Child);

impl Daemon {
    fn start(program: &Path, folder: &Path, every: &str) -> Result<Self> {
        let file = folder.join("scheduler.toml");
        let mut text = "[scheduler]\ndata_dir = \"data\"\n".to_owned();
        for index in 0..TASKS {
            let every = if index == 0 { every } else { "10s" };
            write!(
                text,
                "[tasks.task_{index}]\njob = \"exec\"\ntier = \"local\"\nargs = {{ program = \"true\" }}\n\
                 trigger = {{ every = \"{every}\" }}\ntimeout = \"1s\"\n"
            )?;
        }
        std::fs::write(&file, text)?;
        let mut command = Command::new(program);
        command.arg("--config").arg(&file).args(["run", "--log", "json"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        Ok(Self(child.with_context(|| format!("cannot start {}", program.display()))?))
    }

    /// Reads its log up to a line that holds `text`.
    fn wait_for(&mut self, text: &str) -> Result<()> {
        let log = self.0.stderr.take().context("its log is not ours")?;
        let mut lines = BufReader::new(log).lines();
        for line in &mut lines {
            if line?.contains(text) {
                // Whatever comes is read, so that it never waits for us.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(());
            }
        }
        bail!("the daemon ended before it fired")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
