//! `cargo xtask integration`: suites that need a server, which is brought, used and stopped.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::built::{Built, Program};
use crate::command_line::CommandLine;
use crate::redis::{Redis, Settings};
use crate::scratch::Scratch;
use crate::steps::{self, Step};
use crate::tally;

/// The variable by which tests find the server.
const TEST_REDIS_URL: &str = "TEST_REDIS_URL";

/// Tests of the command line that are about the durable tier, by a part of their names.
const DURABLE: [&str; 4] = ["durable", "queue", "dead_letter", "redis"];

/// What can be tried against a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// The durable tier, on SQLite and on a Redis server of our own
    Queue,
}

/// Runs the suites of the subject and prints, as the last line, `N passed, N failed`.
///
/// # Errors
/// Something does not compile, or there is no server.
pub(crate) fn run(subject: Subject) -> Result<ExitCode> {
    let Subject::Queue = subject;
    let built = Built::workspace()?;
    let scratch = Scratch::new()?;
    let redis = Redis::start(&scratch.path().join("redis"), &Settings::default())?;
    println!("    a Redis server for the tests: {TEST_REDIS_URL}={}", redis.url());

    let suite = |program: &Program, names: &[&str]| {
        let line = program.line().and(names.iter().copied()).with_variable(TEST_REDIS_URL, redis.url());
        let repeat = "cargo xtask integration queue".to_owned();
        Step::counted(program.name().to_owned(), repeat, move |tally| tally::run_counting(&line, tally))
    };
    let of_store = built.tests_of("backend-queue").map(|program| suite(program, &[]));
    let of_verbs = built.tests_of("scheduler-cli").filter(|program| program.name() == "cli");
    let steps: Vec<Step> = of_store.chain(of_verbs.map(|program| suite(program, &DURABLE))).collect();
    let report = steps::run(steps);

    report.print_summary("integration");
    println!("{} passed, {} failed", report.tally.passed, report.tally.failed);
    let is_green = report.is_green() && report.tally.failed == 0 && !report.tally.is_empty();
    Ok(if is_green { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The tests of the whole workspace beside a server.
pub(crate) fn workspace() -> Step {
    // Examples of cargo are built. Plain `cargo test`, because a machine may have no cargo plug-ins.
    let line = CommandLine::cargo("test --locked --workspace --all-features --no-fail-fast");
    Step::counted("workspace tests", "cargo xtask test workspace", move |tally| {
        let scratch = Scratch::new()?;
        // Without a server the other tests run all the same; those that need it say so.
        let redis = Redis::start(&scratch.path().join("redis"), &Settings::default());
        let line = match &redis {
            Ok(redis) => line.with_variable(TEST_REDIS_URL, redis.url()),
            Err(_) => line,
        };
        println!("    {line}");
        tally::run_counting(&line, tally)?;
        match redis {
            Ok(_) => Ok(()),
            Err(error) => Err(error).context("the tests had no Redis server"),
        }
    })
}
