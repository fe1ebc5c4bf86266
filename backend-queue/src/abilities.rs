//! What the backend can do besides its duties: schedules, and dead letters.

use std::sync::Arc;

use async_trait::async_trait;
use scheduler_core::{
    DeadLetterFilter, DeadLetterPage, DeadLetters, Name, Pause, Placed, Replayed, Result, RunId,
    ScheduleStatus, Schedules, Timestamp,
};

use crate::QueueBackend;
use crate::requests::Command;

/// They are the store's, whether anything runs or not.
#[async_trait]
impl DeadLetters for QueueBackend {
    async fn letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
        match self.found().await? {
            Some(store) => store.letters(filter).await,
            None => Ok(DeadLetterPage::default()),
        }
    }

    async fn replay(&self, runs: &[RunId]) -> Result<Vec<Replayed>> {
        let Some(store) = self.found().await? else { return Ok(vec![Replayed::Unknown; runs.len()]) };
        let now = Timestamp::from(std::time::SystemTime::now());
        let pairs: Vec<_> = runs.iter().map(|run| (*run, RunId::manual(now))).collect();
        store.replay(&pairs).await
    }

    async fn hold(&self, run: &RunId, reason: Option<&str>) -> Result<bool> {
        match self.found().await? {
            Some(store) => store.hold(*run, reason).await,
            None => Ok(false),
        }
    }

    async fn discard(&self, runs: &[RunId]) -> Result<Vec<bool>> {
        match self.found().await? {
            Some(store) => store.discard(runs).await,
            None => Ok(vec![false; runs.len()]),
        }
    }
}

#[async_trait]
impl Schedules for QueueBackend {
    async fn upsert(&self, task: Arc<Placed>) -> Result<()> {
        self.ask(|reply| Command::Upsert(task, reply)).await?
    }

    async fn remove(&self, task: &Name) -> Result<bool> {
        self.ask(|reply| Command::Remove(task.clone(), reply)).await
    }

    async fn statuses(&self) -> Result<Vec<ScheduleStatus>> {
        self.ask(Command::Statuses).await?
    }

    async fn pause(&self, task: &Name, pause: Pause) -> Result<()> {
        self.ask(|reply| Command::Pause(task.clone(), Some(pause), reply)).await?
    }

    async fn resume(&self, task: &Name) -> Result<()> {
        self.ask(|reply| Command::Pause(task.clone(), None, reply)).await?
    }
}
