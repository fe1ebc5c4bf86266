//! What callers do to tasks: accepting, forgetting, pausing and resuming them, and asking when they fire.

use std::sync::Arc;

use scheduler_core::{
    CancelReason, Error, Name, Partial, Pause, Placed, Result, ScheduleStatus, Timestamp, Trigger,
};

use crate::engine::Engine;
use crate::tasks::{FETCHED, LocalTask, TaskKey};

/// Tasks that are handled before the loop looks whether others are due.
const BREATH: usize = 1_024;

impl Engine {
    pub(crate) fn upsert(&mut self, placed: Arc<Placed>) {
        let now = self.now() + self.lag_of(&placed);
        if let Some(zone) = placed.task.trigger.as_ref().and_then(Trigger::zone) {
            self.zones.meet(zone, now);
        }
        let key = match self.tasks.find(&placed.task.name) {
            Some(key) => {
                self.redefine(key, placed, now);
                key
            }
            None => {
                let mut task = LocalTask::new(placed, now);
                self.remember(&mut task);
                self.tasks.insert(task)
            }
        };
        self.step(key);
    }

    fn redefine(&mut self, key: TaskKey, placed: Arc<Placed>, now: Timestamp) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        let before = task.redefine(placed, now);
        self.keep_definition(key, &before, Some(key));
    }

    /// Runs under way end on the definition they were fired under.
    fn keep_definition(&mut self, key: TaskKey, before: &Arc<Placed>, place: Option<TaskKey>) {
        let Some(task) = self.tasks.get(key) else { return };
        for run in task.runs() {
            if let Some(live) = self.live.get_mut(run) {
                live.placed.get_or_insert_with(|| Arc::clone(before));
                live.task = place;
            }
        }
    }

    /// Gives a task that is new here the last run of the one of its name before.
    fn remember(&mut self, task: &mut LocalTask) {
        if self.history.has_none_of_others() {
            return;
        }
        let placed = Arc::clone(&task.placed);
        let name = &placed.task.name;
        if let Some((number, run)) = self.history.take_last_alone(name) {
            task.keep_last(number, run);
        }
        if let Some(former) = self.history.former.remove(name) {
            task.take_last_of(former);
        }
    }

    /// Forgets a task; its runs that wait for their turn would wait for ever, so they end.
    pub(crate) fn remove(&mut self, name: &Name) -> bool {
        let Some(key) = self.tasks.find(name) else { return false };
        let Some(task) = self.tasks.get(key) else { return false };
        let (before, waiting) = (Arc::clone(&task.placed), task.waiting());
        self.keep_definition(key, &before, None);
        for run in waiting {
            self.cancel_run(run, CancelReason::Requested);
        }
        let Some(task) = self.tasks.remove(name) else { return false };
        if task.has_last() {
            self.history.former.replace(task);
        }
        true
    }

    fn task(&mut self, name: &Name) -> Result<(TaskKey, &mut LocalTask)> {
        let unknown = || Error::not_found("task/unknown", format!("no task `{name}` on this backend"));
        let key = self.tasks.find(name).ok_or_else(unknown)?;
        let task = self.tasks.get_mut(key).ok_or_else(unknown)?;
        Ok((key, task))
    }

    pub(crate) fn pause(&mut self, name: &Name, pause: Pause) -> Result<()> {
        let (key, task) = self.task(name)?;
        task.pause(pause);
        self.step(key);
        Ok(())
    }

    pub(crate) fn resume(&mut self, name: &Name) -> Result<()> {
        let (_, task) = self.task(name)?;
        let placed = Arc::clone(&task.placed);
        let now = self.now() + self.lag_of(&placed);
        let (key, task) = self.task(name)?;
        if task.unpause() {
            task.cursor.resume(now);
            self.step(key);
        }
        Ok(())
    }

    pub(crate) fn upsert_all(&mut self, tasks: Vec<Arc<Placed>>) {
        self.tasks.reserve(tasks.len());
        let mut tasks = tasks.into_iter();
        let mut done = 0;
        while !tasks.as_slice().is_empty() {
            self.fetch(tasks.as_slice().iter().map(|placed| &placed.task.name));
            for placed in tasks.by_ref().take(FETCHED) {
                self.breathe(done);
                self.upsert(placed);
                done += 1;
            }
        }
    }

    pub(crate) fn remove_all(&mut self, tasks: &[Name]) -> Vec<bool> {
        let mut known = Vec::with_capacity(tasks.len());
        for (index, task) in tasks.iter().enumerate() {
            self.prepare(index, tasks);
            known.push(self.remove(task));
        }
        known
    }

    pub(crate) fn pause_all(&mut self, tasks: &[Name], pause: &Pause) -> Result<(), Partial> {
        for (done, task) in tasks.iter().enumerate() {
            self.prepare(done, tasks);
            self.pause(task, pause.clone()).map_err(|error| Partial { done, error })?;
        }
        Ok(())
    }

    pub(crate) fn resume_all(&mut self, tasks: &[Name]) -> Result<(), Partial> {
        for (done, task) in tasks.iter().enumerate() {
            self.prepare(done, tasks);
            self.resume(task).map_err(|error| Partial { done, error })?;
        }
        Ok(())
    }

    /// Fires what has come due, and fetches the tasks that come next.
    fn prepare(&mut self, done: usize, tasks: &[Name]) {
        self.breathe(done);
        if done.is_multiple_of(FETCHED) {
            self.fetch(tasks[done..].iter());
        }
    }

    fn fetch<'a>(&self, tasks: impl Iterator<Item = &'a Name>) {
        std::hint::black_box(self.tasks.fetch_named(tasks));
    }

    /// Fires what has come due during a long piece of work.
    fn breathe(&mut self, done: usize) {
        if done % BREATH == BREATH - 1 {
            self.look_around();
        }
    }

    pub(crate) fn statuses(&self) -> Vec<ScheduleStatus> {
        let status = |task: &LocalTask| {
            let mut status = ScheduleStatus::new(task.placed.task.name.clone(), task.next);
            status.paused = task.paused().cloned();
            let live = task.live();
            status.live = live.running + live.queued;
            status
        };
        self.tasks.iter().map(status).collect()
    }
}
