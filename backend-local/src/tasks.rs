//! The tasks that the loop fires.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use scheduler_core::{
    ClockStep, Cursor, Live, Name, Pace, Pause, Placed, Priority, Run, RunId, Timestamp, Trigger,
};

use crate::live::RunKey;

/// Tasks that are fetched from memory side by side.
pub(crate) const FETCHED: usize = 16;

/// Where a task is kept. Another may come into its place when it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskKey(u32);

/// A task and how far its fires have been decided. There may be a million: what few of them need is apart.
#[derive(Debug)]
pub(crate) struct LocalTask {
    pub(crate) placed: Arc<Placed>,
    pub(crate) cursor: Cursor,
    /// How it fires, if it is of the plainest kind.
    pub(crate) pace: Option<Pace>,
    /// When the next fire is due, for those who ask.
    pub(crate) next: Option<Timestamp>,
    /// The last run, if it was a plain one.
    pub(crate) last: Option<LastRun>,
    /// A run of it that has not ended and does not wait for its turn.
    running: Option<RunKey>,
    /// Raised each time the timer is set, so that an older one is stale.
    pub(crate) timer: u32,
    pub(crate) priority: Priority,
    rare: Option<Box<Rare>>,
}

#[derive(Debug, Default)]
struct Rare {
    paused: Option<Pause>,
    /// More runs that have not ended and do not wait for their turn.
    running: Vec<RunKey>,
    /// Its runs that wait for their turn, in order.
    waiting: VecDeque<RunKey>,
    /// The last run, if it was no plain one.
    last: Option<(u64, Arc<Run>)>,
}

/// A run by schedule that succeeded at once and had nothing to show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastRun {
    pub(crate) fire_time: Timestamp,
    /// How long after the fire time it started, and then ended, in milliseconds.
    pub(crate) late: u32,
    pub(crate) took: u32,
    /// Which entry of history it was.
    pub(crate) entry: u64,
    /// A part of its id, so that few are worked out when one is looked for.
    pub(crate) tag: u32,
}

impl LocalTask {
    pub(crate) fn new(placed: Arc<Placed>, now: Timestamp) -> Self {
        let mut task = Self {
            cursor: Cursor::starting(now),
            pace: None,
            next: None,
            last: None,
            running: None,
            timer: 0,
            priority: placed.task.priority,
            rare: None,
            placed,
        };
        task.note_definition();
        task
    }

    /// Takes a new definition, edited at `now`; answers the one before.
    pub(crate) fn redefine(&mut self, placed: Arc<Placed>, now: Timestamp) -> Arc<Placed> {
        if self.placed.task.trigger != placed.task.trigger {
            self.cursor.edit(now);
        }
        let before = std::mem::replace(&mut self.placed, placed);
        self.note_definition();
        before
    }

    /// Goes on after the wall clock was set.
    pub(crate) fn follow(&mut self, step: &ClockStep) {
        if let Some(trigger) = &self.placed.task.trigger {
            self.cursor.follow(trigger, step);
        }
    }

    fn note_definition(&mut self) {
        self.pace = self.placed.task.trigger.as_ref().and_then(Pace::of);
        self.priority = self.placed.task.priority;
    }

    /// Whether its next run depends on when the last one finished.
    pub(crate) fn follows_finish(&self) -> bool {
        self.pace.is_none() && self.placed.task.trigger.as_ref().is_some_and(Trigger::follows_finish)
    }

    /// Its pace, if nothing lives of it and nothing keeps it from firing.
    pub(crate) fn at_ease(&mut self) -> Option<(Pace, &mut Cursor)> {
        let at_ease = self.running.is_none()
            && self.rare.as_ref().is_none_or(|rare| {
                rare.paused.is_none() && rare.running.is_empty() && rare.waiting.is_empty()
            });
        self.pace.filter(|_| at_ease).map(|pace| (pace, &mut self.cursor))
    }

    pub(crate) fn live(&self) -> Live {
        let (more, queued) =
            self.rare.as_ref().map_or((0, 0), |rare| (rare.running.len(), rare.waiting.len()));
        Live { running: usize::from(self.running.is_some()) + more, queued }
    }

