//! Rows in which the log beside the SQLite file loses its end, or the file may not be written.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::faults::account::CannotRun;
use crate::faults::beat::Beat;
use crate::faults::file::sql;
use crate::faults::loss::{Attempts, lost};
use crate::faults::settled::{ends_well, settle};
use crate::faults::trial::Trial;

/// How long the head of the log is, that of a frame, and a frame.
const HEAD: usize = 32;
const FRAME_HEAD: usize = 24;
const FRAME: usize = FRAME_HEAD + 4_096;

/// How many frames are damaged at most: claims, ends and leases of the last tenths of a second.
const MOST: usize = 8;

/// What becomes of the last frames.
#[derive(Clone, Copy, Debug)]
enum Damage {
    CutOff,
    Flipped,
    Zeroed,
}

/// A daemon is killed, and what it wrote last does not reach the disk.
pub(crate) fn torn(trial: &mut Trial<'_>) -> Result<()> {
    let rounds = trial.lab.size(3, 9);
    let beat = Beat::soon(trial, "beat", 100, trial.lab.size(60, 200));
    let task = trial.task(beat.task, "sleep 0.1", &beat.trigger());
    trial.configure("lease = \"1s\"", &[task])?;
    let log = PathBuf::from(format!("{}-wal", trial.file().display()));

    let mut daemon = trial.first_daemon("one", &beat)?;
    trial.await_that("the schedule fires", |trial| trial.recorder.starts(beat.task) >= 3)?;
    let (mut gone, mut done) = (BTreeMap::new(), Vec::new());
    for round in 0..rounds {
        std::thread::sleep(trial.chance.millis(700, 1_500));
        daemon.kill()?;
        let damage = [Damage::CutOff, Damage::Flipped, Damage::Zeroed][round % 3];
        let back = usize::try_from(trial.chance.between(1, u64::try_from(MOST * FRAME)?))?;
        let before = known(trial, &log)?;
        done.extend(damaged(&log, damage, back)?);
        for attempt in lost(&before, &known(trial, &log)?) {
            *gone.entry(attempt).or_insert(0) += 1;
        }
        daemon = trial.daemon("one")?;
    }
    let attempts: usize = gone.values().sum();
    trial.injected(format!(
        "kill -9 and damage to the end of the log, {rounds} times: {}; by a look into copies of the file before and after, \
         it knows {attempts} attempts less",
        done.join(", ")
    ));
    trial.must(!done.is_empty(), || "the log was never damaged".to_owned());
    trial.expected("the daemon starts and the file is sound; each fire once and finished, and only an attempt that the file lost begins anew");
    settle(trial, &beat, &Attempts::Lost(gone))?;
    ends_well(trial, &mut daemon)
}

/// How many attempts each run has had, by a copy of the file and its log: looking into the file itself would write what
/// the log holds into it.
fn known(trial: &Trial<'_>, log: &Path) -> Result<BTreeMap<String, u32>> {
    let copy = trial.path("copy.db");
    fs::copy(trial.file(), &copy).context("cannot copy the file")?;
    fs::copy(log, trial.path("copy.db-wal")).context("cannot copy the log")?;
    let told = sql(&copy, "SELECT id || ' ' || attempt FROM run;")?;
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{end}", copy.display()));
    }
    let run = |line: &str| {
        let (id, attempt) = line.split_once(' ').context("a run has an id and attempts")?;
        Ok((id.to_owned(), attempt.parse()?))
    };
    told.lines().map(run).collect()
}

/// Damages the last `back` bytes of what the log holds; says what was done. A log is written anew from its beginning, so
/// what stands behind that may be of before.
fn damaged(log: &Path, damage: Damage, back: usize) -> Result<Option<String>> {
    let bytes = fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    let Some(salt) = bytes.get(16..24) else { return Ok(None) };
    let is_now = |frame: &&[u8]| frame.get(8..16) == Some(salt);
    let frames = bytes[HEAD..].chunks_exact(FRAME).take_while(is_now).count();
    let end = HEAD + frames * FRAME;
    let Some(begin) = end.checked_sub(back).filter(|begin| *begin >= HEAD) else { return Ok(None) };
    let mut file = fs::File::options().write(true).open(log)?;
    match damage {
        Damage::CutOff => file.set_len(u64::try_from(begin)?)?,
        Damage::Flipped => {
            file.seek(SeekFrom::Start(u64::try_from(begin)?))?;
            file.write_all(&[!bytes[begin]])?;
        }
        Damage::Zeroed => {
            file.seek(SeekFrom::Start(u64::try_from(begin)?))?;
            file.write_all(&vec![0; back])?;
        }
    }
    Ok(Some(format!("{damage:?} {back} bytes before the end of {frames} frames")))
}

/// A file that nobody may write to is refused and left as it is.
pub(crate) fn read_only(trial: &mut Trial<'_>) -> Result<()> {
    let folder = trial.path("readable");
    fs::create_dir(&folder)?;
    trial.set_url(format!("sqlite:{}", folder.join("queue.db").display()));
    let beat = Beat::soon(trial, "before", 50, 10);
    let task = trial.task(beat.task, "", &beat.trigger());
    trial.configure("lease = \"2s\"", &[task])?;
    let mut daemon = trial.first_daemon("one", &beat)?;
    trial.await_that("the schedule fires", |trial| trial.recorder.ends(beat.task) >= 10)?;
    ends_well(trial, &mut daemon)?;
    let before = fs::read(folder.join("queue.db"))?;
    for options in ["bind", "remount,bind,ro"] {
        let mounted = Command::new("mount").args(["-o", options]).arg(&folder).arg(&folder).output();
        let mounted = mounted.map_err(|error| CannotRun(format!("mount cannot be started: {error}")))?;
        if !mounted.status.success() {
            let reason = String::from_utf8_lossy(&mounted.stderr).trim().to_owned();
            return Err(CannotRun(format!("mounting is not permitted: {reason}")).into());
        }
    }
    let refusal = fs::write(folder.join("probe"), "").err().context("the folder may be written to")?;
    trial.injected(format!("the folder of the file is mounted to be read only: {refusal}"));

    let local = Beat::soon(trial, "local_beat", 100, 20);
    let tasks = [trial.ephemeral(local.task, "", &local.trigger()), trial.task("beat", "", "")];
    trial.expected("exit code 3 with the file's name; with required = false the local tier goes on");
    trial.configure("lease = \"2s\"", &tasks)?;
    let mut refused = trial.daemon("refused")?;
    let status = refused.wait()?;
    let is_named = refused.log().contains("queue.db") && refused.log().contains("queue/");
    trial.counted(format!("exit code {:?}, named: {is_named}", status.code()));
    trial.must(status.code() == Some(3) && is_named, || {
        format!("it ended with {status}; {}", refused.last_words())
    });
    let local = Beat::soon(trial, "local_beat", 100, 20);
    let tasks = [trial.ephemeral(local.task, "", &local.trigger()), trial.task("beat", "", "")];
    trial.configure("lease = \"2s\"\nrequired = false", &tasks)?;
    let mut daemon = trial.first_daemon("without", &local)?;
    trial.until(std::time::Duration::from_secs(20), |trial| trial.recorder.ends(local.task) >= 20);
    let ran = trial.recorder.ends(local.task);
    trial.counted(format!("recorder, local_beat: {ran} ends of 20"));
    trial.must(ran == 20, || format!("{ran} of 20 fires ran on the local tier"));
    ends_well(trial, &mut daemon)?;
    let is_same = fs::read(folder.join("queue.db"))? == before;
    trial.must(is_same, || "the file was changed".to_owned());
    Ok(())
}
