//! The row in which connections to Redis are cut at every command, through a proxy of ours.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::faults::account::some;
use crate::faults::beat::Beat;
use crate::faults::instant;
use crate::faults::loss::Attempts;
use crate::faults::proxy::Proxy;
use crate::faults::settled::{ends_well, settle};
use crate::faults::trial::{PATIENCE, Trial};
use crate::redis::Settings;

/// Cuts the connection at each command, before it, after it and in its reply, from the daemon's start on.
pub(crate) fn cut(trial: &mut Trial<'_>) -> Result<()> {
    trial.start_server(&Settings::default())?;
    let address = trial.server()?.address();
    let proxy = Proxy::start(address, trial.chance.clone())?;
    trial.set_url(proxy.url());
    let beat = Beat::soon(trial, "beat", 100, trial.lab.size(80, 400));
    let tasks = [trial.task(beat.task, "sleep 0.1", &beat.trigger()), trial.task("asked", "", "")];
    trial.configure("lease = \"2s\"", &tasks)?;

    // What is cut is the start of another daemon; the schedule begins in any case.
    trial.first_daemon("one", &beat)?.stop()?;
    proxy.arm(true);
    let mut daemon = trial.daemon("one")?;
    let mut refused = 0;
    let deadline = Instant::now() + PATIENCE;
    // A daemon may refuse to start without its store; its supervisor starts it again.
    while trial.recorder.starts(beat.task) == 0 && Instant::now() < deadline {
        if !daemon.is_alive() {
            let status = daemon.wait()?;
            trial.must(status.code() == Some(3), || format!("it ended with {status} at its start"));
            refused += 1;
            daemon = trial.daemon("one")?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let (mut keys, least) = (Vec::new(), trial.lab.size(20, 200));
    while keys.len() < least || instant::now() + 1_000 < beat.last() {
        // Whoever is not told asks again under the same key.
        let key = format!("k{}", keys.len());
        let mut tries = 1;
        while trial.verb(&["trigger", "asked", "--key", &key])?.code != 0 && tries < 50 {
            tries += 1;
        }
        keys.push(tries);
    }
    proxy.arm(false);
    let cuts = proxy.cuts();
    let kinds = proxy.kinds();
    let total: u64 = cuts.values().sum();
    trial.injected(format!(
        "{total} cuts, counted by the proxy: {cuts:?}; {} connections",
        proxy.connections()
    ));
    trial.injected(format!(
        "kinds of commands: {}",
        kinds.iter().map(|(kind, cuts)| format!("{kind} {cuts}x")).collect::<Vec<_>>().join(", ")
    ));
    let uncut: Vec<&String> = kinds.iter().filter(|(_, cuts)| **cuts == 0).map(|(kind, _)| kind).collect();
    trial.must(uncut.is_empty(), || format!("never cut: {}", some(&uncut)));
    trial.must(total >= 20, || format!("{total} cuts are too few to say anything"));
    trial.expected(
        "the daemon lives; each fire once and finished; what is asked for twice under a key runs once",
    );
    settle(trial, &beat, &Attempts::Counted)?;
    let is_done = |trial: &Trial<'_>| trial.recorder.ends("asked") >= keys.len();
    trial.until(Duration::from_secs(30), is_done);
    let count = trial.recorder.count("asked");
    trial.counted(format!(
        "recorder, asked: {} runs of {} keys, asked for {} times; {refused} starts were refused",
        count.runs().len(),
        keys.len(),
        keys.iter().sum::<i32>()
    ));
    trial.must(count.runs().len() == keys.len() && count.unfinished.is_empty(), || {
        format!(
            "{} runs for {} keys, {} without an end",
            count.runs().len(),
            keys.len(),
            count.unfinished.len()
        )
    });
    ends_well(trial, &mut daemon)
}
