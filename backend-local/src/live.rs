//! The runs that have not ended.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use scheduler_core::{Placed, Priority, Run, RunContext, RunId};

use crate::workers::Attempt;

/// Where a live run is kept. The generation tells it from a later run in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RunKey {
    index: u32,
    generation: u32,
}

/// A run that has not ended.
#[derive(Debug)]
pub(crate) struct LiveRun {
    pub(crate) run: Run,
    /// The definition it was fired under; an edit does not touch it.
    pub(crate) placed: Arc<Placed>,
    /// Its task's, unless it was asked for with one of its own.
    pub(crate) priority: Priority,
    /// The delivery it is at; 0 before the first.
    pub(crate) fence: u64,
    /// The attempt under way, if one is.
    pub(crate) attempt: Option<(RunContext, Attempt)>,
    /// Whether it waits for other runs of its task to end.
    pub(crate) waits_for_turn: bool,
}

/// All live runs.
#[derive(Debug, Default)]
pub(crate) struct LiveRuns {
    slots: Vec<(u32, Option<Box<LiveRun>>)>,
    free: Vec<u32>,
    by_id: HashMap<RunId, RunKey>,
}

impl LiveRuns {
    pub(crate) fn insert(&mut self, run: LiveRun) -> RunKey {
        let id = run.run.id;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            u32::try_from(self.slots.len() - 1).expect("fewer than four thousand million runs live at once")
        });
        let slot = &mut self.slots[index as usize];
        slot.1 = Some(Box::new(run));
        let key = RunKey { index, generation: slot.0 };
        self.by_id.insert(id, key);
        key
    }

    pub(crate) fn get(&self, key: RunKey) -> Option<&LiveRun> {
        self.slots.get(key.index as usize).filter(|slot| slot.0 == key.generation)?.1.as_deref()
    }

    pub(crate) fn get_mut(&mut self, key: RunKey) -> Option<&mut LiveRun> {
        self.slots.get_mut(key.index as usize).filter(|slot| slot.0 == key.generation)?.1.as_deref_mut()
    }

    pub(crate) fn remove(&mut self, key: RunKey) -> Option<Box<LiveRun>> {
        let slot = self.slots.get_mut(key.index as usize).filter(|slot| slot.0 == key.generation)?;
        let run = slot.1.take()?;
        slot.0 = slot.0.wrapping_add(1);
        self.free.push(key.index);
        if self.by_id.get(&run.run.id) == Some(&key) {
            self.by_id.remove(&run.run.id);
        }
        Some(run)
    }

    pub(crate) fn find(&self, id: &RunId) -> Option<RunKey> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &LiveRun> {
        self.slots.iter().filter_map(|(_, run)| run.as_deref())
    }

    pub(crate) fn keys(&self) -> Vec<RunKey> {
        self.by_id.values().copied().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

/// The runs that may start as soon as a slot is free: by priority, then in the order they came.
#[derive(Debug, Default)]
pub(crate) struct ReadyQueue {
    levels: [VecDeque<RunKey>; 10],
}

impl ReadyQueue {
    pub(crate) fn push(&mut self, priority: Priority, run: RunKey) {
        self.levels[usize::from(priority.level())].push_back(run);
    }

    pub(crate) fn pop(&mut self) -> Option<RunKey> {
        self.levels.iter_mut().rev().find_map(VecDeque::pop_front)
    }
}
