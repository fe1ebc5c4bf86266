//! Rows in which the Redis server is there and does not answer for a while: it is busy, or loads what it kept.

use std::time::Duration;

use anyhow::Result;

use crate::faults::beat::Beat;
use crate::faults::loss::Attempts;
use crate::faults::machine::Usage;
use crate::faults::settled::{ends_well, settle};
use crate::faults::trial::Trial;
use crate::redis::{AppendOnly, Settings};

/// The part of a processor that a daemon may take while it waits: it starts jobs of the local tier meanwhile.
const BUSY: f64 = 0.6;

/// The server is told to answer nobody, to take no writes, and to sleep; then a script of somebody else keeps it.
pub(crate) fn busy(trial: &mut Trial<'_>) -> Result<()> {
    const LENGTH: Duration = Duration::from_secs(4);
    let more = "enable-debug-command local\nbusy-reply-threshold 500\n".to_owned();
    trial.start_server(&Settings { more, ..Settings::default() })?;
    let ways: [(&str, &[&str]); 4] = [
        ("CLIENT PAUSE ALL", &["CLIENT", "PAUSE", "4000", "ALL"]),
        ("CLIENT PAUSE WRITE", &["CLIENT", "PAUSE", "4000", "WRITE"]),
        ("DEBUG SLEEP", &["DEBUG", "SLEEP", "4"]),
        ("a script without end", &["EVAL", "while true do end", "0"]),
    ];
    let beat = Beat::soon(trial, "beat", 200, 180);
    let local = beat.beside("local_beat", 500, 70);
    let tasks = [
        trial.task(beat.task, "sleep 0.1", &beat.trigger()),
        trial.ephemeral(local.task, "", &local.trigger()),
    ];
    trial.configure("lease = \"2s\"", &tasks)?;
    let mut daemon = trial.first_daemon("one", &beat)?;
    trial.await_that("the schedule fires", |trial| trial.recorder.starts(beat.task) >= 3)?;
    for (what, words) in ways {
        let before = trial.recorder.starts(local.task);
        let served = trial.recorder.starts(beat.task);
        let took = Usage::of(daemon.pid())?.processor;
        let mut client = trial.connect()?;
        client.send(words)?;
        std::thread::sleep(LENGTH);
        let took = Usage::of(daemon.pid())?.processor.saturating_sub(took);
        let during = trial.recorder.starts(local.task) - before;
        let served = trial.recorder.starts(beat.task) - served;
        if words[0] == "EVAL" {
            trial.connect()?.command(&["SCRIPT", "KILL"])?;
        }
        let since = trial.recorder.ends(beat.task);
        trial.injected(format!("{what} for {LENGTH:?}"));
        trial.counted(format!(
            "{what}: {during} of 8 starts on the local tier, {took:?} of processor time; the queue goes on then"
        ));
        // Twenty were due; what had been taken may still begin.
        trial.must(served < 10, || format!("{what}: the server was not busy, {served} runs began"));
        trial.must(during >= 4, || format!("{what}: the local tier was held up: {during} of 8 starts"));
        trial.must(took < LENGTH.mul_f64(BUSY), || {
            format!("{what}: the daemon kept a processor for {took:?}")
        });
        trial.await_that("the schedule goes on", |trial| trial.recorder.ends(beat.task) > since + 2)?;
    }
    trial.expected(
        "the daemon lives and waits without effort, the local tier goes on; each fire once and finished",
    );
    settle(trial, &beat, &Attempts::Counted)?;
    ends_well(trial, &mut daemon)
}

/// The server is restarted in good order and takes long to load what it kept.
pub(crate) fn restarted(trial: &mut Trial<'_>) -> Result<()> {
    let rounds = trial.lab.size(1, 3);
    trial.start_server(&Settings { append_only: AppendOnly::EverySecond, ..Settings::default() })?;
    let beat = Beat::soon(trial, "beat", 200, trial.lab.size(60, 150));
    let long = beat.beside("long", 1_000, 5);
    let tasks = [
        trial.task(beat.task, "sleep 0.1", &beat.trigger()),
        trial.task(long.task, "sleep 6", &long.trigger()),
    ];
    trial.configure("lease = \"20s\"", &tasks)?;
    let mut daemon = trial.first_daemon("one", &beat)?;
    let mut client = trial.connect()?;
    // What is loaded late by a setting that servers have for their own tests.
    client.command(&["EVAL", "for i = 1, 30000 do redis.call('SET', 'ballast:' .. i, i) end", "0"])?;
    client.command(&["CONFIG", "SET", "key-load-delay", "50"])?;
    client.command(&["CONFIG", "REWRITE"])?;
    drop(client);
    trial.await_that("long jobs run", |trial| trial.recorder.starts(long.task) >= 3)?;
    for _ in 0..rounds {
        trial.server()?.stop()?;
        std::thread::sleep(trial.chance.millis(100, 800));
        trial.server()?.restart()?;
        let since = trial.recorder.ends(beat.task);
        trial.await_that("the schedule goes on", |trial| trial.recorder.ends(beat.task) > since + 2)?;
    }
    let log = trial.server()?.log();
    let loaded: Vec<&str> = log
        .lines()
        .filter_map(|line| line.split_once("DB loaded from append only file: "))
        .map(|(_, took)| took)
        .collect();
    trial.injected(format!(
        "SIGTERM of Redis and a restart, {rounds} times; it says it loaded for {}",
        loaded.join(", ")
    ));
    trial.must(loaded.len() == rounds, || format!("it was loaded {} times", loaded.len()));
    trial.expected("the daemon lives; jobs under way go on and are written down; no attempt is made twice");
    settle(trial, &beat, &Attempts::Counted)?;
    settle(trial, &long, &Attempts::Counted)?;
    for task in [beat.task, long.task] {
        let count = trial.recorder.count(task);
        trial.must(count.starts == count.runs().len(), || {
            format!("{task}: {} starts of {} runs", count.starts, count.runs().len())
        });
    }
    ends_well(trial, &mut daemon)
}
