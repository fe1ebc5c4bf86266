//! Rows in which the SQLite file of the queue is locked, damaged or from the future.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::faults::beat::Beat;
use crate::faults::loss::Attempts;
use crate::faults::settled::{ends_well, settle};
use crate::faults::trial::Trial;
use crate::tool::{self, Tool};

const TOOL: Tool =
    Tool { program: "sqlite3", package: "sqlite3", purpose: "changes the queue's file from outside" };

/// Runs statements on a file, from outside of any daemon.
///
/// # Errors
/// SQLite refuses them; the message says why.
pub(crate) fn sql(file: &Path, statements: &str) -> Result<String> {
    tool::ensure(&TOOL)?;
    let mut child = shell(file)?;
    let mut input = child.stdin.take().context("its input is piped")?;
    input.write_all(format!(".timeout 20000\n{statements}\n").as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    if !output.status.success() || !output.stderr.is_empty() {
        bail!("sqlite3: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn shell(file: &Path) -> Result<Child> {
    Command::new(TOOL.program)
        .arg("-bail")
        .arg(file)
        .current_dir(file.parent().unwrap_or(Path::new("/")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start sqlite3")
}

/// Whether somebody has a transaction open that writes.
///
/// # Errors
/// `sqlite3` cannot be had or started.
pub(crate) fn is_locked(trial: &Trial<'_>) -> Result<bool> {
    tool::ensure(&TOOL)?;
    let mut asked = Command::new(TOOL.program);
    asked.arg(trial.file()).args([".timeout 50", "BEGIN IMMEDIATE; ROLLBACK;"]);
    Ok(!asked.output().context("cannot start sqlite3")?.status.success())
}

/// Another process holds the write lock for longer than anybody waits for it.
pub(crate) fn locked(trial: &mut Trial<'_>) -> Result<()> {
    tool::ensure(&TOOL)?;
    // A daemon waits 5 s for the lock before it is told that there is none.
    let length = Duration::from_secs(trial.lab.size(6, 12));
    let beat = Beat::soon(trial, "beat", 200, u64::try_from(length.as_millis())? / 200 + 15);
    let task = trial.task(beat.task, "sleep 0.1", &beat.trigger());
    trial.configure("lease = \"2s\"", &[task])?;
    let mut daemon = trial.first_daemon("one", &beat)?;
    trial.await_that("the schedule fires", |trial| trial.recorder.starts(beat.task) >= 3)?;

    let mut holder = shell(&trial.file())?;
    let mut input = holder.stdin.take().context("its input is piped")?;
    input.write_all(b".timeout 20000\nBEGIN EXCLUSIVE;\n.print locked\n")?;
    input.flush()?;
    let mut told = [0; 6];
    std::io::Read::read_exact(holder.stdout.as_mut().context("its output is piped")?, &mut told)?;
    std::thread::sleep(length);
    let refusal = Command::new(TOOL.program)
        .arg(trial.file())
        .args([".timeout 50", "BEGIN IMMEDIATE; ROLLBACK;"])
        .output()
        .context("cannot start sqlite3")?;
    let refusal = String::from_utf8_lossy(&refusal.stderr).trim().to_owned();
    input.write_all(b"ROLLBACK;\n.quit\n")?;
    drop(input);
    holder.wait()?;
    trial.injected(format!("BEGIN EXCLUSIVE by another process for {length:?}; a third is told: {refusal}"));
    trial.must(refusal.contains("locked"), || "the file was not locked".to_owned());
    trial.expected("the daemon lives; each fire once and finished");
    settle(trial, &beat, &Attempts::Counted)?;
    ends_well(trial, &mut daemon)
}

/// Files that are damaged or no queue at all are refused and left as they are.
pub(crate) fn corrupt(trial: &mut Trial<'_>) -> Result<()> {
    let sound = sound_file(trial)?;
    let zeroed = |from: usize, to: usize| {
        let mut bytes = sound.clone();
        bytes[from..to.min(sound.len())].fill(0);
        bytes
    };
    let mut garbled = sound.clone();
    for byte in &mut garbled[100..4096] {
        *byte = u8::try_from(trial.chance.between(0, 256))?;
    }
    let cases = [
        ("no database", b"somebody's notes, which must stay as they are\n".repeat(100)),
        ("a zeroed header", zeroed(0, 100)),
        ("a garbled schema", garbled),
        ("cut off in its first page", sound[..2_000].to_vec()),
    ];
    trial.expected("exit code 3, queue/corrupt with the file's name, and not a byte of it changed");
    for (what, bytes) in cases {
        refused(trial, what, &bytes, "queue/corrupt")?;
    }
    damaged_inside(trial, &sound)
}

/// A file of a later version is refused and left as it is.
pub(crate) fn newer(trial: &mut Trial<'_>) -> Result<()> {
    sound_file(trial)?;
    sql(&trial.file(), "PRAGMA user_version = 99; PRAGMA wal_checkpoint(TRUNCATE);")?;
    let bytes = fs::read(trial.file())?;
    trial.expected("exit code 3, queue/newer_store with the file's name, and not a byte of it changed");
    refused(trial, "version 99", &bytes, "queue/newer_store")
}

/// A queue with some history, in one file.
fn sound_file(trial: &mut Trial<'_>) -> Result<Vec<u8>> {
    let beat = Beat::soon(trial, "before", 20, 50);
    let task = trial.task(beat.task, "", &beat.trigger());
    trial.configure("lease = \"2s\"", &[task])?;
    let mut daemon = trial.first_daemon("one", &beat)?;
    settle(trial, &beat, &Attempts::Counted)?;
    ends_well(trial, &mut daemon)?;
    sql(&trial.file(), "PRAGMA wal_checkpoint(TRUNCATE);")?;
    Ok(fs::read(trial.file())?)
}

fn put(trial: &Trial<'_>, bytes: &[u8]) -> Result<()> {
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{end}", trial.file().display()));
    }
    fs::write(trial.file(), bytes).context("cannot write the queue's file")
}

fn refused(trial: &mut Trial<'_>, what: &str, bytes: &[u8], code: &str) -> Result<()> {
    put(trial, bytes)?;
    let mut daemon = trial.daemon("refused")?;
    let status = daemon.wait()?;
    let log = daemon.log();
    let is_named = log.contains(code) && log.contains("queue.db");
    let is_same = fs::read(trial.file())? == bytes;
    trial.injected(format!("{what}: {} bytes", bytes.len()));
    trial.counted(format!("{what}: exit code {:?}, named: {is_named}, unchanged: {is_same}", status.code()));
    trial.must(status.code() == Some(3), || {
        format!("{what}: it ended with {status}; {}", daemon.last_words())
    });
    trial.must(is_named, || format!("{what}: the log says no {code} with the file; {}", daemon.last_words()));
    trial.must(is_same, || format!("{what}: the file was changed"));
    trial.must(!log.contains("panicked at"), || format!("{what}: a thread panicked"));
    Ok(())
}

/// Damage that opening does not meet: the daemon may refuse or say so later, and what does not need the queue runs.
fn damaged_inside(trial: &mut Trial<'_>, sound: &[u8]) -> Result<()> {
    let mut bytes = sound.to_vec();
    let length = bytes.len();
    // All pages but the first: the tables are there and every look into them fails.
    bytes[4_096..length].fill(0xa5);
    put(trial, &bytes)?;
    let local = Beat::soon(trial, "local_beat", 100, 30);
    let beat = local.beside("beat", 100, 30);
    let tasks =
        [trial.ephemeral(local.task, "", &local.trigger()), trial.task(beat.task, "", &beat.trigger())];
    trial.configure("lease = \"2s\"\nrequired = false", &tasks)?;
    let mut daemon = trial.first_daemon("damaged", &local)?;
    trial.until(Duration::from_secs(30), |trial| trial.recorder.ends(local.task) >= 30);
    let ran = trial.recorder.ends(local.task);
    let is_told = daemon.log().contains("queue/corrupt") || daemon.log().contains("damaged");
    trial.injected(format!("pages of the tables overwritten: {} bytes", length - 4_096));
    trial.expected("with required = false the daemon lives and says so, and the local tier goes on");
    trial.counted(format!("recorder, local_beat: {ran} ends of 30; damage told: {is_told}"));
    trial.must(ran == 30, || format!("{ran} of 30 fires ran on the local tier"));
    trial.must(is_told, || format!("the log does not tell of the damage; {}", daemon.last_words()));
    ends_well(trial, &mut daemon)
}
