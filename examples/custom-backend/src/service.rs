//! Sees one run through: waits until it is due, tries it, waits again, ends it.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{
    BackendContext, Busy, CancelReason, CancelToken, Event, Placed, Run, RunId, RunState, Verdict, attempt,
    verdict,
};

use super::state::Shared;

/// What it takes to see one run through.
pub(crate) struct Service {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ctx: BackendContext,
    /// Holds a test clock except while the run waits for time to pass.
    pub(crate) busy: Busy,
    pub(crate) placed: Arc<Placed>,
    pub(crate) id: RunId,
    pub(crate) told: CancelToken,
}

impl Service {
    /// Waits for so long, then tries the run until it ends.
    pub(crate) async fn serve(self, mut wait: Duration) {
        loop {
            self.wait(wait).await;
            let Some(attempt) = self.shared.begin(self.id, &self.ctx) else {
                let reason = self.told.reason().unwrap_or(CancelReason::Shutdown);
                return self.end(RunState::Cancelled, Some(reason.as_str().into()));
            };
            match self.attempt(attempt).await {
                Some(again_after) => wait = again_after,
                None => return,
            }
        }
    }

    /// Waits unless it is told to stop first.
    async fn wait(&self, wait: Duration) {
        let mut sleep = self.ctx.clock.sleep_until(self.ctx.clock.monotonic().saturating_add(wait));
        // By reference: woken, the sleep holds a test clock until it is dropped.
        let ended = async {
            tokio::select! {
                biased;
                _ = self.told.cancelled() => {}
                () = &mut sleep => {}
            }
        };
        self.busy.parked(ended).await;
    }

    /// Tries the run once; says how long to wait for the next attempt, if there is one.
    async fn attempt(&self, context: scheduler_core::RunContext) -> Option<Duration> {
        let task = &self.placed.task;
        let most = task.retry.attempts_on(self.shared.info.tier);
        // The context holds a test clock while the job works.
        let end = self.busy.parked(attempt(&*self.placed.job, &context, task.timeout)).await;
        let (number, output) = (context.attempt(), end.output().clone());
        drop(context);
        self.shared.change(self.id, |run| run.output = output);
        let now = self.ctx.clock.now();
        match verdict(end, &task.retry, number, most, self.id.seed()) {
            Verdict::Succeed(_) => self.end(RunState::Succeeded, None),
            Verdict::Fail { error } => {
                self.shared.change(self.id, |run| run.record_failure(now, error.clone()));
                self.end(RunState::Failed, Some(error));
            }
            Verdict::Cancel(reason) => {
                if reason == CancelReason::Shutdown {
                    self.shared.lock().abandoned.push(self.id);
                }
                self.end(RunState::Cancelled, Some(reason.as_str().into()));
            }
            Verdict::Retry { error, .. } if self.is_stopping() => {
                self.shared.change(self.id, |run| run.record_failure(now, error.clone()));
                let reason = format!("{error}; not tried again: {}", CancelReason::Shutdown.as_str());
                self.end(RunState::Failed, Some(reason));
            }
            Verdict::Snooze { .. } if self.is_stopping() => {
                self.end(RunState::Cancelled, Some(CancelReason::Shutdown.as_str().into()));
            }
            Verdict::Retry { after, error } => {
                self.pause(RunState::Retrying, after, |run| run.record_failure(now, error));
                return Some(after);
            }
            Verdict::Snooze { after } => {
                self.pause(RunState::Queued, after, |run| run.attempt -= 1);
                return Some(after);
            }
        }
        None
    }

    fn is_stopping(&self) -> bool {
        self.shared.lock().ctx.is_none()
    }

    fn pause(&self, state: RunState, next_in: Duration, note: impl FnOnce(&mut Run)) {
        let next = self.ctx.clock.now() + next_in;
        let paused = self.shared.change(self.id, |run| {
            note(run);
            run.state = state;
            run.next_attempt_at = Some(next);
        });
        if let Some((run, fence)) = paused {
            self.ctx.events.emit(&Event::AttemptEnded { run: &run, fence, next_in });
        }
    }

    fn end(&self, state: RunState, reason: Option<String>) {
        self.shared.end(self.id, &self.ctx, state, reason);
    }
}
