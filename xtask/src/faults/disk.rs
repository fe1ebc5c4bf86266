//! The row in which the disk below the SQLite file is full.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::faults::account::CannotRun;
use crate::faults::beat::Beat;
use crate::faults::daemon::Daemon;
use crate::faults::loss::Attempts;
use crate::faults::settled::{ends_well, settle};
use crate::faults::trial::Trial;

/// How a disk is made full.
enum Full {
    /// A small file system of its own, filled by a file of ours.
    Mounted { folder: PathBuf },
    /// A limit on the size of the files that the daemon writes.
    Limited,
}

/// The disk of the queue is full for a while.
pub(crate) fn full(trial: &mut Trial<'_>) -> Result<()> {
    let length = Duration::from_secs(trial.lab.size(3, 15));
    let beat = Beat::soon(trial, "beat", 100, u64::try_from(length.as_millis())? / 100 + 40);
    let folder = trial.path("small");
    fs::create_dir(&folder)?;
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m,mode=700", "none"])
        .arg(&folder)
        .output()
        .is_ok_and(|output| output.status.success());
    let way = if mounted { Full::Mounted { folder: folder.clone() } } else { Full::Limited };
    trial.set_url(format!("sqlite:{}", folder.join("queue.db").display()));
    let tasks = [trial.task(beat.task, "sleep 0.1", &beat.trigger()), trial.task("asked", "", "")];
    trial.configure("lease = \"2s\"", &tasks)?;

    let mut daemon = match way {
        Full::Mounted { .. } => trial.daemon("one")?,
        Full::Limited => limited(trial)?,
    };
    beat.is_known_to(trial, &daemon)?;
    trial.await_that("the schedule fires", |trial| trial.recorder.starts(beat.task) >= 5)?;
    let evidence = fill(&way, &daemon, &folder)?;
    let before = trial.recorder.starts(beat.task);
    let asked = trial.verb(&["trigger", "asked", "-o", "json"])?;
    std::thread::sleep(length);
    let during = trial.recorder.starts(beat.task) - before;
    free(&way, &daemon)?;
    trial.injected(evidence);
    trial.expected("nothing new is taken meanwhile; afterwards each fire is there once, and finished");
    trial.counted(format!("meanwhile: {during} starts; `trigger` answers {}", asked.code));
    if mounted {
        let told = format!("{}{}", asked.stdout, asked.stderr);
        trial.must(asked.code == 3 && told.contains("queue/full"), || format!("`trigger` answers {asked:?}"));
    }
    settle(trial, &beat, &Attempts::Counted)?;
    ends_well(trial, &mut daemon)
}

/// A daemon whose writes beyond a limit fail instead of killing it.
fn limited(trial: &Trial<'_>) -> Result<Daemon> {
    let inner = trial.daemon_command("one");
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(inner.get_program()).args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(inner.get_current_dir().unwrap_or(Path::new("/")));
    trial.start(command, "one")
}

fn limit(daemon: &Daemon, bytes: &str) -> Result<()> {
    let pid = daemon.pid().to_string();
    let set = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")]).output();
    let set = set.map_err(|error| {
        CannotRun(format!("mounting is not permitted, and prlimit cannot be started: {error}"))
    })?;
    if !set.status.success() {
        let reason = String::from_utf8_lossy(&set.stderr).trim().to_owned();
        return Err(CannotRun(format!("neither mounting nor prlimit is permitted: {reason}")).into());
    }
    Ok(())
}

fn fill(way: &Full, daemon: &Daemon, queue: &Path) -> Result<String> {
    match way {
        Full::Mounted { folder } => {
            let mut filler = fs::File::create(folder.join("filler")).context("cannot make the filler")?;
            let mut written = 0;
            let refusal = loop {
                match filler.write_all(&[0; 512]) {
                    Ok(()) => written += 512,
                    Err(error) => break error,
                }
            };
            Ok(format!("a tmpfs of 4 MiB was mounted and filled: after {written} bytes of ours: {refusal}"))
        }
        Full::Limited => {
            let length = fs::metadata(queue.join("queue.db"))?.len();
            limit(daemon, &length.to_string())?;
            Ok(format!(
                "mounting is not permitted; prlimit lets the daemon write no file beyond {length} bytes"
            ))
        }
    }
}

fn free(way: &Full, daemon: &Daemon) -> Result<()> {
    match way {
        Full::Mounted { folder } => {
            fs::remove_file(folder.join("filler")).context("cannot remove the filler")
        }
        Full::Limited => limit(daemon, "unlimited"),
    }
}
