//! The tasks of a process that have been placed, by name.
//!
//! A task is one block of memory here and a place in a table: the table finds it by the name inside it.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::hash_table::{Entry, HashTable};
use hashbrown::{DefaultHashBuilder, HashSet};

use crate::{Error, Job, Name, Placement, Result, Task};

/// Tasks that are looked for side by side.
const FETCHED: usize = 16;

/// A task that has been placed: its definition, the job made from its args, and where it runs.
pub struct Placed {
    /// The definition.
    pub task: Task,
    /// The job.
    pub job: Arc<dyn Job>,
    /// Where it runs, and why. Tasks that are alike share it.
    pub placement: Arc<Placement>,
}

impl Placed {
    /// Whether it shares with another all that says who fires it.
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.placement, &other.placement)
            && Arc::ptr_eq(&self.task.settings, &other.task.settings)
    }
}

impl fmt::Debug for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Placed({} on {})", self.task.name, self.placement.backend)
    }
}

/// The tasks of a process, by name. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct TaskBook(Arc<RwLock<Table>>);

/// The tasks in a table without keys of its own.
#[derive(Debug, Default)]
struct Table {
    tasks: HashTable<Arc<Placed>>,
    hasher: DefaultHashBuilder,
}

impl TaskBook {
    /// The task, if it is known.
    pub fn find(&self, task: &Name) -> Option<Arc<Placed>> {
        self.read().find(task).cloned()
    }

    /// Each task, if it is known.
    pub(crate) fn find_all(&self, tasks: &[Name]) -> Vec<Option<Arc<Placed>>> {
        let table = self.read();
        let mut found = Vec::with_capacity(tasks.len());
        for few in tasks.chunks(FETCHED) {
            table.fetch(few.iter());
            found.extend(few.iter().map(|task| table.find(task).cloned()));
        }
        found
    }

    /// Every task, by name.
    pub fn all(&self) -> Vec<Arc<Placed>> {
        self.matching(|_| true)
    }

    /// Those for which `wanted` says so, by name.
    pub(crate) fn matching(&self, wanted: impl Fn(&Placed) -> bool) -> Vec<Arc<Placed>> {
        let mut found: Vec<Arc<Placed>> = {
            let table = self.read();
            table.tasks.iter().filter(|placed| wanted(placed)).map(Arc::clone).collect()
        };
        found.sort_unstable_by(|a, b| a.task.name.cmp(&b.task.name));
        found
    }

