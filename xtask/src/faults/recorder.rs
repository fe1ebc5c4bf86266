//! The recorder: a file that jobs append to, so that what is counted comes from the jobs themselves and not from the
//! product's own account.
//!
//! A line is `start|end TASK RUN ATTEMPT FENCE FIRE PID PARENT AT`, written at once to a file opened for appending. The
//! instant is what `/proc/uptime` says: a shell reads it without another program, and no library lets it lie.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::faults::instant;
use crate::faults::loss::Attempt;

/// By how much, in milliseconds, a note may seem older than it is: `/proc/uptime` counts hundredths of a second, and the
/// instant of the start of the machine is known to a millisecond.
pub(crate) const ROUGH: u64 = 11;

/// The file.
#[derive(Clone, Debug)]
pub(crate) struct Recorder(PathBuf);

/// What a job noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) is_end: bool,
    pub(crate) task: String,
    pub(crate) run: String,
    pub(crate) attempt: u32,
    pub(crate) fence: u64,
    /// The fire time, in milliseconds since the epoch.
    pub(crate) fire: u64,
    pub(crate) pid: u32,
    /// The process that started the job: its daemon.
    pub(crate) parent: u32,
    /// When it noted this, in milliseconds since the epoch.
    pub(crate) at: u64,
}

/// What the notes of one task come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) starts: usize,
    pub(crate) ends: usize,
    /// The runs of each fire time.
    pub(crate) fires: BTreeMap<u64, BTreeSet<String>>,
    /// Deliveries (run, attempt, fence) that were started more than once.
    pub(crate) doubled: Vec<Again>,
    /// Runs and attempts that were started more than once, under whatever fence.
    pub(crate) repeated: Vec<Again>,
    /// Starts before the fire time.
    pub(crate) early: Vec<String>,
    /// Runs whose last delivery did not note its end.
    pub(crate) unfinished: BTreeSet<String>,
}

