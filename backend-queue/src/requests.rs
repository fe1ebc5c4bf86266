//! What the loop is asked from this process, and what it answers.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{
    BackendContext, CancelReason, Cancelled, Drained, Enqueued, Error, Event, Name, Overlap, Pause, Placed,
    Result, Run, RunId, RunRequest, ScheduleStatus, Tier,
};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::QueueConfig;
use crate::adopt_loop::Adopting;
use crate::drain::Drain;
use crate::driver::{Driver, describe};
use crate::envelope::{self, DEEPEST};
use crate::store::{Cancel, Pushed, Store, kept_queue};

/// The largest parameters and args that a run may carry, in bytes of JSON.
pub(crate) const LARGEST_PARAMS: usize = 1024 * 1024;

/// What the loop can be asked.
pub(crate) enum Command {
    /// All of them or none.
    Enqueue(Vec<RunRequest>, Reply<Taken>),
    Cancel(RunId, Reply<Result<Cancelled>>),
    Upsert(Arc<Placed>, Reply<Result<()>>),
    Remove(Name, Reply<bool>),
    Statuses(Reply<Result<Vec<ScheduleStatus>>>),
    Pause(Name, Option<Pause>, Reply<Result<()>>),
    /// Answers what is wrong.
    Health(Reply<Vec<String>>),
    /// No grace at all means an abort.
    Stop(Option<Duration>, Reply<Drained>),
}

pub(crate) type Reply<T> = oneshot::Sender<T>;
type Taken = Result<Vec<Enqueued>>;

impl Driver {
    pub(crate) async fn commands(
        &mut self,
        first: Command,
        commands: &mut UnboundedReceiver<Command>,
        drain: &mut Option<Drain>,
    ) {
        let mut batch = vec![first];
        while let Ok(command) = commands.try_recv() {
            batch.push(command);
        }
        let mut pushed = Vec::new();
        for command in batch {
            match command {
                Command::Enqueue(_, reply) if drain.is_some() => drop(reply.send(Err(self.stopped()))),
                Command::Enqueue(requests, reply) => {
                    match requested(&self.ctx, &self.name, &self.config, requests) {
                        Ok(runs) => pushed.push((runs, reply)),
                        Err(error) => drop(reply.send(Err(error))),
                    }
                }
                Command::Cancel(run, reply) => drop(reply.send(self.cancel(run).await)),
                Command::Upsert(placed, reply) => drop(reply.send(self.upsert(placed).await)),
                Command::Remove(task, reply) => drop(reply.send(self.remove(&task))),
                Command::Statuses(reply) => drop(reply.send(self.statuses().await)),
                Command::Pause(task, pause, reply) => drop(reply.send(self.pause(&task, pause).await)),
                Command::Health(reply) => {
                    let _ = reply.send(self.health().await);
                }
                Command::Stop(grace, reply) => {
                    let over = drain.take();
                    let report = over.as_ref().map(|over| over.report.clone()).unwrap_or_default();
                    let deadline = Instant::now() + grace.unwrap_or_default();
                    self.give_ahead_back();
                    self.adopting = Adopting::default();
                    *drain = Some(Drain { reply, report, deadline, is_over: grace.is_none() });
                    if grace.is_none() {
                        self.give_up(drain.as_mut());
                    }
                }
            }
        }
        if !pushed.is_empty() {
            self.push(pushed, drain.is_none()).await;
        }
    }

    async fn health(&self) -> Vec<String> {
        let queues = self.store.queues().await;
        let trouble = queues.as_ref().err().map(describe).or_else(|| self.trouble.clone());
        let mut findings: Vec<String> = trouble.into_iter().collect();
        findings.extend(self.findings(&queues.unwrap_or_default()));
        findings.extend(self.adopting.findings());
        findings
    }

    fn stopped(&self) -> Error {
        Error::unavailable("backend/stopped", format!("backend `{}` does not run", self.name))
    }

