//! Rows in which the daemon dies: killed from outside at any moment, or by its own job.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::faults::account::some;
use crate::faults::beat::Beat;
use crate::faults::daemon::{self, Daemon};
use crate::faults::file;
use crate::faults::loss::Attempts;
use crate::faults::settled::{ends_well, settle};
use crate::faults::trial::{PATIENCE, Store, Trial};

/// Kills the daemon over and over while a schedule fires.
pub(crate) fn kill_daemon(trial: &mut Trial<'_>) -> Result<()> {
    let (kills, fires) = trial.lab.size((3, 60), (15, 300));
    let beat = Beat::soon(trial, "beat", 100, fires);
    let task = trial.task(beat.task, "sleep 0.1", &beat.trigger());
    trial.configure("lease = \"1s\"", &[task])?;

    let mut killed = Vec::new();
    let mut daemon = trial.first_daemon("one", &beat)?;
    trial.await_that("the schedule fires", |trial| trial.recorder.starts(beat.task) >= 3)?;
    for _ in 0..kills {
        std::thread::sleep(trial.chance.millis(200, 2_800));
        let pid = daemon.pid();
        daemon.kill()?;
        killed.push(pid);
        daemon = trial.daemon("one")?;
    }
    let gone = killed.iter().filter(|pid| !daemon::exists(**pid)).count();
    trial.injected(format!("kill -9 of the daemon, {kills} times; of these processes {gone} are gone"));
    trial.must(gone == kills, || "a killed process is still there".to_owned());
    trial.expected(format!("{fires} fires of the time, each enqueued once and finished, whoever was killed"));
    settle(trial, &beat, &Attempts::Counted)?;
    ends_well(trial, &mut daemon)
}

