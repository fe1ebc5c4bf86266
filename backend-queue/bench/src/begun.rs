//! Which runs of a backlog have begun in which process, and that each has begun once.

use anyhow::{Context, Result, ensure};

use crate::recorder::Recorder;

/// What one process has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Begun {
    starts: usize,
    /// Whether it has begun a run, by the run's number.
    runs: Vec<bool>,
}

impl Begun {
    /// What was recorded of so many runs.
    pub(crate) fn of(recorder: &Recorder, runs: usize) -> Self {
        let runs = (0..runs).map(|index| recorder.begun(index).is_some()).collect();
        Self { starts: recorder.count(), runs }
    }

    /// As a line that another process reads.
    pub(crate) fn written(&self) -> String {
        let runs: String = self.runs.iter().map(|has_begun| if *has_begun { '1' } else { '0' }).collect();
        format!("begun {} {runs}", self.starts)
    }

    /// What such a line says; nothing of another line.
    ///
    /// # Errors
    /// It says no number.
    pub(crate) fn read(line: &str) -> Result<Option<Self>> {
        let Some(told) = line.strip_prefix("begun ") else { return Ok(None) };
        let (starts, runs) = told.split_once(' ').context("a process tells no runs")?;
        Ok(Some(Self { starts: starts.parse()?, runs: runs.chars().map(|digit| digit == '1').collect() }))
    }
}

/// Looks whether each of so many runs has begun once, in whatever process.
///
/// # Errors
/// One has not begun, or more than once.
pub(crate) fn each_once(runs: usize, processes: &[Begun]) -> Result<()> {
    let by = |index: usize| processes.iter().filter(|begun| begun.runs.get(index) == Some(&true)).count();
    let never = (0..runs).filter(|index| by(*index) == 0).count();
    let twice = (0..runs).filter(|index| by(*index) > 1).count();
    let starts: Vec<usize> = processes.iter().map(|begun| begun.starts).collect();
    ensure!(
        never + twice == 0 && starts.iter().sum::<usize>() == runs,
        "of {runs} runs {never} never began and {twice} began in several processes; their starts were {starts:?}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::payload;

    fn begun(runs: usize, begin: &[usize]) -> Begun {
        let recorder = Recorder::new(runs);
        begin.iter().for_each(|index| recorder.begin(&payload(*index)));
        Begun::of(&recorder, runs)
    }

    #[test]
    fn each_run_has_to_begin_once() {
        assert!(each_once(4, &[begun(4, &[0, 3]), begun(4, &[1, 2])]).is_ok());
        for (what, processes) in [
            ("one never", vec![begun(4, &[0, 3]), begun(4, &[1])]),
            ("one in both", vec![begun(4, &[0, 3, 2]), begun(4, &[1, 2])]),
            ("one twice in one", vec![begun(4, &[0, 3, 3]), begun(4, &[1, 2])]),
            ("one twice and another never", vec![begun(4, &[0, 3, 3]), begun(4, &[1])]),
            ("one that is none of these", vec![begun(4, &[0, 3, 9]), begun(4, &[1, 2])]),
        ] {
            assert!(each_once(4, &processes).is_err(), "{what}");
        }
    }

    #[test]
    fn what_a_process_has_begun_is_read_as_it_was_written() {
        let begun = begun(5, &[1, 4, 4]);

        assert_eq!(begun.written(), "begun 3 01001");
        assert_eq!(Begun::read(&begun.written()).unwrap(), Some(begun));
        assert_eq!(Begun::read("2 1 7").unwrap(), None);
        assert!(Begun::read("begun").unwrap().is_none() && Begun::read("begun x 01").is_err());
    }
}