    /// Adds what arrived together in one transaction, and takes what may begin behind that. With nothing at all it
    /// finds out whether the store takes anything.
    pub(crate) async fn push(&mut self, requests: Vec<(Vec<Pushed>, Reply<Taken>)>, may_claim: bool) {
        let (groups, replies): (Vec<Vec<Pushed>>, Vec<_>) = requests.into_iter().unzip();
        let ids: Vec<Vec<RunId>> = groups.iter().map(|group| ids_of(group)).collect();
        let store = Arc::clone(&self.store);
        let mut adding = pin!(add(&*store, groups.into_iter().flatten().collect()));
        let added = tokio::select! {
            biased;
            added = &mut adding => added,
            // It is on its way. A step that is sent behind it finds the runs there, so nobody waits for the answer first.
            () = std::future::ready(()) => {
                if may_claim && self.stepping.is_none() && self.backoff.is_zero() {
                    self.stepping = self.step(true);
                }
                adding.await
            }
        };
        match added {
            Ok(answers) => {
                self.refusing_since = None;
                let mut answers = answers.into_iter();
                for (reply, ids) in replies.into_iter().zip(ids) {
                    let _ = reply.send(Ok(enqueued(ids, &mut answers)));
                }
            }
            Err(error) => {
                if error.is_transient() {
                    self.refusing_since = Some(Instant::now());
                    self.in_trouble(&error);
                }
                for reply in replies {
                    let again = Error::new(error.kind(), error.code(), describe(&error));
                    let _ = reply.send(Err(again));
                }
            }
        }
    }

    async fn cancel(&mut self, id: RunId) -> Result<Cancelled> {
        self.tell_cancelled(id, CancelReason::Requested);
        let answer = self.store.cancel(id, CancelReason::Requested.as_str()).await?;
        if let Cancel::Ended(run) = &answer {
            self.ctx.events.emit(&Event::RunEnded { run, fence: 0 });
        }
        cancelled(id, &answer)
    }
}

/// What a store's answer to a wish to cancel means.
///
/// # Errors
/// `run/unknown`.
pub(crate) fn cancelled(id: RunId, answer: &Cancel) -> Result<Cancelled> {
    match answer {
        Cancel::Ended(_) => Ok(Cancelled::Prevented),
        Cancel::Marked => Ok(Cancelled::Requested),
        Cancel::TooLate => Ok(Cancelled::AlreadyFinished),
        Cancel::Unknown => Err(Error::not_found("run/unknown", format!("no run {id}"))),
    }
}

/// Adds runs while nothing runs here.
pub(crate) async fn push_outside(store: &dyn Store, runs: Vec<Pushed>) -> Result<Vec<Enqueued>> {
    let ids = ids_of(&runs);
    Ok(enqueued(ids, &mut add(store, runs).await?.into_iter()))
}

/// Adds runs; says of each which one is there instead, where it is not new.
async fn add(store: &dyn Store, runs: Vec<Pushed>) -> Result<Vec<Option<RunId>>> {
    if runs.iter().any(|pushed| pushed.run.unique.is_some()) {
        return store.push_unique(runs).await;
    }
    let ids = ids_of(&runs);
    let are_new = store.push(runs).await?;
    Ok(ids.into_iter().zip(are_new).map(|(id, is_new)| Some(id).filter(|_| !is_new)).collect())
}

fn ids_of(runs: &[Pushed]) -> Vec<RunId> {
    runs.iter().map(|pushed| pushed.run.id).collect()
}

fn enqueued(ids: Vec<RunId>, others: &mut impl Iterator<Item = Option<RunId>>) -> Vec<Enqueued> {
    let answer =
        |(id, other): (RunId, Option<RunId>)| other.map_or(Enqueued::Inserted(id), Enqueued::Duplicate);
    ids.into_iter().zip(others).map(answer).collect()
}

/// The runs that requests ask for.
///
/// # Errors
/// `queue/params_too_large`, `queue/unknown_queue`, and those of [`BackendContext::work_of`], for the first that is refused.
pub(crate) fn requested(
    ctx: &BackendContext,
    backend: &Name,
    config: &QueueConfig,
    requests: Vec<RunRequest>,
) -> Result<Vec<Pushed>> {
    requests.into_iter().map(|request| requested_run(ctx, backend, config, request)).collect()
}

