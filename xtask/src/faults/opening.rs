//! Rows about the Redis server that a daemon finds: one that throws data away, and one that permits it too little.

use std::time::Duration;

use anyhow::Result;

use crate::faults::beat::Beat;
use crate::faults::loss::Attempts;
use crate::faults::settled::{ends_well, settle};
use crate::faults::trial::Trial;
use crate::redis::Settings;

/// A server that throws data away when its memory is full is warned of, also where CONFIG is forbidden.
pub(crate) fn eviction(trial: &mut Trial<'_>) -> Result<()> {
    let more = "maxmemory 100mb\nmaxmemory-policy allkeys-lru\n".to_owned();
    trial.start_server(&Settings { more, ..Settings::default() })?;
    let password = format!("canary{:x}", trial.chance.next());
    let (plain, mut client) = (trial.server()?.url(), trial.connect()?);
    let allowed = format!(">{password}");
    client.command(&[
        "ACL",
        "SETUSER",
        "worker",
        "on",
        &allowed,
        "~hybrid:*",
        "&hybrid:*",
        "+@all",
        "-config",
    ])?;
    trial.set_url(plain.replace("redis://", &format!("redis://worker:{password}@")));
    trial.expected(
        "it says so at its start, with the policy and what to set, and serves all the same; under noeviction it does not",
    );
    for (round, policy) in ["allkeys-lru", "noeviction"].into_iter().enumerate() {
        client.command(&["CONFIG", "SET", "maxmemory-policy", policy])?;
        let beat = Beat::soon(trial, "beat", 100, 5);
        let task = trial.task(beat.task, "", &beat.trigger());
        trial.configure("lease = \"2s\"", &[task])?;
        let mut daemon = trial.first_daemon("one", &beat)?;
        let log = daemon.log();
        let warned = log.lines().any(|line| {
            line.contains(" ERROR ")
                && line.contains(policy)
                && line.contains("set maxmemory-policy noeviction")
        });
        trial.injected(format!(
            "maxmemory of 100 MB and maxmemory-policy {policy}, for a user without CONFIG"
        ));
        trial.counted(format!("{policy}: warned {warned}"));
        trial.must(warned == (policy != "noeviction"), || {
            format!("{policy}: warned {warned}; {}", daemon.last_words())
        });
        trial.must(!log.contains(&password), || "the log shows the password".to_owned());
        trial.until(Duration::from_secs(20), |trial| trial.recorder.ends(beat.task) >= 5 * (round + 1));
        ends_well(trial, &mut daemon)?;
    }
    let ends = trial.recorder.ends("beat");
    trial.must(ends == 10, || format!("{ends} of 10 runs ended"));
    Ok(())
}

/// What a user may do that a server permits too little.
const TOO_LITTLE: [(&str, &[&str]); 4] = [
    ("no scripts", &["~hybrid:*", "&hybrid:*", "+@all", "-@scripting"]),
    ("other keys", &["~other:*", "&hybrid:*", "+@all"]),
    ("a command less", &["~hybrid:*", "&hybrid:*", "+@all", "-zadd"]),
    ("nothing", &["~hybrid:*", "&hybrid:*", "-@all"]),
];

/// Users who may do too little, and a database that there is not; then a right that is taken under a daemon.
pub(crate) fn acl(trial: &mut Trial<'_>) -> Result<()> {
    trial.start_server(&Settings::default())?;
    let password = format!("canary{:x}", trial.chance.next());
    let (plain, mut client) = (trial.server()?.url(), trial.connect()?);
    let url = plain.replace("redis://", &format!("redis://worker:{password}@"));
    let mut permit = |rights: &[&str]| -> Result<()> {
        let secret = format!(">{password}");
        let user = ["ACL", "SETUSER", "worker", "reset", "on", &secret];
        client.command(&[&user[..], rights].concat()).map(drop)
    };
    trial.expected("exit code 3 and queue/refused, whatever is missing; no password in any log");
    for (what, rights) in TOO_LITTLE {
        permit(rights)?;
        trial.set_url(url.clone());
        refused(trial, what, &password)?;
    }
    permit(&["~hybrid:*", "&hybrid:*", "+@all"])?;
    trial.set_url(format!("{url}/77"));
    refused(trial, "a database that there is not", &password)?;

    trial.set_url(url);
    let beat = Beat::soon(trial, "beat", 200, trial.lab.size(30, 60));
    let task = trial.task(beat.task, "sleep 0.1", &beat.trigger());
    trial.configure("lease = \"2s\"", &[task])?;
    let mut daemon = trial.first_daemon("one", &beat)?;
    trial.await_that("the schedule fires", |trial| trial.recorder.starts(beat.task) >= 3)?;
    permit(&["~hybrid:*", "&hybrid:*", "+@all", "-evalsha"])?;
    std::thread::sleep(Duration::from_secs(2));
    permit(&["~hybrid:*", "&hybrid:*", "+@all"])?;
    trial.injected("EVALSHA forbidden under a daemon for 2 s");
    trial.expected("the daemon lives, says so and goes on when it may; each fire once and finished");
    settle(trial, &beat, &Attempts::Counted)?;
    let told = daemon.log();
    trial.must(told.contains("does not permit this user"), || {
        "the log does not tell of the refusal".to_owned()
    });
    trial.must(!told.contains(&password), || "the log shows the password".to_owned());
    ends_well(trial, &mut daemon)
}

fn refused(trial: &mut Trial<'_>, what: &str, password: &str) -> Result<()> {
    let task = trial.task("beat", "", "");
    trial.configure("lease = \"2s\"", &[task])?;
    let mut daemon = trial.daemon("refused")?;
    let status = daemon.wait()?;
    let log = daemon.log();
    let is_named = log.contains("queue/refused");
    trial.injected(what);
    trial.counted(format!("{what}: exit code {:?}, named: {is_named}", status.code()));
    trial.must(status.code() == Some(3) && is_named, || {
        format!("{what}: it ended with {status}; {}", daemon.last_words())
    });
    trial.must(!log.contains(password), || format!("{what}: the log shows the password"));
    Ok(())
}
