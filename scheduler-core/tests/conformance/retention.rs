//! Forgetting on the reference backend.

use scheduler_core::{EndedRun, HistoryBounds, Result, Retention, async_trait};

use crate::breaks::Break;
use crate::store::{Shared, State};

impl Shared {
    fn ended_beyond(&self, state: &State, bounds: &HistoryBounds) -> Vec<EndedRun> {
        let is_kept = |stored: &&crate::store::Stored| {
            let is_letter = state.letters.contains_key(&stored.run.id) && !self.is(Break::LettersPruned);
            !stored.run.state.is_end() || is_letter
        };
        let mut ended: Vec<_> = state.runs.values().filter(|stored| !is_kept(stored)).collect();
        ended.sort_by_key(|stored| (stored.run.finished_at, stored.number));
        let now = state.life.as_ref().map(|life| life.ctx.clock.now()).unwrap_or_default();
        let oldest = bounds.max_age.map_or(scheduler_core::Timestamp::MIN, |age| now - age);
        let old = ended.iter().filter(|stored| stored.run.finished_at.is_some_and(|at| at <= oldest)).count();
        let beyond = ended.iter().take(bounds.beyond(ended.len(), old)).map(|stored| &stored.run);
        beyond
            .map(|run| EndedRun::new(run.id, run.task.clone(), run.finished_at.unwrap_or_default(), 0))
            .collect()
    }
}

#[async_trait]
impl Retention for Shared {
    async fn beyond(&self, bounds: &HistoryBounds, skip: usize, limit: usize) -> Result<Vec<EndedRun>> {
        let beyond = self.ended_beyond(&self.lock(), bounds);
        Ok(beyond.into_iter().skip(skip).take(limit).collect())
    }

    async fn forget(&self, bounds: &HistoryBounds, limit: usize) -> Result<Vec<EndedRun>> {
        let mut state = self.lock();
        let mut gone = self.ended_beyond(&state, bounds);
        gone.truncate(limit);
        for ended in &gone {
            state.runs.remove(&ended.run);
            state.letters.remove(&ended.run);
        }
        Ok(gone)
    }
}
