//! The runs that have not ended.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;

use scheduler_core::{Name, Placed, Priority, Run, RunId, RunState, Tier, Timestamp};

use crate::tasks::TaskKey;

/// Where a live run is kept. The generation tells it from a later run in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RunKey {
    index: u32,
    generation: NonZeroU32,
}

/// A run that has not ended.
///
/// Most are fired, run once and succeed: of those it keeps a few numbers. The others are kept whole.
#[derive(Debug)]
pub(crate) struct LiveRun {
    /// The place of its task, if that is one of the loop's; the task may be gone, and another in its place.
    pub(crate) task: Option<TaskKey>,
    /// The definition it was fired under, which an edit does not touch. An attempt takes it along, unless the
    /// task's is another by then.
    pub(crate) placed: Option<Arc<Placed>>,
    pub(crate) fire_time: Timestamp,
    pub(crate) started_at: Option<Timestamp>,
    /// The delivery it is at; 0 before the first.
    pub(crate) fence: u64,
    /// Its task's, unless it was asked for with one of its own.
    pub(crate) priority: Priority,
    /// Whether an attempt is under way.
    pub(crate) is_under_way: bool,
    /// Whether somebody looks when its attempt should have ended, because it blocks its thread.
    pub(crate) is_watched: bool,
    /// Whether it waits for other runs of its task to end.
    pub(crate) waits_for_turn: bool,
    /// All of it, once there is more to say than the numbers do.
    pub(crate) whole: Option<Box<Run>>,
}

impl LiveRun {
    /// A run that its task's schedule fires.
    pub(crate) fn fired(
        task: TaskKey,
        placed: Arc<Placed>,
        fire_time: Timestamp,
        priority: Priority,
    ) -> Self {
        Self { task: Some(task), ..Self::new(placed, fire_time, priority) }
    }

    /// A run that was asked for.
    pub(crate) fn asked(task: Option<TaskKey>, placed: Arc<Placed>, run: Run) -> Self {
        let (fire_time, priority) = (run.fire_time, placed.task.priority);
        let whole = Some(Box::new(run));
        Self { task, whole, ..Self::new(placed, fire_time, priority) }
    }

    fn new(placed: Arc<Placed>, fire_time: Timestamp, priority: Priority) -> Self {
        Self {
            task: None,
            placed: Some(placed),
            fire_time,
            started_at: None,
            fence: 0,
            priority,
            is_under_way: false,
            is_watched: false,
            waits_for_turn: false,
            whole: None,
        }
    }

    pub(crate) fn state(&self) -> RunState {
        match &self.whole {
            Some(run) => run.state,
            None if self.is_under_way => RunState::Running,
            None => RunState::Queued,
        }
    }

    /// All that is known of it; `name` is its task's.
    pub(crate) fn run(&self, owner: &Owner, name: &Name) -> Run {
        if let Some(run) = &self.whole {
            return (**run).clone();
        }
        let id = owner.id(name, self.fire_time);
        let mut run = owner.queued(id, name, self.fire_time);
        if self.is_under_way {
            run.state = RunState::Running;
            run.attempt = 1;
            run.started_at = self.started_at;
        }
        run
    }
}

/// Whose runs these are.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) namespace: Name,
    pub(crate) backend: Name,
}

impl Owner {
    /// The id of a run by schedule.
    pub(crate) fn id(&self, task: &Name, fire_time: Timestamp) -> RunId {
        RunId::scheduled(&self.namespace, task, fire_time)
    }

    pub(crate) fn queued(&self, id: RunId, task: &Name, fire_time: Timestamp) -> Run {
        Run::queued(id, task.clone(), self.backend.clone(), Tier::Local, fire_time)
    }
}

/// All live runs.
#[derive(Debug, Default)]
pub(crate) struct LiveRuns {
    slots: Vec<(NonZeroU32, Option<LiveRun>)>,
    free: Vec<u32>,
    /// Those that were asked for; one by schedule is found by its task.
    by_id: HashMap<RunId, RunKey>,
}

impl LiveRuns {
    pub(crate) fn insert(&mut self, run: LiveRun) -> RunKey {
        let id = run.whole.as_ref().map(|run| run.id);
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((NonZeroU32::MIN, None));
            u32::try_from(self.slots.len() - 1).expect("fewer than four thousand million runs live at once")
        });
        let slot = &mut self.slots[index as usize];
        slot.1 = Some(run);
        let key = RunKey { index, generation: slot.0 };
        if let Some(id) = id {
            self.by_id.insert(id, key);
        }
        key
    }

    pub(crate) fn get(&self, key: RunKey) -> Option<&LiveRun> {
        self.slots.get(key.index as usize).filter(|slot| slot.0 == key.generation)?.1.as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: RunKey) -> Option<&mut LiveRun> {
        self.slots.get_mut(key.index as usize).filter(|slot| slot.0 == key.generation)?.1.as_mut()
    }

    pub(crate) fn remove(&mut self, key: RunKey) -> Option<LiveRun> {
        let slot = self.slots.get_mut(key.index as usize).filter(|slot| slot.0 == key.generation)?;
        let run = slot.1.take()?;
        slot.0 = slot.0.checked_add(1).unwrap_or(NonZeroU32::MIN);
        self.free.push(key.index);
        if let Some(whole) = &run.whole
            && self.by_id.get(&whole.id) == Some(&key)
        {
            self.by_id.remove(&whole.id);
        }
        Some(run)
    }

    /// A run that was asked for.
    pub(crate) fn find_asked(&self, id: &RunId) -> Option<RunKey> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (RunKey, &LiveRun)> {
        self.slots.iter().zip(0..).filter_map(|((generation, run), index)| {
            Some((RunKey { index, generation: *generation }, run.as_ref()?))
        })
    }

    pub(crate) fn keys(&self) -> Vec<RunKey> {
        self.iter().map(|(key, _)| key).collect()
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
