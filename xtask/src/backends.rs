//! The suite about backends of other authors: a new one is green at once, and what proves a backend can itself fail.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::built::{Built, Program};
use crate::command_line::{CommandLine, target_folder, workspace_root};
use crate::manifest;
use crate::new_backend::{self, Names, Site};
use crate::output::Output;
use crate::steps::Step;
use crate::tally::{self, Tally};

/// Makes a backend as `cargo xtask new-backend demo` does, and proves it.
pub(crate) fn new_backend() -> Step {
    Step::counted("new-backend", "cargo xtask test new-backend", prove)
}

/// The tests that steps of their own show, as test programs take them out by `--skip`.
pub(crate) const SHOWN: [&str; 2] = [BROKEN_BACKENDS, SIMULATIONS];

const BROKEN_BACKENDS: &str = "a_broken_backend_fails_its_promise_and_no_other";
const SIMULATIONS: &str = "simulation::";

/// Shows each promise of a backend beside the broken backend that fails it.
pub(crate) fn conformance_table() -> Step {
    // Some of the broken backends panic on purpose.
    shown_step("conformance table", "conformance-table", BROKEN_BACKENDS, ("RUST_BACKTRACE", "0"))
}

/// Runs the durable tier's simulation with many seeds, and shows how many, and what breaks without its checks.
pub(crate) fn simulation() -> Step {
    shown_step("simulation", "simulation", SIMULATIONS, ("SIMULATION_SEEDS", "2000"))
}

/// The tests of this name, with what they print.
fn shown_step(
    name: &str,
    suite: &str,
    test: &'static str,
    (variable, value): (&'static str, &'static str),
) -> Step {
    Step::counted(name, format!("cargo xtask test {suite}"), move |tally, output| {
        let before = *tally;
        for program in Built::workspace()?.tests() {
            if has_test(program, test)? {
                let line =
                    program.line().and(["--quiet", "--nocapture", test]).with_variable(variable, value);
                println!("    {line}");
                tally::run_counting(&line, tally, output)?;
            }
        }
        if *tally == before { bail!("no test of that name shows it") } else { Ok(()) }
    })
}

fn has_test(program: &Program, name: &str) -> Result<bool> {
    Ok(!program.line().and(["--list", "--format=terse", name]).output()?.is_empty())
}

fn prove(tally: &mut Tally, output: &mut Output) -> Result<()> {
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
    cargo("fmt --check").run_to(output)?;
    build("clippy --all-targets").and(["--", "-D", "warnings"]).run_to(output)?;
    tally::run_counting(&build("test"), tally, output)
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
