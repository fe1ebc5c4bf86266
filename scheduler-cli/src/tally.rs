//! Counts what a daemon's runs came to.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scheduler_core::{Event, Events, RunId, RunState};

use crate::failure::counted;

/// The counts so far. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    succeeded: usize,
    failed: usize,
    cancelled: usize,
    skipped: usize,
    retries: usize,
    running: HashSet<RunId>,
    /// Runs whose next attempt has not begun; it becomes a retry only then.
    retrying: HashSet<RunId>,
}

impl Tally {
    /// Begins to count.
    pub(crate) fn listen(events: &Events) -> Self {
        let tally = Self::default();
        let counting = tally.clone();
        events.listen(move |event| counting.count(event));
        tally
    }

    /// How many runs are under way.
    pub(crate) fn running(&self) -> usize {
        self.counts().running.len()
    }

    fn count(&self, event: &Event<'_>) {
        let mut counts = self.counts();
        match event {
            Event::AttemptStarted { run, .. } => {
                counts.running.insert(run.id);
                counts.retries += usize::from(counts.retrying.remove(&run.id));
            }
            Event::AttemptEnded { run, .. } => {
                counts.running.remove(&run.id);
                if run.state == RunState::Retrying {
                    counts.retrying.insert(run.id);
                }
            }
            // It is another worker's, which tells of its end.
            Event::AttemptLost { run, .. } => {
                counts.running.remove(&run.id);
            }
            Event::RunEnded { run, .. } => {
                counts.running.remove(&run.id);
                counts.retrying.remove(&run.id);
                match run.state {
                    RunState::Succeeded => counts.succeeded += 1,
                    RunState::Failed => counts.failed += 1,
                    RunState::Cancelled => counts.cancelled += 1,
                    RunState::Skipped => counts.skipped += 1,
                    RunState::Scheduled | RunState::Queued | RunState::Running | RunState::Retrying => {}
                }
            }
            // The other events are about no run's end.
            _ => {}
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts();
        let outcomes = [
            (counts.succeeded, "succeeded"),
            (counts.failed, "failed"),
            (counts.cancelled, "cancelled"),
            (counts.skipped, "skipped"),
        ];
        let fires = outcomes.iter().map(|(number, _)| number).sum::<usize>() + counts.running.len();
        write!(f, "{}", counted(fires, "fire"))?;
        for (index, (number, outcome)) in outcomes.iter().filter(|(number, _)| *number > 0).enumerate() {
            write!(f, "{}{number} {outcome}", if index == 0 { ": " } else { ", " })?;
        }
        match counts.retries {
            0 => Ok(()),
            1 => f.write_str("; 1 retry"),
            retries => write!(f, "; {retries} retries"),
        }
    }
}

#[cfg(test)]
mod tests {
    use scheduler_core::{Name, Run, Tier, Timestamp};

    use super::*;

    #[test]
    fn a_run_that_was_lost_to_another_worker_is_not_under_way() {
        let (events, name) = (Events::default(), Name::new("t").unwrap());
        let tally = Tally::listen(&events);
        let now = Timestamp::from_millis(0);
        let run = Run::queued(RunId::manual(now), name.clone(), name, Tier::Queue, now);

        events.emit(&Event::AttemptStarted { run: &run, fence: 1 });
        let before = tally.running();
        events.emit(&Event::AttemptLost { run: &run, fence: 1 });

        assert_eq!((before, tally.running()), (1, 0));
    }
}
