//! Rows in which the Redis server answers and refuses: the password, writes, memory, scripts, or the type of a key.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::faults::beat::Beat;
use crate::faults::instant;
use crate::faults::loss::Attempts;
use crate::faults::settled::{ends_well, settle};
use crate::faults::trial::Trial;
use crate::redis::Settings;
use crate::resp::{Client, Reply};

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
    settle(trial, &beat, &Attempts::Counted)?;
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
    settle(trial, &beat, &Attempts::Counted)?;
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
    settle(trial, &beat, &Attempts::Counted)?;
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
    settle(trial, &beat, &Attempts::Counted)?;
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
    settle(trial, &beat, &Attempts::Counted)?;
    ends_well(trial, &mut daemon)
}
