//! The row in which the power fails: what of the SQLite file has reached the disk at one instant is all that is left.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::faults::account::CannotRun;
use crate::faults::beat::Beat;
use crate::faults::loss::Attempts;
use crate::faults::settled::{ends_well, settle};
use crate::faults::trial::Trial;

/// The queue is on a file system in a file. Again and again the daemon is stopped wherever it is, that file is copied,
/// the daemon killed, and the copy mounted in place of the original: what had only been written, and not synced, is gone.
pub(crate) fn fails(trial: &mut Trial<'_>) -> Result<()> {
    let rounds = trial.lab.size(2, 6);
    let (folder, image) = (trial.path("disk"), trial.path("image-0"));
    fs::create_dir(&folder)?;
    fs::File::create(&image)?.set_len(64 * 1024 * 1024)?;
    // A journal that is written out rarely: nothing reaches the disk by itself meanwhile.
    done(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
    mount(&image, &folder)?;
    trial.set_url(format!("sqlite:{}", folder.join("queue.db").display()));
    let beat = Beat::soon(trial, "beat", 100, trial.lab.size(80, 200));
    let task = trial.task(beat.task, "sleep 0.1", &beat.trigger());
    trial.configure("lease = \"1s\"", &[task])?;
    let mut daemon = trial.first_daemon("one", &beat)?;
    trial.await_that("the schedule fires", |trial| trial.recorder.starts(beat.task) >= 3)?;
    let mut ends = Vec::new();
    for round in 1..=rounds {
        std::thread::sleep(trial.chance.millis(300, 1_500));
        let copy = trial.path(&format!("image-{round}"));
        daemon.suspend()?;
        ends.push(trial.recorder.ends(beat.task));
        fs::copy(trial.path(&format!("image-{}", round - 1)), &copy).context("cannot copy the disk")?;
        daemon.kill()?;
        done(Command::new("umount").arg("-l").arg(&folder))?;
        mount(&copy, &folder)?;
        daemon = trial.daemon("one")?;
    }
    trial.injected(format!(
        "{rounds} times the ext4 below the queue is put back to what had reached its disk while the daemon was stopped, \
         after {ends:?} ends; its journal is replayed by mounting it"
    ));
    trial
        .expected("the file is sound and nothing that was acknowledged is lost: each fire once and finished");
    settle(trial, &beat, &Attempts::Counted)?;
    ends_well(trial, &mut daemon)?;
    // The system gives a loop device back when nobody holds it any more.
    done(Command::new("umount").arg("-l").arg(&folder))
}

fn mount(image: &Path, folder: &Path) -> Result<()> {
    done(Command::new("mount").args(["-o", "loop,commit=300"]).arg(image).arg(folder))
}

fn done(command: &mut Command) -> Result<()> {
    let output = command.output().map_err(|error| {
        CannotRun(format!("{} cannot be started: {error}", command.get_program().display()))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let (program, reason) = (command.get_program().display(), String::from_utf8_lossy(&output.stderr));
    Err(CannotRun(format!("{program} is not permitted here: {}", reason.trim())).into())
}
