//! Runs named steps one after another and says at the end which of them failed.
//!
//! A failed step stops nothing: whoever waited for a long run wants every finding at once, each with the command that
//! repeats it alone.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::command_line::CommandLine;
use crate::output::Output;
use crate::tally::{self, Tally};

/// One named thing to do.
pub(crate) struct Step {
    name: String,
    repeat: String,
    work: Work,
}

enum Work {
    Command(CommandLine),
    Suite(CommandLine),
    Rule(Box<dyn FnOnce() -> Result<()> + Send>),
    Counted(Box<CountedWork>),
}

type CountedWork = dyn FnOnce(&mut Tally, &mut Output) -> Result<()> + Send;

impl Step {
    /// A child process, judged by its exit status.
    pub(crate) fn command(name: impl Into<String>, line: CommandLine) -> Self {
        Self { name: name.into(), repeat: line.to_string(), work: Work::Command(line) }
    }

    /// A child process that runs tests: judged by its exit status, and its closing lines are counted.
    pub(crate) fn suite(name: impl Into<String>, line: CommandLine) -> Self {
        Self { name: name.into(), repeat: line.to_string(), work: Work::Suite(line) }
    }

    /// A rule that this process checks itself, and prints of; `repeat` is the command that checks it alone.
    pub(crate) fn rule(
        name: impl Into<String>,
        repeat: impl Into<String>,
        rule: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Self {
        Self { name: name.into(), repeat: repeat.into(), work: Work::Rule(Box::new(rule)) }
    }

    /// Work of this process that runs tests and counts them.
    pub(crate) fn counted(
        name: impl Into<String>,
        repeat: impl Into<String>,
        work: impl FnOnce(&mut Tally, &mut Output) -> Result<()> + Send + 'static,
    ) -> Self {
        Self { name: name.into(), repeat: repeat.into(), work: Work::Counted(Box::new(work)) }
    }

    /// Does it, and writes its name, its findings and its time.
    pub(crate) fn run(self, output: &mut Output) -> Done {
        let Self { name, repeat, work } = self;
        output.line(&format!("==> {name}: {repeat}"));
        let start = Instant::now();
        let mut tally = Tally::default();
        let result = match work {
            Work::Command(line) => line.run_to(output),
            Work::Suite(line) => tally::run_counting(&line, &mut tally, output),
            Work::Rule(rule) => rule(),
            Work::Counted(work) => work(&mut tally, output),
        };

        let took = start.elapsed().as_secs_f64();
        output.line(&match &result {
            Ok(()) => format!("    ok, {took:.1}s"),
            Err(error) => format!("    FAILED, {took:.1}s: {error:#}"),
        });
        Done { failure: result.is_err().then_some(Failure { name, repeat }), tally }
    }
}

/// What one step came to.
#[derive(Debug)]
pub(crate) struct Done {
    failure: Option<Failure>,
    tally: Tally,
}

/// What a list of steps came to.
#[derive(Debug, Default)]
pub(crate) struct Report {
    steps: usize,
    failures: Vec<Failure>,
    pub(crate) took: Duration,
    /// Tests that the suites among the steps ran.
    pub(crate) tally: Tally,
}

#[derive(Debug)]
struct Failure {
    name: String,
    repeat: String,
}

impl Report {
    pub(crate) fn add(&mut self, done: Done) {
        self.steps += 1;
        self.failures.extend(done.failure);
        self.tally.add(done.tally);
    }

    pub(crate) fn is_green(&self) -> bool {
        self.failures.is_empty()
    }

    /// Prints what failed and how to repeat it; `command` is the sub-command that ran the steps.
    pub(crate) fn print_summary(&self, command: &str) {
        print!("{}", self.summary(command));
    }

    pub(crate) fn summary(&self, command: &str) -> String {
        let Self { steps, failures, took, .. } = self;
        if failures.is_empty() {
            return format!("\n{command}: all {steps} steps passed in {:.1}s\n", took.as_secs_f64());
        }

        let width = failures.iter().map(|failure| failure.name.len()).max().unwrap_or(0);
        let lines: String =
            failures.iter().map(|Failure { name, repeat }| format!("  {name:width$}  {repeat}\n")).collect();
        format!("\n{command}: {} of {steps} steps failed; repeat one with\n{lines}", failures.len())
    }
}

/// Runs every step, in order, and prints each one's name, findings and time.
pub(crate) fn run(steps: Vec<Step>) -> Report {
    let start = Instant::now();
    let mut report = Report::default();
    for step in steps {
        report.add(step.run(&mut Output::Shown));
    }
    report.took = start.elapsed();
    report
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn a_failed_step_does_not_stop_the_ones_after_it() {
        let steps = vec![
            Step::rule("first", "repeat first", || bail!("broken")),
            Step::rule("second", "repeat second", || Ok(())),
            Step::rule("third", "repeat third", || bail!("broken too")),
        ];

        let report = run(steps);

        let failed: Vec<&str> = report.failures.iter().map(|failure| failure.repeat.as_str()).collect();
        assert_eq!(failed, ["repeat first", "repeat third"]);
        assert_eq!(report.steps, 3);
    }

    #[test]
    fn a_child_that_fails_makes_the_report_red() {
        let report =
            run(vec![Step::command("broken", CommandLine::new("no-such-program-anywhere", "--flag"))]);

        assert!(!report.is_green());
    }
}
