//! `cargo xtask test`: the check, then every suite, with one line at the end that says how many tests there were.

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use crate::lanes::{self, Lanes};
use crate::steps::{self, Report, Step};
use crate::{backends, built, check, examples, faults, fuzz, integration};

/// A suite that can be run by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// Unit and integration tests of the workspace, beside a Redis server
    Workspace,
    /// The tests in the documentation of the workspace
    Documentation,
    /// Each promise of a backend beside the broken backend that fails it
    ConformanceTable,
    /// Daemons of the durable tier that crash at any call, on a virtual clock, with two thousand seeds
    Simulation,
    /// The daemon under a clock that lies: steps, suspends, stalls, zones that change
    Clocks,
    /// The workflow tier on a Prefect server, which is installed below the build folder at first
    Workflow,
    /// The crates in examples/, as outside authors write them
    Examples,
    /// A backend made by `cargo xtask new-backend`
    NewBackend,
    /// The quick rows of what machines and servers do to the durable tier
    Faults,
    /// A short run of every fuzz target
    Fuzz,
}

/// Runs everything, or these suites only, and prints the summary and, as the last line, `N passed, N failed`.
///
/// # Errors
/// The workspace cannot be read at all; findings and failed tests are an exit code.
pub(crate) fn run(suites: &[Suite]) -> Result<ExitCode> {
    let report = if suites.is_empty() { lanes::run(everything()?) } else { only(suites) };
    let may_be_without_tests = !suites.is_empty() && !suites.iter().any(|suite| suite.has_tests());

    report.print_summary("test");
    let tally = report.tally;
    if tally.ignored > 0 {
        println!("{} ignored", tally.ignored);
    }
    // A filter or a broken runner that finds nothing to run would otherwise look like success.
    let has_tests = may_be_without_tests || !tally.is_empty();
    if !has_tests {
        println!("no test ran, which counts as a failure");
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);

    let is_green = report.is_green() && tally.failed == 0 && has_tests;
    Ok(if is_green { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The check and every suite. What a step shows by itself is left out of the tests of the workspace.
fn everything() -> Result<Lanes> {
    let (mut first, mut compiling) = check::quick_and_compiling()?;
    first.push(built::step());
    // Its folder is its own, so cargo builds it beside whatever else it builds.
    let mut building = fuzz::Building::begin().ok();
    let mut waiting = Vec::new();
    for suite in Suite::value_variants() {
        let lane = if suite.compiles() { &mut compiling } else { &mut waiting };
        lane.push(suite.step(&mut building, &backends::SHOWN));
    }
    Ok(Lanes { first, waiting, compiling })
}

fn only(suites: &[Suite]) -> Report {
    // Its build takes minutes of the processor, and the others mostly wait.
    let is_beside = suites.len() > 1 && suites.contains(&Suite::Fuzz);
    let mut building = if is_beside { fuzz::Building::begin().ok() } else { None };
    steps::run(suites.iter().map(|suite| suite.step(&mut building, &[])).collect())
}

impl Suite {
    /// Whether it runs tests that are counted.
    fn has_tests(self) -> bool {
        match self {
            Self::Fuzz | Self::Faults => false,
            Self::Workspace
            | Self::Documentation
            | Self::ConformanceTable
            | Self::Simulation
            | Self::Clocks
            | Self::Workflow
            | Self::Examples
            | Self::NewBackend => true,
        }
    }

    /// Whether cargo takes minutes for it.
    fn compiles(self) -> bool {
        match self {
            Self::Documentation | Self::Examples | Self::NewBackend => true,
            Self::Workspace
            | Self::ConformanceTable
            | Self::Simulation
            | Self::Clocks
            | Self::Workflow
            | Self::Faults
            | Self::Fuzz => false,
        }
    }

    /// Each brings what it needs; a new suite is a new step here.
    fn step(self, building: &mut Option<fuzz::Building>, shown: &'static [&'static str]) -> Step {
        match self {
            Self::Workspace => integration::workspace(shown),
            Self::Documentation => integration::documentation(),
            Self::Clocks => integration::clocks_suite(),
            Self::Workflow => integration::workflow_suite(),
            Self::ConformanceTable => backends::conformance_table(),
            Self::Simulation => backends::simulation(),
            Self::Examples => examples::suite(),
            Self::NewBackend => backends::new_backend(),
            Self::Fuzz => fuzz::suite(building.take()),
            Self::Faults => faults::suite(),
        }
    }
}