    /// How many tasks there are.
    pub fn len(&self) -> usize {
        self.read().tasks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a task or replaces its definition; returns the one before.
    pub fn insert(&self, placed: Arc<Placed>) -> Option<Arc<Placed>> {
        self.write().insert(placed)
    }

    /// Removes a task and returns it.
    pub fn remove(&self, task: &Name) -> Option<Arc<Placed>> {
        self.write().remove(task)
    }

    /// Adds tasks, or replaces their definitions, as one step; returns for each the one before.
    ///
    /// # Errors
    /// `task/duplicate` when two of them have one name; the book stays as it was then.
    pub(crate) fn insert_all(&self, all: &[Arc<Placed>]) -> Result<Vec<Option<Arc<Placed>>>> {
        let mut table = self.write();
        table.make_room(all);
        let mut before = Vec::with_capacity(all.len());
        for few in all.chunks(FETCHED) {
            table.fetch(few.iter().map(|placed| &placed.task.name));
            before.extend(few.iter().map(|placed| table.insert(Arc::clone(placed))));
        }
        // What is replaced was there before, or has just been put there.
        let replaced: HashSet<*const Placed> = before.iter().flatten().map(Arc::as_ptr).collect();
        let is_replaced = |placed: &&Arc<Placed>| replaced.contains(&Arc::as_ptr(placed));
        if replaced.is_empty() {
            return Ok(before);
        }
        let Some(twice) = all.iter().find(is_replaced) else { return Ok(before) };
        table.restore(all, before);
        let message = format!("task `{}` is defined twice among the {} given", twice.task.name, all.len());
        Err(Error::conflict("task/duplicate", message))
    }

    /// Puts back what [`insert_all`](Self::insert_all) found before.
    pub(crate) fn restore(&self, all: &[Arc<Placed>], before: Vec<Option<Arc<Placed>>>) {
        self.write().restore(all, before);
    }

    /// Removes tasks; says which were there.
    pub(crate) fn remove_all(&self, tasks: &[Name]) -> Vec<bool> {
        let mut table = self.write();
        // Their last owner drops them, so that takes place after the lock is free again.
        let mut removed: Vec<Option<Arc<Placed>>> = Vec::with_capacity(tasks.len());
        for few in tasks.chunks(FETCHED) {
            table.fetch(few.iter());
            removed.extend(few.iter().map(|task| table.remove(task)));
        }
        drop(table);
        removed.iter().map(Option::is_some).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn hash(hasher: &DefaultHashBuilder, task: &Name) -> u64 {
        hasher.hash_one(task.as_str())
    }

    fn find(&self, task: &Name) -> Option<&Arc<Placed>> {
        self.tasks.find(Self::hash(&self.hasher, task), |placed| placed.task.name == *task)
    }

    fn insert(&mut self, placed: Arc<Placed>) -> Option<Arc<Placed>> {
        let hash = Self::hash(&self.hasher, &placed.task.name);
        let is_same = |other: &Arc<Placed>| other.task.name == placed.task.name;
        match self.tasks.entry(hash, is_same, |other| Self::hash(&self.hasher, &other.task.name)) {
            Entry::Occupied(mut before) => Some(std::mem::replace(before.get_mut(), placed)),
            Entry::Vacant(place) => {
                place.insert(placed);
                None
            }
        }
    }

    fn remove(&mut self, task: &Name) -> Option<Arc<Placed>> {
        let hash = Self::hash(&self.hasher, task);
        let found = self.tasks.find_entry(hash, |placed| placed.task.name == *task).ok()?;
        Some(found.remove().0)
    }

    /// Reads what finding these takes, each step for all of them before the next, so that the processor fetches it from
    /// memory side by side. Of more than [`FETCHED`] only the first are fetched.
    fn fetch<'a>(&self, tasks: impl Iterator<Item = &'a Name>) {
        let mut hashes = [0; FETCHED];
        let len =
            hashes.iter_mut().zip(tasks).map(|(hash, task)| *hash = Self::hash(&self.hasher, task)).count();
        let mut found = [None; FETCHED];
        for (found, hash) in found.iter_mut().zip(&hashes[..len]) {
            *found = self.tasks.find(*hash, |_| true);
        }
        read(found.into_iter().flatten());
    }

    /// Grows once for all tasks that are new, not step by step.
    fn make_room(&mut self, all: &[Arc<Placed>]) {
        let room = self.tasks.capacity() - self.tasks.len();
        if all.len() <= room {
            return;
        }
        let is_new = |placed: &&Arc<Placed>| self.find(&placed.task.name).is_none();
        let new = if self.tasks.is_empty() { all.len() } else { all.iter().filter(is_new).count() };
        if new > room {
            self.grow(new);
        }
    }

    /// Moves all tasks into a table with room for so many more, each name of which is read anew for that.
    fn grow(&mut self, more: usize) {
        let grown = HashTable::with_capacity(self.tasks.len() + more);
        let mut tasks = std::mem::replace(&mut self.tasks, grown).into_iter();
        let mut few = Vec::with_capacity(FETCHED);
        loop {
            few.extend(tasks.by_ref().take(FETCHED));
            if few.is_empty() {
                return;
            }
            read(few.iter());
            for placed in few.drain(..) {
                let hash = Self::hash(&self.hasher, &placed.task.name);
                self.tasks.insert_unique(hash, placed, |other| Self::hash(&self.hasher, &other.task.name));
            }
        }
    }

    /// The last one first, so that of two with one name the one before both is what remains.
    fn restore(&mut self, all: &[Arc<Placed>], before: Vec<Option<Arc<Placed>>>) {
        for (placed, before) in all.iter().zip(before).rev() {
            match before {
                Some(before) => drop(self.insert(before)),
                None => drop(self.remove(&placed.task.name)),
            }
        }
    }
}

/// Reads a little of each task, all of them side by side.
fn read<'a>(tasks: impl Iterator<Item = &'a Arc<Placed>>) {
    let parts = tasks.map(|placed| Arc::strong_count(placed) + placed.task.name.as_str().len());
    std::hint::black_box(parts.sum::<usize>());
}
