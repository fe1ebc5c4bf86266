//! Rows in which the Redis server goes away: it is killed, or hangs.

use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::Signal;

use crate::faults::account::some;
use crate::faults::beat::Beat;
use crate::faults::daemon;
use crate::faults::instant;
use crate::faults::loss::{Attempts, Loss};
use crate::faults::settled::{ends_well, is_sound, settle};
use crate::faults::trial::Trial;
use crate::redis::{AppendOnly, Settings};

/// How long before a kill what Redis has confirmed under `appendfsync everysec` may be lost, in milliseconds. It writes
/// to its file before it answers, and what is written outlives the process; while a sync is under way it holds writes
/// back and answers all the same, for two seconds, and until it looks at the time again.
const WINDOW: u64 = 2_200;

/// How soon schedules go on after everything was lost.
pub(crate) const BACK: u64 = 4_000;

/// A run that was asked for, and when that was confirmed.
struct Asked {
    run: String,
    at: u64,
}

fn ask(trial: &Trial<'_>, key: usize) -> Option<Asked> {
    let answer = trial.verb(&["trigger", "asked", "--key", &format!("k{key}"), "-o", "json"]).ok()?;
    let told: serde_json::Value = serde_json::from_str(&answer.stdout).ok()?;
    let run = told["run_id"].as_str()?.to_owned();
    (answer.code == 0).then(|| Asked { run, at: instant::now() })
}

/// Kills the server while a schedule fires and runs are asked for, and starts it again on what it kept.
fn killed(trial: &mut Trial<'_>, append_only: AppendOnly) -> Result<()> {
    let (kills, fires) = trial.lab.size((2, 160), (8, 520));
    trial.start_server(&Settings { append_only, ..Settings::default() })?;
    let beat = Beat::soon(trial, "beat", 100, fires);
    let tasks = [trial.task(beat.task, "sleep 0.1", &beat.trigger()), trial.task("asked", "", "")];
    trial.configure("lease = \"2s\"", &tasks)?;

    let mut daemon = trial.first_daemon("one", &beat)?;
    trial.await_that("the schedule fires", |trial| trial.recorder.starts(beat.task) >= 3)?;
    let window = if append_only == AppendOnly::EverySecond { WINDOW } else { u64::MAX };
    let (mut asked, mut losses, mut back_at, mut pids) = (Vec::new(), Vec::new(), 0, Vec::new());
    for _ in 0..kills {
        let until = Instant::now() + trial.chance.millis(1_500, 4_000);
        while Instant::now() < until {
            asked.extend(ask(trial, asked.len()));
        }
        pids.push(trial.server()?.pid());
        losses.push(Loss::by(window, || trial.server()?.kill())?);
        std::thread::sleep(trial.chance.millis(100, 1_200));
        trial.server()?.restart()?;
        back_at = instant::now();
    }
    asked.extend(ask(trial, asked.len()));
    let gone = pids.iter().filter(|pid| !daemon::exists(**pid)).count();
    let now = trial.server()?.pid();
    trial.injected(format!(
        "kill -9 of Redis, {kills} times; of these processes {gone} are gone, {now} serves now"
    ));
    trial.must(gone == pids.len(), || "a killed server is still there".to_owned());

    // What was confirmed so long before a kill must still be there.
    let may_lose = |at: u64| append_only != AppendOnly::Always && losses.iter().any(|loss| loss.may_take(at));
    let kept: Vec<&Asked> = asked.iter().filter(|asked| !may_lose(asked.at)).collect();
    let has_ended = |trial: &Trial<'_>, run: &str| {
        trial.recorder.of("asked").iter().any(|note| note.is_end && note.run == run)
    };
    match append_only {
        AppendOnly::Always => {
            trial.expected("nothing is lost that was confirmed; each fire once");
            settle(trial, &beat, &Attempts::Counted)?;
        }
        AppendOnly::EverySecond => {
            trial.expected(format!(
                "nothing is lost that was confirmed {WINDOW} ms before a kill, for so long Redis may hold back what it \
                 has confirmed; each fire once, and only an attempt given out within that time before a kill begins anew"
            ));
            settle(trial, &beat, &Attempts::LostAt(losses.clone()))?;
        }
        AppendOnly::None => {
            trial.expected(format!(
                "the schedule goes on {} s after the loss at the latest, each fire once",
                BACK / 1_000
            ));
            go_on(trial, &beat, back_at)?;
        }
    }
    trial.until(Duration::from_secs(30), |trial| kept.iter().all(|asked| has_ended(trial, &asked.run)));
    let lost: Vec<&str> =
        asked.iter().filter(|asked| !has_ended(trial, &asked.run)).map(|asked| asked.run.as_str()).collect();
    trial.counted(format!(
        "recorder, asked: {} runs confirmed, {} of them must survive, {} lost",
        asked.len(),
        kept.len(),
        lost.len()
    ));
    let broken: Vec<&str> =
        kept.iter().filter(|asked| !has_ended(trial, &asked.run)).map(|asked| asked.run.as_str()).collect();
    trial.must(broken.is_empty(), || format!("confirmed and lost: {}", some(&broken)));
    trial.must(!asked.is_empty(), || "no run was confirmed at all".to_owned());
    ends_well(trial, &mut daemon)
}

