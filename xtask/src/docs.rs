//! `cargo xtask docs`: writes the pages that are made from the code.
//!
//! The test that compares a page with the code also writes it, when it is told to; so what writes and what checks
//! cannot disagree.

use std::process::ExitCode;

use anyhow::Result;

use crate::command_line::CommandLine;

/// Writes the decision matrix.
///
/// # Errors
/// The test that writes it failed.
pub(crate) fn run() -> Result<ExitCode> {
    let matrix = CommandLine::cargo("test --quiet --package scheduler-core --test decision_matrix");
    matrix.with_variable("UPDATE_DOCS", "1").run()?;
    println!("wrote docs/decision-matrix.md");
    Ok(ExitCode::SUCCESS)
}
