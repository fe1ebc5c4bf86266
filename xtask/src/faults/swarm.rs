//! Rows with many schedules on many daemons, and with daemons that hold different definitions of one task.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::faketime;
use crate::faults::account::{CannotRun, some};
use crate::faults::beat::Beat;
use crate::faults::daemon::Daemon;
use crate::faults::death::suspend_between_steps;
use crate::faults::instant;
use crate::faults::loss::Attempts;
use crate::faults::recorder::Note;
use crate::faults::settled::{ends_well, is_sound, settle};
use crate::faults::trial::{PATIENCE, Store, Trial};

/// The schedules, each of which fires every second.
const SCHEDULES: usize = 200;

/// How far the clocks of the daemons are apart, on a server whose clock is the one that counts.
const SKEWS: [&str; 4] = ["+0", "+0.4", "-0.4", "+0.15"];

/// Two hundred schedules a second on up to eight daemons, whose clocks differ, that are stopped and killed at random.
pub(crate) fn schedules(trial: &mut Trial<'_>) -> Result<()> {
    let seconds: u64 = trial.lab.size(8, 30);
    let number = usize::try_from(trial.chance.between(2, trial.lab.size(4, 9)))?;
    trial.use_faulty_jobs();
    // The machine's clock is that of SQLite, so there it is the same for all.
    let library = match trial.store {
        Store::Redis => Some(faketime::library().map_err(|error| CannotRun(format!("{error:#}")))?),
        Store::Sqlite => None,
    };
    let lead = u64::try_from(trial.lead.as_millis())? * 2;
    let first = instant::now() + lead;
    let beat = Beat { task: "t0", first, period: 1_000, count: seconds };
    let tasks: Vec<String> = (0..SCHEDULES)
        .map(|index| trial.job(&format!("t{index}"), "blocks", "millis = 0", &beat.trigger()))
        .collect();
    trial.configure("lease = \"1s\"", &tasks)?;
    let start = |trial: &Trial<'_>, index: usize| {
        let name = format!("d{index}");
        let mut command = trial.daemon_command(&name);
        if let Some(library) = &library {
            command.env("LD_PRELOAD", library).env("FAKETIME", SKEWS[index % SKEWS.len()]);
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        trial.start(command, &name)
    };
    let mut daemons = (0..number).map(|index| start(trial, index)).collect::<Result<Vec<Daemon>>>()?;
    trial.until(PATIENCE, |_| daemons.iter().all(Daemon::has_started));
    beat.is_in_time()?;
    let (mut killed, mut stopped) = (0, 0);
    while instant::now() < beat.last() {
        std::thread::sleep(trial.chance.millis(300, 1_200));
        let index = trial.chance.index(number);
        if trial.chance.index(2) == 0 {
            daemons[index].kill()?;
            daemons[index] = start(trial, index)?;
            killed += 1;
        } else {
            suspend_between_steps(trial, &mut daemons[index])?;
            std::thread::sleep(trial.chance.millis(300, 1_600));
            daemons[index].resume()?;
            stopped += 1;
        }
    }
    let skew = library.map_or("one clock".to_owned(), |_| format!("clocks {}", SKEWS.join(", ")));
    trial.injected(format!(
        "{SCHEDULES} schedules a second for {seconds} s on {number} daemons with {skew}; {killed} killed, {stopped} stopped \
         for up to 1.6 s with a lease of 1 s"
    ));
    trial.expected("each fire of each schedule has one run, and that has ended; none before its time, no delivery starts twice");
    let wanted = SCHEDULES * usize::try_from(seconds)?;
    trial.until(PATIENCE, |trial| {
        std::thread::sleep(Duration::from_millis(300));
        fires_of(&trial.recorder.notes(), true).len() >= wanted
    });
    let notes = trial.recorder.notes();
    let (started, ended) = (fires_of(&notes, false), fires_of(&notes, true));
    let twice = started.values().filter(|runs| runs.len() > 1).count();
    let counts: Vec<_> = (0..SCHEDULES).map(|index| trial.recorder.count(&format!("t{index}"))).collect();
    let doubled: usize = counts.iter().map(|count| count.doubled.len() + count.repeated.len()).sum();
    let early: Vec<&String> = counts.iter().flat_map(|count| &count.early).collect();
    let strangers = started.keys().filter(|(_, fire)| !beat.fires().any(|known| known == *fire)).count();
    trial.counted(format!(
        "recorder: {} fires of {wanted} ended; {twice} enqueued twice, {doubled} doubled, {} early, {strangers} that no schedule names",
        ended.len(),
        early.len()
    ));
    trial.must(ended.len() == wanted && started.len() == wanted, || {
        format!("{} fires began and {} ended of {wanted}", started.len(), ended.len())
    });
    trial.must(twice + doubled + strangers == 0, || "a fire has more than one run or start".to_owned());
    trial.must(early.is_empty(), || format!("started before their time: {}", some(&early)));
    is_sound(trial)?;
    daemons.iter_mut().try_for_each(|daemon| ends_well(trial, daemon))
}

