//! Rows with very many runs: due at one instant, or left from a day on which no daemon ran.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::faults::account::{TooSlow, some};
use crate::faults::beat::Beat;
use crate::faults::file::sql;
use crate::faults::instant;
use crate::faults::loss::Attempts;
use crate::faults::machine::Usage;
use crate::faults::settled::{ends_well, settle};
use crate::faults::trial::{PATIENCE, Store, Trial};
use crate::resp::Reply;

/// How long one call of a script may keep Redis from all others, in microseconds.
const SLOW_SCRIPT: &str = "50000";

/// How long a verb may take while a store is busy, nineteen times of twenty.
const SLOW_VERB: Duration = Duration::from_secs(1);

/// How much more memory a daemon may take with a backlog than without.
const GROWTH: u64 = 96 * 1024 * 1024;

const DAY: u64 = 86_400_000;

/// A hundred thousand runs that are due at one instant.
pub(crate) fn burst(trial: &mut Trial<'_>) -> Result<()> {
    let runs: usize = trial.lab.size(10_000, 100_000);
    let beat = Beat::soon(trial, "beat", 1_000, trial.lab.size(20, 60));
    let mut daemon = begin(trial, &beat)?;
    let before = Usage::of(daemon.pid())?.memory;
    let due = instant::now() + trial.lab.size(5_000, 20_000) + u64::try_from(trial.lead.as_millis())?;
    let took = ask_for(trial, runs, |_| due)?;
    TooSlow::unless_before(due)?;
    let drained = drain(trial, &daemon, runs)?;
    trial.injected(format!("{runs} runs due at one instant, enqueued in {took:.1?}, before that instant"));
    trial.expected(
        "each runs once, none before its time; verbs and a schedule beside them go on, memory is bounded",
    );
    judge(trial, runs, before, &drained)?;
    settle(trial, &beat, &Attempts::Counted)?;
    ends_well(trial, &mut daemon)
}

/// What is left from a day on which no daemon ran: a run for each second, and the fires of a schedule.
pub(crate) fn day(trial: &mut Trial<'_>) -> Result<()> {
    let (runs, period) = trial.lab.size((8_640, 100_000), (86_400, 10_000));
    trial.use_faulty_jobs();
    let now = instant::now() / period * period;
    let ticks = Beat { task: "tick", first: now - DAY, period, count: DAY / period };
    let tasks = [
        trial.job("crowd", "blocks", "millis = 0", ""),
        trial.job(ticks.task, "blocks", "millis = 0", &ticks.trigger()),
    ];
    trial.configure("lease = \"5s\"\nconcurrency = 64", &tasks)?;
    let mut daemon = trial.daemon("one")?;
    trial.await_that("the daemon starts", |_| daemon.has_started())?;
    daemon.stop()?;
    put_back(trial, ticks.task, ticks.first - 1)?;
    let took = ask_for(trial, runs, |index| {
        now - DAY + u64::try_from(index).unwrap_or_default() * DAY / u64::try_from(runs).unwrap_or(1)
    })?;

    let mut daemon = trial.daemon("one")?;
    trial.await_that("the daemon starts", |_| daemon.has_started())?;
    let before = Usage::of(daemon.pid())?.memory;
    let drained = drain(trial, &daemon, runs)?;
    trial.injected(format!(
        "a day without a daemon: {runs} runs that came due on it, enqueued in {took:.1?}, and {} fires of a schedule",
        ticks.count
    ));
    trial.expected("each runs once, none before its time; verbs go on, memory is bounded");
    judge(trial, runs, before, &drained)?;
    settle(trial, &ticks, &Attempts::Counted)?;
    ends_well(trial, &mut daemon)
}

/// Lets a schedule stand where it stood at another instant.
fn put_back(trial: &Trial<'_>, task: &str, at: u64) -> Result<()> {
    match trial.store {
        Store::Sqlite => {
            let set = format!("decided = {at}, served_since = {at}, served_until = {at}");
            sql(&trial.file(), &format!("UPDATE schedule SET {set} WHERE task = '{task}';")).map(drop)
        }
        Store::Redis => {
            let (key, at) = (format!("hybrid:{{default}}:task:{task}"), at.to_string());
            let set = ["HSET", &key, "decided", &at, "served_since", &at, "served_until", &at];
            trial.connect()?.command(&set).map(drop)
        }
    }
}

fn begin(trial: &mut Trial<'_>, beat: &Beat) -> Result<crate::faults::daemon::Daemon> {
    trial.use_faulty_jobs();
    let tasks = [trial.task(beat.task, "", &beat.trigger()), trial.job("crowd", "blocks", "millis = 0", "")];
    trial.configure("lease = \"5s\"\nconcurrency = 64", &tasks)?;
    trial.first_daemon("one", beat)
}

