//! Rows in which jobs do not end: programs that hear no request to, with children that hold their output open, and code
//! that blocks its thread.

use std::time::Duration;

use anyhow::Result;

use crate::faults::account::some;
use crate::faults::beat::Beat;
use crate::faults::daemon;
use crate::faults::loss::Attempts;
use crate::faults::settled::{ends_well, settle};
use crate::faults::trial::{PATIENCE, Trial};

/// What a program of the row does: nobody of it hears SIGTERM, and a child holds the output open, another one from a
/// session of its own.
const WORK: &str = "trap '' TERM\n\
    sleep 600 &\necho $! >> KIDS\n\
    setsid sleep 601 &\necho $! >> KIDS\n\
    sleep 602";

/// Jobs never end by themselves and hear nobody; all slots of the daemon are theirs at times.
pub(crate) fn never_end(trial: &mut Trial<'_>) -> Result<()> {
    const SLOTS: usize = 2;
    trial.use_faulty_jobs();
    let count: usize = trial.lab.size(2, 6);
    let bystander = Beat::soon(trial, "bystander", 500, trial.lab.size(16, 40));
    let stubborn = bystander.beside("stubborn", 300, u64::try_from(count)?);
    let kids = trial.path("kids");
    let work = WORK.replace("KIDS", &kids.display().to_string());
    let retry =
        "retry = { max_attempts = 2, initial = \"50ms\", max = \"1s\", jitter = false }\ntimeout = \"1s\"";
    let tasks = [
        trial.task(stubborn.task, &work, &format!("{retry}\n{}", stubborn.trigger())),
        trial.task(bystander.task, "sleep 0.05", &bystander.trigger()),
    ];
    trial.configure(&format!("lease = \"2s\"\nconcurrency = {SLOTS}"), &tasks)?;
    let mut daemon = trial.first_daemon("one", &bystander)?;
    let failed = |trial: &Trial<'_>| {
        let runs = trial.history(stubborn.task).unwrap_or_default();
        runs.iter().filter(|run| run["state"] == "failed").count()
    };
    trial.until(PATIENCE, |trial| failed(trial) == count);
    let starts = trial.recorder.starts(stubborn.task);
    let kids: Vec<u32> = std::fs::read_to_string(&kids)?.lines().filter_map(|pid| pid.parse().ok()).collect();
    let left = || kids.iter().filter(|pid| daemon::exists(**pid)).count();
    trial.until(Duration::from_secs(5), |_| left() == 0);
    trial.injected(format!(
        "programs of 600 s that hear no SIGTERM, with a timeout of 1 s and {SLOTS} slots; {} of their children hold \
         the output open, half of them from a session of their own",
        kids.len()
    ));
    trial.expected(
        "two attempts each, then failed for their time; nothing is left of them, their slots are free",
    );
    trial.counted(format!("recorder, stubborn: {starts} starts; {} of {} children live", left(), kids.len()));
    trial.must(starts == 2 * count, || format!("{starts} starts of {count} runs"));
    trial.must(kids.len() == 2 * starts && left() == 0, || {
        format!("{} of {} children live", left(), kids.len())
    });
    let runs = trial.history(stubborn.task)?;
    let reasons: Vec<String> = runs.iter().map(|run| format!("{} {}", run["state"], run["reason"])).collect();
    let is_told =
        reasons.len() == count && reasons.iter().all(|told| told.contains("failed") && told.contains("1s"));
    trial.must(is_told, || format!("history of `stubborn` says {}", some(&reasons)));
    settle(trial, &bystander, &Attempts::Counted)?;
    ends_well(trial, &mut daemon)?;
    blocked(trial, SLOTS)
}

/// Code that blocks its thread cannot be ended: it keeps its slot and its lease, and what it did counts.
fn blocked(trial: &mut Trial<'_>, slots: usize) -> Result<()> {
    let beat = Beat::soon(trial, "beat", 500, 20);
    let stuck = beat.beside("stuck", 10, 1);
    let more = format!("timeout = \"1s\"\nretry = {{ max_attempts = 1 }}\n{}", stuck.trigger());
    let tasks = [
        trial.job(stuck.task, "blocks", "millis = 6000", &more),
        trial.task(beat.task, "sleep 0.05", &beat.trigger()),
    ];
    trial.configure(&format!("lease = \"2s\"\nconcurrency = {slots}"), &tasks)?;
    let mut daemons = [trial.first_daemon("two", &beat)?, trial.daemon("three")?];
    let state = |trial: &Trial<'_>| {
        let runs = trial.history(stuck.task).unwrap_or_default();
        runs.first().and_then(|run| run["state"].as_str()).unwrap_or_default().to_owned()
    };
    trial.until(PATIENCE, |trial| state(trial) == "succeeded");
    let (state, starts) = (state(trial), trial.recorder.starts(stuck.task));
    trial.injected("code that blocks its thread for 6 s, with a timeout of 1 s and a lease of 2 s, on one of two daemons");
    trial.expected(
        "it keeps its lease and its slot, and what it did counts when it lets go; the schedule goes on",
    );
    trial.counted(format!("recorder, stuck: {starts} starts; the run has {state}"));
    trial.must(state == "succeeded" && starts == 1, || format!("{state} after {starts} starts"));
    settle(trial, &beat, &Attempts::Counted)?;
    daemons.iter_mut().try_for_each(|daemon| ends_well(trial, daemon))
}