/// The runs of each task and fire that have a note of that kind.
fn fires_of(notes: &[Note], is_end: bool) -> BTreeMap<(&str, u64), std::collections::BTreeSet<&str>> {
    let mut fires: BTreeMap<_, std::collections::BTreeSet<_>> = BTreeMap::new();
    for note in notes.iter().filter(|note| note.is_end == is_end) {
        fires.entry((note.task.as_str(), note.fire)).or_default().insert(note.run.as_str());
    }
    fires
}

/// Two daemons hold different definitions of a task: from the newer's start on nothing fires by the older one.
pub(crate) fn revisions(trial: &mut Trial<'_>) -> Result<()> {
    let other = Beat::soon(trial, "other", 500, 20);
    let of = |trial: &Trial<'_>, period: u64| {
        let trigger = format!("trigger = {{ every = \"{period}ms\" }}");
        let versioned = trial.task("versioned", "", &trigger);
        [versioned, trial.task(other.task, "sleep 0.05", &other.trigger())]
    };
    let old = of(trial, 400);
    trial.configure("lease = \"2s\"", &old)?;
    let mut older = trial.first_daemon("older", &other)?;
    trial.await_that("the older one fires", |trial| trial.recorder.ends("versioned") >= 3)?;
    let new = of(trial, 700);
    trial.configure("lease = \"2s\"", &new)?;
    let mut newer = trial.daemon("newer")?;
    trial.await_that("the newer one starts", |_| newer.has_started())?;
    // What it registered before that is enqueued already, or by one step of the older one under way.
    let from = instant::now() + 1_000;
    let length = Duration::from_secs(trial.lab.size(4, 10));
    let began = Instant::now();
    trial.until(length, |_| began.elapsed() >= length);
    let until = instant::now() - 1_000;
    let fires: Vec<u64> = trial
        .recorder
        .count("versioned")
        .fires
        .into_keys()
        .filter(|fire| (from..until).contains(fire))
        .collect();
    let by_older: Vec<u64> = fires.iter().filter(|fire| *fire % 700 != 0).copied().collect();
    let wanted = (from..until).filter(|fire| fire % 700 == 0).count();
    trial.injected(
        "a daemon with every = \"400ms\" goes on beside one that started later with every = \"700ms\"",
    );
    trial.expected(
        "from then on it fires every 700 ms and at no other instant; the older one says that it is stale",
    );
    trial.counted(format!(
        "recorder, versioned: {} fires of {wanted} named by the newer, {} others",
        fires.len() - by_older.len(),
        by_older.len()
    ));
    trial.must(by_older.is_empty(), || format!("fires of the older definition: {}", some(&by_older)));
    trial.must(fires.len() == wanted, || format!("{} fires of {wanted}", fires.len()));
    let is_told = older.log().contains("versioned") && older.log().contains("newer");
    trial.must(is_told, || format!("the older one does not say so; {}", older.last_words()));
    // What both know alike goes on whoever of them serves it.
    settle(trial, &other, &Attempts::Counted)?;
    ends_well(trial, &mut newer)?;
    ends_well(trial, &mut older)
}