/// A start that was one too many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Again {
    pub(crate) fire: u64,
    /// When the start before it was noted, and when it was.
    pub(crate) before: u64,
    pub(crate) at: u64,
    pub(crate) attempt: Attempt,
    pub(crate) what: String,
}

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Recorder {
    pub(crate) fn at(file: PathBuf) -> Self {
        Self(file)
    }

    /// A script for `/bin/sh` that notes its start, does its work and notes its end.
    pub(crate) fn script(&self, work: &str) -> String {
        let note = |word: &str| {
            format!(
                "read UPTIME REST < /proc/uptime\n\
                 echo \"{word} $SCHEDULER_TASK $SCHEDULER_RUN_ID $SCHEDULER_ATTEMPT $SCHEDULER_FENCE \
                 $SCHEDULER_FIRE_TIME $$ $PPID $UPTIME\" >> {}",
                self.0.display()
            )
        };
        format!("{}\n{work}\n{}\n", note("start"), note("end"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// All notes, in the order in which they were written.
    pub(crate) fn notes(&self) -> Vec<Note> {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        text.lines().filter_map(Note::read).collect()
    }

    pub(crate) fn of(&self, task: &str) -> Vec<Note> {
        self.notes().into_iter().filter(|note| note.task == task).collect()
    }

    /// How many attempts of a task have begun.
    pub(crate) fn starts(&self, task: &str) -> usize {
        self.of(task).iter().filter(|note| !note.is_end).count()
    }

    pub(crate) fn ends(&self, task: &str) -> usize {
        self.of(task).iter().filter(|note| note.is_end).count()
    }

    pub(crate) fn count(&self, task: &str) -> Count {
        counted(&self.of(task))
    }
}

impl Note {
    /// By how much, in milliseconds, it was written before its fire time; nothing where that cannot be told for sure.
    pub(crate) fn is_early_by(&self) -> Option<u64> {
        self.fire.checked_sub(self.at).filter(|early| *early >= ROUGH)
    }

    fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let is_end = match words.next()? {
            "start" => false,
            "end" => true,
            _ => return None,
        };
        Some(Self {
            is_end,
            task: words.next()?.to_owned(),
            run: words.next()?.to_owned(),
            attempt: words.next()?.parse().ok()?,
            fence: words.next()?.parse().ok()?,
            fire: instant::read(words.next()?)?,
            pid: words.next()?.parse().ok()?,
            parent: words.next()?.parse().ok()?,
            at: instant::of_uptime(words.next()?)?,
        })
    }
}

/// Counts the notes of one task.
pub(crate) fn counted(notes: &[Note]) -> Count {
    let mut count = Count::default();
    let (mut deliveries, mut attempts) = (BTreeMap::new(), BTreeMap::new());
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for note in notes.iter().filter(|note| !note.is_end) {
        let Note { run, attempt, fence, fire, at, .. } = note;
        count.starts += 1;
        count.fires.entry(*fire).or_default().insert(run.clone());
        let again = |before: u64, what: String| Again {
            fire: *fire,
            before,
            at: *at,
            attempt: (run.clone(), *attempt),
            what,
        };
        if let Some(before) = deliveries.insert((run, attempt, fence), *at) {
            count.doubled.push(again(before, format!("{run} attempt {attempt} fence {fence}")));
        }
        if let Some(before) = attempts.insert((run, attempt), *at) {
            count.repeated.push(again(before, format!("{run} attempt {attempt}")));
        }
        if let Some(early) = note.is_early_by() {
            count.early.push(format!("{run} attempt {attempt} by {early} ms"));
        }
        let fence = last.get(run.as_str()).copied().unwrap_or_default().max(*fence);
        last.insert(run, fence);
    }
    let ended: BTreeSet<(&str, u64)> =
        notes.iter().filter(|note| note.is_end).map(|note| (note.run.as_str(), note.fence)).collect();
    count.ends = notes.iter().filter(|note| note.is_end).count();
    let is_unfinished = |(run, fence): &(&&str, &u64)| !ended.contains(&(**run, **fence));
    count.unfinished = last.iter().filter(is_unfinished).map(|(run, _)| (*run).to_owned()).collect();
    count
}

impl Count {
    /// Runs that were started at all.
    pub(crate) fn runs(&self) -> BTreeSet<&str> {
        self.fires.values().flatten().map(String::as_str).collect()
    }

    /// Fire times that have more than one run.
    pub(crate) fn twice(&self) -> Vec<u64> {
        self.fires.iter().filter(|(_, runs)| runs.len() > 1).map(|(fire, _)| *fire).collect()
    }

    /// Which of these fire times have no run that ended.
    pub(crate) fn missing(&self, fires: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let has_ended = |fire: &u64| {
            let mut runs = self.fires.get(fire).into_iter().flatten();
            runs.any(|run| !self.unfinished.contains(run))
        };
        fires.into_iter().filter(|fire| !has_ended(fire)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(lines: &[&str]) -> Vec<Note> {
        lines.iter().map(|line| Note::read(line).unwrap()).collect()
    }

    #[test]
    fn a_run_has_finished_when_its_last_delivery_has() {
        let count = counted(&notes(&[
            "start t a 1 1 1970-01-01T00:00:01Z 10 9 1",
            "start t a 2 2 1970-01-01T00:00:01Z 11 9 1",
            "end t a 1 1 1970-01-01T00:00:01Z 10 9 1",
            "start t b 1 3 1970-01-01T00:00:02Z 12 9 1",
            "end t b 1 3 1970-01-01T00:00:02Z 12 9 1",
        ]));

        assert_eq!((count.starts, count.ends), (3, 2));
        assert_eq!(count.missing([1_000, 2_000, 3_000]), [1_000, 3_000]);
        assert!(count.doubled.is_empty() && count.repeated.is_empty() && count.twice().is_empty());
    }

    #[test]
    fn what_was_started_twice_is_told_apart() {
        let count = counted(&notes(&[
            "start t a 1 1 1970-01-01T00:00:01Z 10 9 1",
            "start t a 1 1 1970-01-01T00:00:01Z 11 8 1",
            "start t b 1 2 1970-01-01T00:00:02Z 12 9 1",
            "start t b 1 3 1970-01-01T00:00:02Z 13 9 1",
            "start t c 1 4 1970-01-01T00:00:02Z 14 9 1",
        ]));

        let told = |again: &[Again]| again.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(told(&count.doubled), ["a attempt 1 fence 1"]);
        assert_eq!(told(&count.repeated), ["a attempt 1", "b attempt 1"]);
        assert_eq!(count.twice(), [2_000]);
        assert_eq!(count.early, Vec::<String>::new());
    }

    #[test]
    fn a_start_before_its_fire_time_is_told() {
        let (note, boot) =
            (Note::read("start t a 1 1 1970-01-01T00:00:01Z 10 9 5.25").unwrap(), instant::boot());
        assert_eq!(note.at, boot + 5_250);

        let notes = [boot + 5_261, boot + 5_260].map(|fire| Note { fire, ..note.clone() });
        assert_eq!(counted(&notes).early, ["a attempt 1 by 11 ms"]);
    }

    #[test]
    fn a_line_that_is_no_note_is_passed_over() {
        for line in [
            "",
            "start",
            "begin t a 1 1 1970-01-01T00:00:01Z 1 1",
            "start t a x 1 1970-01-01T00:00:01Z 1 1 1",
        ] {
            assert_eq!(Note::read(line), None);
        }
    }
}