/// Everything is deleted under a daemon, over and over.
pub(crate) fn flushed(trial: &mut Trial<'_>) -> Result<()> {
    let times = trial.lab.size(1, 4);
    let beat = Beat::soon(trial, "beat", 100, trial.lab.size(110, 220));
    let task = trial.task(beat.task, "sleep 0.1", &beat.trigger());
    trial.configure("lease = \"2s\"", &[task])?;
    let mut daemon = trial.first_daemon("one", &beat)?;
    trial.await_that("the schedule fires", |trial| trial.recorder.starts(beat.task) >= 3)?;
    let (mut deleted, mut back_at) = (0, 0);
    for _ in 0..times {
        std::thread::sleep(trial.chance.millis(300, 1_500));
        let mut client = trial.connect()?;
        deleted += client.command(&["DBSIZE"])?.integer().unwrap_or_default();
        client.command(&["FLUSHALL"])?;
        back_at = instant::now();
    }
    trial.injected(format!("FLUSHALL, {times} times; DBSIZE before: {deleted} keys in all"));
    trial.expected(format!(
        "the daemon says so; the schedule goes on {} s after the loss at the latest, each fire once",
        BACK / 1_000
    ));
    go_on(trial, &beat, back_at)?;
    let is_told = daemon.log().contains("has lost data");
    trial.must(is_told, || format!("the log does not tell of the loss; {}", daemon.last_words()));
    ends_well(trial, &mut daemon)
}

/// What fires after everything was lost fires once.
pub(crate) fn go_on(trial: &mut Trial<'_>, beat: &Beat, back_at: u64) -> Result<()> {
    let later: Vec<u64> = beat.fires().filter(|fire| *fire > back_at + BACK).collect();
    let left = beat.last().saturating_sub(instant::now());
    std::thread::sleep(Duration::from_millis(left));
    let is_done =
        |trial: &Trial<'_>| trial.recorder.count(beat.task).missing(later.iter().copied()).is_empty();
    trial.until(Duration::from_secs(30), is_done);
    let count = trial.recorder.count(beat.task);
    let missing = count.missing(later.iter().copied());
    let all_missing = count.missing(beat.fires()).len();
    let twice: Vec<u64> = count.twice().into_iter().filter(|fire| later.contains(fire)).collect();
    trial.counted(format!(
        "recorder, {}: {} starts, {} ends; of {} fires {all_missing} were lost, of the {} after the loss {}",
        beat.task,
        count.starts,
        count.ends,
        beat.count,
        later.len(),
        missing.len()
    ));
    trial.must(!later.is_empty(), || "no fire is left after the last loss".to_owned());
    trial.must(missing.is_empty(), || format!("{} fires after the loss have no finished run", missing.len()));
    trial.must(twice.is_empty(), || format!("{} fires after the loss have two runs", twice.len()));
    let again = count.doubled.iter().chain(&count.repeated).filter(|again| later.contains(&again.fire));
    let again: Vec<_> = again.collect();
    trial.must(again.is_empty(), || format!("started twice after the loss: {}", some(&again)));
    trial.must(count.early.is_empty(), || format!("started before their time: {}", some(&count.early)));
    is_sound(trial)
}

pub(crate) fn killed_always(trial: &mut Trial<'_>) -> Result<()> {
    killed(trial, AppendOnly::Always)
}

pub(crate) fn killed_everysec(trial: &mut Trial<'_>) -> Result<()> {
    killed(trial, AppendOnly::EverySecond)
}

pub(crate) fn killed_none(trial: &mut Trial<'_>) -> Result<()> {
    killed(trial, AppendOnly::None)
}

/// The server neither answers nor closes anything for so long.
fn hung(trial: &mut Trial<'_>, length: Duration) -> Result<()> {
    let millis = u64::try_from(length.as_millis())?;
    let beat = Beat::soon(trial, "beat", 200, (millis + 5_000) / 200);
    let local = beat.beside("local_beat", 100, (millis + 3_000) / 100);
    let tasks = [
        trial.task(beat.task, "sleep 0.1", &beat.trigger()),
        trial.ephemeral(local.task, "", &local.trigger()),
    ];
    trial.configure("lease = \"2s\"", &tasks)?;

    let mut daemon = trial.first_daemon("one", &beat)?;
    trial.await_that("the schedule fires", |trial| trial.recorder.starts(beat.task) >= 3)?;
    let server = trial.server()?;
    server.signal(Signal::STOP)?;
    let pid = server.pid();
    trial.await_that("the server is stopped", |_| daemon::state_of(pid) == Some('T'))?;
    let before = trial.recorder.starts(local.task);
    let notes = trial.recorder.starts(beat.task);
    std::thread::sleep(length);
    let during = trial.recorder.starts(local.task) - before;
    let taken = trial.recorder.starts(beat.task) - notes;
    let state = daemon::state_of(pid);
    trial.server()?.signal(Signal::CONT)?;
    trial.injected(format!("SIGSTOP of Redis for {length:?}; its state at the end of that was {state:?}"));
    trial.must(state == Some('T'), || "the server did not stay stopped".to_owned());
    trial.expected("each fire once and finished; the local tier goes on meanwhile, on time");
    // Half of what is due leaves room for a machine under load.
    let due = millis / local.period;
    trial.counted(format!(
        "recorder, meanwhile: {during} starts of {due} due on the local tier, {taken} on the queue"
    ));
    trial.must(u64::try_from(during)? * 2 >= due, || "the local tier was held up".to_owned());
    settle(trial, &beat, &Attempts::Counted)?;
    ends_well(trial, &mut daemon)
}

pub(crate) fn hung_1s(trial: &mut Trial<'_>) -> Result<()> {
    hung(trial, Duration::from_secs(1))
}

pub(crate) fn hung_5s(trial: &mut Trial<'_>) -> Result<()> {
    hung(trial, Duration::from_secs(5))
}

pub(crate) fn hung_60s(trial: &mut Trial<'_>) -> Result<()> {
    hung(trial, Duration::from_secs(60))
}
