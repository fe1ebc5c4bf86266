//! Forgetting ended runs on demand, in memory and in the file.
//!
//! What goes is always the old end of history. The last run of each task stays, as it does when history is bounded by
//! itself.

use async_trait::async_trait;
use scheduler_core::{EndedRun, HistoryBounds, Name, Result, Retention, Timestamp};

use crate::LocalBackend;
use crate::command::{Command, Reply};
use crate::engine::Engine;
use crate::history::History;
use crate::live::Owner;
use crate::tasks::{LocalTask, Tasks};

/// How many runs are forgotten at once, whatever is asked for: nothing fires meanwhile.
const MOST: usize = 1_000;

#[async_trait]
impl Retention for LocalBackend {
    async fn beyond(&self, bounds: &HistoryBounds, skip: usize, limit: usize) -> Result<Vec<EndedRun>> {
        self.ask(|reply| Command::Beyond { bounds: *bounds, skip, limit, reply }).await
    }

    async fn forget(&self, bounds: &HistoryBounds, limit: usize) -> Result<Vec<EndedRun>> {
        self.ask(|reply| Command::Forget { bounds: *bounds, limit, reply }).await?
    }
}

impl Engine {
    /// As [`Retention::beyond`].
    pub(crate) fn beyond(&self, bounds: &HistoryBounds, skip: usize, limit: usize) -> Vec<EndedRun> {
        let beyond = self.history.beyond(bounds, self.now(), &self.tasks).skip(skip).take(limit.min(MOST));
        beyond.map(|place| self.history.told(place, &self.owner)).collect()
    }

    /// As [`Retention::forget`]; the answer comes when they are gone from the file, too.
    pub(crate) fn forget(
        &mut self,
        bounds: &HistoryBounds,
        limit: usize,
        reply: Reply<Result<Vec<EndedRun>>>,
    ) {
        let beyond = self.history.beyond(bounds, self.now(), &self.tasks);
        let places: Vec<usize> = beyond.take(limit.min(MOST)).collect();
        let told = places.iter().map(|place| self.history.told(*place, &self.owner)).collect();
        // What waits to be written may be among them.
        self.write_history();
        match &mut self.writer {
            Some(writer) if !places.is_empty() => {
                if !writer.forget(told, reply) {
                    return;
                }
            }
            _ => drop(reply.send(Ok(told))),
        }
        if let Some(last) = places.last() {
            self.history.drop_first(last + 1);
        }
    }
}

impl History {
    /// The places of the entries beyond bounds, oldest first, but for those that are the last of their task.
    fn beyond<'a>(
        &'a self,
        bounds: &HistoryBounds,
        now: Timestamp,
        tasks: &'a Tasks,
    ) -> impl Iterator<Item = usize> + 'a {
        let oldest = bounds.max_age.map_or(Timestamp::MIN, |age| now - age);
        let old = self.entries().take_while(|entry| entry.finished_at().is_none_or(|at| at <= oldest));
        let over = bounds.beyond(self.entries().len(), old.count());
        let entries = self.entries().take(over).enumerate();
        let others = entries.filter(|(place, entry)| !self.is_last(*place, entry.name(), tasks));
        others.map(|(place, _)| place)
    }

    /// Whether the entry at a place is the last run of its task.
    fn is_last(&self, place: usize, task: &Name, tasks: &Tasks) -> bool {
        let number = self.next_number() - self.entries().len() as u64 + place as u64;
        let of = |task: &LocalTask| {
            let plain = task.last.as_ref().map(|last| last.entry);
            plain.or_else(|| task.last_whole().map(|(entry, _)| entry)) == Some(number)
        };
        let mut known = [tasks, &self.former].into_iter().filter_map(|tasks| tasks.get(tasks.find(task)?));
        known.any(of) || self.is_last_alone(task, number)
    }

    fn told(&self, place: usize, owner: &Owner) -> EndedRun {
        let run = self.entry(place).run(owner);
        let bytes = serde_json::to_vec(&*run).map_or(0, |line| line.len() as u64);
        EndedRun::new(run.id, run.task.clone(), run.finished_at.unwrap_or_default(), bytes)
    }
}
