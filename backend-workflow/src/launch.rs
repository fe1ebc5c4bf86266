//! Starts runs that were asked for, or whose time our own driver says has come.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{Enqueued, Error, Placed, Result, RunRequest, Tier};

use tokio::task::JoinSet;

use crate::engine::{Launch, Launched};
use crate::session::Session;

/// A call is repeated for so long in all, whatever the task's policy says: whoever asks does not wait for ever.
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// How many runs are started at once; more only wait in the engine.
const AT_ONCE: usize = 16;
/// A run that is due this soon is started at once by an engine that starts none in advance.
const SOON: Duration = Duration::from_secs(1);

impl Session {
    /// Starts a run under its key. The task's retry policy covers this call only, not what the run does; the key
    /// keeps a repeated call from making a second run.
    ///
    /// # Errors
    /// `task/unknown`, and those of the engine.
    pub(crate) async fn launch(&self, request: &RunRequest) -> Result<Enqueued> {
        if request.adhoc.is_some() {
            let message = format!("backend `{}` runs no job without a task", self.backend);
            return Err(Error::unsupported("backend/no_adhoc", message));
        }
        let placed = self.task(&request.task)?;
        let retry = &placed.task.retry;
        let (mut attempt, mut waited) = (1, Duration::ZERO);
        loop {
            let error = match self.launch_once(&placed, request).await {
                Err(error) if error.is_transient() && attempt < retry.attempts_on(Tier::Workflow) => error,
                answer => return answer,
            };
            let wait = retry.wait_after(attempt, request.run_id.seed());
            waited += wait;
            if waited > LONGEST_WAIT {
                return Err(error);
            }
            let clock = &self.ctx.clock;
            let mut sleep = clock.sleep_until(clock.monotonic().saturating_add(wait));
            tokio::select! {
                () = &mut sleep => {}
                _ = self.stopping.cancelled() => return Err(error),
            }
            attempt += 1;
        }
    }

    /// Starts many runs, some at a time; answers in their order.
    ///
    /// # Errors
    /// Those of the first that was not started; what was started before stays.
    pub(crate) async fn launch_all(self: &Arc<Self>, requests: Vec<RunRequest>) -> Result<Vec<Enqueued>> {
        let mut waiting = requests.into_iter().enumerate();
        let mut answers: Vec<(usize, Result<Enqueued>)> = Vec::with_capacity(waiting.len());
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < AT_ONCE
                && let Some((place, request)) = waiting.next()
            {
                let session = Arc::clone(self);
                under_way.spawn(async move { (place, session.launch(&request).await) });
            }
            let Some(ended) = under_way.join_next().await else { break };
            let (place, answer) = ended.map_err(|error| {
                Error::unexpected("workflow/not_launched", "a run was given up half-way").with_source(error)
            })?;
            if answer.is_err() {
                // What is under way goes on to its answer, and nothing else begins.
                waiting = Vec::new().into_iter().enumerate();
            }
            answers.push((place, answer));
        }
        answers.sort_unstable_by_key(|(place, _)| *place);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    async fn launch_once(&self, placed: &Arc<Placed>, request: &RunRequest) -> Result<Enqueued> {
        let launched = match self.launch_known(placed, request).await {
            // It may have been deleted and made anew since it was looked up.
            Err(error) if error.code() == "engine/unknown_workflow" => {
                self.forget_workflow(&request.task);
                self.launch_known(placed, request).await?
            }
            answer => answer?,
        };
        self.remember(request.run_id, &launched.run.id);
        if !launched.created {
            return Ok(Enqueued::Duplicate(request.run_id));
        }
        self.hand_over(launched.run);
        Ok(Enqueued::Inserted(request.run_id))
    }

    async fn launch_known(&self, placed: &Placed, request: &RunRequest) -> Result<Launched> {
        let (target, workflow) = self.workflow_of(&placed.task).await?;
        let at = if self.capabilities().delayed {
            // Also for one that is due now: then the engine's time of it is ours, to the millisecond.
            Some(request.due)
        } else if request.due.since(self.ctx.clock.now()) <= SOON {
            None
        } else {
            let message = "this engine starts no run in advance; ask for it at its time";
            return Err(Error::unsupported("engine/unsupported", message));
        };
        let mut tags = self.names.launch_tags(request);
        tags.extend_from_slice(target.tags());
        let launch = Launch {
            workflow: workflow.id,
            key: self.names.key(request.run_id),
            name: format!("{} {}", request.task, request.fire_time),
            parameters: target.parameters(request),
            at,
            tags,
        };
        self.link.call(|engine| engine.trigger(&launch)).await
    }
}
