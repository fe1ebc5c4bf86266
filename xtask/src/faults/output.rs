//! The row of jobs that print without measure, and of parameters without measure.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::faults::beat::Beat;
use crate::faults::loss::Attempts;
use crate::faults::machine::Usage;
use crate::faults::settled::{ends_well, settle};
use crate::faults::trial::{PATIENCE, Trial};

/// How much more memory a daemon may take for what jobs print: they may keep 64 KiB of each stream.
const GROWTH: u64 = 64 * 1024 * 1024;

/// Jobs print a great deal in one line, and what no terminal should be shown; runs are asked for with great parameters.
pub(crate) fn without_measure(trial: &mut Trial<'_>) -> Result<()> {
    let mebibytes: u64 = trial.lab.size(64, 1_024);
    let beat = Beat::soon(trial, "beat", 200, 20);
    let long = format!("head -c {} /dev/zero | tr '\\0' x", mebibytes * 1024 * 1024);
    let odd = "printf '\\377\\376\\300 \\000 \\033[2J\\033]0;title\\007 \\342\\200\\256 end'";
    let tasks = [
        trial.task(beat.task, "sleep 0.05", &beat.trigger()),
        trial.task("long", &long, ""),
        trial.task("odd", odd, ""),
    ];
    trial.configure("lease = \"2s\"", &tasks)?;
    let mut daemon = trial.first_daemon("one", &beat)?;
    trial.await_that("the schedule fires", |trial| trial.recorder.ends(beat.task) >= 3)?;
    let before = Usage::of(daemon.pid())?.memory;
    for task in ["long", "odd"] {
        let asked = trial.verb(&["trigger", task])?;
        trial.must(asked.code == 0, || format!("`trigger {task}` answers {asked:?}"));
    }
    let mut most = before;
    trial.until(PATIENCE * 2, |trial| {
        most = most.max(Usage::of(daemon.pid()).map_or(0, |usage| usage.memory));
        trial.recorder.ends("long") == 1 && trial.recorder.ends("odd") == 1
    });
    let ends = trial.recorder.ends("long") + trial.recorder.ends("odd");
    trial.injected(format!(
        "{mebibytes} MiB in one line; no UTF-8, NUL, sequences of a terminal, text from right to left"
    ));
    trial.expected("both end and are shown in part, escaped; the daemon does not grow by it");
    trial.counted(format!(
        "{ends} of 2 ended; memory of the daemon: {} MiB before, at most {} MiB",
        before >> 20,
        most >> 20
    ));
    trial.must(ends == 2, || format!("{ends} of 2 ended"));
    trial.must(most < before + GROWTH, || format!("the daemon grew by {} MiB", (most - before) >> 20));
    is_shown(trial)?;
    great_parameters(trial)?;
    settle(trial, &beat, &Attempts::Counted)?;
    ends_well(trial, &mut daemon)
}

fn is_shown(trial: &mut Trial<'_>) -> Result<()> {
    trial.until(Duration::from_secs(20), |trial| {
        ["long", "odd"].iter().all(|task| {
            trial.history(task).is_ok_and(|runs| runs.len() == 1 && runs[0]["state"] == "succeeded")
        })
    });
    let long = trial.history("long")?;
    let kept = long.first().and_then(|run| run["output"]["stdout"].as_str()).context("no output is kept")?;
    let is_marked = kept.contains(" bytes dropped]") && kept.len() < 128 * 1024;
    trial.counted(format!("{} bytes of the long line are kept, marked: {is_marked}", kept.len()));
    trial.must(is_marked, || format!("{} bytes are kept, marked: {is_marked}", kept.len()));
    let odd = trial.history("odd")?;
    let run = odd.first().and_then(|run| run["id"].as_str()).context("no run is kept")?.to_owned();
    for arguments in [&["show", &run][..], &["history", "odd"], &["history", "odd", "-o", "json"]] {
        let shown = trial.verb(arguments)?;
        let is_bare =
            shown.stdout.chars().any(|letter| letter.is_control() && letter != '\n' || letter == '\u{202e}');
        let is_json = arguments.contains(&"json");
        // JSON has its own way of writing controls; what is left of the text stands as it is.
        let is_bare = is_bare && !is_json || shown.stdout.contains('\u{1b}');
        trial.must(shown.code == 0 && !is_bare, || {
            format!("`{}` shows controls: {:?}", arguments.join(" "), shown.stdout)
        });
    }
    Ok(())
}

fn great_parameters(trial: &mut Trial<'_>) -> Result<()> {
    let mut told = Vec::new();
    for mebibytes in [2_usize, trial.lab.size(8, 64)] {
        let line = format!("{{\"task\":\"odd\",\"params\":{{\"x\":\"{}\"}}}}\n", "y".repeat(mebibytes << 20));
        std::fs::write(trial.path("great.jsonl"), line)?;
        let asked = trial.verb(&["enqueue", "--from", "great.jsonl", "-o", "json"])?;
        let answer = format!("{}{}", asked.stdout, asked.stderr);
        told.push(format!("{mebibytes} MiB: exit code {}", asked.code));
        trial.must(asked.code != 0 && answer.contains("too_large"), || {
            let begin: String = answer.chars().take(300).collect();
            format!("parameters of {mebibytes} MiB: {} {begin}", asked.code)
        });
    }
    let deep = format!("{{\"task\":\"odd\",\"params\":{{\"x\":{}1{}}}}}\n", "[".repeat(120), "]".repeat(120));
    std::fs::write(trial.path("deep.jsonl"), deep)?;
    let asked = trial.verb(&["enqueue", "--from", "deep.jsonl", "-o", "json"])?;
    told.push(format!("120 levels: exit code {}", asked.code));
    trial.must(asked.code != 0, || "parameters of 120 levels are taken".to_owned());
    let runs = trial.history("odd")?.len();
    trial.counted(format!("parameters: {}; {runs} run of the task is known", told.join(", ")));
    trial.must(runs == 1, || format!("{runs} runs of the task are known"));
    Ok(())
}
