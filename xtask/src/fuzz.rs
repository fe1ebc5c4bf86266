//! `cargo xtask fuzz`: feeds inputs that nobody thought of to what reads configuration and names.
//!
//! libFuzzer comes as a crate, and rustc's own coverage passes guide it, so neither a nightly toolchain nor a plug-in of
//! cargo is needed, only a C++ compiler. New inputs are kept below the build folder; those in `seeds/` start every run.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::charge::Charge;
use crate::command_line::{CommandLine, target_folder, workspace_root};
use crate::cpp;
use crate::steps::Step;

const FOLDER: &str = "scheduler-cli/fuzz";

/// What the fuzz targets are built with: coverage of every edge and of what comparisons compare.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// How long a target runs as a part of `cargo xtask test`.
const SECONDS_IN_SUITE: u32 = 15;

/// How many lines of its log a finding without a panic shows.
const SHOWN_LINES: usize = 12;

/// A fuzz target in `scheduler-cli/fuzz/fuzz_targets/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// A configuration file, TOML and YAML, as `check` reads it
    Config,
    /// Cron expressions in each dialect, and their times both ways
    Cron,
    /// Names, ids, durations, instants, cron expressions and triggers
    Names,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Cron => "cron",
            Self::Names => "names",
        }
    }

    /// Longer inputs say nothing new.
    fn longest_input(self) -> u32 {
        match self {
            Self::Config => 4096,
            Self::Cron | Self::Names => 256,
        }
    }
}

/// Builds and runs the target, or all, for so long each.
///
/// # Errors
/// The targets cannot be built or started; a finding is an exit code.
pub(crate) fn run(target: Option<Target>, seconds: u32) -> Result<ExitCode> {
    let targets = target.map_or_else(|| Target::value_variants().to_vec(), |target| vec![target]);
    let findings = fuzz(&targets, seconds)?;
    findings.iter().for_each(|finding| println!("\n{finding}"));
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A short run of every target, whose build may have begun before.
pub(crate) fn suite(building: Option<Building>) -> Step {
    let repeat = format!("cargo xtask fuzz --seconds {SECONDS_IN_SUITE}");
    Step::rule("fuzz", repeat, || {
        building.map_or(Ok(()), Building::finish)?;
        let findings = fuzz(Target::value_variants(), SECONDS_IN_SUITE)?;
        if findings.is_empty() { Ok(()) } else { bail!("{}", findings.join("\n")) }
    })
}

/// What was found, as text with the input and the command that repeats it.
fn fuzz(targets: &[Target], seconds: u32) -> Result<Vec<String>> {
    cpp::ensure_compiler()?;
    let host = host()?;
    build(&host).run()?;
    std::thread::scope(|scope| {
        let searches: Vec<_> =
            targets.iter().map(|target| scope.spawn(|| search(*target, seconds, &host))).collect();
        let found = searches.into_iter().map(|search| match search.join() {
            Ok(found) => found,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        Ok(found.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    })
}

/// The flags would end up in build scripts too, were the target not named explicitly.
fn build(host: &str) -> CommandLine {
    CommandLine::cargo("build --release --locked --manifest-path")
        .and([format!("{FOLDER}/Cargo.toml").as_str(), "--target", host, "--target-dir"])
        .and([build_folder()])
        .with_variable("RUSTFLAGS", COVERAGE)
}

/// A build that goes on beside other steps, in the time that their waiting leaves.
#[derive(Debug)]
pub(crate) struct Building {
    child: Charge,
    log: String,
}

impl Building {
    /// # Errors
    /// There is no compiler, or the build cannot be started.
    pub(crate) fn begin() -> Result<Self> {
        cpp::ensure_compiler()?;
        let line = build(&host()?).behind_others();
        fs::create_dir_all(workspace_root().join(build_folder()))
            .with_context(|| format!("cannot make {}", build_folder()))?;
        let log = format!("{}/build.log", build_folder());
        let file =
            File::create(workspace_root().join(&log)).with_context(|| format!("cannot write {log}"))?;
        let also = file.try_clone().with_context(|| format!("cannot write {log}"))?;
        let mut command = line.command();
        command.stdin(Stdio::null()).stdout(also).stderr(file);
        Ok(Self { child: Charge::spawn(command).with_context(|| line.cannot_start())?, log })
    }

    /// Waits for its end. A build that failed is told by the one that follows, which finds the same.
    fn finish(self) -> Result<()> {
        self.child
            .wait()
            .map(drop)
            .with_context(|| format!("cannot wait for the build that writes {}", self.log))
    }
}

/// Runs one target; a finding is the text that tells of it.
fn search(target: Target, seconds: u32, host: &str) -> Result<Option<String>> {
    let name = target.name();
    let folder = |kind: &str| format!("{}/{kind}/{name}", build_folder());
    let (corpus, artifacts) = (folder("corpus"), folder("artifacts"));
    for folder in [&corpus, &artifacts] {
        fs::create_dir_all(workspace_root().join(folder)).with_context(|| format!("cannot make {folder}"))?;
    }
    let program = format!("{}/{host}/release/{name}", build_folder());
    let log_path = format!("{}/{name}.log", build_folder());
    let log =
        File::create(workspace_root().join(&log_path)).with_context(|| format!("cannot write {log_path}"))?;

    println!("    {name}: {seconds}s, log in {log_path}");
    let status = Command::new(workspace_root().join(&program))
        .args([&corpus, &format!("{FOLDER}/seeds/{name}")])
        .arg(format!("-dict={FOLDER}/{name}.dict"))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={}", target.longest_input()))
        .arg(format!("-artifact_prefix={artifacts}/"))
        .args(["-timeout=20", "-print_final_stats=1"])
        .env("RUST_BACKTRACE", "0")
        .current_dir(workspace_root())
        .stdout(Stdio::null())
        .stderr(log)
        .status()
        .with_context(|| format!("cannot start {program}"))?;

    let log =
        fs::read(workspace_root().join(&log_path)).with_context(|| format!("cannot read {log_path}"))?;
    let log = String::from_utf8_lossy(&log);
    if status.success() {
        let tried = stat(&log, "number_of_executed_units").unwrap_or("some");
        println!("    {name}: {tried} inputs, no finding");
        return Ok(None);
    }
    let input = written_input(&log).unwrap_or("(none was written)");
    Ok(Some(format!(
        "{name} has a finding:\n{}\nthe input: {input}\nrepeat it: {program} {input}\n\
         when it is mended, keep the input as {FOLDER}/seeds/{name}/WHAT_IT_WAS",
        told(&log)
    )))
}

/// Where the build of the targets goes; apart from the other builds, whose flags are different.
fn build_folder() -> String {
    Path::new(&target_folder()).join("fuzz").display().to_string()
}

fn host() -> Result<String> {
    let line = CommandLine::new("rustc", "--version --verbose");
    let answer = String::from_utf8(line.output()?).with_context(|| format!("cannot read `{line}`"))?;
    let host = answer.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.with_context(|| format!("`{line}` names no host"))?.to_owned())
}

/// `stat::NAME: VALUE`, as libFuzzer prints it.
fn stat<'a>(log: &'a str, name: &str) -> Option<&'a str> {
    log.lines()
        .find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name)?.strip_prefix(':').map(str::trim))
}

