//! Rows in which the Redis server fails: it is killed, hangs, refuses, is full or forgets its scripts.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::faults::account::some;
use crate::faults::beat::Beat;
use crate::faults::daemon;
use crate::faults::instant;
use crate::faults::settled::{Attempts, ends_well, settle};
use crate::faults::trial::Trial;
use crate::redis::{AppendOnly, Settings};
use crate::resp::{Client, Reply};

/// What Redis may lose under `appendfsync everysec`, by its documentation.
const WINDOW: u64 = 2_000;

/// How soon schedules go on after everything was lost.
const BACK: u64 = 4_000;

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
    let (kills, fires) = trial.lab.size((2, 140), (8, 450));
    trial.start_server(&Settings { append_only, ..Settings::default() })?;
    let beat = Beat::soon(trial, "beat", 100, fires);
    let tasks = [trial.task(beat.task, "sleep 0.1", &beat.trigger()), trial.task("asked", "", "")];
    trial.configure("lease = \"2s\"", &tasks)?;

    let mut daemon = trial.first_daemon("one", &beat)?;
    let (mut asked, mut killed_at, mut back_at, mut pids) = (Vec::new(), Vec::new(), 0, Vec::new());
    for _ in 0..kills {
        let until = Instant::now() + trial.chance.millis(1_000, 3_000);
        while Instant::now() < until {
            asked.extend(ask(trial, asked.len()));
        }
        pids.push(trial.server()?.pid());
        trial.server()?.kill()?;
        killed_at.push(instant::now());
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
    let may_lose = |at: u64| match append_only {
        AppendOnly::Always => false,
        AppendOnly::EverySecond => killed_at.iter().any(|killed| at <= *killed && killed - at <= WINDOW),
        AppendOnly::None => killed_at.iter().any(|killed| at <= *killed),
    };
    let kept: Vec<&Asked> = asked.iter().filter(|asked| !may_lose(asked.at)).collect();
    let has_ended = |trial: &Trial<'_>, run: &str| {
        trial.recorder.of("asked").iter().any(|note| note.is_end && note.run == run)
    };
    match append_only {
        AppendOnly::Always | AppendOnly::EverySecond => {
            trial.expected(match append_only {
                AppendOnly::Always => "nothing is lost that was confirmed; each fire once".to_owned(),
                _ => format!("nothing is lost that was confirmed {WINDOW} ms before a kill; each fire once"),
            });
            let attempts = match append_only {
                AppendOnly::Always => Attempts::Counted,
                _ => Attempts::LostBefore(killed_at.clone()),
            };
            settle(trial, &beat, attempts)?;
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

/// What fires after everything was lost fires once.
fn go_on(trial: &mut Trial<'_>, beat: &Beat, back_at: u64) -> Result<()> {
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
    Ok(())
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
    let ephemeral = |task: String| task.replace("durability = \"persistent\"", "durability = \"ephemeral\"");
    let tasks = [
        trial.task(beat.task, "sleep 0.1", &beat.trigger()),
        ephemeral(trial.task(local.task, "", &local.trigger())),
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
    settle(trial, &beat, Attempts::Counted)?;
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

/// A wrong password at the start, and one that is changed under a daemon.
pub(crate) fn wrong_password(trial: &mut Trial<'_>) -> Result<()> {
    let right = format!("canary{:x}", trial.chance.next());
    let wrong = format!("wrong{:x}", trial.chance.next());
    trial.start_server(&Settings { password: Some(right.clone()), ..Settings::default() })?;
    let good = trial.server()?.url();
    let beat = Beat::soon(trial, "beat", 200, 40);
    let task = trial.task(beat.task, "sleep 0.1", &beat.trigger());

    trial.set_url(good.replace(&right, &wrong));
    trial.configure("lease = \"2s\"", &[task])?;
    let mut refused = trial.daemon("refused")?;
    let status = refused.wait()?;
    let told = refused.log();
    let denied = |trial: &mut Trial<'_>| -> Result<i64> {
        let stats = trial.server()?.connect()?.info("commandstats")?;
        let failed = ["cmdstat_auth", "cmdstat_hello"].iter().filter_map(|name| stats.get(*name));
        let count = |told: &String| told.rsplit_once("failed_calls=")?.1.parse::<i64>().ok();
        Ok(failed.filter_map(count).sum())
    };
    let count = denied(trial)?;
    trial.injected(format!("a wrong password in the configuration; INFO: {count} refused logins"));
    trial.must(count > 0, || "the server refused nobody".to_owned());
    trial.expected("exit code 3, and no password anywhere in what was said");
    trial.counted(format!("exit code {:?}, {}", status.code(), refused.last_words()));
    trial.must(status.code() == Some(3), || format!("it ended with {status}"));

    trial.set_url(good);
    let beat = Beat::soon(trial, "beat", 200, 40);
    let task = trial.task(beat.task, "sleep 0.1", &beat.trigger());
    trial.configure("lease = \"2s\"", &[task])?;
    let mut daemon = trial.first_daemon("one", &beat)?;
    trial.await_that("the schedule fires", |trial| trial.recorder.starts(beat.task) >= 5)?;
    let mut client = trial.server()?.connect()?;
    client.command(&["CONFIG", "SET", "requirepass", &wrong])?;
    let killed = client.command(&["CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "yes"])?;
    let heard = client.command(&["CLIENT", "KILL", "TYPE", "PUBSUB"])?;
    std::thread::sleep(Duration::from_secs(2));
    client.command(&["CONFIG", "SET", "requirepass", &right])?;
    let later = denied(trial)?;
    trial.injected(format!(
        "another password under a daemon for 2 s, {} connections closed; INFO: {} more refused logins",
        killed.integer().unwrap_or_default() + heard.integer().unwrap_or_default(),
        later - count
    ));
    trial.must(later > count, || "nobody was refused meanwhile".to_owned());
    trial.expected("the daemon lives and goes on with the right one; each fire once and finished");
    settle(trial, &beat, Attempts::Counted)?;
    let told = told + &daemon.log();
    trial.must(!told.contains(&right) && !told.contains(&wrong), || "the log shows a password".to_owned());
    ends_well(trial, &mut daemon)
}

/// Does something to the server under a schedule, for a while, and undoes it.
fn under_a_schedule(
    trial: &mut Trial<'_>,
    length: Duration,
    inject: &dyn Fn(&mut Client) -> Result<String>,
    undo: &dyn Fn(&mut Client) -> Result<()>,
) -> Result<()> {
    let millis = u64::try_from(length.as_millis())?;
    let beat = Beat::soon(trial, "beat", 200, (millis + 5_000) / 200);
    let task = trial.task(beat.task, "sleep 0.1", &beat.trigger());
    trial.configure("lease = \"2s\"", &[task])?;
    let mut daemon = trial.first_daemon("one", &beat)?;
    trial.await_that("the schedule fires", |trial| trial.recorder.starts(beat.task) >= 3)?;
    let mut client = trial.server()?.connect()?;
    let evidence = inject(&mut client)?;
    std::thread::sleep(length);
    undo(&mut client)?;
    trial.injected(evidence);
    trial.expected("the daemon lives; each fire once and finished");
    settle(trial, &beat, Attempts::Counted)?;
    ends_well(trial, &mut daemon)
}

/// The server becomes a replica that nobody may write to.
pub(crate) fn read_only(trial: &mut Trial<'_>) -> Result<()> {
    let length = Duration::from_secs(trial.lab.size(2, 10));
    let inject = move |client: &mut Client| {
        // Nobody listens at that port, so it keeps what it has.
        client.command(&["REPLICAOF", "127.0.0.1", "1"])?;
        let role = client.info("replication")?.remove("role").unwrap_or_default();
        let refusal = client.command(&["SET", "probe", "1"]).err().context("it may be written to")?;
        Ok(format!("REPLICAOF for {length:?}; INFO: role {role}; a write: {refusal}"))
    };
    let undo = |client: &mut Client| client.command(&["REPLICAOF", "NO", "ONE"]).map(drop);
    under_a_schedule(trial, length, &inject, &undo)
}

/// The server forgets its scripts, over and over.
pub(crate) fn scripts_flushed(trial: &mut Trial<'_>) -> Result<()> {
    let beat = Beat::soon(trial, "beat", 100, trial.lab.size(50, 300));
    let task = trial.task(beat.task, "sleep 0.1", &beat.trigger());
    trial.configure("lease = \"2s\"", &[task])?;
    let mut daemon = trial.first_daemon("one", &beat)?;
    let mut client = trial.server()?.connect()?;
    let (mut flushed, mut forgotten) = (0, 0);
    while instant::now() < beat.last() {
        std::thread::sleep(trial.chance.millis(20, 300));
        let cached = |client: &mut Client| -> Result<i64> {
            let memory = client.info("memory")?;
            Ok(memory
                .get("number_of_cached_scripts")
                .and_then(|count| count.parse().ok())
                .unwrap_or_default())
        };
        let before = cached(&mut client)?;
        client.command(&["SCRIPT", "FLUSH"])?;
        flushed += 1;
        forgotten += before;
    }
    trial.injected(format!("SCRIPT FLUSH, {flushed} times; INFO: {forgotten} scripts were forgotten"));
    trial.must(forgotten > 0, || "there was no script to forget".to_owned());
    trial.expected("each fire once and finished");
    settle(trial, &beat, Attempts::Counted)?;
    ends_well(trial, &mut daemon)
}

/// The server has no memory left: nothing new is taken, what ends is written down.
pub(crate) fn out_of_memory(trial: &mut Trial<'_>) -> Result<()> {
    let beat = Beat::soon(trial, "beat", 200, 40);
    let tasks = [trial.task(beat.task, "sleep 1", &beat.trigger()), trial.task("asked", "", "")];
    trial.configure("lease = \"5s\"", &tasks)?;
    let mut daemon = trial.first_daemon("one", &beat)?;
    trial.await_that("the schedule fires", |trial| trial.recorder.starts(beat.task) >= 8)?;

    let mut client = trial.server()?.connect()?;
    client.command(&["CONFIG", "SET", "maxmemory", "1"])?;
    let refusal = client.command(&["SET", "probe", "1"]).err().context("it still takes writes")?;
    let under_way: Vec<String> = trial.recorder.count(beat.task).unfinished.into_iter().collect();
    let asked = trial.verb(&["trigger", "asked", "-o", "json"])?;
    let is_written = |trial: &Trial<'_>| {
        let runs = trial.history(beat.task).unwrap_or_default();
        let done = |id: &String| runs.iter().any(|run| run["id"] == **id && run["state"] == "succeeded");
        under_way.iter().filter(|id| done(id)).count()
    };
    trial.until(Duration::from_secs(10), |trial| is_written(trial) == under_way.len());
    let written = is_written(trial);
    client.command(&["CONFIG", "SET", "maxmemory", "0"])?;
    trial.injected(format!("maxmemory of one byte; a write of ours: {refusal}"));
    trial.expected("a new run is refused with queue/out_of_memory; the runs under way end as they should");
    trial.counted(format!(
        "`trigger` answers {}; of {} runs under way {written} were written down meanwhile",
        asked.code,
        under_way.len()
    ));
    let told = format!("{}{}", asked.stdout, asked.stderr);
    trial.must(asked.code == 3 && told.contains("queue/out_of_memory"), || {
        format!("`trigger` answers {asked:?}")
    });
    trial.must(!under_way.is_empty() && written == under_way.len(), || {
        "an end was not written down".to_owned()
    });
    settle(trial, &beat, Attempts::Counted)?;
    ends_well(trial, &mut daemon)
}

/// A key of the queue holds something else.
pub(crate) fn wrong_type(trial: &mut Trial<'_>) -> Result<()> {
    let beat = Beat::soon(trial, "beat", 200, 30);
    let task = trial.task(beat.task, "sleep 0.1", &beat.trigger());
    trial.configure("lease = \"2s\"", &[task])?;
    trial.first_daemon("one", &beat)?.stop()?;
    let key = "hybrid:{default}:delayed";
    let mut client = trial.server()?.connect()?;
    client.command(&["SET", key, "no queue"])?;
    let mut daemon = trial.daemon("one")?;
    let is_told = trial.until(Duration::from_secs(20), |_| daemon.log().contains(key));
    let kept = client.command(&["GETDEL", key])?;
    trial.injected("a text under the key of the waiting runs, before the start".to_owned());
    trial.expected("the daemon says which key it is and leaves it alone; when it is gone, all goes on");
    trial.counted(format!("the key held {:?} at the end; named in the log: {is_told}", kept.text()));
    trial.must(is_told, || format!("the log does not name the key; {}", daemon.last_words()));
    trial.must(kept == Reply::Bytes(b"no queue".to_vec()), || "the key was changed".to_owned());
    settle(trial, &beat, Attempts::Counted)?;
    ends_well(trial, &mut daemon)
}
