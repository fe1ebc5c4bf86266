//! The ability of a backend to say how much it has to do, and what all backends say as one answer.

use async_trait::async_trait;
use serde::Serialize;

use crate::{BackendInfo, Error, Result, Scheduler, Timestamp};

/// Knows how much there is to do, without looking at each run.
#[async_trait]
pub trait Workload: Send + Sync {
    /// What there is to do now.
    ///
    /// # Errors
    /// Of kind `Unavailable` when what keeps its runs does not answer.
    async fn load(&self) -> Result<Load>;
}

/// How much a backend has to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Load {
    /// Runs that are due and have not begun, those included that wait for their turn.
    pub waiting: u64,
    /// Since when the oldest of them that may begin is due, if there is one.
    pub oldest_due: Option<Timestamp>,
    /// Runs that wait for their time, or for that of their next attempt.
    pub ahead: u64,
    /// Attempts under way.
    pub under_way: u64,
    /// Dead letters; `None` where none are kept.
    pub dead_letters: Option<u64>,
}

impl Scheduler {
    /// How much each backend has to do.
    ///
    /// Of one that cannot say, `backend/no_load` of kind `Unsupported`; of one that is known to be down,
    /// `backend/down`; else its own error.
    pub async fn loads(&self) -> Vec<(BackendInfo, Result<Load>)> {
        let asked = self.0.backends.iter().map(|member| async move {
            let load = match (member.answering(), member.backend.workload()) {
                (Err(down), _) => Err(down),
                (Ok(_), Some(workload)) => workload.load().await,
                (Ok(_), None) => {
                    let message =
                        format!("backend `{}` does not say how much it has to do", member.info.name);
                    Err(Error::unsupported("backend/no_load", message))
                }
            };
            (member.info.clone(), load)
        });
        futures_util::future::join_all(asked).await
    }
}
