//! Runs named steps one after another and says at the end which of them failed.
//!
//! A failed step stops nothing: whoever waited for a long run wants every finding at once, each with the command that
//! repeats it alone.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::command_line::CommandLine;
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
    Rule(Box<dyn FnOnce() -> Result<()>>),
    Counted(Box<CountedWork>),
}

type CountedWork = dyn FnOnce(&mut Tally) -> Result<()>;

impl Step {
    /// A child process, judged by its exit status.
    pub(crate) fn command(name: impl Into<String>, line: CommandLine) -> Self {
        Self { name: name.into(), repeat: line.to_string(), work: Work::Command(line) }
    }

    /// A child process that runs tests: judged by its exit status, and its closing lines are counted.
    pub(crate) fn suite(name: impl Into<String>, line: CommandLine) -> Self {
        Self { name: name.into(), repeat: line.to_string(), work: Work::Suite(line) }
    }

    /// A rule that this process checks itself; `repeat` is the command that checks it alone.
    pub(crate) fn rule(
        name: impl Into<String>,
        repeat: impl Into<String>,
        rule: impl FnOnce() -> Result<()> + 'static,
    ) -> Self {
        Self { name: name.into(), repeat: repeat.into(), work: Work::Rule(Box::new(rule)) }
    }

    /// Work of this process that runs tests and counts them.
    pub(crate) fn counted(
        name: impl Into<String>,
        repeat: impl Into<String>,
        work: impl FnOnce(&mut Tally) -> Result<()> + 'static,
    ) -> Self {
        Self { name: name.into(), repeat: repeat.into(), work: Work::Counted(Box::new(work)) }
    }
}

/// What a list of steps came to.
#[derive(Debug, Default)]
pub(crate) struct Report {
    steps: usize,
    failures: Vec<Failure>,
    took: Duration,
    /// Tests that the suites among the steps ran.
    pub(crate) tally: Tally,
}

#[derive(Debug)]
struct Failure {
    name: String,
    repeat: String,
}

impl Report {
    pub(crate) fn is_green(&self) -> bool {
        self.failures.is_empty()
    }

    /// Prints what failed and how to repeat it; `command` is the sub-command that ran the steps.
    pub(crate) fn print_summary(&self, command: &str) {
        let Self { steps, failures, took, .. } = self;
        if failures.is_empty() {
            println!("\n{command}: all {steps} steps passed in {:.1}s", took.as_secs_f64());
            return;
        }

        println!("\n{command}: {} of {steps} steps failed; repeat one with", failures.len());
        let width = failures.iter().map(|failure| failure.name.len()).max().unwrap_or(0);
        for Failure { name, repeat } in failures {
            println!("  {name:width$}  {repeat}");
        }
    }
}

/// Runs every step, in order, and prints each one's name, findings and time.
pub(crate) fn run(steps: Vec<Step>) -> Report {
    let start = Instant::now();
    let mut report = Report { steps: steps.len(), ..Report::default() };

    for Step { name, repeat, work } in steps {
        println!("==> {name}: {repeat}");
        let step_start = Instant::now();
        let result = match work {
            Work::Command(line) => line.run(),
            Work::Suite(line) => tally::run_counting(&line, &mut report.tally),
            Work::Rule(rule) => rule(),
            Work::Counted(work) => work(&mut report.tally),
        };

        let took = step_start.elapsed().as_secs_f64();
        match result {
            Ok(()) => println!("    ok, {took:.1}s"),
            Err(error) => {
                println!("    FAILED, {took:.1}s: {error:#}");
                report.failures.push(Failure { name, repeat });
            }
        }
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
