//! `cargo xtask audit`: what the workspace's dependencies are, may be used under, and come from.
//!
//! The rules are in `deny.toml`. Advisories are not asked for: they change without a commit of ours, so they belong to a
//! scheduled job and not to something that decides about a change.

use std::process::ExitCode;

use anyhow::Result;

use crate::command_line::CommandLine;
use crate::steps::{self, Step};

/// Runs cargo-deny; exits with 2 when it is not installed.
///
/// # Errors
/// Cargo itself cannot be started.
pub(crate) fn run() -> Result<ExitCode> {
    if !CommandLine::cargo("deny --version").command().output()?.status.success() {
        eprintln!("error: cargo-deny is not installed; install it with `cargo install cargo-deny --locked`");
        return Ok(ExitCode::from(2));
    }

    // Cargo-deny looks at the dependencies of every platform, and a build downloads those of this one only.
    let fetch = CommandLine::cargo("fetch --locked");
    let deny = CommandLine::cargo("deny --offline check bans licenses sources");
    let report = steps::run(vec![Step::command("fetch", fetch), Step::command("deny", deny)]);
    report.print_summary("audit");
    Ok(if report.is_green() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
