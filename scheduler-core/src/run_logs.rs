//! The ability of a backend to show what a run logged, and the logs of all backends behind one call.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, RunFilter, RunId, Scheduler, Timestamp};

/// Keeps what runs log.
#[async_trait]
pub trait RunLogs: Send + Sync {
    /// The lines of a run, oldest first, from the line `offset` on and at most `limit` of them. Later calls may
    /// show more lines at the end; those before stay as they are.
    ///
    /// # Errors
    /// `run/unknown` when it owns no such run.
    async fn logs(&self, run: &RunId, offset: usize, limit: usize) -> Result<Vec<RunLogLine>>;
}

/// A line that a run logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLogLine {
    /// When.
    pub at: Timestamp,
    /// How important: `debug`, `info`, `warning`, `error` or `critical`.
    pub level: String,
    /// What it says.
    pub message: String,
}

impl Scheduler {
    /// What a run logged, wherever it runs, oldest first: at most `limit` lines from the line `offset` on.
    ///
    /// # Errors
    /// `run/no_logs`, of kind `Unsupported`, when the backend that owns the run keeps no logs; `run/unknown` when
    /// none owns it; those of the first that did not answer, or `backend/down`, when no other owns it.
    pub async fn logs(&self, run: &RunId, offset: usize, limit: usize) -> Result<Vec<RunLogLine>> {
        let mut unanswered = None;
        for member in &self.0.backends {
            let Some(keeper) = member.backend.run_logs() else {
                match member.backend.runs(&RunFilter::of_run(*run)).await {
                    Ok(page) if page.runs.is_empty() => {}
                    Ok(_) => {
                        let message = format!(
                            "run {run} belongs to backend `{}`, which keeps no logs of runs; its output is in the \
                             log of the daemon",
                            member.info.name
                        );
                        return Err(Error::unsupported("run/no_logs", message));
                    }
                    Err(error) => unanswered = unanswered.or(Some(error)),
                }
                continue;
            };
            match keeper.logs(run, offset, limit).await {
                Ok(lines) => return Ok(lines),
                Err(error) if error.code() == "run/unknown" => {}
                Err(error) => unanswered = unanswered.or(Some(error)),
            }
        }
        Err(unanswered.unwrap_or_else(|| self.0.nobody_has(run)))
    }
}
