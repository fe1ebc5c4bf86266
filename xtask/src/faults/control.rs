//! The row of control from outside: two daemons, and a third shell that pauses, resumes and cancels, beside a rate.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::faults::beat::Beat;
use crate::faults::daemon;
use crate::faults::loss::Attempts;
use crate::faults::settled::{ends_well, settle};
use crate::faults::trial::{PATIENCE, Trial};

/// Runs of one customer that may begin in a second, and for how long that is measured.
const RATE: usize = 10;

/// How soon a pause is heard of: daemons that listen hear of it at once, and all look every two seconds or so.
const HEARD: Duration = Duration::from_secs(3);

/// Two daemons do what another process says, and keep a rate together.
pub(crate) fn from_outside(trial: &mut Trial<'_>) -> Result<()> {
    let seconds: usize = trial.lab.size(8, 30);
    trial.use_faulty_jobs();
    let beat = Beat::soon(trial, "beat", 250, trial.lab.size(80, 160));
    let tasks = [
        trial.task(beat.task, "", &format!("queue = \"bulk\"\n{}", beat.trigger())),
        trial.task("long", "sleep 600", "retry = { max_attempts = 1 }"),
        trial.job("one", "blocks", "millis = 0", "queue = \"mail\""),
        trial.job("other", "blocks", "millis = 0", "queue = \"mail\""),
    ];
    let settings = format!(
        "lease = \"4s\"\n[backends.queue.queues]\nbulk = {{}}\n[backends.queue.queues.mail]\n\
         per_key = {{ param = \"customer\", rate = {{ runs = {RATE}, per = \"1s\" }} }}"
    );
    trial.configure(&settings, &tasks)?;
    let mut daemons = [trial.first_daemon("one", &beat)?, trial.daemon("two")?];
    trial.await_that("the schedule fires", |trial| trial.recorder.ends(beat.task) >= 3)?;
    paused(trial, &beat)?;
    cancelled(trial)?;
    at_a_rate(trial, seconds)?;
    settle(trial, &beat, &Attempts::Counted)?;
    daemons.iter_mut().try_for_each(|daemon| ends_well(trial, daemon))
}

fn paused(trial: &mut Trial<'_>, beat: &Beat) -> Result<()> {
    let answer = trial.verb(&["pause", "--queue", "bulk", "--reason", "a fault row", "--by", "somebody"])?;
    trial.must(answer.code == 0, || format!("`pause` answers {answer:?}"));
    let heard = Instant::now();
    trial.until(HEARD, |_| heard.elapsed() >= HEARD);
    let before = trial.recorder.starts(beat.task);
    let began = Instant::now();
    trial.until(HEARD, |_| began.elapsed() >= HEARD);
    let during = trial.recorder.starts(beat.task) - before;
    let shown = trial.verb(&["queues"])?.stdout;
    let is_shown = shown.contains("paused by somebody") && shown.contains("a fault row");
    let answer = trial.verb(&["resume", "--queue", "bulk"])?;
    trial.must(answer.code == 0, || format!("`resume` answers {answer:?}"));
    let goes_on = trial.until(HEARD * 3, |trial| trial.recorder.starts(beat.task) > before + 5);
    trial.injected("`pause` of a queue from a third process, and `resume`");
    trial.expected("neither daemon takes a run of it meanwhile, and all are taken afterwards");
    trial.counted(format!(
        "{during} starts while it was paused, shown with who and why: {is_shown}, on again: {goes_on}"
    ));
    trial.must(during == 0 && is_shown && goes_on, || {
        format!("{during} starts, on again: {goes_on}; {shown}")
    });
    Ok(())
}

fn cancelled(trial: &mut Trial<'_>) -> Result<()> {
    let asked = trial.verb(&["trigger", "long", "-o", "json"])?;
    let told: serde_json::Value = serde_json::from_str(&asked.stdout).context("`trigger` answers no JSON")?;
    let run = told["run_id"].as_str().context("`trigger` names no run")?.to_owned();
    trial.await_that("the long job begins", |trial| trial.recorder.starts("long") == 1)?;
    let job = trial.recorder.of("long")[0].pid;
    let answer = trial.verb(&["cancel", &run])?;
    let began = Instant::now();
    let is_gone = trial.until(Duration::from_secs(15), |_| !daemon::exists(job));
    let took = began.elapsed();
    let state = |trial: &Trial<'_>| {
        trial.history("long").ok().and_then(|runs| Some(runs.first()?["state"].as_str()?.to_owned()))
    };
    trial.until(Duration::from_secs(10), |trial| state(trial).as_deref() == Some("cancelled"));
    let state = state(trial).unwrap_or_default();
    trial.injected("`cancel` of a job of 600 s that one of them runs");
    trial.expected("its process ends, and the run is cancelled");
    trial.counted(format!(
        "`cancel` answers {}; the process is gone after {took:.1?}; the run is {state}",
        answer.code
    ));
    trial.must(answer.code == 0 && is_gone && state == "cancelled", || {
        format!("`cancel` answers {answer:?}, gone: {is_gone}, state {state}")
    });
    Ok(())
}

fn at_a_rate(trial: &mut Trial<'_>, seconds: usize) -> Result<()> {
    let count = RATE * (seconds + 8);
    let line = |task: &str| format!("{{\"task\":\"{task}\",\"params\":{{\"customer\":\"{task}\"}}}}\n");
    let lines: String = (0..count).flat_map(|_| [line("one"), line("other")]).collect();
    std::fs::write(trial.path("mail.jsonl"), lines)?;
    let asked = trial.verb(&["enqueue", "--from", "mail.jsonl", "-o", "json"])?;
    trial.must(asked.code == 0, || format!("`enqueue` answers {}: {}", asked.code, asked.stderr.trim()));
    let starts = |trial: &Trial<'_>| ["one", "other"].map(|task| trial.recorder.starts(task));
    trial.await_that("both are served", |trial| starts(trial).iter().all(|starts| *starts >= 2 * RATE))?;
    let (began, before) = (Instant::now(), starts(trial));
    let length = Duration::from_secs(u64::try_from(seconds)?);
    trial.until(PATIENCE, |_| began.elapsed() >= length);
    let (took, after) = (began.elapsed().as_secs_f64(), starts(trial));
    trial.injected(format!(
        "{count} runs each of two customers at once, with a rate of {RATE} in 1 s for each"
    ));
    trial.expected("two daemons together begin as many as the rate says, within 5 %");
    for (index, customer) in ["one", "other"].into_iter().enumerate() {
        let begun = after[index] - before[index];
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let rate = begun as f64 / took;
        trial.counted(format!("customer {customer}: {begun} runs began in {took:.2} s, {rate:.2} a second"));
        let right = 10.0;
        trial.must((rate - right).abs() <= right * 0.05, || {
            format!("customer {customer}: {rate:.2} a second")
        });
    }
    let all = |trial: &Trial<'_>| ["one", "other"].iter().all(|task| trial.recorder.ends(task) == count);
    trial.until(PATIENCE, all);
    for task in ["one", "other"] {
        let told = trial.recorder.count(task);
        trial.must(told.ends == count && told.starts == count, || {
            format!("{task}: {} starts and {} ends of {count}", told.starts, told.ends)
        });
    }
    Ok(())
}