fn written_input(log: &str) -> Option<&str> {
    log.lines().rev().find_map(|line| line.split_once("Test unit written to ").map(|(_, path)| path.trim()))
}

/// The panic, or what libFuzzer says where there is none: a time or memory limit.
fn told(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let end_of_panic = |line: &&str| line.starts_with("note:") || line.starts_with("==");
    let panic = lines.iter().position(|line| line.contains("panicked at"));
    let shown: Vec<&str> = match panic {
        Some(start) => lines[start..].iter().copied().take_while(|line| !end_of_panic(line)).collect(),
        None => lines[lines.len().saturating_sub(SHOWN_LINES)..].to_vec(),
    };
    shown.iter().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINDING: &str = "\
        INFO: Seed: 1\n\
        #2\tINITED cov: 3 ft: 4 corp: 1/1b exec/s: 0 rss: 30Mb\n\
        thread '<unnamed>' panicked at fuzz_targets/names.rs:39:9:\n\
        `x` is wrong\n\
        note: run with `RUST_BACKTRACE=1`\n\
        ==7== ERROR: libFuzzer: deadly signal\n\
        artifact_prefix='a/'; Test unit written to a/crash-606e\n\
        Base64: MA==\n\
        stat::number_of_executed_units: 4711\n";

    #[test]
    fn a_finding_shows_the_panic_and_names_its_input() {
        let expected = "  thread '<unnamed>' panicked at fuzz_targets/names.rs:39:9:\n  `x` is wrong\n";
        assert_eq!(told(FINDING), expected);
        assert_eq!(written_input(FINDING), Some("a/crash-606e"));
        assert_eq!(stat(FINDING, "number_of_executed_units"), Some("4711"));
    }

    #[test]
    fn every_target_has_its_code_its_seeds_and_its_words() {
        let folder = workspace_root().join(FOLDER);
        for target in Target::value_variants() {
            let name = target.name();
            assert!(folder.join(format!("fuzz_targets/{name}.rs")).is_file(), "{name}");
            assert!(folder.join(format!("{name}.dict")).is_file(), "{name}");
            assert!(fs::read_dir(folder.join("seeds").join(name)).unwrap().count() > 0, "{name}");
        }
    }
}