/// A job kills the daemon that runs it, each time.
pub(crate) fn kill_worker(trial: &mut Trial<'_>) -> Result<()> {
    const ATTEMPTS: usize = 3;
    let bystander = Beat::soon(trial, "bystander", 200, 30);
    let killer = bystander.beside("killer", 1_000, 1);
    let retry = "retry = { max_attempts = 3, initial = \"100ms\", max = \"1s\", jitter = false }";
    let tasks = [
        trial.task(bystander.task, "sleep 0.05", &bystander.trigger()),
        // The parent of an exec job is the daemon.
        trial.task(killer.task, "kill -KILL $PPID; sleep 600", &format!("{retry}\n{}", killer.trigger())),
    ];
    trial.configure("lease = \"1s\"", &tasks)?;

    let mut died = BTreeSet::new();
    let mut daemon = trial.first_daemon("one", &bystander)?;
    let is_dead = |trial: &Trial<'_>| {
        trial.history("killer").is_ok_and(|runs| runs.first().is_some_and(|run| run["state"] == "failed"))
    };
    let deadline = Instant::now() + PATIENCE;
    // What a supervisor does: it starts the daemon whenever that is gone.
    while Instant::now() < deadline {
        if !daemon.is_alive() {
            died.insert(daemon.pid());
            daemon = trial.daemon("one")?;
        } else if died.len() >= ATTEMPTS && is_dead(trial) {
            break;
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    let starts = trial.recorder.starts("killer");
    let gone = died.iter().filter(|pid| !daemon::exists(**pid)).count();
    trial.injected(format!("a job that kills its daemon; {gone} daemons are gone, each was started again"));
    trial.expected(format!(
        "{ATTEMPTS} starts of {ATTEMPTS} attempts, then it has failed; its neighbours all finish"
    ));
    trial.counted(format!("recorder, killer: {starts} starts, {} ends", trial.recorder.ends("killer")));
    trial.must(starts == ATTEMPTS, || format!("it was started {starts} times"));
    let runs = trial.history("killer")?;
    trial.must(runs.len() == 1 && runs[0]["state"] == "failed", || format!("history of it says {runs:?}"));
    settle(trial, &bystander, &Attempts::Counted)?;
    ends_well(trial, &mut daemon)
}

/// SIGTERM while short jobs run: they end, and the daemon with them.
pub(crate) fn sigterm_short(trial: &mut Trial<'_>) -> Result<()> {
    let rounds = trial.lab.size(2, 8);
    let beat = Beat::soon(trial, "short", 100, trial.lab.size(40, 160));
    let task = trial.task(beat.task, "sleep 0.3", &beat.trigger());
    trial.configure("shutdown_grace = \"20s\"\n---\nlease = \"1s\"", &[task])?;

    let mut daemon = trial.first_daemon("one", &beat)?;
    let mut codes = Vec::new();
    for _ in 0..rounds {
        std::thread::sleep(trial.chance.millis(900, 1_600));
        codes.push(daemon.stop()?.code());
        daemon = trial.daemon("one")?;
    }
    trial.injected(format!(
        "SIGTERM to the daemon, {rounds} times, while jobs of 300 ms run; exit codes {codes:?}"
    ));
    trial.expected("exit code 0 each time, every job ends and none of them runs again");
    trial.must(codes.iter().all(|code| *code == Some(0)), || format!("it ended with {codes:?}"));
    settle(trial, &beat, &Attempts::Counted)?;
    let count = trial.recorder.count(beat.task);
    trial.must(count.starts == count.ends && count.ends == count.runs().len(), || {
        format!("{} starts and {} ends of {} runs", count.starts, count.ends, count.runs().len())
    });
    ends_well(trial, &mut daemon)
}

/// SIGTERM while a job runs that outlasts the grace: it is cut off and handed back, and costs no attempt.
pub(crate) fn sigterm_long(trial: &mut Trial<'_>) -> Result<()> {
    let beat = Beat::soon(trial, "long", 1_000, 1);
    let cut = trial.path("cut");
    let work = format!("[ -e {} ] || exec sleep 600", cut.display());
    let task = trial.task(beat.task, &work, &beat.trigger());
    trial.configure("shutdown_grace = \"1s\"\n---\nlease = \"30s\"", &[task])?;

    let mut daemon = trial.first_daemon("one", &beat)?;
    trial.await_that("the job begins", |trial| trial.recorder.starts(beat.task) == 1)?;
    let job = trial.recorder.of(beat.task)[0].pid;
    let began = Instant::now();
    let status = daemon.stop()?;
    let took = began.elapsed();
    let is_gone = !daemon::exists(job);
    std::fs::write(&cut, "")?;
    let mut again: Daemon = trial.daemon("one")?;
    trial.injected(format!("SIGTERM under a job of 600 s with a grace of 1 s: {status} after {took:.1?}"));
    trial
        .expected("exit code 1, the job's process gone; the next daemon runs it again at once, as attempt 1");
    trial.must(status.code() == Some(1), || format!("it ended with {status}"));
    trial.must(is_gone, || format!("process {job} of the job is still there"));
    trial.must(took < Duration::from_secs(15), || format!("it took {took:.1?} to end"));
    // The lease is long, so only what was handed back comes at once.
    let is_back = trial.until(Duration::from_secs(15), |trial| trial.recorder.starts(beat.task) == 2);
    trial.must(is_back, || "what was cut off is not run again at once".to_owned());
    settle(trial, &beat, &Attempts::HandedBack)?;
    let notes = trial.recorder.of(beat.task);
    let starts: Vec<_> = notes.iter().filter(|note| !note.is_end).collect();
    let attempts: Vec<u32> = starts.iter().map(|note| note.attempt).collect();
    let fences: Vec<u64> = starts.iter().map(|note| note.fence).collect();
    trial.counted(format!("recorder, long: attempts {}, fences {}", some(&attempts), some(&fences)));
    trial.must(attempts == [1, 1], || format!("the attempts were {attempts:?}"));
    trial.must(fences.is_sorted_by(|before, after| before < after), || {
        format!("fences {fences:?} do not rise")
    });
    ends_well(trial, &mut again)
}

/// Suspends a daemon that has no transaction open: one that has keeps a SQLite file to itself for as long.
pub(crate) fn suspend_between_steps(trial: &mut Trial<'_>, daemon: &mut Daemon) -> Result<()> {
    for _ in 0..100 {
        daemon.suspend()?;
        if trial.store == Store::Redis || !file::is_locked(trial)? {
            return Ok(());
        }
        daemon.resume()?;
        std::thread::sleep(trial.chance.millis(5, 50));
    }
    bail!("the daemon had a transaction open each time it was stopped")
}

/// A daemon is stopped past its lease and goes on: what it says then is too late.
pub(crate) fn stop_past_lease(trial: &mut Trial<'_>) -> Result<()> {
    let count = trial.lab.size(2, 6);
    let beat = Beat::soon(trial, "slow", 300, count);
    let go = trial.path("go");
    // The first attempt ends by itself while its daemon is stopped, with an exit code that fails the run for good.
    let work = format!(
        "echo attempt $SCHEDULER_ATTEMPT\nwhile ! [ -e {} ]; do sleep 0.05; done\n\
         [ $SCHEDULER_ATTEMPT = 1 ] && exit 65\nsleep 3",
        go.display()
    );
    let task = trial.task(beat.task, &work, &beat.trigger());
    trial.configure("lease = \"1s\"", &[task])?;

    let mut zombie = trial.first_daemon("one", &beat)?;
    let runs = usize::try_from(count)?;
    trial.await_that("the jobs begin", |trial| trial.recorder.starts(beat.task) >= runs)?;
    suspend_between_steps(trial, &mut zombie)?;
    let mut heir = trial.daemon("two")?;
    let is_taken = trial.until(PATIENCE, |trial| trial.recorder.starts(beat.task) >= 2 * runs);
    trial.must(is_taken, || "nobody took over the runs of the stopped daemon".to_owned());
    // The first attempts end now, and their daemon learns of it only when it goes on, long after its lease.
    std::fs::write(&go, "")?;
    let firsts: Vec<u32> = trial.recorder.of(beat.task).iter().take(runs).map(|note| note.pid).collect();
    trial.await_that("the first attempts end", |_| firsts.iter().all(|pid| !daemon::exists(*pid)))?;
    zombie.resume()?;
    trial.injected(format!(
        "SIGSTOP of a daemon for longer than its lease, with {runs} jobs under way that end meanwhile"
    ));
    trial.expected(
        "the heir runs them as attempt 2; the late ends of attempt 1 are refused; both daemons live",
    );
    settle(trial, &beat, &Attempts::Counted)?;
    let late = zombie.log();
    let refused =
        late.lines().filter(|line| line.contains("lease was lost") || line.contains("given up")).count();
    let outputs: Vec<String> = trial
        .history(beat.task)?
        .iter()
        .map(|run| format!("{} {}", run["attempt"], run["output"]["stdout"].as_str().unwrap_or("-").trim()))
        .collect();
    trial.counted(format!(
        "results kept: {}; {refused} refusals in the log of the daemon that was stopped",
        some(&outputs)
    ));
    trial.must(outputs.iter().all(|kept| kept == "2 attempt 2"), || {
        format!("a result is not that of attempt 2: {}", some(&outputs))
    });
    ends_well(trial, &mut zombie)?;
    ends_well(trial, &mut heir)
}
