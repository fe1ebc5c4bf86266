//! Rows in which the way to Redis is bad, or leads to another server, through a proxy of ours.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::faults::beat::Beat;
use crate::faults::daemon;
use crate::faults::loss::{Attempts, Loss};
use crate::faults::settled::{ends_well, settle};
use crate::faults::trial::Trial;
use crate::faults::wire::{Weather, Wire};
use crate::redis::{Redis, Settings};
use crate::resp::Client;

/// How soon a daemon whose line is silent has given up at its start.
const GIVEN_UP: Duration = Duration::from_secs(40);

/// How soon work goes on when a line is good again: what waits for an answer waits five seconds.
const GOES_ON: Duration = Duration::from_secs(25);

/// How far a replica beside its server may be behind, in milliseconds: it is sent what the server confirms at once.
const BEHIND: u64 = 1_000;

/// Lines are slow, give one byte at a time, are reset, one-sided and silent.
pub(crate) fn bad(trial: &mut Trial<'_>) -> Result<()> {
    let (short, long) = (Duration::from_secs(3), Duration::from_secs(8));
    let all = [
        ("each piece 40 ms late", Weather::Slow(Duration::from_millis(40)), short),
        ("one byte at a time", Weather::Crumbs, short),
        ("reset at each word", Weather::Reset, short),
        ("one-sided: heard and never answered", Weather::HalfOpen, short),
        ("silent", Weather::Silent, long),
    ];
    trial.start_server(&Settings::default())?;
    let address = trial.server()?.address();
    let wire = Wire::start(address)?;
    trial.set_url(wire.url());
    let beat = Beat::soon(trial, "beat", 200, 350);
    let task = trial.task(beat.task, "sleep 0.1", &beat.trigger());
    trial.configure("lease = \"2s\"", &[task])?;
    let mut daemon = trial.first_daemon("one", &beat)?;
    trial.await_that("the schedule fires", |trial| trial.recorder.starts(beat.task) >= 3)?;
    trial.expected("the daemon lives, and goes on when the line is good; each fire once and finished");
    for (what, weather, length) in all {
        let (before, lines) = (trial.recorder.ends(beat.task), wire.lines());
        wire.turn_to(weather);
        std::thread::sleep(length);
        let during = trial.recorder.ends(beat.task) - before;
        wire.turn_to(Weather::Clear);
        let (done, good) = (wire.done(weather), Instant::now());
        let since = trial.recorder.ends(beat.task);
        let goes_on = trial.until(GOES_ON, |trial| trial.recorder.ends(beat.task) > since + 2);
        trial.injected(format!("{length:?} {what}: done {done} times; {} new lines", wire.lines() - lines));
        trial.counted(format!("{what}: {during} ends meanwhile, on again after {:.1?}", good.elapsed()));
        trial.must(done > 0, || format!("{what}: nothing was done"));
        trial.must(goes_on, || format!("{what}: nothing ended in {GOES_ON:?} after that"));
    }
    starts_in_silence(trial, &wire)?;
    settle(trial, &beat, &Attempts::Counted)?;
    ends_well(trial, &mut daemon)
}

/// A daemon that meets silence at its start gives up in time.
fn starts_in_silence(trial: &mut Trial<'_>, wire: &Wire) -> Result<()> {
    wire.turn_to(Weather::Silent);
    let began = Instant::now();
    let status = trial.daemon("silenced")?.wait()?;
    let took = began.elapsed();
    wire.turn_to(Weather::Clear);
    trial.injected(format!("silence under the start of another daemon: {status} after {took:.1?}"));
    trial.must(status.code() == Some(3) && took < GIVEN_UP, || {
        format!("in silence it ended with {status} after {took:.1?}")
    });
    Ok(())
}

/// The server hands over to its replica and back, in good order; then it is killed and the replica takes over.
pub(crate) fn failover(trial: &mut Trial<'_>) -> Result<()> {
    trial.start_server(&Settings::default())?;
    let one = trial.server()?.address();
    let replica = Redis::start(&trial.path("redis-replica"), &Settings::default())?;
    let (mut at_one, mut at_other) = (trial.connect()?, replica.connect()?);
    at_other.command(&["REPLICAOF", &one.ip().to_string(), &one.port().to_string()])?;
    follows(trial, &mut at_other)?;
    let wire = Wire::start(one)?;
    trial.set_url(wire.url());
    let beat = Beat::soon(trial, "beat", 100, trial.lab.size(150, 250));
    let task = trial.task(beat.task, "sleep 0.1", &beat.trigger());
    trial.configure("lease = \"2s\"", &[task])?;
    let mut daemon = trial.first_daemon("one", &beat)?;
    trial.await_that("the schedule fires", |trial| trial.recorder.starts(beat.task) >= 3)?;

    hand_over(trial, &mut at_one, &mut at_other, replica.address())?;
    // Until the name leads to the other one, the daemon talks to a replica.
    std::thread::sleep(trial.chance.millis(300, 1_500));
    wire.lead_to(replica.address());
    goes_on(trial, &beat)?;
    hand_over(trial, &mut at_other, &mut at_one, one)?;
    std::thread::sleep(trial.chance.millis(300, 1_500));
    wire.lead_to(one);
    goes_on(trial, &beat)?;

    let pid = trial.server()?.pid();
    let loss = Loss::by(BEHIND, || trial.server()?.kill())?;
    at_other.command(&["REPLICAOF", "NO", "ONE"])?;
    wire.lead_to(replica.address());
    let role = at_other.info("replication")?.remove("role").unwrap_or_default();
    trial.injected(format!(
        "FAILOVER to a replica and back, then kill -9 of the server ({} gone) and the replica in its place: INFO: role {role}",
        if daemon::exists(pid) { 0 } else { 1 }
    ));
    trial.must(!daemon::exists(pid) && role == "master", || "no replica took over".to_owned());
    trial.expected(
        "the daemon lives; each fire once and finished; only what the server confirmed within a second before the kill, so \
         that the replica may not have heard of it, begins anew",
    );
    settle(trial, &beat, &Attempts::LostAt(vec![loss]))?;
    ends_well(trial, &mut daemon)
}

fn goes_on(trial: &Trial<'_>, beat: &Beat) -> Result<()> {
    let since = trial.recorder.ends(beat.task);
    trial.await_that("the schedule goes on", |trial| trial.recorder.ends(beat.task) > since + 2)
}

/// Lets a server hand over to its replica, which has all that it had by then.
fn hand_over(trial: &Trial<'_>, from: &mut Client, to: &mut Client, at: SocketAddr) -> Result<()> {
    from.command(&["FAILOVER", "TO", &at.ip().to_string(), &at.port().to_string()])?;
    trial.await_that("the replica takes over", |_| {
        to.info("replication").is_ok_and(|told| told.get("role").is_some_and(|role| role == "master"))
    })?;
    follows(trial, from)
}

/// Waits until a server follows another one.
fn follows(trial: &Trial<'_>, replica: &mut Client) -> Result<()> {
    trial.await_that("the replica follows", |_| {
        let told = replica.info("replication").unwrap_or_default();
        told.get("master_link_status").is_some_and(|status| status == "up")
    })
}
