//! `cargo xtask bench`: measures us beside our peers, which are built for that and for nothing else.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::command_line::{CommandLine, target_folder, workspace_root};
use crate::prefect::Prefect;
use crate::redis::{AppendOnly, Redis, Settings};
use crate::scratch::Scratch;

/// The workspaces that measure a tier beside its peers.
const QUEUE: &str = "backend-queue/bench/Cargo.toml";
const LOCAL: &str = "backend-local/bench/Cargo.toml";
const CRON: &str = "scheduler-core/bench/Cargo.toml";
const JOBS: &str = "builtin-jobs/bench/Cargo.toml";

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// The durable tier beside stock apalis-redis or apalis-sqlite
    Queue,
    /// The workflow tier on a Prefect server of our own, beside a program that makes the same calls
    Workflow,
    /// The local tier at a million tasks, beside tokio-cron-scheduler, apalis-cron, clokwerk and plain intervals
    Local,
    /// The cron engine beside croner, cron and cronexpr, with the wrong answers of each
    Cron,
    /// The jobs that look after a machine: a million files beside `find -delete`, and targets and repositories that hang
    Jobs,
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
    /// Of the durable tier.
    pub(crate) store: Option<Store>,
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
    let scratch = Scratch::new()?;
    match (subject, options.store) {
        (Subject::Queue, Some(store)) => queue(store, options, &scratch)?,
        (Subject::Queue, None) => bail!("say where runs are kept: --store redis or --store sqlite"),
        (Subject::Workflow, None) => workflow(options, &scratch)?,
        (Subject::Local, None) => local(options)?,
        (Subject::Cron, None) => cron(options)?,
        (Subject::Jobs, None) => jobs(options, &scratch)?,
        (Subject::Workflow, Some(_)) => bail!("--store belongs to `queue`: Prefect keeps the runs"),
        (Subject::Local, Some(_)) => bail!("--store belongs to `queue`: the local tier keeps runs in memory"),
        (Subject::Cron, Some(_)) => bail!("--store belongs to `queue`: a cron engine keeps nothing"),
        (Subject::Jobs, Some(_)) => bail!("--store belongs to `queue`: these jobs are measured without one"),
    }
    Ok(ExitCode::SUCCESS)
}

fn queue(store: Store, options: Options, scratch: &Scratch) -> Result<()> {
    build(QUEUE)?;
    let line = program("release/backend-queue-bench").and(words(options));
    match store {
        Store::Sqlite => line.and(["--sqlite".to_owned(), scratch.path().display().to_string()]).run(),
        Store::Redis => {
            let settings = Settings { append_only: AppendOnly::EverySecond, ..Settings::default() };
            let redis = Redis::start(&scratch.path().join("redis"), &settings)?;
            line.and(["--redis".to_owned(), redis.url()]).run()
        }
    }
}

fn workflow(options: Options, scratch: &Scratch) -> Result<()> {
    CommandLine::cargo("build --release --locked --package backend-workflow --example workflow-bench")
        .and(["--target-dir", &build_folder()])
        .run()?;
    let prefect = Prefect::start(&scratch.path().join("prefect"))?;
    program("release/examples/workflow-bench").and([prefect.url()]).and(words(options)).run()
}

fn local(options: Options) -> Result<()> {
    build(LOCAL)?;
    // The daemon as people install it.
    CommandLine::cargo("build --release --locked --package scheduler-cli")
        .and(["--target-dir", &build_folder()])
        .run()?;
    let daemon = workspace_root().join(build_folder()).join("release/scheduler");
    program("release/backend-local-bench")
        .and(words(options))
        .and(["--daemon".to_owned(), daemon.display().to_string()])
        .run()
}

fn cron(options: Options) -> Result<()> {
    build(CRON)?;
    program("release/scheduler-core-bench").and(words(options)).run()
}

fn jobs(options: Options, scratch: &Scratch) -> Result<()> {
    build(JOBS)?;
    program("release/builtin-jobs-bench")
        .and(words(options))
        .and(["--folder".to_owned(), scratch.path().display().to_string()])
        .run()
}

fn build(manifest: &str) -> Result<()> {
    CommandLine::cargo("build --release --locked --manifest-path")
        .and([manifest, "--target-dir", &build_folder()])
        .run()
}

fn program(path: &str) -> CommandLine {
    CommandLine::program(workspace_root().join(build_folder()).join(path).display().to_string())
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
        for path in [QUEUE, LOCAL, CRON, JOBS] {
            let manifest = std::fs::read_to_string(workspace_root().join(path)).unwrap();
            assert!(manifest.lines().any(|line| line == "[workspace]"), "{path}");
        }
        let options = Options { store: Some(Store::Redis), output: Output::Json, quick: true };
        assert_eq!(words(options), ["--json", "--quick"]);
    }
}
