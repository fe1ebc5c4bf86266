//! Asking for runs, of tasks or of jobs without one, one by one or many at once.

use crate::scheduler::Inner;
use crate::{
    Adhoc, Capability, Enqueued, Error, Name, Result, RunId, RunRequest, Scheduler, Tier, TriggerRequest,
    adhoc,
};

/// A run that somebody asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Of a task.
    Task(Name, TriggerRequest),
    /// Of a job without a task, which the job must allow.
    Job(Adhoc, TriggerRequest),
}

impl Scheduler {
    /// Runs a job without a task, on the backend where a persistent task would be placed.
    ///
    /// # Errors
    /// `job/unknown`, `job/not_adhoc`, `task/bad_args`, `backend/no_adhoc`, those of placing it (codes
    /// `placement/…`) and those of its backend.
    pub async fn run_job(&self, job: Adhoc, request: TriggerRequest) -> Result<Enqueued> {
        let (backend, run) = self.0.order(&Order::Job(job, request))?;
        self.0.member(&backend)?.answering()?.enqueue(run).await
    }

    /// Asks for many runs; answers in their order. All are looked at before any is taken, and those of one backend
    /// are taken in one step where the backend can. No other tier takes over for one that is down.
    ///
    /// # Errors
    /// Those of the first order that is refused, or of the first backend that does not take its runs. What backends
    /// before that took stays taken; with a key, asking again takes nothing twice.
    pub async fn enqueue_all(&self, orders: &[Order]) -> Result<Vec<Enqueued>> {
        let mut by_backend: Vec<(Name, Vec<usize>, Vec<RunRequest>)> = Vec::new();
        for (place, order) in orders.iter().enumerate() {
            let (backend, run) = self.0.order(order)?;
            let known = by_backend.iter().position(|(name, ..)| *name == backend);
            let at = known.unwrap_or_else(|| {
                by_backend.push((backend, Vec::new(), Vec::new()));
                by_backend.len() - 1
            });
            by_backend[at].1.push(place);
            by_backend[at].2.push(run);
        }
        let mut answers: Vec<(usize, Enqueued)> = Vec::with_capacity(orders.len());
        for (backend, places, runs) in by_backend {
            answers.extend(places.into_iter().zip(self.0.take(&backend, runs).await?));
        }
        answers.sort_unstable_by_key(|(place, _)| *place);
        Ok(answers.into_iter().map(|(_, answer)| answer).collect())
    }

    /// Looks at an order without taking it; answers the backend that would take it.
    ///
    /// # Errors
    /// Whatever [`enqueue_all`](Self::enqueue_all) would refuse it for, whether its backend answers or not.
    pub fn check_order(&self, order: &Order) -> Result<Name> {
        self.0.order(order).map(|(backend, _)| backend)
    }
}

impl Inner {
    /// The run that an order asks for, and the backend it is for.
    fn order(&self, order: &Order) -> Result<(Name, RunRequest)> {
        let (backend, run) = match order {
            Order::Task(task, request) => {
                let placed = self.known(task)?;
                (placed.placement.backend.clone(), self.requested(task.clone(), request.clone()))
            }
            Order::Job(adhoc, request) => {
                let (task, descriptor) = self.registry.adhoc_task(adhoc)?;
                adhoc::build(&task, descriptor)?;
                let placement = self.placing().alike(&task, descriptor)?.placement;
                let member = self.member(&placement.backend)?;
                if !member.info.capabilities.contains(&Capability::Adhoc) {
                    let message = format!("backend `{}` runs no job without a task", placement.backend);
                    return Err(Error::unsupported("backend/no_adhoc", message));
                }
                let mut run = self.requested(task.name, request.clone());
                if let Some(key) = &request.key {
                    run.run_id = RunId::keyed_job(&self.namespace, &adhoc.job, key);
                }
                (placement.backend.clone(), RunRequest { adhoc: Some(adhoc.clone()), ..run })
            }
        };
        self.judge_unique(&backend, &run)?;
        match self.member(&backend)?.backend.refusal(&run) {
            Some(refusal) => Err(refusal),
            None => Ok((backend, run)),
        }
    }

    /// Whether a backend can keep others of the kind of a run out, where that is asked for.
    ///
    /// # Errors
    /// `backend/no_unique`.
    pub(crate) fn judge_unique(&self, backend: &Name, run: &RunRequest) -> Result<()> {
        if run.unique.is_none() || self.member(backend)?.info.tier == Tier::Queue {
            return Ok(());
        }
        let message =
            format!("backend `{backend}` keeps no runs unique; a task with tier = \"queue\" can have them");
        Err(Error::unsupported("backend/no_unique", message))
    }

    async fn take(&self, backend: &Name, runs: Vec<RunRequest>) -> Result<Vec<Enqueued>> {
        let asked = runs.len();
        let answers = self.member(backend)?.answering()?.enqueue_all(runs).await?;
        if answers.len() == asked {
            return Ok(answers);
        }
        let message = format!("backend `{backend}` answered {} times for {asked} runs", answers.len());
        Err(Error::unexpected("backend/no_answer", message))
    }

    /// The run of a task that a request asks for.
    pub(crate) fn requested(&self, task: Name, request: TriggerRequest) -> RunRequest {
        let now = self.clock.now();
        let run_id = match &request.key {
            Some(key) => RunId::keyed(&self.namespace, &task, key),
            None => RunId::manual(now),
        };
        RunRequest {
            params: request.params,
            priority: request.priority,
            queue: request.queue,
            unique: request.unique,
            ..RunRequest::manual(run_id, task, request.at.unwrap_or(now))
        }
    }
}
