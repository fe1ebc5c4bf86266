//! Rows about the folders of a daemon: one that another daemon holds, and one that somebody tidies up.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::faults::beat::Beat;
use crate::faults::instant;
use crate::faults::loss::Attempts;
use crate::faults::server::{BACK, go_on};
use crate::faults::settled::{ends_well, settle};
use crate::faults::trial::Trial;

/// A second daemon on the same data folder is refused, until the first one is gone.
pub(crate) fn shared(trial: &mut Trial<'_>) -> Result<()> {
    let beat = Beat::soon(trial, "beat", 100, trial.lab.size(40, 100));
    let task = trial.task(beat.task, "sleep 0.1", &beat.trigger());
    trial.configure("lease = \"1s\"", &[task])?;
    let mut first = trial.first_daemon("one", &beat)?;
    let mut codes = Vec::new();
    for _ in 0..3 {
        // Its log would begin within the first one's.
        let mut second = trial.start(trial.daemon_command("one"), "second")?;
        let status = second.wait()?;
        let is_named =
            second.log().contains("data_dir/in_use") && second.log().contains(&first.pid().to_string());
        codes.push(status.code());
        trial.must(status.code() == Some(5) && is_named, || {
            format!("the second ended with {status}; {}", second.last_words())
        });
    }
    let is_alive = first.is_alive();
    trial.must(is_alive, || format!("the first one has ended; {}", first.last_words()));
    let pid = first.pid();
    first.kill()?;
    let mut heir = trial.start(trial.daemon_command("one"), "heir")?;
    let has_started = trial.until(Duration::from_secs(20), |_| heir.has_started());
    trial.injected(format!(
        "three more daemons on the data folder of process {pid}; then kill -9 of that one"
    ));
    trial.expected(
        "they end with exit code 5 and name it; once it is gone the next one starts; each fire once",
    );
    trial.counted(format!("exit codes {codes:?}; after the kill one has started: {has_started}"));
    trial.must(has_started, || format!("nobody starts after the kill; {}", heir.last_words()));
    settle(trial, &beat, &Attempts::Counted)?;
    ends_well(trial, &mut heir)
}

/// The file is moved away under a daemon and put back; then it is moved away for good, and another one is made.
pub(crate) fn moved(trial: &mut Trial<'_>) -> Result<()> {
    let (place, away) = (trial.path("place"), trial.path("away"));
    fs::create_dir(&place)?;
    fs::create_dir(&away)?;
    trial.set_url(format!("sqlite:{}", place.join("queue.db").display()));
    let beat = Beat::soon(trial, "beat", 100, trial.lab.size(150, 220));
    let tasks = [trial.task(beat.task, "sleep 0.05", &beat.trigger()), trial.task("asked", "", "")];
    trial.configure("lease = \"2s\"", &tasks)?;
    let mut daemon = trial.first_daemon("one", &beat)?;
    trial.await_that("the schedule fires", |trial| trial.recorder.ends(beat.task) >= 3)?;
    carry(&place, &away)?;
    let is_told = trial.until(Duration::from_secs(10), |_| daemon.log().contains("is not there any more"));
    carry(&away, &place)?;
    let since = trial.recorder.ends(beat.task);
    let goes_on = trial.until(Duration::from_secs(20), |trial| trial.recorder.ends(beat.task) > since + 2);
    trial.injected("the file of the queue moved away under a daemon, and put back");
    trial.counted(format!("told: {is_told}, on again: {goes_on}"));
    trial.must(is_told && goes_on, || {
        format!("told: {is_told}, on again: {goes_on}; {}", daemon.last_words())
    });

    carry(&place, &away)?;
    let asked = trial.verb(&["trigger", "asked"])?;
    let back_at = instant::now();
    let is_run = trial.until(Duration::from_secs(20), |trial| trial.recorder.ends("asked") == 1);
    let is_told = daemon.log().contains("another file in the place");
    trial.injected("moved away for good, and a run asked for, which makes another file");
    trial.expected("the daemon says what happened, goes on when the file is back, and serves the one that takes its place");
    trial.expected(format!("the schedule goes on {} s later at the latest, each fire once", BACK / 1_000));
    trial.counted(format!("`trigger` answers {}; its run was run: {is_run}; told: {is_told}", asked.code));
    trial.must(is_run && is_told, || format!("run: {is_run}, told: {is_told}; {}", daemon.last_words()));
    go_on(trial, &beat, back_at)?;
    ends_well(trial, &mut daemon)
}

/// Moves the file with what belongs to it.
fn carry(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::rename(entry.path(), to.join(entry.file_name())).context("cannot move the file")?;
    }
    Ok(())
}
