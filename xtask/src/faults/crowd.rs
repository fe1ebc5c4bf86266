//! Rows with many: daemons on one store that are stopped and killed at random, and runs that are due at one instant.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::faults::account::{TooSlow, some};
use crate::faults::beat::Beat;
use crate::faults::daemon::{self, Daemon};
use crate::faults::death::suspend_between_steps;
use crate::faults::instant;
use crate::faults::loss::Attempts;
use crate::faults::settled::{ends_well, settle};
use crate::faults::trial::{PATIENCE, Trial};

/// What happens to a daemon.
#[derive(Clone, Copy)]
enum Blow {
    Kill,
    Stop,
    Pause,
}

/// Daemons on one store; at random one is killed, ended or suspended past its lease.
pub(crate) fn many_daemons(trial: &mut Trial<'_>) -> Result<()> {
    let seconds: u64 = trial.lab.size(8, 60);
    let number = usize::try_from(trial.chance.between(3, trial.lab.size(5, 9)))?;
    let slow = Beat::soon(trial, "slow", 1_000, seconds);
    let fast = slow.beside("fast", 200, seconds * 5);
    let tasks = [
        trial.task(slow.task, "sleep 0.4", &slow.trigger()),
        trial.task(fast.task, "sleep 0.05", &fast.trigger()),
    ];
    trial.configure("lease = \"1s\"", &tasks)?;

    let names: Vec<String> = (0..number).map(|index| format!("d{index}")).collect();
    let mut daemons = names.iter().map(|name| trial.daemon(name)).collect::<Result<Vec<Daemon>>>()?;
    beat_is_known(trial, &slow, &daemons)?;
    let mut asleep: Vec<Option<Instant>> = vec![None; number];
    let (mut killed, mut ended, mut suspended, mut gone) = (0, 0, 0, 0);
    while instant::now() < slow.last() {
        std::thread::sleep(trial.chance.millis(150, 900));
        for (daemon, until) in daemons.iter_mut().zip(&mut asleep) {
            if until.is_some_and(|until| until <= Instant::now()) {
                daemon.resume()?;
                *until = None;
            }
        }
        let index = trial.chance.index(number);
        let blow = [Blow::Kill, Blow::Stop, Blow::Pause][trial.chance.index(3)];
        if asleep[index].is_some() {
            continue;
        }
        match blow {
            Blow::Kill => {
                let pid = daemons[index].pid();
                daemons[index].kill()?;
                killed += 1;
                gone += usize::from(!daemon::exists(pid));
                daemons[index] = trial.daemon(&names[index])?;
            }
            Blow::Stop => {
                daemons[index].stop()?;
                ended += 1;
                daemons[index] = trial.daemon(&names[index])?;
            }
            Blow::Pause => {
                suspend_between_steps(trial, &mut daemons[index])?;
                suspended += 1;
                asleep[index] = Some(Instant::now() + trial.chance.millis(500, 3_000));
            }
        }
    }
    for (daemon, _) in daemons.iter_mut().zip(&asleep).filter(|(_, until)| until.is_some()) {
        daemon.resume()?;
    }
    trial.injected(format!(
        "{number} daemons, {seconds} s: {killed} killed ({gone} processes gone), {ended} ended by SIGTERM, \
         {suspended} suspended for up to 3 s with a lease of 1 s"
    ));
    trial.expected(format!(
        "{} fires, each enqueued once and finished; every daemon lives",
        slow.count + fast.count
    ));
    settle(trial, &slow, &Attempts::Counted)?;
    settle(trial, &fast, &Attempts::Counted)?;
    daemons.iter_mut().try_for_each(|daemon| ends_well(trial, daemon))
}

