//! What the backend can do besides its duties: schedules, dead letters, forgetting, and saying how much there is to do.

use std::sync::Arc;

use async_trait::async_trait;
use scheduler_core::{
    DeadLetterFilter, DeadLetterPage, DeadLetters, EndedRun, HeldLetters, HistoryBounds, Load, Name, Pause,
    Placed, Replayed, Result, Retention, RunId, RunRequest, ScheduleStatus, Schedules, Timestamp, Workload,
};
use serde_json::{Map, Value};

use crate::QueueBackend;
use crate::requests::{self, Command};
use crate::store::Replay;

/// How many runs are forgotten in one step, whatever is asked for, so that none keeps others waiting for long.
const MOST_FORGOTTEN: usize = 1_000;

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
        let replays: Vec<_> = runs.iter().map(|run| Replay::new(*run, RunId::manual(now))).collect();
        store.replay(&replays).await
    }

    /// # Errors
    /// `queue/params_too_large`, `queue/params_too_deep`.
    async fn replay_with(&self, run: &RunId, params: &Map<String, Value>) -> Result<Replayed> {
        let Some(store) = self.found().await? else { return Ok(Replayed::Unknown) };
        let page = store.letters(&DeadLetterFilter::of_run(*run)).await?;
        let Some(letter) = page.letters.into_iter().next() else { return Ok(Replayed::Unknown) };
        let now = Timestamp::from(std::time::SystemTime::now());
        let again = RunId::manual(now);
        let mut request = RunRequest::manual(again, letter.run.task, now);
        (request.params, request.adhoc) = (params.clone(), letter.run.adhoc);
        if let Some(refusal) = requests::refusal(&self.name, &self.config, &request) {
            return Err(refusal);
        }
        let replay = Replay { params: Some(request.params), ..Replay::new(*run, again) };
        let answers = store.replay(&[replay]).await?;
        Ok(answers.into_iter().next().unwrap_or(Replayed::Unknown))
    }

    async fn hold(&self, run: &RunId, reason: Option<&str>) -> Result<bool> {
        match self.found().await? {
            Some(store) => store.hold(*run, reason).await,
            None => Ok(false),
        }
    }

    async fn discard(&self, runs: &[RunId], held: HeldLetters) -> Result<Vec<bool>> {
        match self.found().await? {
            Some(store) => store.discard(runs, held).await,
            None => Ok(vec![false; runs.len()]),
        }
    }
}

/// History is the store's as well.
#[async_trait]
impl Retention for QueueBackend {
    async fn beyond(&self, bounds: &HistoryBounds, skip: usize, limit: usize) -> Result<Vec<EndedRun>> {
        match self.found().await? {
            Some(store) => store.beyond(bounds, skip, limit.min(MOST_FORGOTTEN) as u32).await,
            None => Ok(Vec::new()),
        }
    }

    async fn forget(&self, bounds: &HistoryBounds, limit: usize) -> Result<Vec<EndedRun>> {
        match self.found().await? {
            Some(store) => store.prune(bounds, limit.min(MOST_FORGOTTEN) as u32).await,
            None => Ok(Vec::new()),
        }
    }
}

#[async_trait]
impl Workload for QueueBackend {
    async fn load(&self) -> Result<Load> {
        match self.found().await? {
            Some(store) => store.load().await,
            None => Ok(Load::default()),
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
