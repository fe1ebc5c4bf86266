//! The ability of a backend to forget ended runs before its own bounds make it, and that of all behind one call.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Error, Name, Result, RunId, Scheduler, Timestamp};

/// Forgets runs that have ended, with their outputs and whatever else is kept of them.
///
/// A run that lives is never forgotten, nor one that is a dead letter; those do not count either. A backend that keeps
/// the last run of each task for longer than others may leave that out in the same way.
#[async_trait]
pub trait Retention: Send + Sync {
    /// The ended runs beyond these bounds, in the order in which they ended, behind `skip` of them: some, and at most
    /// `limit`. None at all means that there are no more. Changes nothing.
    async fn beyond(&self, bounds: &HistoryBounds, skip: usize, limit: usize) -> Result<Vec<EndedRun>>;

    /// Forgets the first of those, some and at most `limit`, and answers which: the same that
    /// [`beyond`](Self::beyond) would answer without `skip`. None at all means that there are no more.
    async fn forget(&self, bounds: &HistoryBounds, limit: usize) -> Result<Vec<EndedRun>>;
}

/// How much of what has ended is kept; everything unless a bound is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistoryBounds {
    /// A run that ended longer ago goes.
    pub max_age: Option<Duration>,
    /// Of those that ended, the newest so many are kept.
    pub max_runs: Option<usize>,
}

impl HistoryBounds {
    /// The same bounds with this age.
    #[must_use]
    pub fn aged(mut self, max_age: Duration) -> Self {
        self.max_age = Some(max_age);
        self
    }

    /// The same bounds with this number of runs.
    #[must_use]
    pub fn counting(mut self, max_runs: usize) -> Self {
        self.max_runs = Some(max_runs);
        self
    }

    /// How many of `count` ended runs lie beyond, of which the oldest `old` ended too long ago.
    pub fn beyond(&self, count: usize, old: usize) -> usize {
        let too_many = self.max_runs.map_or(0, |most| count.saturating_sub(most));
        too_many.max(if self.max_age.is_some() { old } else { 0 })
    }
}

/// A run that is forgotten, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EndedRun {
    /// The run.
    pub run: RunId,
    /// The task it belonged to.
    pub task: Name,
    /// When it ended.
    pub ended_at: Timestamp,
    /// About how many bytes are kept of it.
    pub bytes: u64,
}

impl EndedRun {
    /// A run of a task that ended then.
    pub fn new(run: RunId, task: Name, ended_at: Timestamp, bytes: u64) -> Self {
        Self { run, task, ended_at, bytes }
    }
}

impl Scheduler {
    /// The ended runs of a backend that [`forget_beyond`](Self::forget_beyond) would forget, behind `skip` of them.
    ///
    /// # Errors
    /// As there.
    pub async fn history_beyond(
        &self,
        backend: &Name,
        bounds: &HistoryBounds,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<EndedRun>> {
        self.retention_of(backend)?.beyond(bounds, skip, limit).await
    }

    /// Forgets ended runs of a backend beyond these bounds, those that ended first, at most `limit` at once; answers
    /// which. None at all means that there are no more.
    ///
    /// # Errors
    /// `backend/unknown`; `backend/down`; `backend/no_retention`, of kind `Unsupported`, when the backend cannot
    /// forget on demand; its own.
    pub async fn forget_beyond(
        &self,
        backend: &Name,
        bounds: &HistoryBounds,
        limit: usize,
    ) -> Result<Vec<EndedRun>> {
        self.retention_of(backend)?.forget(bounds, limit).await
    }

    fn retention_of(&self, backend: &Name) -> Result<&dyn Retention> {
        self.0.member(backend)?.answering()?.retention().ok_or_else(|| {
            let message = format!(
                "backend `{backend}` does not forget runs on demand: who keeps them has rules of its own"
            );
            Error::unsupported("backend/no_retention", message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_of_the_bounds_does_not_keep_lies_beyond() {
        let hour = Duration::from_secs(3_600);
        let bounds = HistoryBounds::default;
        let cases = [
            (bounds(), 10, 4, 0),
            (bounds().aged(hour), 10, 4, 4),
            (bounds().counting(7), 10, 0, 3),
            (bounds().counting(7).aged(hour), 10, 4, 4),
            (bounds().counting(2).aged(hour), 10, 4, 8),
            (bounds().counting(0), 3, 0, 3),
            (bounds().counting(usize::MAX), 3, 0, 0),
        ];
        for (bounds, count, old, beyond) in cases {
            assert_eq!(bounds.beyond(count, old), beyond, "{bounds:?} of {count}, {old} of them old");
        }
    }
}
