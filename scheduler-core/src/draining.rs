//! Draining a queue before maintenance: nothing more is taken from it, and what is under way ends.

use std::time::Duration;

use serde::Serialize;

use crate::{Error, Name, Outage, Pause, QueueStatus, Result, Run, RunFilter, RunState, Scheduler};

/// How often it is looked at what is still under way.
const GLANCE: Duration = Duration::from_millis(100);
/// How many runs that are still under way are named.
const NAMED: usize = 20;
/// In how many pages of running runs they are looked for.
const PAGES: usize = 10;
/// How a run is called that is in no other queue.
const DEFAULT_QUEUE: &str = "default";

/// How a drain ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct QueueDrained {
    /// The backends on which the queue is paused from now on.
    pub backends: Vec<Name>,
    /// How many of its runs are still under way, in whatever process: none once it is drained.
    pub running: usize,
    /// How many of its runs wait until it is resumed.
    pub waiting: usize,
    /// Some of those under way.
    pub still: Vec<Run>,
}

impl Scheduler {
    /// Pauses a queue, on one backend or on every one that has such a queue, and waits until none of its runs is
    /// under way, in whatever process; at most as long as `patience` says, and through an [`Outage`]. It stays paused
    /// afterwards, also when this is not waited for to its end.
    ///
    /// # Errors
    /// `queue/resumed` when somebody lets runs be taken again meanwhile; `queue/drain_unknown` when the queue is paused
    /// and cannot be looked at any more, of the kind of its source; those of [`pause_queue`](Self::pause_queue).
    pub async fn drain_queue(
        &self,
        backend: Option<&Name>,
        queue: &Name,
        pause: &Pause,
        patience: Option<Duration>,
    ) -> Result<QueueDrained> {
        let paused = self.pause_queue(backend, queue, pause, None).await?;
        let mut backends: Vec<Name> = paused.into_iter().map(|(backend, _)| backend).collect();
        let clock = &self.0.clock;
        let until = patience.map(|patience| clock.monotonic().saturating_add(patience));
        let mut outage = Outage::default();
        loop {
            let states = match self.states_of(&backends, queue).await {
                Ok(states) => states,
                Err(error) if error.is_transient() && outage.is_borne(&**clock, until).await => continue,
                Err(error) => return Err(unknown(queue, error)),
            };
            outage.ends();
            let mut drained = QueueDrained { backends, running: 0, waiting: 0, still: Vec::new() };
            for (backend, status) in states {
                if status.paused.is_none() {
                    let message = format!("queue `{queue}` of backend `{backend}` was resumed meanwhile");
                    return Err(Error::conflict("queue/resumed", message));
                }
                drained.running += status.running;
                drained.waiting += status.waiting;
            }
            let now = clock.monotonic();
            if drained.running == 0 {
                return Ok(drained);
            }
            if until.is_some_and(|until| until <= now) {
                // What is known already is worth more than that some can be named.
                drained.still = self.running_in(&drained.backends, queue).await.unwrap_or_default();
                return Ok(drained);
            }
            backends = drained.backends;
            let next = now.saturating_add(GLANCE);
            clock.sleep_until(until.map_or(next, |until| until.min(next))).await;
        }
    }

    /// How a queue stands on each of these backends, whatever becomes of others.
    async fn states_of(&self, backends: &[Name], queue: &Name) -> Result<Vec<(Name, QueueStatus)>> {
        let mut states = Vec::new();
        for backend in backends {
            for (_, queues) in self.queued(Some(backend))? {
                let of_queue = queues.queues().await?.into_iter().find(|status| status.queue == *queue);
                // A paused one is always there.
                let status = of_queue.unwrap_or_else(|| QueueStatus::new(queue.clone(), None));
                states.push((backend.clone(), status));
            }
        }
        Ok(states)
    }

    /// Some of the runs of a queue that are under way.
    async fn running_in(&self, backends: &[Name], queue: &Name) -> Result<Vec<Run>> {
        let is_meant = |run: &Run| {
            let of_queue = run.queue.as_ref().map_or(DEFAULT_QUEUE, Name::as_str) == queue.as_str();
            of_queue && backends.contains(&run.backend)
        };
        let (mut found, mut filter) = (Vec::new(), RunFilter::all().in_states(&[RunState::Running]));
        for _ in 0..PAGES {
            let page = self.history(&filter).await?;
            found.extend(page.runs.into_iter().filter(is_meant));
            filter.after = page.next;
            if page.next.is_none() || found.len() >= NAMED {
                break;
            }
        }
        found.truncate(NAMED);
        Ok(found)
    }
}

/// A queue is paused, and whether anything of it is under way cannot be asked.
fn unknown(queue: &Name, error: Error) -> Error {
    let message = format!("queue `{queue}` is paused, and whether it is drained cannot be told");
    Error::new(error.kind(), "queue/drain_unknown", message).with_source(error)
}
