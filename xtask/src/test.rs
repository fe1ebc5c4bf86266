//! `cargo xtask test`: the check, then every suite, with one line at the end that says how many tests there were.

use std::process::ExitCode;

use anyhow::Result;

use crate::command_line::CommandLine;
use crate::steps::{self, Step};
use crate::{check, examples, fuzz};

/// Runs everything, prints the summary and, as the last line, `N passed, N failed`.
///
/// # Errors
/// The workspace cannot be read at all; findings and failed tests are an exit code.
pub(crate) fn run() -> Result<ExitCode> {
    let mut steps = check::steps(&[])?;
    steps.extend(suites());

    let report = steps::run(steps);

    report.print_summary("test");
    let tally = report.tally;
    if tally.ignored > 0 {
        println!("{} ignored", tally.ignored);
    }
    // A filter or a broken runner that finds nothing to run would otherwise look like success.
    if tally.is_empty() {
        println!("no test ran, which counts as a failure");
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);

    let is_green = report.is_green() && tally.failed == 0 && !tally.is_empty();
    Ok(if is_green { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The suites, in order. Each brings what it needs; a new suite is a new step here.
fn suites() -> Vec<Step> {
    // Unit, integration and documentation tests; examples are built. Plain `cargo test`, because a machine may have no
    // cargo plug-ins.
    let workspace = CommandLine::cargo("test --locked --workspace --all-features --no-fail-fast");
    vec![Step::suite("workspace tests", workspace), examples::suite(), fuzz::suite()]
}
