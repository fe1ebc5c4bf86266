//! Showing runs: those that live, those in history, and the last of each task.
//!
//! There may be a million tasks, so the newest are chosen by their fire times before any is made whole.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use scheduler_core::{Name, Page, Run, RunFilter, RunId, RunState, Timestamp};

use crate::history::{Entry, History};
use crate::live::{LiveRun, Owner};
use crate::tasks::{LastRun, LocalTask, Tasks};

/// A live run and the name of its task.
pub(crate) type Living<'a> = (&'a LiveRun, &'a Name);

/// A run that may belong on the page.
enum Candidate<'a> {
    Live(Living<'a>),
    Entry(&'a Entry),
    Last(&'a LocalTask, &'a LastRun),
    Whole(&'a Run),
}

impl Candidate<'_> {
    fn name(&self) -> &Name {
        match self {
            Self::Live((_, name)) => name,
            Self::Entry(entry) => entry.name(),
            Self::Last(task, _) => &task.placed.task.name,
            Self::Whole(run) => &run.task,
        }
    }

    fn fire_time(&self) -> Timestamp {
        match self {
            Self::Live((run, _)) => run.fire_time,
            Self::Entry(entry) => entry.fire_time(),
            Self::Last(_, last) => last.fire_time,
            Self::Whole(run) => run.fire_time,
        }
    }

    fn state(&self) -> RunState {
        match self {
            Self::Live((run, _)) => run.state(),
            Self::Entry(entry) => entry.state(),
            Self::Last(..) => RunState::Succeeded,
            Self::Whole(run) => run.state,
        }
    }

    fn id(&self, owner: &Owner) -> RunId {
        match self {
            Self::Live((LiveRun { whole: Some(run), .. }, _)) => run.id,
            Self::Entry(entry) => entry.id(),
            Self::Whole(run) => run.id,
            Self::Live(_) | Self::Last(..) => owner.id(self.name(), self.fire_time()),
        }
    }

    /// Whether it has this id; most have not, which is told without working theirs out.
    fn has_id(&self, id: RunId, owner: &Owner) -> bool {
        let may_have = match self {
            Self::Last(_, last) => last.tag == LastRun::tag_of(id),
            _ => true,
        };
        may_have && self.id(owner) == id
    }

    fn matches(&self, filter: &RunFilter, owner: &Owner) -> bool {
        (filter.states.is_empty() || filter.states.contains(&self.state()))
            && filter.task.as_ref().is_none_or(|task| task == self.name())
            && filter.run.is_none_or(|id| self.has_id(id, owner))
            && filter.after.is_none_or(|after| {
                let fire_time = self.fire_time();
                fire_time < after.fire_time()
                    || (fire_time == after.fire_time() && self.id(owner) < after.run())
            })
    }

    fn run(&self, owner: &Owner) -> Run {
        match self {
            Self::Live((run, name)) => run.run(owner, name),
            Self::Entry(entry) => entry.run(owner).as_ref().clone(),
            Self::Last(task, last) => last.run(owner, &task.placed.task.name),
            Self::Whole(run) => (*run).clone(),
        }
    }
}

/// One page of all there is.
pub(crate) fn page(
    filter: &RunFilter,
    history: &History,
    tasks: &Tasks,
    live: &[Living<'_>],
    owner: &Owner,
) -> Page {
    let all = || {
        let live = live.iter().map(|living| Candidate::Live(*living));
        let entries = history.entries().map(Candidate::Entry);
        live.chain(entries).chain(last_runs(filter, history, tasks)).filter(|c| c.matches(filter, owner))
    };
    // One more than the page holds says whether there is a next one.
    let wanted = filter.page_size().saturating_add(1);
    let mut newest: BinaryHeap<Reverse<Timestamp>> = BinaryHeap::new();
    for candidate in all() {
        let fire_time = candidate.fire_time();
        if newest.len() < wanted {
            newest.push(Reverse(fire_time));
        } else if let Some(mut oldest) = newest.peek_mut()
            && oldest.0 < fire_time
        {
            *oldest = Reverse(fire_time);
        }
    }
    let Some(Reverse(oldest)) = newest.peek() else { return Page::default() };
    filter.page(
        all().filter(|candidate| candidate.fire_time() >= *oldest).map(|candidate| candidate.run(owner)),
    )
}

/// The last run of each task that is no entry of history.
fn last_runs<'a>(
    filter: &'a RunFilter,
    history: &'a History,
    tasks: &'a Tasks,
) -> Box<dyn Iterator<Item = Candidate<'a>> + 'a> {
    let of_task = move |task: &'a LocalTask| last_run(history, task);
    match &filter.task {
        Some(name) => {
            let known = [tasks, &history.former].into_iter();
            let known = known.filter_map(move |tasks| tasks.get(tasks.find(name)?)).filter_map(of_task);
            Box::new(known.chain(history.last_alone_of(name).map(|run| Candidate::Whole(run))))
        }
        None => {
            let known = tasks.iter().chain(history.former.iter()).filter_map(of_task);
            Box::new(known.chain(history.last_alone().map(|run| Candidate::Whole(run))))
        }
    }
}

fn last_run<'a>(history: &History, task: &'a LocalTask) -> Option<Candidate<'a>> {
    let plain = task.last.as_ref().filter(|last| history.has_left(last.entry));
    let whole = || task.last_whole().filter(|(number, _)| history.has_left(*number));
    plain.map(|last| Candidate::Last(task, last)).or_else(|| whole().map(|(_, run)| Candidate::Whole(run)))
}

/// Whether a run of this id is the last of a task, and no entry of history.
pub(crate) fn is_a_last_run(
    id: &RunId,
    task: Option<&Name>,
    history: &History,
    tasks: &Tasks,
    owner: &Owner,
) -> bool {
    let mut filter = RunFilter::of_run(*id);
    filter.task = task.cloned();
    last_runs(&filter, history, tasks).any(|candidate| candidate.has_id(*id, owner))
}
