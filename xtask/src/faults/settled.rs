//! The invariants that every row shares, counted when it has calmed down: nothing lost, nothing enqueued twice, no
//! delivery started twice, none before its time, the daemon alive.

use anyhow::Result;
use serde_json::Value;

use crate::faults::account::some;
use crate::faults::beat::Beat;
use crate::faults::daemon::Daemon;
use crate::faults::file::sql;
use crate::faults::instant;
use crate::faults::loss::Attempts;
use crate::faults::trial::{PATIENCE, Store, Trial};

/// Waits until the fires of a schedule have all been run, and counts.
///
/// # Errors
/// History cannot be read.
pub(crate) fn settle(trial: &mut Trial<'_>, beat: &Beat, attempts: &Attempts) -> Result<()> {
    let fires: Vec<u64> = beat.fires().collect();
    let left = beat.last().saturating_sub(instant::now());
    std::thread::sleep(std::time::Duration::from_millis(left));
    let has_run =
        |trial: &Trial<'_>| trial.recorder.count(beat.task).missing(fires.iter().copied()).is_empty();
    trial.until(PATIENCE, has_run);
    // The job's note precedes the store's.
    let has_ended =
        |runs: &[Value]| runs.iter().filter(|run| run["state"] == "succeeded").count() >= fires.len();
    trial.until(PATIENCE / 3, |trial| trial.history(beat.task).is_ok_and(|runs| has_ended(&runs)));

    let count = trial.recorder.count(beat.task);
    let missing = count.missing(fires.iter().copied());
    let (twice, runs) = (count.twice(), count.runs().len());
    let strangers: Vec<u64> = count.fires.keys().filter(|fire| !fires.contains(fire)).copied().collect();
    let again = count.starts - runs;
    trial.counted(format!(
        "recorder, {}: {} fires, {runs} runs, {} starts, {} ends; {} lost, {} enqueued twice, {} doubled, {} early, {again} run again",
        beat.task,
        count.fires.len(),
        count.starts,
        count.ends,
        missing.len(),
        twice.len(),
        count.doubled.len(),
        count.early.len(),
    ));
    let first = beat.first;
    let since = move |fires: &[u64]| some(fires.iter().map(|fire| format!("{} ms", fire.abs_diff(first))));
    trial.must(missing.is_empty(), || {
        format!("fires without a finished run, after the first: {}", since(&missing))
    });
    trial.must(twice.is_empty(), || format!("fires with two runs, after the first: {}", since(&twice)));
    trial.must(strangers.is_empty(), || {
        format!("fires that the schedule does not name: {}", some(&strangers))
    });
    trial.must(count.early.is_empty(), || format!("started before their time: {}", some(&count.early)));
    let seen = count.repeated.len();
    let (doubled, repeated) = (attempts.left(count.doubled, false), attempts.left(count.repeated, true));
    if let Attempts::LostAt(_) | Attempts::Lost(_) = attempts {
        let anew = seen - repeated.len();
        trial.counted(format!("recorder, {}: {anew} attempts began anew that the store had lost", beat.task));
    }
    trial.must(doubled.is_empty(), || format!("deliveries that started twice: {}", some(&doubled)));
    trial.must(repeated.is_empty(), || format!("attempts that started twice: {}", some(&repeated)));

    is_sound(trial)?;
    let told = trial.history(beat.task)?;
    let succeeded = told.iter().filter(|run| run["state"] == "succeeded").count();
    trial.counted(format!("history, {}: {} runs, {succeeded} succeeded", beat.task, told.len()));
    let others = told.iter().filter(|run| run["state"] != "succeeded");
    let others: Vec<String> = others.map(|run| format!("{} {}", run["fire_time"], run["state"])).collect();
    trial.must(others.is_empty(), || format!("history has runs that have not succeeded: {}", some(&others)));
    trial.must(told.len() == fires.len(), || {
        format!("history has {} runs for {} fires", told.len(), fires.len())
    });
    Ok(())
}

/// What SQLite itself says of the file of the queue, which has to be sound whatever was done around it.
///
/// # Errors
/// It cannot be asked.
pub(crate) fn is_sound(trial: &mut Trial<'_>) -> Result<()> {
    let file = trial.file();
    if trial.store == Store::Sqlite && file.is_file() {
        let told = sql(&file, "PRAGMA integrity_check;")?;
        trial.must(told == "ok", || format!("the file is damaged: {}", some(told.lines())));
    }
    Ok(())
}

/// The daemon still lives, and ends as it should when it is asked to.
///
/// # Errors
/// It does not end.
pub(crate) fn ends_well(trial: &mut Trial<'_>, daemon: &mut Daemon) -> Result<()> {
    if !daemon.is_alive() {
        let told = daemon.last_words();
        trial.must(false, || format!("the daemon has ended by itself; {told}"));
        return Ok(());
    }
    let status = daemon.stop()?;
    let told = daemon.last_words();
    trial.must(status.success(), || format!("the daemon ended with {status}; {told}"));
    let is_sound = !daemon.log().contains("panicked at");
    trial.must(is_sound, || "a thread of the daemon panicked".to_owned());
    Ok(())
}