/// Asks for so many runs at once, each due when it is said.
fn ask_for(trial: &mut Trial<'_>, runs: usize, due: impl Fn(usize) -> u64) -> Result<Duration> {
    if trial.store == Store::Redis {
        let mut client = trial.connect()?;
        client.command(&["CONFIG", "SET", "slowlog-log-slower-than", SLOW_SCRIPT])?;
        client.command(&["SLOWLOG", "RESET"])?;
    }
    let line = |index| {
        format!("{{\"task\":\"crowd\",\"key\":\"k{index}\",\"at\":\"{}\"}}\n", instant::written(due(index)))
    };
    std::fs::write(trial.path("crowd.jsonl"), (0..runs).map(line).collect::<String>())?;
    let began = Instant::now();
    let asked = trial.verb(&["enqueue", "--from", "crowd.jsonl", "-o", "json"])?;
    let took = began.elapsed();
    trial.must(asked.code == 0, || format!("`enqueue` answers {}: {}", asked.code, asked.stderr.trim()));
    Ok(took)
}

/// What was seen while the runs were done.
struct Drained {
    took: Duration,
    /// The most memory that the daemon took.
    memory: u64,
    /// How long verbs took meanwhile, the quickest first.
    verbs: Vec<Duration>,
}

fn drain(trial: &Trial<'_>, daemon: &crate::faults::daemon::Daemon, runs: usize) -> Result<Drained> {
    let began = Instant::now();
    let (mut memory, mut verbs) = (0, Vec::new());
    loop {
        // Reading the recorder takes a moment by itself.
        std::thread::sleep(Duration::from_millis(500));
        memory = memory.max(Usage::of(daemon.pid())?.memory);
        // One that looks, and one that makes a change, of nothing.
        for verb in [&["queues", "-o", "json"][..], &["resume", "--queue", "default"]] {
            let asked = Instant::now();
            let answer = trial.verb(verb)?;
            // One that is refused has not been quick.
            verbs.push(if answer.code == 0 { asked.elapsed() } else { PATIENCE });
        }
        if trial.recorder.ends("crowd") >= runs || began.elapsed() > PATIENCE * 4 {
            break;
        }
    }
    verbs.sort_unstable();
    Ok(Drained { took: began.elapsed(), memory, verbs })
}

fn judge(trial: &mut Trial<'_>, runs: usize, before: u64, drained: &Drained) -> Result<()> {
    let count = trial.recorder.count("crowd");
    let slowest =
        drained.verbs.iter().rev().nth(drained.verbs.len() / 20).copied().context("no verb was asked")?;
    trial.counted(format!(
        "recorder, crowd: {} runs, {} starts, {} ends, {} doubled, {} early in {:.1?}; memory {} MiB, at most {} MiB; {} verbs within {slowest:.1?}",
        count.runs().len(),
        count.starts,
        count.ends,
        count.doubled.len(),
        count.early.len(),
        drained.took,
        before >> 20,
        drained.memory >> 20,
        drained.verbs.len(),
    ));
    trial.must(count.runs().len() == runs && count.starts == runs && count.ends == runs, || {
        format!("{} runs, {} starts and {} ends of {runs}", count.runs().len(), count.starts, count.ends)
    });
    trial.must(count.early.is_empty(), || format!("started before they were due: {}", some(&count.early)));
    trial.must(drained.memory < before + GROWTH, || {
        format!("the daemon grew from {} MiB to {} MiB", before >> 20, drained.memory >> 20)
    });
    trial.must(slowest < SLOW_VERB, || format!("a verb took {slowest:.1?}"));
    if trial.store == Store::Redis {
        let slow = trial.connect()?.command(&["SLOWLOG", "GET", "5"])?.items();
        trial.counted(format!("SLOWLOG: {} commands of more than 50 ms", slow.len()));
        trial.must(slow.is_empty(), || format!("slow commands: {}", some(slow.into_iter().map(told))));
    }
    Ok(())
}

/// An entry of `SLOWLOG`: how long it took, and which script of how many arguments it was.
fn told(entry: Reply) -> String {
    let entry = entry.items();
    let micros = entry.get(2).and_then(Reply::integer).unwrap_or_default();
    let words = entry.into_iter().nth(3).map(Reply::items).unwrap_or_default();
    let begin: Vec<String> = words.iter().take(2).filter_map(Reply::text).collect();
    format!("{} of {} words for {micros} µs", begin.join(" "), words.len())
}
