//! The ended runs: bounded as a whole, besides the last of each task.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{Name, Run, RunFilter, RunId, RunState, Timestamp};

/// Ended runs in the order they ended.
#[derive(Debug)]
pub(crate) struct History {
    max_runs: usize,
    max_age: Duration,
    runs: VecDeque<Arc<Run>>,
    ids: HashSet<RunId>,
    last: HashMap<Name, Arc<Run>>,
}

impl History {
    pub(crate) fn new(max_runs: usize, max_age: Duration) -> Self {
        Self { max_runs, max_age, runs: VecDeque::new(), ids: HashSet::new(), last: HashMap::new() }
    }

    /// Adds an ended run, and lets go of what is beyond the bounds.
    pub(crate) fn push(&mut self, run: Arc<Run>, now: Timestamp) {
        // A skipped fire says nothing about how the task fares.
        if run.state != RunState::Skipped {
            self.last.insert(run.task.clone(), Arc::clone(&run));
        }
        self.ids.insert(run.id);
        self.runs.push_back(run);
        let oldest = now - self.max_age;
        while let Some(first) = self.runs.front() {
            let expired = first.finished_at.is_some_and(|finished| finished < oldest);
            if self.runs.len() <= self.max_runs && !expired {
                break;
            }
            self.ids.remove(&first.id);
            self.runs.pop_front();
        }
    }

    /// Whether a run of this id has ended, as far as is remembered.
    pub(crate) fn contains(&self, id: &RunId) -> bool {
        self.ids.contains(id) || self.last.values().any(|run| run.id == *id)
    }

    /// The ended runs that match, the last of each task among them.
    pub(crate) fn matching<'a>(&'a self, filter: &'a RunFilter) -> impl Iterator<Item = &'a Arc<Run>> {
        let beyond = self.last.values().filter(|run| !self.ids.contains(&run.id));
        beyond.chain(&self.runs).filter(|run| filter.matches(run))
    }

    /// Every run that is kept, oldest first.
    pub(crate) fn kept(&self) -> Vec<Arc<Run>> {
        let mut beyond: Vec<_> =
            self.last.values().filter(|run| !self.ids.contains(&run.id)).cloned().collect();
        beyond.sort_unstable_by_key(|run| run.finished_at);
        beyond.extend(self.runs.iter().cloned());
        beyond
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scheduler_core::Tier;

    fn run(task: &str, second: i64, state: RunState) -> Arc<Run> {
        let (task, at) = (Name::new(task).unwrap(), Timestamp::from_millis(second * 1_000));
        let backend = Name::new("local").unwrap();
        let mut run = Run::queued(RunId::scheduled(&backend, &task, at), task, backend, Tier::Local, at);
        run.state = state;
        run.finished_at = Some(at);
        Arc::new(run)
    }

    #[test]
    fn the_last_run_of_each_task_outlives_the_bounds() {
        let mut history = History::new(3, Duration::from_secs(1_000));
        history.push(run("daily", 1, RunState::Failed), Timestamp::from_millis(1_000));
        for second in 2..10 {
            history.push(run("often", second, RunState::Succeeded), Timestamp::from_millis(second * 1_000));
        }
        history.push(run("daily", 10, RunState::Skipped), Timestamp::from_millis(10_000));

        let daily = RunFilter::of_task(Name::new("daily").unwrap());
        let states: Vec<_> = history.matching(&daily).map(|run| run.state).collect();

        assert_eq!(states, [RunState::Failed, RunState::Skipped]);
        assert_eq!(history.matching(&RunFilter::all()).count(), 4);
        assert!(history.contains(&run("daily", 1, RunState::Failed).id));
        assert!(!history.contains(&run("often", 2, RunState::Failed).id));
    }

    #[test]
    fn a_run_beyond_the_age_goes() {
        let mut history = History::new(100, Duration::from_secs(5));
        history.push(run("a", 1, RunState::Succeeded), Timestamp::from_millis(1_000));
        history.push(run("a", 9, RunState::Succeeded), Timestamp::from_millis(9_000));
        assert_eq!(history.kept().len(), 1);
    }
}
