//! The suite about backends of other authors: a new one is green at once, and what proves a backend can itself fail.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::command_line::{CommandLine, target_folder, workspace_root};
use crate::manifest;
use crate::new_backend::{self, Names, Site};
use crate::steps::Step;
use crate::tally::{self, Tally};

/// Makes a backend as `cargo xtask new-backend demo` does, and proves it.
pub(crate) fn new_backend() -> Step {
    Step::counted("new-backend", "cargo xtask test new-backend", prove)
}

/// Shows each promise of a backend beside the broken backend that fails it.
pub(crate) fn conformance_table() -> Step {
    // Some of the broken backends panic on purpose.
    let line = shown("--test conformance", "a_broken_backend_fails_its_promise_and_no_other")
        .with_variable("RUST_BACKTRACE", "0");
    shown_step("conformance table", line)
}

/// Runs the durable tier's simulation with many seeds, and shows how many, and what breaks without its checks.
pub(crate) fn simulation() -> Step {
    shown_step("simulation", shown("--lib", "simulation::").with_variable("SIMULATION_SEEDS", "2000"))
}

/// The tests of this name, with what they print; with the features of the whole workspace, so that nothing is compiled
/// again. The other crates have no such test.
fn shown(target: &str, name: &str) -> CommandLine {
    let line = CommandLine::cargo("test --quiet --locked --workspace --all-features");
    line.and(target.split(' ')).and(["--", "--nocapture", name])
}

/// They count where the workspace's tests do; here it matters that there was something to see.
fn shown_step(name: &str, line: CommandLine) -> Step {
    Step::counted(name, line.to_string(), move |_| {
        let mut shown = Tally::default();
        tally::run_counting(&line, &mut shown)?;
        if shown.is_empty() { bail!("no test of that name shows it") } else { Ok(()) }
    })
}

fn prove(tally: &mut Tally) -> Result<()> {
    let scratch = Scratch::new()?;
    let names: Names = "demo".parse()?;
    let core = workspace_root().join("scheduler-core").display().to_string();
    new_backend::create(&names, &Site { folder: scratch.0.clone(), core })?;
    manifest::stand_alone(&scratch.0.join("Cargo.toml"))?;
    new_backend::seed_lock_file(&scratch.0)?;
    new_backend::format(&scratch.0)?;

    let manifest = scratch.0.join("Cargo.toml").display().to_string();
    let cargo = |words: &str| CommandLine::cargo(words).and(["--manifest-path", &manifest]);
    let build = |words: &str| cargo(words).and(["--locked", "--target-dir", &target_folder()]);
    cargo("fmt --check").run()?;
    build("clippy --all-targets").and(["--", "-D", "warnings"]).run()?;
    tally::run_counting(&build("test"), tally)
}

/// A folder that is gone afterwards, whatever happened. It lies below the build folder under a name that stays, so that
/// cargo builds over what it built the last time.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let folder = workspace_root().join(target_folder()).join("new-backend");
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind, it would only be removed by the next run.
        let _ = fs::remove_dir_all(&self.0);
    }
}
