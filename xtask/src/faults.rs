//! `cargo xtask faults`: does to a tier what machines and servers do to it, and counts from outside what became of the
//! work. The rows of the workflow tier are in `engine.rs`; the rest is about the durable tier.
//!
//! A row is one kind of fault on one store. Each drives the real binary; what it counts comes from a file that the jobs
//! append to. A row that could not be run fails the command, as one that broke does.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::built::Built;
use crate::command_line::{target_folder, workspace_root};
use crate::steps::Step;

mod account;
mod backlog;
mod beat;
mod busy;
mod chance;
mod control;
mod crowd;
mod daemon;
mod death;
mod disk;
mod engine;
mod farewell;
mod faulty;
mod file;
mod folder;
mod instant;
mod lines;
mod loss;
mod machine;
mod opening;
mod output;
mod poison;
mod power;
mod preload;
mod proxy;
mod recorder;
mod refusal;
mod replies;
mod row;
mod server;
mod settled;
mod setup;
mod soak;
mod stubborn;
mod swarm;
mod tls;
mod trial;
mod upgrade;
mod wal;
mod wire;

use account::{CannotRun, TooSlow, Verdict};
use row::{ROWS, Row, Size};
use trial::{Lab, Store, Trial};

/// How many rows run beside one another.
const LANES: usize = 3;

/// How long the row `soak` lasts, in seconds.
const SOAK: u64 = 600;

/// What faults are tried on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// The durable tier
    Queue,
    /// The client of the workflow tier
    Workflow,
}

/// Which rows to run.
#[derive(Clone, Debug, Args)]
pub(crate) struct Flags {
    /// What to try
    #[arg(value_enum)]
    subject: Subject,
    /// On this store only [default: both]
    #[arg(long, value_enum)]
    store: Option<Store>,
    /// This row only [default: all]
    #[arg(long, value_name = "NAME")]
    row: Option<String>,
    /// The rows that take seconds, in a smaller size
    #[arg(long)]
    quick: bool,
    /// How long the row `soak` lasts, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = SOAK)]
    soak: u64,
    /// Repeats the moments of another run, which printed it
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// This binary instead of the one that cargo builds; faulty_jobs is looked for in examples/ beside it
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
}

