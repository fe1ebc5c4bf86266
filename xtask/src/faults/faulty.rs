//! Rows in which jobs do what no job should, inside of the daemon: they panic or block its threads.

use anyhow::Result;

use crate::faults::account::some;
use crate::faults::beat::Beat;
use crate::faults::loss::Attempts;
use crate::faults::settled::{ends_well, settle};
use crate::faults::trial::{PATIENCE, Trial};

const WAYS: [&str; 6] = ["text", "message", "value", "drop", "thread", "later"];

/// Jobs panic in every way.
pub(crate) fn panics(trial: &mut Trial<'_>) -> Result<()> {
    trial.use_faulty_jobs();
    let count = trial.lab.size(2, 20);
    let bystander = Beat::soon(trial, "bystander", 200, 20);
    let beats = WAYS.map(|way| bystander.beside(way, 300, count));
    let retry = "retry = { max_attempts = 2, initial = \"50ms\", max = \"1s\", jitter = false }";
    let mut tasks: Vec<String> = beats
        .iter()
        .map(|beat| {
            let (args, more) = (format!("way = \"{}\"", beat.task), format!("{retry}\n{}", beat.trigger()));
            trial.job(beat.task, "panics", &args, &more)
        })
        .collect();
    tasks.push(trial.task(bystander.task, "sleep 0.05", &bystander.trigger()));
    trial.configure("lease = \"2s\"", &tasks)?;

    let mut daemon = trial.first_daemon("one", &bystander)?;
    let wanted = usize::try_from(count)?;
    let failed = |trial: &Trial<'_>, way: &str| {
        let runs = trial.history(way).unwrap_or_default();
        runs.iter().filter(|run| run["state"] == "failed").count()
    };
    trial.until(PATIENCE, |trial| WAYS.iter().all(|way| failed(trial, way) == wanted));
    let starts: usize = WAYS.iter().map(|way| trial.recorder.starts(way)).sum();
    let ends: usize = WAYS.iter().map(|way| trial.recorder.ends(way)).sum();
    let panicked = daemon.log().matches("panicked at").count();
    trial.injected(format!(
        "jobs that panic in {} ways; {panicked} panics in what the daemon said",
        WAYS.len()
    ));
    trial.must(panicked >= starts, || format!("{panicked} panics of {starts} starts"));
    trial.expected("two attempts each, then failed with the message; the neighbours and the daemon go on");
    trial.counted(format!("recorder: {starts} starts, {ends} ends of {} runs", WAYS.len() * wanted));
    trial.must(starts == 2 * WAYS.len() * wanted && ends == 0, || format!("{starts} starts and {ends} ends"));
    for way in WAYS {
        let reasons: Vec<String> = trial.history(way)?.iter().map(|run| run["reason"].to_string()).collect();
        let is_told = reasons.len() == wanted && reasons.iter().all(|reason| reason.contains("panic"));
        trial.must(is_told, || format!("history of `{way}` says {}", some(&reasons)));
    }
    settle(trial, &bystander, &Attempts::Counted)?;
    let is_alive = daemon.is_alive();
    trial.must(is_alive, || format!("the daemon has ended; {}", daemon.last_words()));
    if is_alive {
        let status = daemon.stop()?;
        trial.must(status.success(), || format!("the daemon ended with {status}"));
    }
    Ok(())
}

/// Jobs block every thread that jobs have, for longer than the lease, on two daemons that would take over from another.
pub(crate) fn blocked_runtime(trial: &mut Trial<'_>) -> Result<()> {
    const SLOTS: usize = 4;
    trial.use_faulty_jobs();
    let rounds = trial.lab.size(2, 6);
    let bystander = Beat::soon(trial, "bystander", 500, 10);
    let blockers = bystander.beside("blocker", 10, 2 * u64::try_from(SLOTS)? * rounds);
    let tasks = [
        trial.job(blockers.task, "blocks", "millis = 3000", &blockers.trigger()),
        trial.task(bystander.task, "sleep 0.05", &bystander.trigger()),
    ];
    trial.configure(&format!("lease = \"1s\"\nconcurrency = {SLOTS}"), &tasks)?;

    let mut daemons = [trial.first_daemon("one", &bystander)?, trial.daemon("two")?];
    let blocked =
        |trial: &Trial<'_>| trial.recorder.starts(blockers.task) - trial.recorder.ends(blockers.task);
    trial.await_that("all slots are blocked", |trial| blocked(trial) >= 2 * SLOTS)?;
    let blocked = blocked(trial);
    trial.injected(format!(
        "jobs that block their threads for 3 s each, {blocked} at once on two daemons of {SLOTS} slots, with a lease of 1 s"
    ));
    trial.expected("no lease is lost: one start for each; schedules are served, what waits runs afterwards");
    settle(trial, &blockers, &Attempts::Counted)?;
    settle(trial, &bystander, &Attempts::Counted)?;
    let count = trial.recorder.count(blockers.task);
    trial.must(count.starts == count.runs().len(), || {
        format!("{} starts of {} runs", count.starts, count.runs().len())
    });
    daemons.iter_mut().try_for_each(|daemon| ends_well(trial, daemon))
}
