//! The ended runs: bounded as a whole, besides the last of each task.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{Name, Placed, Run, RunId, RunState, Timestamp};

use crate::live::Owner;
use crate::tasks::{LastRun, Tasks};

/// Ended runs in the order they ended. They are numbered, so that a task knows whether its last one is among them.
#[derive(Debug)]
pub(crate) struct History {
    max_runs: usize,
    max_age: Duration,
    entries: VecDeque<Entry>,
    /// The number of the oldest entry.
    first: u64,
    /// The number of each entry up to `indexed`, brought up to date when somebody looks for an id.
    ids: HashMap<RunId, u64>,
    indexed: u64,
    /// The last runs of tasks that the loop has no place for.
    last: HashMap<Name, (u64, Arc<Run>)>,
    /// Tasks of before with their last runs: those that were removed, and all of a loop that has ended.
    pub(crate) former: Tasks,
}

/// An ended run.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    /// By schedule, it succeeded at once and had nothing to show.
    Plain {
        id: RunId,
        placed: Arc<Placed>,
        fire_time: Timestamp,
        started_at: Timestamp,
        finished_at: Timestamp,
    },
    /// Any other.
    Whole(Arc<Run>),
}

impl Entry {
    pub(crate) fn id(&self) -> RunId {
        match self {
            Self::Plain { id, .. } => *id,
            Self::Whole(run) => run.id,
        }
    }

    pub(crate) fn name(&self) -> &Name {
        match self {
            Self::Plain { placed, .. } => &placed.task.name,
            Self::Whole(run) => &run.task,
        }
    }

    pub(crate) fn fire_time(&self) -> Timestamp {
        match self {
            Self::Plain { fire_time, .. } => *fire_time,
            Self::Whole(run) => run.fire_time,
        }
    }

    pub(crate) fn state(&self) -> RunState {
        match self {
            Self::Plain { .. } => RunState::Succeeded,
            Self::Whole(run) => run.state,
        }
    }

    pub(crate) fn finished_at(&self) -> Option<Timestamp> {
        match self {
            Self::Plain { finished_at, .. } => Some(*finished_at),
            Self::Whole(run) => run.finished_at,
        }
    }

    pub(crate) fn run(&self, owner: &Owner) -> Arc<Run> {
        match self {
            Self::Whole(run) => Arc::clone(run),
            Self::Plain { id, placed, fire_time, started_at, finished_at } => {
                Arc::new(plain(owner, *id, &placed.task.name, *fire_time, *started_at, *finished_at))
            }
        }
    }
}

/// A run by schedule that succeeded at once.
fn plain(
    owner: &Owner,
    id: RunId,
    name: &Name,
    fire_time: Timestamp,
    started_at: Timestamp,
    finished_at: Timestamp,
) -> Run {
    let mut run = owner.queued(id, name, fire_time);
    run.state = RunState::Succeeded;
    run.attempt = 1;
    run.started_at = Some(started_at);
    run.finished_at = Some(finished_at);
    run
}

impl LastRun {
    /// Of a plain entry, if the numbers fit.
    pub(crate) fn of(entry: &Entry, number: u64) -> Option<Self> {
        let Entry::Plain { id, fire_time, started_at, finished_at, .. } = entry else { return None };
        let between = |from: Timestamp, to: Timestamp| u32::try_from(to.as_millis() - from.as_millis()).ok();
        Some(Self {
            fire_time: *fire_time,
            late: between(*fire_time, *started_at)?,
            took: between(*started_at, *finished_at)?,
            entry: number,
            tag: Self::tag_of(*id),
        })
    }

    pub(crate) fn run(&self, owner: &Owner, name: &Name) -> Run {
        let started_at = self.fire_time + Duration::from_millis(self.late.into());
        let finished_at = started_at + Duration::from_millis(self.took.into());
        plain(owner, owner.id(name, self.fire_time), name, self.fire_time, started_at, finished_at)
    }
}

impl History {
    pub(crate) fn new(max_runs: usize, max_age: Duration) -> Self {
        Self {
            max_runs,
            max_age,
            entries: VecDeque::new(),
            first: 0,
            ids: HashMap::new(),
            indexed: 0,
            last: HashMap::new(),
            former: Tasks::default(),
        }
    }

