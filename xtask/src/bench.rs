//! `cargo xtask bench`: measures us beside our peers, which are built for that and for nothing else.

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use crate::command_line::{CommandLine, target_folder, workspace_root};
use crate::redis::{AppendOnly, Redis, Settings};
use crate::scratch::Scratch;

const MANIFEST: &str = "backend-queue/bench/Cargo.toml";

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// The durable tier beside stock apalis-redis or apalis-sqlite
    Queue,
}

/// Where the durable tier keeps its runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Store {
    /// A Redis server of our own, which writes its append-only file to the disk every second
    Redis,
    /// Files, once with each `synchronous`
    Sqlite,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Table,
    /// Every figure with its samples, the settings and the versions
    Json,
}

/// What to measure, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) store: Store,
    pub(crate) output: Output,
    /// Whether to measure less, to see that all of it works.
    pub(crate) quick: bool,
}

/// Builds the program that measures, and runs it.
///
/// # Errors
/// It cannot be built, there is no server, or jobs get lost. A target that is not reached is told and no error: the
/// machine may be busy.
pub(crate) fn run(subject: Subject, options: Options) -> Result<ExitCode> {
    let Subject::Queue = subject;
    CommandLine::cargo("build --release --locked --manifest-path")
        .and([MANIFEST, "--target-dir", &build_folder()])
        .run()?;

    let scratch = Scratch::new()?;
    let program = workspace_root().join(build_folder()).join("release/backend-queue-bench");
    let line = CommandLine::program(program.display().to_string()).and(words(options));
    match options.store {
        Store::Sqlite => line.and(["--sqlite".to_owned(), scratch.path().display().to_string()]).run()?,
        Store::Redis => {
            let settings = Settings { append_only: AppendOnly::EverySecond, ..Settings::default() };
            let redis = Redis::start(&scratch.path().join("redis"), &settings)?;
            line.and(["--redis".to_owned(), redis.url()]).run()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn words(options: Options) -> Vec<&'static str> {
    let Options { output, quick, .. } = options;
    let json = (output == Output::Json).then_some("--json");
    json.into_iter().chain(quick.then_some("--quick")).collect()
}

/// Apart from the other builds, whose dependencies have other features.
fn build_folder() -> String {
    format!("{}/bench", target_folder())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_a_workspace_of_its_own() {
        let manifest = std::fs::read_to_string(workspace_root().join(MANIFEST)).unwrap();
        assert!(manifest.lines().any(|line| line == "[workspace]"));
        let options = Options { store: Store::Redis, output: Output::Json, quick: true };
        assert_eq!(words(options), ["--json", "--quick"]);
    }
}
