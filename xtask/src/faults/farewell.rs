//! Rows in which a daemon is told to stop, and how soon what it leaves is taken up.

use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::Signal;

use crate::faults::beat::Beat;
use crate::faults::daemon;
use crate::faults::loss::Attempts;
use crate::faults::settled::{ends_well, settle};
use crate::faults::trial::Trial;

/// SIGTERM and, while the daemon waits for its job, SIGTERM again: it takes nothing new, then waits no longer.
pub(crate) fn sigterm_twice(trial: &mut Trial<'_>) -> Result<()> {
    let beat = Beat::soon(trial, "long", 1_000, 1);
    let cut = trial.path("cut");
    let work = format!("[ -e {} ] || exec sleep 600", cut.display());
    let tasks = [trial.task(beat.task, &work, &beat.trigger()), trial.task("asked", "", "")];
    trial.configure("shutdown_grace = \"10m\"\n---\nlease = \"30s\"", &tasks)?;
    let mut daemon = trial.first_daemon("one", &beat)?;
    trial.await_that("the job begins", |trial| trial.recorder.starts(beat.task) == 1)?;
    let job = trial.recorder.of(beat.task)[0].pid;

    daemon.signal(Signal::TERM)?;
    trial.await_that("it is told", |_| daemon.log().contains("draining"))?;
    let asked = trial.verb(&["trigger", "asked"])?;
    std::thread::sleep(Duration::from_millis(1_500));
    let taken = trial.recorder.starts("asked");
    let waits = daemon.is_alive() && daemon::exists(job);
    let began = Instant::now();
    let status = daemon.stop()?;
    let took = began.elapsed();
    let is_gone = !daemon::exists(job);
    std::fs::write(&cut, "")?;
    trial.injected(format!(
        "SIGTERM under a job of 600 s with a grace of 10 min, a run asked for, then SIGTERM again: {status} after {took:.1?}"
    ));
    trial.expected("nothing new is taken after the first; after the second it ends at once, with exit code 1, and its job too");
    trial.expected("the next daemon, under the same name, runs both at once, and the attempt that was cut off did not count");
    trial.counted(format!(
        "after the first: waits {waits}, {taken} new starts, `trigger` answers {}",
        asked.code
    ));
    trial
        .must(waits && taken == 0 && asked.code == 0, || format!("waits {waits}, {taken} starts, {asked:?}"));
    trial.must(status.code() == Some(1) && is_gone, || {
        format!("it ended with {status}, its job is gone: {is_gone}")
    });
    trial.must(took < Duration::from_secs(15), || format!("it took {took:.1?} to end"));
    let mut again = trial.daemon("one")?;
    // The lease is long, so only what was handed back comes at once.
    let is_back = trial.until(Duration::from_secs(15), |trial| {
        trial.recorder.starts(beat.task) == 2 && trial.recorder.ends("asked") == 1
    });
    trial.must(is_back, || "what was left is not run at once".to_owned());
    settle(trial, &beat, &Attempts::HandedBack)?;
    let attempts: Vec<u32> =
        trial.recorder.of(beat.task).iter().filter(|note| !note.is_end).map(|note| note.attempt).collect();
    trial.must(attempts == [1, 1], || format!("the attempts were {attempts:?}"));
    ends_well(trial, &mut again)
}

/// What a killed daemon ran is run again by another one as soon as its lease allows.
pub(crate) fn taken_over(trial: &mut Trial<'_>) -> Result<()> {
    const LEASE: Duration = Duration::from_secs(2);
    const SOON: Duration = Duration::from_secs(2);
    let rounds = trial.lab.size(2, 10);
    let beat = Beat::soon(trial, "beat", 500, trial.lab.size(20, 60));
    let tasks = [
        trial.task(beat.task, "sleep 0.05", &beat.trigger()),
        trial.task("long", "[ $SCHEDULER_ATTEMPT = 2 ] || exec sleep 600", ""),
    ];
    trial.configure("lease = \"2s\"", &tasks)?;
    let mut victim = trial.first_daemon("d0", &beat)?;
    let mut took = Vec::new();
    for round in 0..rounds {
        let key = format!("k{round}");
        let asked = trial.verb(&["trigger", "long", "--key", &key])?;
        trial.must(asked.code == 0, || format!("`trigger` answers {asked:?}"));
        let starts = 2 * round + 1;
        trial.await_that("the job begins", |trial| trial.recorder.starts("long") == starts)?;
        // It comes when the job is under way, so the run is the other one's.
        let heir = trial.daemon(&format!("d{}", round + 1))?;
        trial.await_that("the heir starts", |_| heir.has_started())?;
        victim.kill()?;
        victim = heir;
        let killed = Instant::now();
        trial.await_that("it is taken over", |trial| trial.recorder.ends("long") == round + 1)?;
        took.push(killed.elapsed());
    }
    let slowest = took.iter().max().copied().unwrap_or_default();
    trial.injected(format!(
        "kill -9 of a daemon under a job, {rounds} times, with a lease of 2 s and another daemon beside it"
    ));
    trial.expected("the other one runs it as attempt 2 within the lease and two seconds");
    trial.counted(format!("ended at most {slowest:.1?} after the kill"));
    trial.must(slowest < LEASE + SOON, || format!("it took {took:.1?}"));
    settle(trial, &beat, &Attempts::Counted)?;
    ends_well(trial, &mut victim)
}
