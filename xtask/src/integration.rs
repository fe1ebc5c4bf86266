//! `cargo xtask integration`: suites that need a server, which is brought, used and stopped.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::built::{Built, Program};
use crate::command_line::CommandLine;
use crate::faketime;
use crate::output::Output;
use crate::prefect::{GUARD, Guarded, POOL, Prefect};
use crate::redis::{Redis, Settings};
use crate::scratch::Scratch;
use crate::steps::{self, Report, Step};
use crate::tally::{self, Tally};
use crate::tool::{self, Tool};

/// The variable by which tests find the server.
const TEST_REDIS_URL: &str = "TEST_REDIS_URL";

/// Tests of the command line that are about the durable tier, by a part of their names.
const DURABLE: [&str; 4] = ["durable", "queue", "dead_letter", "redis"];

/// The variables by which tests find the API of a Prefect server, the pool that a worker serves, and the worker.
const TEST_PREFECT_URL: &str = "TEST_PREFECT_URL";
const TEST_PREFECT_POOL: &str = "TEST_PREFECT_POOL";
const TEST_PREFECT_WORKER: &str = "TEST_PREFECT_WORKER";

/// The variables by which they find a server that wants credentials: its API, the credentials, and how those are said
/// in a request.
const TEST_PREFECT_GUARDED_URL: &str = "TEST_PREFECT_GUARDED_URL";
const TEST_PREFECT_GUARD: &str = "TEST_PREFECT_GUARD";
const TEST_PREFECT_GUARD_SAID: &str = "TEST_PREFECT_GUARD_SAID";

/// The variable by which tests find what lets a clock lie.
const TEST_FAKETIME: &str = "TEST_FAKETIME";

/// Tests of the workflow tier that run at a time: each of their flow runs is a Python of its own, and the database of the server takes one
/// change at a time.
const AT_A_TIME: &str = "2";

/// Tests of the workspace that run at a time: many of them wait for daemons.
const OF_WORKSPACE_AT_A_TIME: &str = "4";

/// Clocks that lie at a time.
const CLOCKS_AT_A_TIME: &str = "8";

/// What can be tried against a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// The durable tier, on SQLite and on a Redis server of our own
    Queue,
    /// The daemon under a clock that lies, on the local and the durable tier
    Clocks,
    /// The workflow tier and the flow that we ship, on a Prefect server of our own with a worker
    Workflow,
}