    /// The number that the next entry gets.
    pub(crate) fn next_number(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Adds an ended run, and lets go of what is beyond the bounds; answers its number.
    pub(crate) fn push(&mut self, entry: Entry, now: Timestamp) -> u64 {
        let number = self.next_number();
        self.entries.push_back(entry);
        let oldest = now - self.max_age;
        while let Some(first) = self.entries.front() {
            let expired = first.finished_at().is_some_and(|finished| finished < oldest);
            if self.entries.len() <= self.max_runs && !expired {
                break;
            }
            self.entries.pop_front();
            self.first += 1;
        }
        number
    }

    /// Adds a run of a task that the loop has no place for.
    pub(crate) fn push_alone(&mut self, run: Arc<Run>, now: Timestamp) {
        let number = self.push(Entry::Whole(Arc::clone(&run)), now);
        // A skipped fire says nothing about how the task fares.
        if run.state != RunState::Skipped {
            self.last.insert(run.task.clone(), (number, run));
        }
    }

    /// Whether the entry of that number has gone.
    pub(crate) fn has_left(&self, number: u64) -> bool {
        number < self.first
    }

    pub(crate) fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The entry at a place, counted from the oldest.
    pub(crate) fn entry(&self, place: usize) -> &Entry {
        &self.entries[place]
    }

    /// Lets go of so many entries, the oldest.
    pub(crate) fn drop_first(&mut self, count: usize) {
        self.first += self.entries.drain(..count).count() as u64;
    }

    /// The last runs of tasks that the loop has no place for, as far as they are no entries.
    pub(crate) fn last_alone(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.last.values().filter(|(number, _)| self.has_left(*number)).map(|(_, run)| run)
    }

    /// Whether that entry is the last run of such a task.
    pub(crate) fn is_last_alone(&self, task: &Name, entry: u64) -> bool {
        self.last.get(task).is_some_and(|(number, _)| *number == entry)
    }

    /// The last run of such a task.
    pub(crate) fn last_alone_of(&self, task: &Name) -> Option<&Arc<Run>> {
        self.last.get(task).filter(|(number, _)| self.has_left(*number)).map(|(_, run)| run)
    }

    /// Whether there is no last run of a task that the loop has no place for.
    pub(crate) fn has_none_of_others(&self) -> bool {
        self.last.is_empty() && self.former.is_empty()
    }

    /// The same, for a task that the loop now has a place for.
    pub(crate) fn take_last_alone(&mut self, task: &Name) -> Option<(u64, Arc<Run>)> {
        if self.last.is_empty() { None } else { self.last.remove(task) }
    }

    /// Whether a run of this id is among the entries.
    pub(crate) fn contains(&mut self, id: &RunId) -> bool {
        let end = self.next_number();
        if self.ids.len() > 2 * self.entries.len() + 64 {
            self.ids.clear();
            self.indexed = self.first;
        }
        self.indexed = self.indexed.max(self.first);
        let new = self.entries.iter().skip((self.indexed - self.first) as usize);
        self.ids.extend(new.zip(self.indexed..).map(|(entry, number)| (entry.id(), number)));
        self.indexed = end;
        self.ids.get(id).is_some_and(|number| *number >= self.first)
    }

    /// Every run that is kept of tasks without a place, oldest first.
    pub(crate) fn kept(&self, owner: &Owner) -> Vec<Arc<Run>> {
        let mut beyond: Vec<_> = self.last_alone().cloned().collect();
        beyond.sort_unstable_by_key(|run| run.finished_at);
        beyond.extend(self.entries.iter().map(|entry| entry.run(owner)));
        beyond
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::page;
    use scheduler_core::{RunFilter, Tier};

    fn owner() -> Owner {
        Owner { namespace: Name::new("n").unwrap(), backend: Name::new("local").unwrap() }
    }

    fn run(task: &str, second: i64, state: RunState) -> Arc<Run> {
        let (task, at) = (Name::new(task).unwrap(), Timestamp::from_millis(second * 1_000));
        let backend = owner().backend;
        let mut run = Run::queued(RunId::scheduled(&backend, &task, at), task, backend, Tier::Local, at);
        run.state = state;
        run.finished_at = Some(at);
        Arc::new(run)
    }

    fn shown(history: &History, filter: &RunFilter) -> Vec<Run> {
        page(filter, history, &Tasks::default(), &[], &owner()).runs
    }

    #[test]
    fn the_last_run_of_each_task_outlives_the_bounds() {
        let mut history = History::new(3, Duration::from_secs(1_000));
        history.push_alone(run("daily", 1, RunState::Failed), Timestamp::from_millis(1_000));
        for second in 2..10 {
            let ended = run("often", second, RunState::Succeeded);
            history.push_alone(ended, Timestamp::from_millis(second * 1_000));
        }
        history.push_alone(run("daily", 10, RunState::Skipped), Timestamp::from_millis(10_000));

        let daily = RunFilter::of_task(Name::new("daily").unwrap());
        let states: Vec<_> = shown(&history, &daily).iter().map(|run| run.state).collect();

        assert_eq!(states, [RunState::Skipped, RunState::Failed]);
        assert_eq!(shown(&history, &RunFilter::all()).len(), 4);
        assert!(!history.contains(&run("often", 2, RunState::Failed).id));
        assert!(history.contains(&run("often", 9, RunState::Failed).id));
    }

    #[test]
    fn an_id_is_found_as_long_as_its_entry_is_there() {
        let mut history = History::new(10, Duration::from_secs(1_000_000));
        for second in 0..500 {
            let ended = run("often", second, RunState::Succeeded);
            history.push_alone(ended, Timestamp::from_millis(second * 1_000));
            let seen =
                |history: &mut History, at: i64| history.contains(&run("often", at, RunState::Failed).id);
            assert!(seen(&mut history, second) && seen(&mut history, (second - 9).max(0)));
            assert!(second < 10 || !seen(&mut history, second - 10));
            assert!(history.ids.len() < 100);
        }
    }

    #[test]
    fn a_run_beyond_the_age_goes() {
        let mut history = History::new(100, Duration::from_secs(5));
        history.push_alone(run("a", 1, RunState::Succeeded), Timestamp::from_millis(1_000));
        history.push_alone(run("a", 9, RunState::Succeeded), Timestamp::from_millis(9_000));
        assert_eq!(history.kept(&owner()).len(), 1);
    }
}