    pub(crate) fn has_running(&self) -> bool {
        self.running.is_some() || self.rare.as_ref().is_some_and(|rare| !rare.running.is_empty())
    }

    pub(crate) fn add_running(&mut self, run: RunKey) {
        if self.running.is_none() {
            self.running = Some(run);
        } else {
            self.rare().running.push(run);
        }
    }

    pub(crate) fn add_waiting(&mut self, run: RunKey) {
        self.rare().waiting.push_back(run);
    }

    pub(crate) fn next_waiting(&mut self) -> Option<RunKey> {
        self.rare.as_mut()?.waiting.pop_front()
    }

    /// Forgets a run; says whether it was one of its own.
    pub(crate) fn forget(&mut self, run: RunKey) -> bool {
        if self.running == Some(run) {
            self.running = None;
            return true;
        }
        let Some(rare) = &mut self.rare else { return false };
        let before = rare.running.len() + rare.waiting.len();
        rare.running.retain(|other| *other != run);
        rare.waiting.retain(|other| *other != run);
        rare.running.len() + rare.waiting.len() < before
    }

    /// Whether it has a last run.
    pub(crate) fn has_last(&self) -> bool {
        self.last.is_some() || self.last_whole().is_some()
    }

    /// Takes over the last run of the task of its name before.
    pub(crate) fn take_last_of(&mut self, former: Self) {
        match (former.last, former.rare.and_then(|rare| rare.last)) {
            (Some(last), _) => self.keep_last_plain(last),
            (None, Some((entry, run))) => self.keep_last(entry, run),
            (None, None) => {}
        }
    }

    /// Its runs that have not ended.
    pub(crate) fn runs(&self) -> impl Iterator<Item = RunKey> {
        let more = self.rare.iter().flat_map(|rare| rare.running.iter().chain(&rare.waiting));
        self.running.iter().chain(more).copied()
    }

    /// Those of them that wait for their turn.
    pub(crate) fn waiting(&self) -> Vec<RunKey> {
        self.rare.as_ref().map(|rare| rare.waiting.iter().copied().collect()).unwrap_or_default()
    }

    pub(crate) fn paused(&self) -> Option<&Pause> {
        self.rare.as_ref()?.paused.as_ref()
    }

    pub(crate) fn pause(&mut self, pause: Pause) {
        self.rare().paused = Some(pause);
    }

    /// Says whether it was paused.
    pub(crate) fn unpause(&mut self) -> bool {
        self.rare.as_mut().is_some_and(|rare| rare.paused.take().is_some())
    }

    /// The last run, if there is more to say of it than of a plain one, and which entry of history it was.
    pub(crate) fn last_whole(&self) -> Option<(u64, &Run)> {
        self.rare.as_ref()?.last.as_ref().map(|(entry, run)| (*entry, &**run))
    }

    /// Keeps the last run, which was entry number `entry` of history.
    pub(crate) fn keep_last(&mut self, entry: u64, run: Arc<Run>) {
        self.last = None;
        self.rare().last = Some((entry, run));
    }

    /// Keeps a last run that was a plain one.
    pub(crate) fn keep_last_plain(&mut self, last: LastRun) {
        self.last = Some(last);
        if let Some(rare) = &mut self.rare {
            rare.last = None;
        }
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

impl LastRun {
    /// A part of an id.
    pub(crate) fn tag_of(id: RunId) -> u32 {
        (id.seed() & u64::from(u32::MAX)) as u32
    }
}

/// All tasks, by place and by name.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    slots: Vec<Option<LocalTask>>,
    free: Vec<u32>,
    by_name: HashTable<Named>,
    hasher: DefaultHashBuilder,
    /// Rises over the life of the loop, so that a timer of a removed task is stale in whatever follows it.
    timers: u32,
}

/// A place and a part of its name's hash, so that few names are read to find one, and none to make room.
#[derive(Clone, Copy, Debug)]
struct Named {
    index: u32,
    hash: u32,
}

impl Named {
    /// The part, spread over all bits.
    fn spread(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

impl Tasks {
    pub(crate) fn insert(&mut self, task: LocalTask) -> TaskKey {
        let hash = self.hash_of(&task.placed.task.name);
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[index as usize] = Some(task);
                index
            }
            None => {
                self.slots.push(Some(task));
                u32::try_from(self.slots.len() - 1).expect("fewer than four thousand million tasks")
            }
        };
        self.by_name
            .insert_unique(Named::spread(hash), Named { index, hash }, |named| Named::spread(named.hash));
        TaskKey(index)
    }

