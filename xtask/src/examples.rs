//! The crates in `examples/`, a workspace of their own that knows ours as an outside author would.
//!
//! It builds into the same folder as the main workspace, so that what both use in the same way is compiled once.

use crate::command_line::{CommandLine, target_folder};
use crate::steps::Step;

/// Format and lints.
pub(crate) fn checks() -> Vec<Step> {
    let format = CommandLine::cargo("fmt --manifest-path examples/Cargo.toml --all --check");
    let clippy = cargo("clippy --all-targets").and(["--", "-D", "warnings"]);
    vec![Step::command("format, examples", format), Step::command("clippy, examples", clippy)]
}

/// Their tests, and those of the programs they build.
pub(crate) fn suite() -> Step {
    Step::suite("examples", cargo("test --no-fail-fast"))
}

fn cargo(words: &str) -> CommandLine {
    CommandLine::cargo(words)
        .and("--locked --manifest-path examples/Cargo.toml --workspace --all-features".split(' '))
        .and(["--target-dir".to_owned(), target_folder()])
}