/// Three daemons, a schedule of one second, and every five seconds one of them is killed.
pub(crate) fn three_daemons(trial: &mut Trial<'_>) -> Result<()> {
    let seconds: u64 = trial.lab.size(12, 60);
    let beat = Beat::soon(trial, "second", 1_000, seconds);
    let task = trial.task(beat.task, "sleep 0.2", &beat.trigger());
    trial.configure("lease = \"1s\"", &[task])?;
    let names = ["one", "two", "three"];
    let mut daemons = names.map(|name| trial.daemon(name)).into_iter().collect::<Result<Vec<Daemon>>>()?;
    beat_is_known(trial, &beat, &daemons)?;
    let mut gone = 0;
    let mut next = beat.first + 2_500;
    while next < beat.last() {
        std::thread::sleep(Duration::from_millis(next.saturating_sub(instant::now())));
        let index = trial.chance.index(names.len());
        let pid = daemons[index].pid();
        daemons[index].kill()?;
        gone += usize::from(!daemon::exists(pid));
        daemons[index] = trial.daemon(names[index])?;
        next += 5_000;
    }
    trial.injected(format!("three daemons, one of them killed every 5 s: {gone} processes are gone"));
    trial.expected(format!("exactly {seconds} runs, each finished"));
    settle(trial, &beat, &Attempts::Counted)?;
    daemons.iter_mut().try_for_each(|daemon| ends_well(trial, daemon))
}

/// Runs that are due at one instant, all of them.
pub(crate) fn due_at_once(trial: &mut Trial<'_>) -> Result<()> {
    const RUNS: usize = 20_000;
    trial.use_faulty_jobs();
    let beat = Beat::soon(trial, "beat", 500, 24);
    let tasks = [trial.task(beat.task, "", &beat.trigger()), trial.job("crowd", "blocks", "millis = 0", "")];
    trial.configure("lease = \"5s\"\nconcurrency = 64", &tasks)?;
    let mut daemon = trial.first_daemon("one", &beat)?;

    let due = instant::now() + 4_000 + u64::try_from(trial.lead.as_millis())?;
    let line =
        |index| format!("{{\"task\":\"crowd\",\"key\":\"k{index}\",\"at\":\"{}\"}}\n", instant::written(due));
    std::fs::write(trial.path("crowd.jsonl"), (0..RUNS).map(line).collect::<String>())?;
    let began = Instant::now();
    let enqueued = trial.verb(&["enqueue", "--from", "crowd.jsonl", "-o", "json"])?;
    let took = began.elapsed();
    TooSlow::unless_before(due)?;
    let slowly = |trial: &Trial<'_>| {
        // Reading the recorder takes a moment by itself.
        std::thread::sleep(Duration::from_millis(500));
        trial.recorder.ends("crowd") >= RUNS
    };
    trial.until(PATIENCE, slowly);
    let drained = instant::now().saturating_sub(due);
    let count = trial.recorder.count("crowd");
    trial.injected(format!(
        "{RUNS} runs due at one instant; `enqueue` answers {} after {took:.1?}, before that instant",
        enqueued.code
    ));
    trial.expected("each is run once, none before its time, and a schedule beside them goes on");
    trial.counted(format!(
        "recorder, crowd: {} runs, {} starts, {} ends, {} doubled, {} early, the last {:.1} s after they were due",
        count.runs().len(),
        count.starts,
        count.ends,
        count.doubled.len(),
        count.early.len(),
        Duration::from_millis(drained).as_secs_f64()
    ));
    trial.must(enqueued.code == 0, || {
        format!("`enqueue` answers {}: {}", enqueued.code, enqueued.stderr.trim())
    });
    trial.must(count.early.is_empty(), || format!("started before they were due: {}", some(&count.early)));
    trial.must(count.runs().len() == RUNS && count.starts == RUNS && count.ends == RUNS, || {
        format!("{} runs, {} starts and {} ends of {RUNS}", count.runs().len(), count.starts, count.ends)
    });
    settle(trial, &beat, &Attempts::Counted)?;
    ends_well(trial, &mut daemon)
}

/// Whoever of them is the first to know the schedule is enough.
fn beat_is_known(trial: &Trial<'_>, beat: &Beat, daemons: &[Daemon]) -> Result<()> {
    trial.until(PATIENCE, |_| daemons.iter().any(Daemon::has_started));
    beat.is_in_time()
}