fn requested_run(
    ctx: &BackendContext,
    backend: &Name,
    config: &QueueConfig,
    request: RunRequest,
) -> Result<Pushed> {
    if let Some(refusal) = refusal(backend, config, &request) {
        return Err(refusal);
    }
    let mut run = Run::queued(request.run_id, request.task, backend.clone(), Tier::Queue, request.fire_time);
    run.origin = request.origin;
    run.params = request.params;
    run.adhoc = request.adhoc;
    let placed = ctx.work_of(&run)?;
    let queue = request.queue.as_ref().or(placed.task.queue.as_ref());
    run.queue = queue.and_then(kept_queue);
    let unique = request.unique.as_ref().or(placed.task.unique.as_ref());
    run.unique = unique.map(|unique| {
        let mut kind = unique.key_of(&run.task, &run.params);
        // A task may be called as a job is.
        if run.adhoc.is_some() {
            kind.key.insert_str(0, "job ");
        }
        kind
    });
    let max_attempts = placed.task.retry.attempts_on(Tier::Queue);
    let alone = placed.task.overlap != Overlap::Allow;
    let priority = request.priority.unwrap_or(placed.task.priority).level();
    Ok(Pushed { run, due: request.due, priority, max_attempts, alone })
}

/// Why no store takes a run, if that is so.
pub(crate) fn refusal(backend: &Name, config: &QueueConfig, request: &RunRequest) -> Option<Error> {
    if let Some(refusal) = request.queue.as_ref().and_then(|queue| unknown_queue(backend, config, queue)) {
        return Some(refusal);
    }
    if request.unique.as_ref().is_some_and(|unique| unique.window == Some(Duration::ZERO)) {
        let message = "unique runs with `for` of 0s keep no other out".to_owned();
        return Some(Error::invalid("time/bad_duration", message));
    }
    let args = request.adhoc.iter().map(|adhoc| &adhoc.args);
    if request.params.values().chain(args).any(|value| envelope::is_deeper(value, DEEPEST)) {
        let message =
            format!("the parameters of a run of `{}` are nested more than {DEEPEST} deep", request.task);
        return Some(Error::invalid("queue/params_too_deep", message));
    }
    let values = request.params.iter().map(|(name, value)| longest(name.len()) + longest_of(value));
    let values = values.chain(request.adhoc.iter().map(|adhoc| LONGEST_NAME + longest_of(&adhoc.args)));
    // Most are so small that nobody needs to write them to know.
    if values.sum::<usize>() <= LARGEST_PARAMS {
        return None;
    }
    let params = serde_json::to_string(&request.params).map_or(0, |text| text.len());
    let adhoc = serde_json::to_string(&request.adhoc).map_or(0, |text| text.len());
    let size = params + if request.adhoc.is_some() { adhoc } else { 0 };
    (size > LARGEST_PARAMS).then(|| {
        let message = format!(
            "the parameters of a run of `{}` have {size} bytes, more than {LARGEST_PARAMS}; \
             store them elsewhere and pass their place",
            request.task
        );
        Error::invalid("queue/params_too_large", message)
    })
}

/// What an ad-hoc job needs besides its args, at most.
const LONGEST_NAME: usize = 256;

/// How many bytes of JSON a text of so many bytes makes at most, and what stands around it.
fn longest(text: usize) -> usize {
    text.saturating_mul(6) + 4
}

/// How many bytes of JSON a value makes at most.
fn longest_of(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 32,
        Value::String(text) => longest(text.len()),
        Value::Array(values) => values.iter().fold(2, |sum, value| sum + 1 + longest_of(value)),
        Value::Object(values) => {
            values.iter().fold(2, |sum, (name, value)| sum + longest(name.len()) + longest_of(value))
        }
    }
}

/// The error about a queue that is not configured, if it is not.
pub(crate) fn unknown_queue(backend: &Name, config: &QueueConfig, queue: &Name) -> Option<Error> {
    let known = config.queue_names();
    if known.contains(queue) {
        return None;
    }
    let known: Vec<&str> = known.iter().map(Name::as_str).collect();
    let message = format!(
        "backend `{backend}` has no queue `{queue}`, only {}; add [backends.{backend}.queues.{queue}]",
        known.join(", ")
    );
    Some(Error::invalid("queue/unknown_queue", message))
}
