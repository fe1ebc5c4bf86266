//! `cargo xtask check`: everything that can be said about the workspace without running it.

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use crate::command_line::{CommandLine, workspace_root};
use crate::metadata::{self, Member};
use crate::steps::{self, Step};
use crate::{alone, arrows, codes, examples, features, house, locks, paths};

/// A part of the check that can be run by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Formatting by rustfmt
    Format,
    /// Lints of the whole workspace, all targets, all features
    Clippy,
    /// Lints with no features, with each feature alone, with all of them
    Features,
    /// Lints of each crate by itself, without its development dependencies
    Alone,
    /// Formatting and lints of the crates in examples/
    Examples,
    /// Documentation without warnings
    Docs,
    /// Dependencies between the workspace's crates point down only
    Arrows,
    /// Names of Rust files; long files are reported
    House,
    /// Every error code is explained in docs/troubleshooting.md
    Codes,
    /// The lock files of the workspaces beside the main one follow that one
    Locks,
    /// No tracked file mentions a home folder
    Paths,
}

/// Runs the parts, or all of them when `parts` is empty.
///
/// # Errors
/// The workspace cannot be read at all; findings are an exit code.
pub(crate) fn run(parts: &[Part]) -> Result<ExitCode> {
    let report = steps::run(steps(parts)?);
    report.print_summary("check");
    Ok(if report.is_green() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The steps of the parts, or of all when `parts` is empty, always in the order of [`Part`].
pub(crate) fn steps(parts: &[Part]) -> Result<Vec<Step>> {
    let members = metadata::members()?;
    let is_wanted = |part: &&Part| parts.is_empty() || parts.contains(part);
    Ok(Part::value_variants().iter().filter(is_wanted).flat_map(|part| part.steps(&members)).collect())
}

/// All of it: what tells at once, and what compiles.
///
/// # Errors
/// As [`run`].
pub(crate) fn quick_and_compiling() -> Result<(Vec<Step>, Vec<Step>)> {
    let members = metadata::members()?;
    let steps = |compiles: bool| {
        let parts = Part::value_variants().iter().filter(move |part| part.compiles() == compiles);
        parts.flat_map(|part| part.steps(&members)).collect()
    };
    Ok((steps(false), steps(true)))
}

impl Part {
    /// Whether it takes minutes of cargo.
    fn compiles(self) -> bool {
        match self {
            Self::Clippy | Self::Features | Self::Alone | Self::Examples | Self::Docs => true,
            Self::Format | Self::Arrows | Self::House | Self::Codes | Self::Locks | Self::Paths => false,
        }
    }

    fn steps(self, members: &[Member]) -> Vec<Step> {
        match self {
            Self::Format => vec![
                Step::command("format", CommandLine::cargo("fmt --all --check")),
                Step::command(
                    "format, fuzz",
                    CommandLine::cargo("fmt --manifest-path scheduler-cli/fuzz/Cargo.toml --check"),
                ),
                Step::command(
                    "format, bench of the queue",
                    CommandLine::cargo("fmt --manifest-path backend-queue/bench/Cargo.toml --check"),
                ),
                Step::command(
                    "format, bench of the local tier",
                    CommandLine::cargo("fmt --manifest-path backend-local/bench/Cargo.toml --check"),
                ),
                Step::command(
                    "format, bench of cron",
                    CommandLine::cargo("fmt --manifest-path scheduler-core/bench/Cargo.toml --check"),
                ),
                Step::command(
                    "format, bench of the jobs",
                    CommandLine::cargo("fmt --manifest-path builtin-jobs/bench/Cargo.toml --check"),
                ),
            ],
            Self::Clippy => vec![Step::command(
                "clippy",
                CommandLine::cargo("clippy --locked --workspace --all-targets --all-features -- -D warnings"),
            )],
            Self::Features => features::steps(members),
            Self::Alone => alone::steps(members),
            Self::Examples => examples::checks(),
            Self::Docs => vec![Step::command(
                "docs",
                CommandLine::cargo("doc --locked --workspace --no-deps --all-features")
                    .with_variable("RUSTDOCFLAGS", "-D warnings"),
            )],
            Self::Arrows => {
                // Judged at once, because a step outlives the borrowed members.
                let verdict = arrows::check(members);
                vec![Step::rule("arrows", "cargo xtask check arrows", || verdict)]
            }
            Self::House => {
                vec![Step::rule("house", "cargo xtask check house", || house::check(workspace_root()))]
            }
            Self::Codes => {
                vec![Step::rule("codes", "cargo xtask check codes", || codes::check(workspace_root()))]
            }
            Self::Locks => {
                vec![Step::rule("locks", "cargo xtask check locks", || locks::check(workspace_root()))]
            }
            Self::Paths => vec![Step::rule("paths", "cargo xtask check paths", paths::check)],
        }
    }
}