/// Runs the rows and prints what each did and found; the last line is `faults: N rows held, M broke, K not run`.
///
/// # Errors
/// Something does not compile, or no row has that name; a row that broke is an exit code.
pub(crate) fn run(flags: &Flags) -> Result<ExitCode> {
    let hold = match flags.subject {
        Subject::Queue => all_hold(flags)?,
        Subject::Workflow => {
            let is_plain = flags.store.is_none() && flags.row.is_none() && flags.seed.is_none();
            if !is_plain || flags.program.is_some() {
                bail!("--store, --row, --seed and --program belong to `queue`");
            }
            engine::all_hold()?
        }
    };
    Ok(if hold { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The rows that take seconds.
pub(crate) fn suite() -> Step {
    let flags = Flags {
        subject: Subject::Queue,
        store: None,
        row: None,
        quick: true,
        soak: SOAK,
        seed: None,
        program: None,
    };
    Step::rule("faults", "cargo xtask faults queue --quick", move || {
        if all_hold(&flags)? { Ok(()) } else { bail!("a row broke or was not run") }
    })
}

fn all_hold(flags: &Flags) -> Result<bool> {
    let wanted = wanted(flags)?;
    let lab = lab(flags)?;
    println!(
        "    {} rows with --seed {}; the program is {}",
        wanted.len(),
        lab.seed,
        lab.scheduler.display()
    );
    let (alone, beside): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|(row, _)| row.size == Size::Alone);
    let verdicts = Mutex::new(Vec::new());
    // Most of a row is waiting.
    for (rows, lanes) in [(beside, LANES), (alone, 1)] {
        let rows = Mutex::new(rows.iter());
        std::thread::scope(|scope| {
            for _ in 0..lanes {
                scope.spawn(|| {
                    while let Some((row, store)) = next(&rows) {
                        try_row(&lab, row, *store, &verdicts);
                    }
                });
            }
        });
    }
    let verdicts = verdicts.into_inner().unwrap_or_else(PoisonError::into_inner);
    let count = |wanted: fn(&Verdict) -> bool| verdicts.iter().filter(|verdict| wanted(verdict)).count();
    let held = count(|verdict| *verdict == Verdict::Held);
    let broke = count(|verdict| *verdict == Verdict::Broke);
    let not_run = count(|verdict| matches!(verdict, Verdict::NotRun(_)));
    println!("faults: {held} rows held, {broke} broke, {not_run} not run");
    Ok(broke == 0 && not_run == 0)
}

fn next<'a>(rows: &Mutex<std::slice::Iter<'a, (&'a Row, Store)>>) -> Option<&'a (&'a Row, Store)> {
    rows.lock().unwrap_or_else(PoisonError::into_inner).next()
}

fn wanted(flags: &Flags) -> Result<Vec<(&'static Row, Store)>> {
    let is_named = |row: &&Row| flags.row.as_ref().is_none_or(|name| name == row.name);
    if let Some(name) = flags.row.as_ref().filter(|_| !ROWS.iter().any(|row| is_named(&row))) {
        let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        bail!("there is no row `{name}`; there are {}", names.join(", "));
    }
    // A row that is asked for by name is run whatever its size.
    let is_wanted =
        |row: &&Row| is_named(row) && (!flags.quick || row.size == Size::Quick || flags.row.is_some());
    let on_stores = |row: &'static Row| {
        let stores = row.stores.iter().filter(|store| flags.store.is_none_or(|only| only == **store));
        stores.map(move |store| (row, *store))
    };
    let wanted: Vec<_> = ROWS.iter().filter(is_wanted).flat_map(on_stores).collect();
    if wanted.is_empty() {
        bail!("no row is left to run");
    }
    Ok(wanted)
}

fn lab(flags: &Flags) -> Result<Lab> {
    let seed = flags.seed.unwrap_or_else(instant::now);
    let (scheduler, faulty_jobs) = match &flags.program {
        Some(program) => {
            let program =
                program.canonicalize().with_context(|| format!("no program {}", program.display()))?;
            let folder = program.parent().unwrap_or(Path::new("/")).to_owned();
            (program, folder.join("examples/faulty_jobs"))
        }
        None => {
            let built = Built::workspace()?;
            (built.binary("scheduler")?, built.binary("faulty_jobs")?)
        }
    };
    let soak = Duration::from_secs(flags.soak);
    Ok(Lab { scheduler, faulty_jobs, seed, soak, is_quick: flags.quick })
}

/// Runs one row, again when the machine was too busy to begin it, with as much more time as it wanted; gives what it came
/// to and what it has to say.
fn tried(lab: &Lab, row: &Row, store: Store, more: Duration, tries: u32) -> (Verdict, String) {
    const MOST_TRIES: u32 = 5;
    let mut trial = match Trial::new(lab, row.name, store, more) {
        Ok(trial) => trial,
        Err(error) => return (Verdict::NotRun(format!("{error:#}")), String::new()),
    };
    let result = (row.run)(&mut trial);
    let late = result.as_ref().err().and_then(|error| error.downcast_ref::<TooSlow>());
    if let Some(TooSlow(late)) = late
        && tries < MOST_TRIES
    {
        let more = more + *late * 2 + Duration::from_secs(1);
        drop(trial);
        return tried(lab, row, store, more, tries + 1);
    }
    if tries > 1 {
        trial.injected(format!(
            "a busy machine: begun {tries} times, until the first fire was {:.1?} ahead",
            trial.lead
        ));
    }
    let verdict = judged(result, &mut trial);
    let mut told = trial.account.to_string();
    if verdict == Verdict::Broke {
        let folder = workspace_root().join(target_folder()).join("faults");
        let folder = folder.join(format!("{}-on-{}", row.name, store.name()));
        told.push_str(&match trial.keep(&folder) {
            Ok(()) => format!("    what its processes said: {}\n", folder.display()),
            Err(error) => format!("    what its processes said is lost: {error:#}\n"),
        });
    }
    (verdict, told)
}

/// Runs one row and prints it as a whole.
fn try_row(lab: &Lab, row: &Row, store: Store, verdicts: &Mutex<Vec<Verdict>>) {
    let began = Instant::now();
    let name = format!("{} on {}", row.name, store.name());
    let (verdict, told) = tried(lab, row, store, Duration::ZERO, 1);
    let took = began.elapsed().as_secs_f64();
    let repeat =
        format!("cargo xtask faults queue --store {} --row {} --seed {}", store.name(), row.name, lab.seed);
    let closing = match &verdict {
        Verdict::Held => format!("    held, {took:.1}s"),
        Verdict::Broke => format!(
            "    BROKE, {took:.1}s; repeat it: {repeat}{}",
            if lab.is_quick { " --quick" } else { "" }
        ),
        Verdict::NotRun(reason) => format!("    NOT RUN: {reason}"),
    };
    let mut verdicts = verdicts.lock().unwrap_or_else(PoisonError::into_inner);
    println!("--> {name}\n{told}{closing}");
    verdicts.push(verdict);
}

fn judged(result: Result<()>, trial: &mut Trial<'_>) -> Verdict {
    match result {
        Err(error) if error.is::<CannotRun>() || error.is::<TooSlow>() => {
            return Verdict::NotRun(error.to_string());
        }
        Err(error) => trial.must(false, || format!("{error:#}")),
        Ok(()) => {}
    }
    if trial.account.broken.is_empty() { Verdict::Held } else { Verdict::Broke }
}
