//! What became of the runs of this process, counted as they end.
//!
//! Nobody counts before somebody asks for it: a job that reads the tally says so ([`Job::reads_tally`](crate::Job)),
//! and the scheduler counts from the moment on in which it accepts such a task. What ends in another process is
//! counted there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::{Event, Events, Name, Run, RunId, RunOrigin, RunState, Scheduler, Timestamp};

/// Tasks that are counted one by one; runs of others are counted together.
const MOST_TASKS: usize = 10_000;

/// What became of runs since the counting began.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Tally {
    /// Tells this count from that of another process or an earlier life.
    pub life: RunId,
    /// By task.
    pub tasks: BTreeMap<Name, TaskTally>,
    /// Runs of tasks beyond the most that are counted one by one.
    pub others: u64,
}

/// What became of the runs of one task.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TaskTally {
    /// Runs that ended well.
    pub succeeded: u64,
    /// Runs that ended badly.
    pub failed: u64,
    /// Runs that were ended from outside.
    pub cancelled: u64,
    /// Runs that never began.
    pub skipped: u64,
    /// Attempts after which another one followed.
    pub retried: u64,
    /// Ended runs that had begun.
    pub timed: u64,
    /// How long those took together, from the first attempt to the end.
    pub took: Duration,
    /// Ended runs by schedule that had begun.
    pub fired: u64,
    /// How much later than their fire time those began, together.
    pub late: Duration,
    /// When a run last ended well.
    pub last_success: Option<Timestamp>,
}

/// The count of a scheduler; it begins when somebody switches it on.
#[derive(Debug, Default)]
pub(crate) struct Counting(OnceLock<Arc<Counts>>);

#[derive(Debug)]
struct Counts {
    life: RunId,
    tasks: Mutex<(BTreeMap<Name, TaskTally>, u64)>,
}

impl Counting {
    pub(crate) fn is_on(&self) -> bool {
        self.0.get().is_some()
    }

    /// Begins to count, if nobody did.
    pub(crate) fn switch_on(&self, events: &Events, now: Timestamp) {
        self.0.get_or_init(|| {
            let counts = Arc::new(Counts { life: RunId::manual(now), tasks: Mutex::default() });
            let counting = Arc::clone(&counts);
            events.listen(move |event| counting.note(event));
            counts
        });
    }

    fn tally(&self) -> Option<Tally> {
        let counts = self.0.get()?;
        let (tasks, others) = counts.tasks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Some(Tally { life: counts.life, tasks, others })
    }
}

impl Counts {
    fn note(&self, event: &Event<'_>) {
        let (run, is_end) = match *event {
            Event::RunEnded { run, .. } => (run, true),
            Event::AttemptEnded { run, .. } if run.state == RunState::Retrying => (run, false),
            _ => return,
        };
        let mut counted = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let (tasks, others) = &mut *counted;
        if !tasks.contains_key(&run.task) {
            if tasks.len() >= MOST_TASKS {
                *others += u64::from(is_end);
                return;
            }
            tasks.insert(run.task.clone(), TaskTally::default());
        }
        let Some(task) = tasks.get_mut(&run.task) else { return };
        if is_end { task.note_end(run) } else { task.retried += 1 }
    }
}

impl TaskTally {
    fn note_end(&mut self, run: &Run) {
        match run.state {
            RunState::Succeeded => {
                self.succeeded += 1;
                self.last_success = self.last_success.max(run.finished_at);
            }
            RunState::Failed => self.failed += 1,
            RunState::Cancelled => self.cancelled += 1,
            RunState::Skipped => self.skipped += 1,
            RunState::Scheduled | RunState::Queued | RunState::Running | RunState::Retrying => return,
        }
        let Some(started) = run.started_at else { return };
        if let Some(finished) = run.finished_at {
            self.timed += 1;
            self.took = self.took.saturating_add(finished.since(started));
        }
        // A replay keeps the fire time of its origin, which says nothing about how late it is.
        if run.origin == RunOrigin::Schedule && run.replay_of.is_none() {
            self.fired += 1;
            self.late = self.late.saturating_add(started.since(run.fire_time));
        }
    }
}

impl Scheduler {
    /// What became of the runs of this process; `None` while no task was accepted whose job reads it.
    pub fn tally(&self) -> Option<Tally> {
        self.0.counting.tally()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tier;

    fn run(task: &str, state: RunState, fired: i64, began: Option<i64>, ended: i64) -> Run {
        let at = Timestamp::from_millis;
        let name = |text| Name::new(text).unwrap();
        let mut run =
            Run::queued(RunId::manual(at(fired)), name(task), name("local"), Tier::Local, at(fired));
        (run.state, run.started_at, run.finished_at) = (state, began.map(at), Some(at(ended)));
        run
    }

    #[test]
    fn runs_are_counted_by_outcome_from_when_it_was_switched_on() {
        let (events, counting) = (Events::default(), Counting::default());
        let end = |run: &Run| events.emit(&Event::RunEnded { run, fence: 1 });
        end(&run("a", RunState::Succeeded, 0, Some(1), 2));
        assert!(counting.tally().is_none());

        counting.switch_on(&events, Timestamp::from_millis(3));
        counting.switch_on(&events, Timestamp::from_millis(3));
        end(&run("a", RunState::Succeeded, 1_000, Some(1_250), 2_000));
        end(&run("a", RunState::Failed, 2_000, Some(2_000), 2_500));
        end(&run("a", RunState::Skipped, 3_000, None, 3_000));
        end(&run("b", RunState::Cancelled, 4_000, None, 4_000));
        let mut again = run("b", RunState::Retrying, 5_000, Some(5_000), 5_001);
        events.emit(&Event::AttemptEnded { run: &again, fence: 1, next_in: Duration::ZERO });
        (again.state, again.origin) = (RunState::Succeeded, RunOrigin::Manual);
        end(&again);

        let tally = counting.tally().unwrap();
        let a = TaskTally {
            succeeded: 1,
            failed: 1,
            skipped: 1,
            timed: 2,
            took: Duration::from_millis(1_250),
            fired: 2,
            late: Duration::from_millis(250),
            last_success: Some(Timestamp::from_millis(2_000)),
            ..TaskTally::default()
        };
        let b = TaskTally {
            succeeded: 1,
            cancelled: 1,
            retried: 1,
            timed: 1,
            took: Duration::from_millis(1),
            last_success: Some(Timestamp::from_millis(5_001)),
            ..TaskTally::default()
        };
        let expected = [(Name::new("a").unwrap(), a), (Name::new("b").unwrap(), b)];
        assert_eq!(tally.tasks, BTreeMap::from(expected), "each once");
    }

    #[test]
    fn the_count_is_bounded_in_tasks() {
        let (events, counting) = (Events::default(), Counting::default());
        counting.switch_on(&events, Timestamp::from_millis(0));
        for number in 0..MOST_TASKS + 5 {
            let run = run(&format!("t{number}"), RunState::Cancelled, 0, None, 0);
            counting.0.get().unwrap().note(&Event::RunEnded { run: &run, fence: 0 });
        }
        let tally = counting.tally().unwrap();
        assert_eq!((tally.tasks.len(), tally.others), (MOST_TASKS, 5));
    }
}
