//! Counts tests by the closing lines of test runners, while passing everything they print through.
//!
//! Only `test result: …` lines are read, the one part of libtest's and rustdoc's output that has kept its shape; the
//! runner's exit status stays the judge of whether it passed.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::charge::Charge;
use crate::command_line::CommandLine;
use crate::output::Output;

/// How many tests ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl Tally {
    /// Whether no test ran at all; an ignored test did not run.
    pub(crate) fn is_empty(&self) -> bool {
        self.passed + self.failed == 0
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// Runs the child, writes its output as it comes, and adds its closing lines to `tally`.
///
/// # Errors
/// As [`CommandLine::run`]; what was counted until then stays in `tally`.
pub(crate) fn run_counting(line: &CommandLine, tally: &mut Tally, output: &mut Output) -> Result<()> {
    if let Output::Kept(_) = output {
        let (said, child) = line.start_behind_others()?;
        count(BufReader::new(said), tally, output).with_context(|| format!("cannot read from `{line}`"))?;
        return line.judge(child.wait()?);
    }
    let mut command = line.command();
    command.stdout(Stdio::piped());
    let mut child = Charge::spawn(command).with_context(|| line.cannot_start())?;
    let said = child.child().stdout.take().expect("standard output is piped");
    count(BufReader::new(said), tally, output).with_context(|| format!("cannot read from `{line}`"))?;
    line.judge(child.wait()?)
}

fn count(mut said: impl BufRead, tally: &mut Tally, output: &mut Output) -> std::io::Result<()> {
    // Bytes, not strings: a test may print anything, and it is shown as it is.
    let mut printed = Vec::new();
    while said.read_until(b'\n', &mut printed)? > 0 {
        output.write(&printed)?;
        if let Some(closing) = closing_line(&String::from_utf8_lossy(&printed)) {
            tally.add(closing);
        }
        printed.clear();
    }
    Ok(())
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`; any other line is `None`.
fn closing_line(line: &str) -> Option<Tally> {
    let (_verdict, counts) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
    let count_of = |word: &str| {
        let mut counts = counts.split("; ").filter_map(|count| count.split_once(' '));
        counts.find(|(_, what)| *what == word)?.0.parse().ok()
    };
    Some(Tally { passed: count_of("passed")?, failed: count_of("failed")?, ignored: count_of("ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_counted_and_nothing_else_is() {
        let counted = |passed, failed, ignored| Some(Tally { passed, failed, ignored });
        let rest = "0 measured; 0 filtered out; finished in 0.00s";
        let cases = [
            (format!("test result: ok. 3 passed; 0 failed; 1 ignored; {rest}\n"), counted(3, 0, 1)),
            (format!("test result: FAILED. 10 passed; 2 failed; 0 ignored; {rest}"), counted(10, 2, 0)),
            (format!("  test result: ok. 0 passed; 0 failed; 0 ignored; {rest}\r\n"), counted(0, 0, 0)),
            ("running 3 tests\n".to_owned(), None),
            ("test closing_lines_are_counted ... ok\n".to_owned(), None),
            ("test result: ok.".to_owned(), None),
            ("test result: ok. many passed; 0 failed; 0 ignored".to_owned(), None),
            ("3 passed; 0 failed; 0 ignored".to_owned(), None),
            (String::new(), None),
        ];

        for (line, expected) in cases {
            assert_eq!(closing_line(&line), expected, "{line:?}");
        }
    }

    #[test]
    fn what_is_kept_is_counted_too_and_a_failure_is_told() {
        let script =
            "echo 'test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured'; echo said >&2; exit 101";
        let line = CommandLine::new("sh", "-c").and([script]);
        let (mut tally, mut output) = (Tally::default(), Output::Kept(Vec::new()));

        let error = run_counting(&line, &mut tally, &mut output).unwrap_err().to_string();

        assert_eq!(tally, Tally { passed: 3, failed: 1, ignored: 2 });
        assert!(error.ends_with("ended with exit status: 101"), "{error}");
        let Output::Kept(kept) = output else { panic!("{output:?}") };
        assert!(String::from_utf8(kept).unwrap().ends_with("\nsaid\n"));
    }

    #[test]
    fn a_tally_of_ignored_tests_alone_is_empty() {
        let ignored = Tally { ignored: 4, ..Tally::default() };
        let mut failed = ignored;
        failed.add(Tally { failed: 1, ..Tally::default() });

        assert!(ignored.is_empty());
        assert!(!failed.is_empty());
    }
}
