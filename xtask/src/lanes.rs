//! Runs steps that mostly wait beside steps that mostly compile.
//!
//! What waits speaks as it goes and has the machine to itself whenever it wants it. What compiles takes the time that is
//! left, at the lowest priority, so that no test is late because of it; what it says is kept, and printed whole when
//! nobody else is speaking.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::output::Output;
use crate::steps::{self, Done, Report, Step};

/// What is done, and what of it at the same time.
#[derive(Default)]
pub(crate) struct Lanes {
    /// What comes before all others.
    pub(crate) first: Vec<Step>,
    /// One after another, each speaking as it goes.
    pub(crate) waiting: Vec<Step>,
    /// One after another beside those, for cargo builds one thing at a time. Of these no rule may be one that prints.
    pub(crate) compiling: Vec<Step>,
}

/// What may be printed, and whether somebody is speaking.
#[derive(Debug, Default)]
struct Stage {
    is_taken: bool,
    /// What has ended meanwhile.
    held: Vec<u8>,
}

/// Runs every step, whichever fails.
pub(crate) fn run(lanes: Lanes) -> Report {
    let start = Instant::now();
    let Lanes { first, waiting, compiling } = lanes;
    let mut report = steps::run(first);
    let stage = Mutex::new(Stage::default());

    let beside = std::thread::scope(|scope| {
        let beside = scope.spawn(|| compiling.into_iter().map(|step| kept(step, &stage)).collect::<Vec<_>>());
        for step in waiting {
            report.add(shown(step, &stage));
        }
        beside.join()
    });
    match beside {
        Ok(beside) => beside.into_iter().for_each(|done| report.add(done)),
        Err(panic) => std::panic::resume_unwind(panic),
    }

    report.took = start.elapsed();
    report
}

/// Runs a step that speaks as it goes, and prints what has ended meanwhile after it.
fn shown(step: Step, stage: &Mutex<Stage>) -> Done {
    with(stage, |stage| stage.is_taken = true);
    let done = step.run(&mut Output::Shown);
    with(stage, |stage| {
        stage.is_taken = false;
        print(&std::mem::take(&mut stage.held));
    });
    done
}

/// Runs a step that speaks at its end, then or when whoever is speaking has ended.
fn kept(step: Step, stage: &Mutex<Stage>) -> Done {
    let mut output = Output::Kept(Vec::new());
    let done = step.run(&mut output);
    if let Output::Kept(said) = output {
        with(stage, |stage| if stage.is_taken { stage.held.extend(said) } else { print(&said) });
    }
    done
}

fn with<T>(stage: &Mutex<Stage>, change: impl FnOnce(&mut Stage) -> T) -> T {
    change(&mut stage.lock().unwrap_or_else(PoisonError::into_inner))
}

fn print(said: &[u8]) {
    print!("{}", String::from_utf8_lossy(said));
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use anyhow::bail;

    use super::*;
    use crate::command_line::CommandLine;

    #[test]
    fn both_lanes_go_on_at_the_same_time_and_each_failure_is_told() {
        let (one, heard_by_other) = mpsc::channel();
        let (other, heard_by_one) = mpsc::channel();
        let lanes = Lanes {
            first: vec![Step::rule("first", "repeat first", || Ok(()))],
            // Each ends only when the other is under way.
            waiting: vec![Step::rule("waits", "repeat waits", move || {
                one.send(())?;
                heard_by_one.recv()?;
                bail!("broken")
            })],
            compiling: vec![
                Step::counted("compiles", "repeat compiles", move |tally, _| {
                    other.send(())?;
                    heard_by_other.recv()?;
                    tally.passed += 3;
                    bail!("broken too")
                }),
                Step::command("last", CommandLine::new("true", "--quietly")),
            ],
        };

        let report = run(lanes);

        assert!(!report.is_green());
        assert_eq!(report.summary("test"), {
            "\ntest: 2 of 4 steps failed; repeat one with\n  waits     repeat waits\n  compiles  repeat compiles\n"
        });
        assert_eq!(report.tally.passed, 3);
    }

    #[test]
    fn what_has_ended_meanwhile_is_held_until_nobody_is_speaking() {
        let stage = Mutex::new(Stage { is_taken: true, held: Vec::new() });

        kept(Step::command("said", CommandLine::new("sh", "-c").and(["echo one; echo two >&2"])), &stage);

        let held = String::from_utf8(with(&stage, |stage| stage.held.clone())).unwrap();
        let lines: Vec<&str> = held.lines().collect();
        assert!(lines[0].starts_with("==> said: sh -c "), "{held}");
        assert_eq!(lines[1..3], ["one", "two"]);
        assert!(lines[3].starts_with("    ok, "), "{held}");

        shown(Step::rule("speaks", "repeat", || Ok(())), &stage);

        let stage = stage.into_inner().unwrap();
        assert!(!stage.is_taken && stage.held.is_empty());
    }
}
