//! The tasks that the loop fires.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use scheduler_core::{Cursor, Live, Name, Pause, Placed, Timestamp};

use crate::live::RunKey;

/// Where a task is kept. The generation rises whenever its timer is set, so that an older one is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskKey(u32);

/// A task and how far its fires have been decided.
#[derive(Debug)]
pub(crate) struct LocalTask {
    pub(crate) placed: Arc<Placed>,
    pub(crate) cursor: Cursor,
    pub(crate) paused: Option<Pause>,
    /// Raised each time the timer is set.
    pub(crate) timer: u32,
    /// When the next fire is due, for those who ask.
    pub(crate) next: Option<Timestamp>,
    /// Its runs that have not ended and do not wait for their turn.
    pub(crate) running: Vec<RunKey>,
    /// Its runs that wait for their turn, in order.
    pub(crate) waiting: VecDeque<RunKey>,
}

impl LocalTask {
    pub(crate) fn new(placed: Arc<Placed>, now: Timestamp) -> Self {
        Self {
            placed,
            cursor: Cursor::starting(now),
            paused: None,
            timer: 0,
            next: None,
            running: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    pub(crate) fn live(&self) -> Live {
        Live { running: self.running.len(), queued: self.waiting.len() }
    }
}

/// All tasks, by place and by name.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    slots: Vec<Option<LocalTask>>,
    free: Vec<u32>,
    by_name: HashMap<Name, TaskKey>,
    /// Rises over the life of the loop, so that a timer of a removed task is stale in whatever follows it.
    timers: u32,
}

impl Tasks {
    pub(crate) fn insert(&mut self, task: LocalTask) -> TaskKey {
        let name = task.placed.task.name.clone();
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer than four thousand million tasks")
        });
        self.slots[index as usize] = Some(task);
        self.by_name.insert(name, TaskKey(index));
        TaskKey(index)
    }

    pub(crate) fn remove(&mut self, name: &Name) -> Option<LocalTask> {
        let key = self.by_name.remove(name)?;
        self.free.push(key.0);
        self.slots[key.0 as usize].take()
    }

    pub(crate) fn find(&self, name: &Name) -> Option<TaskKey> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn get(&self, key: TaskKey) -> Option<&LocalTask> {
        self.slots.get(key.0 as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: TaskKey) -> Option<&mut LocalTask> {
        self.slots.get_mut(key.0 as usize)?.as_mut()
    }

    /// A new timer for a task, which makes the one before stale.
    pub(crate) fn new_timer(&mut self, key: TaskKey) -> u32 {
        self.timers = self.timers.wrapping_add(1);
        let timer = self.timers;
        if let Some(task) = self.get_mut(key) {
            task.timer = timer;
        }
        timer
    }

    pub(crate) fn keys(&self) -> Vec<TaskKey> {
        self.by_name.values().copied().collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &LocalTask> {
        self.slots.iter().flatten()
    }
}