    /// Makes room for so many more.
    pub(crate) fn reserve(&mut self, more: usize) {
        let more = more.saturating_sub(self.free.len());
        self.slots.reserve(more);
        self.by_name.reserve(more, |named| Named::spread(named.hash));
    }

    pub(crate) fn remove(&mut self, name: &Name) -> Option<LocalTask> {
        let hash = self.hash_of(name);
        let slots = &self.slots;
        let is_it = |named: &Named| named.hash == hash && name_in(slots, named.index) == name.as_str();
        let (Named { index, .. }, _) = self.by_name.find_entry(Named::spread(hash), is_it).ok()?.remove();
        self.free.push(index);
        self.slots[index as usize].take()
    }

    /// Adds a task in place of another of its name.
    pub(crate) fn replace(&mut self, task: LocalTask) {
        self.remove(&task.placed.task.name);
        self.insert(task);
    }

    /// Adds those of `others` whose names are new.
    pub(crate) fn add_missing(&mut self, others: Self) {
        for task in others.slots.into_iter().flatten() {
            if self.find(&task.placed.task.name).is_none() {
                self.insert(task);
            }
        }
    }

    pub(crate) fn find(&self, name: &Name) -> Option<TaskKey> {
        let hash = self.hash_of(name);
        let is_it = |named: &Named| named.hash == hash && name_in(&self.slots, named.index) == name.as_str();
        self.by_name.find(Named::spread(hash), is_it).map(|named| TaskKey(named.index))
    }

    fn hash_of(&self, name: &Name) -> u32 {
        (self.hasher.hash_one(name.as_str()) >> 32) as u32
    }

    pub(crate) fn get(&self, key: TaskKey) -> Option<&LocalTask> {
        self.slots.get(key.0 as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: TaskKey) -> Option<&mut LocalTask> {
        self.slots.get_mut(key.0 as usize)?.as_mut()
    }

    /// A number for a new timer, which is written into its task and makes the one before stale.
    pub(crate) fn new_timer(&mut self) -> u32 {
        self.timers = self.timers.wrapping_add(1);
        self.timers
    }

    pub(crate) fn keys(&self) -> Vec<TaskKey> {
        self.slots
            .iter()
            .zip(0..)
            .filter(|(slot, _)| slot.is_some())
            .map(|(_, index)| TaskKey(index))
            .collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &LocalTask> {
        self.slots.iter().flatten()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Reads what finding these takes, each step for all of them before the next, so that the processor fetches it
    /// from memory side by side. Of more than [`FETCHED`] only the first are fetched.
    pub(crate) fn fetch_named<'a>(&self, names: impl Iterator<Item = &'a Name>) -> usize {
        let mut hashes = [0; FETCHED];
        let len = hashes.iter_mut().zip(names).map(|(hash, name)| *hash = self.hash_of(name)).count();
        let mut keys = [None; FETCHED];
        for (key, hash) in keys.iter_mut().zip(&hashes[..len]) {
            let named = self.by_name.find(Named::spread(*hash), |named| named.hash == *hash);
            *key = named.map(|named| TaskKey(named.index));
        }
        self.fetch(keys.into_iter().flatten())
    }

    /// Reads a little of each of these tasks, so that the processor fetches them from memory side by side.
    pub(crate) fn fetch(&self, keys: impl Iterator<Item = TaskKey>) -> usize {
        keys.filter_map(|key| self.get(key)).map(|task| Arc::strong_count(&task.placed)).sum()
    }
}

fn name_in(slots: &[Option<LocalTask>], index: u32) -> &str {
    slots.get(index as usize).and_then(Option::as_ref).map_or("", |task| task.placed.task.name.as_str())
}
