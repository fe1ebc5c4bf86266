//! The rows of the workflow tier: what a network and a server do to the request that starts a run.
//!
//! They are a test of the tier, beside a server that does wrong on demand, and print what they did and found as they
//! go; here they are started and counted.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::built::Built;

/// The test whose output the rows are.
const TEST: &str = "a_fire_starts_at_most_one_run_whatever_the_server_does";

/// Runs the rows and prints each; the last line is `faults: N rows held, M broke, K not run`.
///
/// # Errors
/// Something does not compile, or there are no rows.
pub(crate) fn all_hold() -> Result<bool> {
    let built = Built::workspace()?;
    let program = built.tests_of("backend-workflow").find(|program| program.name() == "faults");
    let line = program.context("backend-workflow has no test `faults`")?.line().and([TEST, "--nocapture"]);
    let mut child = line.command().stdout(Stdio::piped()).spawn().with_context(|| line.cannot_start())?;
    let output = BufReader::new(child.stdout.take().context("its output is not piped")?);
    let mut count = Count::default();
    for said in output.lines() {
        if let Some(shown) = count.take(&said.with_context(|| format!("cannot read from `{line}`"))?) {
            println!("{shown}");
        }
    }
    let status = child.wait()?;
    let Count { rows, held, broke } = count;
    let not_run = rows - held - broke;
    println!("faults: {held} rows held, {broke} broke, {not_run} not run");
    Ok(status.success() && held > 0 && broke + not_run == 0)
}

/// How many rows there were, and what they came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    rows: usize,
    held: usize,
    broke: usize,
}

impl Count {
    /// Counts a line, and answers what of it belongs to a row.
    fn take<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        // The runner of the tests may begin the line.
        if let Some(at) = line.find("--> ") {
            self.rows += 1;
            return Some(&line[at..]);
        }
        self.held += usize::from(line.starts_with("    held, "));
        self.broke += usize::from(line.starts_with("    BROKE, "));
        line.starts_with("    ").then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_from_what_the_runner_says() {
        let told = "running 1 test\ntest rows::a ... --> nothing\n    expected: created\n    held, 0.1s\n\
                    --> a blackhole\n    BROKE, 3.0s\n--> a page\n\ntest result: ok. 1 passed";
        let mut count = Count::default();

        let shown: Vec<&str> = told.lines().filter_map(|line| count.take(line)).collect();

        assert_eq!(count, Count { rows: 3, held: 1, broke: 1 });
        assert_eq!(shown[..2], ["--> nothing", "    expected: created"]);
        assert!(!shown.iter().any(|line| line.contains("test result")), "{shown:?}");
    }
}