/// Runs the suites of the subject and prints, as the last line, `N passed, N failed`.
///
/// # Errors
/// Something does not compile, or there is no server.
pub(crate) fn run(subject: Subject) -> Result<ExitCode> {
    let built = Built::workspace()?;
    let scratch = Scratch::new()?;
    let report = match subject {
        Subject::Queue => queue(built, &scratch)?,
        Subject::Clocks => clocks(built, &scratch)?,
        Subject::Workflow => workflow(built, &scratch)?,
    };

    report.print_summary("integration");
    println!("{} passed, {} failed", report.tally.passed, report.tally.failed);
    let is_green = report.is_green() && report.tally.failed == 0 && !report.tally.is_empty();
    Ok(if is_green { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn queue(built: &Built, scratch: &Scratch) -> Result<Report> {
    let redis = Redis::start(&scratch.path().join("redis"), &Settings::default())?;
    println!("    a Redis server for the tests: {TEST_REDIS_URL}={}", redis.url());

    let suite = |program: &Program, names: &[&str]| {
        let line = program.line().and(names.iter().copied()).with_variable(TEST_REDIS_URL, redis.url());
        step(program, "queue", line)
    };
    let of_store = built.tests_of("backend-queue").map(|program| suite(program, &[]));
    let of_verbs = built.tests_of("scheduler-cli").filter(|program| program.name() == "cli");
    let steps = of_store.chain(of_verbs.map(|program| suite(program, &DURABLE))).collect();
    Ok(steps::run(steps))
}

fn clocks(built: &Built, scratch: &Scratch) -> Result<Report> {
    let lines = clock_lines(built, scratch)?;
    Ok(steps::run(lines.into_iter().map(|(program, line)| step(program, "clocks", line)).collect()))
}

/// The tests under a clock that lies are marked as ignored, because a plain `cargo test` has none. Most of each is
/// waiting, so all of them run side by side.
fn clock_lines<'a>(built: &'a Built, scratch: &Scratch) -> Result<Vec<(&'a Program, CommandLine)>> {
    let faketime = faketime::library()?.display().to_string();
    let programs = built.tests_of("scheduler-cli").filter(|program| program.name() == "clocks");
    let line = |program: &Program| {
        let line = program.line().and(["--ignored", "--nocapture", "--test-threads", CLOCKS_AT_A_TIME]);
        line.with_variable(TEST_FAKETIME, &faketime)
            .with_variable("TMPDIR", scratch.path().display().to_string())
    };
    Ok(programs.map(|program| (program, line(program))).collect())
}

/// The daemon under a clock that lies.
pub(crate) fn clocks_suite() -> Step {
    Step::counted("clocks", "cargo xtask integration clocks", |tally, output| {
        let built = Built::workspace()?;
        let scratch = Scratch::new()?;
        count_all(clock_lines(built, &scratch)?.into_iter().map(|(_, line)| line), tally, output)
    })
}

fn workflow(built: &Built, scratch: &Scratch) -> Result<Report> {
    let servers = servers(scratch)?;
    let lines = workflow_lines(built, scratch, &servers);
    Ok(steps::run(lines.into_iter().map(|(program, line)| step(program, "workflow", line)).collect()))
}

fn step(program: &Program, subject: &str, line: CommandLine) -> Step {
    let repeat = format!("cargo xtask integration {subject}");
    Step::counted(program.name().to_owned(), repeat, move |tally, output| {
        tally::run_counting(&line, tally, output)
    })
}

/// A server with a worker, and one that asks for credentials.
fn servers(scratch: &Scratch) -> Result<(Prefect, Guarded)> {
    let guarded = Guarded::start(&scratch.path().join("guarded"))?;
    Ok((Prefect::start(&scratch.path().join("prefect"))?, guarded))
}

/// The tests that need a Prefect server are marked as ignored, because a plain `cargo test` has none.
fn workflow_lines<'a>(
    built: &'a Built,
    scratch: &Scratch,
    (prefect, guarded): &(Prefect, Guarded),
) -> Vec<(&'a Program, CommandLine)> {
    let of_tier = built.tests_of("backend-workflow").filter(|program| program.name().starts_with("prefect"));
    let of_verbs = built.tests_of("scheduler-cli").filter(|program| program.name() == "workflow");
    let line = |program: &Program| {
        let line = program.line().and(["--ignored", "--test-threads", AT_A_TIME]);
        let line = line.with_variable(TEST_PREFECT_URL, prefect.url()).with_variable(TEST_PREFECT_POOL, POOL);
        // What a run leaves behind is found by its folder, so the tests make theirs in ours.
        let line = line.with_variable("TMPDIR", scratch.path().display().to_string());
        let line = line.with_variable(TEST_PREFECT_WORKER, prefect.worker().to_string());
        let line = line.with_variable(TEST_PREFECT_GUARDED_URL, guarded.url());
        line.with_variable(TEST_PREFECT_GUARD, GUARD.0).with_variable(TEST_PREFECT_GUARD_SAID, GUARD.1)
    };
    of_tier.chain(of_verbs).map(|program| (program, line(program))).collect()
}

/// The tests of the workflow tier, on a server that is brought.
pub(crate) fn workflow_suite() -> Step {
    Step::counted("workflow", "cargo xtask integration workflow", |tally, output| {
        let built = Built::workspace()?;
        let scratch = Scratch::new()?;
        let servers = servers(&scratch)?;
        let lines = workflow_lines(built, &scratch, &servers);
        count_all(lines.into_iter().map(|(_, line)| line), tally, output)
    })
}

/// Runs all of them, whichever fails.
fn count_all(
    lines: impl IntoIterator<Item = CommandLine>,
    tally: &mut Tally,
    output: &mut Output,
) -> Result<()> {
    let mut failed = Vec::new();
    for line in lines {
        println!("    {line}");
        if let Err(error) = tally::run_counting(&line, tally, output) {
            failed.push(format!("{error:#}"));
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("; ")) }
}

/// What jobs are tried on.
const SUBJECTS: [Tool; 4] = [
    Tool { program: "git", package: "git", purpose: "makes the repositories of the suite" },
    Tool { program: "openssl", package: "openssl", purpose: "makes a certificate of the suite" },
    Tool { program: "python3", package: "python3", purpose: "is a stranger that opens the queue's file" },
    Tool { program: "redis-cli", package: "redis-tools", purpose: "fills the caches of the suite" },
];

/// The tests of the whole workspace beside a server, but for these.
///
/// Test programs are started here and not by cargo, which would wait for whatever it builds meanwhile.
pub(crate) fn workspace(skipped: &'static [&str]) -> Step {
    Step::counted("workspace tests", "cargo xtask test workspace", |tally, output| {
        let programs = Built::workspace()?.tests();
        let scratch = Scratch::new()?;
        // What is lacking fails at the end: tests that do without it run all the same.
        let lacks = SUBJECTS.iter().filter_map(|tool| tool::ensure(tool).err());
        let mut lacks: Vec<String> = lacks.map(|error| format!("{error:#}")).collect();
        lacks.iter().for_each(|lack| println!("    {lack}"));
        let redis = Redis::start(&scratch.path().join("redis"), &Settings::default());
        let line = |program: &Program| {
            let skipped = skipped.iter().flat_map(|name| ["--skip", name]);
            let line = program.line().and(skipped).with_variable("RUST_TEST_THREADS", OF_WORKSPACE_AT_A_TIME);
            match &redis {
                Ok(redis) => line.with_variable(TEST_REDIS_URL, redis.url()),
                Err(_) => line,
            }
        };
        let result = count_all(programs.into_iter().map(line), tally, output);
        lacks.extend(redis.err().map(|error| format!("the tests had no Redis server: {error:#}")));
        lacks.extend(result.err().map(|error| format!("{error:#}")));
        if lacks.is_empty() { Ok(()) } else { bail!("{}", lacks.join("; ")) }
    })
}

/// The tests in the documentation of the workspace, which cargo alone can run.
pub(crate) fn documentation() -> Step {
    let line = CommandLine::cargo("test --doc --locked --workspace --all-features --no-fail-fast");
    Step::suite("documentation tests", line)
}
