//! The row that lasts: everyday work for minutes, after which nothing has grown.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::faults::beat::Beat;
use crate::faults::instant;
use crate::faults::machine::Usage;
use crate::faults::settled::{ends_well, is_sound};
use crate::faults::trial::{PATIENCE, Store, Trial};

/// What is measured, and by how much the later part may be above the earlier one: a tenth, and so much besides.
const MEASURES: [(&str, u64); 5] = [
    ("bytes of the daemon", 6 << 20),
    ("open files", 8),
    ("threads", 4),
    ("bytes of the store", 1 << 20),
    ("keys or pages", 256),
];

/// One look at all of them.
type Sample = [u64; MEASURES.len()];

/// Schedules, runs that are asked for, retries, dead letters and cancelled runs, with a short history.
pub(crate) fn soak(trial: &mut Trial<'_>) -> Result<()> {
    let length = trial.lab.soak;
    let seconds = length.as_secs().max(20);
    trial.use_faulty_jobs();
    let beat = Beat::soon(trial, "beat", 200, seconds * 5);
    let quick = beat.beside("quick", 50, seconds * 20);
    let fails = beat.beside("fails", 500, seconds * 2);
    let retry = "retry = { max_attempts = 2, initial = \"50ms\", max = \"1s\", jitter = false }";
    let tasks = [
        trial.task(beat.task, "echo a line of output", &beat.trigger()),
        trial.job(quick.task, "blocks", "millis = 0", &quick.trigger()),
        trial.task(fails.task, "exit 1", &format!("{retry}\n{}", fails.trigger())),
        trial.task("asked", "", ""),
    ];
    trial.configure("lease = \"2s\"\nhistory_runs = 500\ndead_letters = 100", &tasks)?;
    let mut daemon = trial.first_daemon("one", &beat)?;
    let (mut samples, mut wanted) = (Vec::new(), 0);
    while instant::now() < beat.last() {
        let next = Instant::now() + Duration::from_millis(1_000);
        let later = instant::written(instant::now() + 600_000);
        let answers = [
            trial.verb(&["trigger", "asked"])?,
            trial.verb(&["trigger", "asked", "--at", &later, "-o", "json"])?,
        ];
        // The one that waits is cancelled, so that it is not there for ever.
        let told: serde_json::Value = serde_json::from_str(&answers[1].stdout).unwrap_or_default();
        let gone = trial.verb(&["cancel", told["run_id"].as_str().context("`trigger` names no run")?])?;
        let all_done = gone.code == 0 && answers.iter().all(|answer| answer.code == 0);
        trial.must(all_done, || format!("{answers:?}; {gone:?}"));
        wanted += 1;
        samples.push(look(trial, daemon.pid())?);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    trial.injected(format!(
        "{seconds} s of schedules, {wanted} runs asked for and as many cancelled, retries, dead letters and cancelled runs; 500 runs are kept"
    ));
    trial.expected("nothing grows: the later half is at most a tenth above the earlier one; each fire has one run, which ended");
    is_flat(trial, &samples);
    for beat in [&beat, &quick] {
        is_complete(trial, beat);
    }
    trial.until(PATIENCE, |trial| trial.recorder.ends("asked") >= wanted);
    let count = trial.recorder.count("asked");
    trial.must(count.starts == wanted && count.ends == wanted && count.runs().len() == wanted, || {
        format!("asked: {} starts and {} ends of {wanted}", count.starts, count.ends)
    });
    let (count, fires) = (trial.recorder.count(fails.task), usize::try_from(fails.count)?);
    trial.must(count.fires.len() == fires && count.starts == 2 * fires && count.repeated.is_empty(), || {
        format!(
            "fails: {} fires, {} starts of {fires} with two attempts each",
            count.fires.len(),
            count.starts
        )
    });
    is_sound(trial)?;
    ends_well(trial, &mut daemon)
}

fn look(trial: &Trial<'_>, pid: u32) -> Result<Sample> {
    let usage = Usage::of(pid)?;
    let (bytes, parts) = match trial.store {
        Store::Sqlite => {
            let size = |end: &str| {
                std::fs::metadata(format!("{}{end}", trial.file().display())).map_or(0, |told| told.len())
            };
            (size("") + size("-wal"), size("") / 4_096)
        }
        Store::Redis => {
            let mut client = trial.connect()?;
            let memory = client.info("memory")?.get("used_memory").and_then(|text| text.parse().ok());
            let keys = client.command(&["DBSIZE"])?.integer().and_then(|keys| u64::try_from(keys).ok());
            (memory.context("INFO names no memory")?, keys.context("DBSIZE is no number")?)
        }
    };
    Ok([usage.memory, usage.files, usage.threads, bytes, parts])
}

/// Compares the most of the two halves of what comes after the first fifth, in which all is still filling up.
fn is_flat(trial: &mut Trial<'_>, samples: &[Sample]) {
    let settled = &samples[samples.len() / 5..];
    let (earlier, later) = settled.split_at(settled.len() / 2);
    let most = |samples: &[Sample], index: usize| {
        samples.iter().map(|sample| sample[index]).max().unwrap_or_default()
    };
    for (index, (what, besides)) in MEASURES.into_iter().enumerate() {
        let (before, after) = (most(earlier, index), most(later, index));
        trial.counted(format!("{what}: at most {before}, later {after}"));
        trial.must(after <= before + before / 10 + besides, || {
            format!("{what} grew from {before} to {after}")
        });
    }
}

fn is_complete(trial: &mut Trial<'_>, beat: &Beat) {
    let fires: Vec<u64> = beat.fires().collect();
    trial.until(PATIENCE, |trial| {
        std::thread::sleep(Duration::from_millis(300));
        trial.recorder.count(beat.task).missing(fires.iter().copied()).is_empty()
    });
    let count = trial.recorder.count(beat.task);
    let (missing, twice) = (count.missing(fires.iter().copied()).len(), count.twice().len());
    trial.counted(format!(
        "recorder, {}: {} fires, {missing} lost, {twice} enqueued twice, {} doubled, {} early",
        beat.task,
        count.fires.len(),
        count.doubled.len(),
        count.early.len()
    ));
    let again = count.doubled.len() + count.repeated.len() + count.early.len();
    trial.must(missing + twice + again == 0 && count.fires.len() == fires.len(), || {
        format!("{}: fires are lost, have two runs or starts, or started early", beat.task)
    });
}
