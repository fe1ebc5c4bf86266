//! Our queues on the pages of apalis-board: what it asks of a backend, answered from the store.
//!
//! The board reads, and it may ask for runs. It knows a backend by one queue, so each of ours is a [`Board`] of its own.
//! It has no notion of who may see it: whoever mounts it says who.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use apalis_core::backend::codec::Codec;
use apalis_core::backend::finalize::Durable;
use apalis_core::backend::queue::Queue;
use apalis_core::backend::{Backend as ApalisBackend, BackendConfig, FetchById, WireFormatBackend};
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::metadata::MetadataStore;
use apalis_core::task::status::Status;
use apalis_core::task::task_id::TaskId;
use apalis_core::task::{ExecutionContext, Task as ApalisTask};
use apalis_core::worker::context::WorkerContext;
use futures_util::Sink;
use scheduler_core::{
    Adhoc, Backend, Error, Name, Priority, Result, Run, RunFilter, RunId, RunRequest, RunState, Timestamp,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tower_layer::Identity;

use crate::QueueBackend;
use crate::store::called;

/// A queue of a backend, as apalis-board knows it.
pub struct Board {
    pub(crate) backend: Arc<QueueBackend>,
    pub(crate) queue: Name,
    asked: Vec<RunRequest>,
    /// What is being asked for; behind a lock that nobody waits for, so that a board may be shared.
    asking: Mutex<Option<Asking>>,
}

type Asking = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

impl Board {
    /// One for each queue that the backend lists, by name. It answers while the backend runs, or is connected.
    pub fn of(backend: &Arc<QueueBackend>) -> Vec<(Name, Self)> {
        let names = backend.config.queue_names().into_iter();
        names.map(|name| (name.clone(), Self::new(Arc::clone(backend), name))).collect()
    }

    fn new(backend: Arc<QueueBackend>, queue: Name) -> Self {
        Self { backend, queue, asked: Vec::new(), asking: Mutex::default() }
    }

    /// Whether a run is in this queue.
    pub(crate) fn has(&self, run: &Run) -> bool {
        called(run.queue.as_ref()) == self.queue.as_str()
    }

    /// The run that somebody asks for.
    ///
    /// # Errors
    /// `board/no_order`.
    pub(crate) fn order(&self, task: ApalisTask<Value>) -> Result<RunRequest> {
        let fault = |fault: String| {
            let form = r#"write {"task": NAME, "params": {…}} or {"job": NAME, "args": {…}}"#;
            Error::invalid("board/no_order", format!("what was pushed asks for no run: {fault}; {form}"))
        };
        let refused = [
            ("idempotency key", task.idempotency_key().is_some()),
            ("id of its own", task.task_id().is_some()),
            ("number of attempts", task.max_attempts().is_some()),
        ];
        if let Some((what, _)) = refused.iter().find(|(_, is_given)| *is_given) {
            return Err(fault(format!("a board takes no {what}")));
        }
        let level = |asked: usize| {
            let priority = u8::try_from(asked).ok().and_then(Priority::new);
            priority.ok_or_else(|| fault(format!("its priority is {asked}, and not one of 0 to 9")))
        };
        let priority = task.priority().map(level).transpose()?;
        let later = task.run_at().map(|at| i64::try_from(at).unwrap_or(i64::MAX).saturating_mul(1_000));
        let order: Order = serde_json::from_value(task.args).map_err(|error| fault(error.to_string()))?;
        let (name, adhoc) = match order {
            Order { task: Some(task), job: None, args: Value::Null, .. } => (task, None),
            Order { task: None, job: Some(job), args, .. } => (job.clone(), Some(Adhoc::new(job, args))),
            Order { .. } => return Err(fault("it names not just one of a task and a job".to_owned())),
        };
        let now = Timestamp::from(std::time::SystemTime::now());
        let at = later.map_or(now, |at| Timestamp::from_millis(at).max(now));
        let mut request = RunRequest::manual(RunId::manual(now), name, at);
        (request.adhoc, request.params, request.queue) = (adhoc, order.params, Some(self.queue.clone()));
        request.priority = priority;
        Ok(request)
    }
}

/// What the board may push.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    task: Option<Name>,
    job: Option<Name>,
    #[serde(default)]
    args: Value,
    #[serde(default)]
    params: Map<String, Value>,
}

impl Clone for Board {
    /// The same queue, of which nothing has been asked yet.
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.backend), self.queue.clone())
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Board({} of {})", self.queue, self.backend.name)
    }
}

/// A run as the board shows it; its args are what would ask for it again.
pub(crate) fn shown(run: &Run) -> ApalisTask<Value> {
    let args = match &run.adhoc {
        Some(adhoc) => json!({"job": adhoc.job, "args": adhoc.args, "params": run.params}),
        None => json!({"task": run.task, "params": run.params}),
    };
    let mut notes = HashMap::from([
        ("state".to_owned(), run.state.as_str().to_owned()),
        ("origin".to_owned(), run.origin.as_str().to_owned()),
    ]);
    notes.extend(run.reason.clone().map(|reason| ("reason".to_owned(), reason)));
    notes.extend(run.failures.last().map(|failure| ("error".to_owned(), failure.error.clone())));
    if !run.output.is_null() {
        notes.insert("output".to_owned(), run.output.to_string());
    }
    let task = TaskBuilder::new(args)
        .task_id(TaskId::from_string(run.id.to_string()))
        .status(status(run.state))
        .attempt(usize::try_from(run.attempt).unwrap_or(usize::MAX))
        .queue(Queue::from(called(run.queue.as_ref())))
        .run_at_timestamp(seconds(run.next_attempt_at.unwrap_or(run.fire_time)))
        .done_at(run.finished_at.map(seconds))
        .with_metadata(MetadataStore::from_map(notes))
        .build();
    match why(run) {
        Some(why) => task.map_context(|ctx| with_error(&ctx, run, &why).map_or(ctx, Arc::new)),
        None => task,
    }
}

/// Why it did not succeed, and as what it stands.
fn why(run: &Run) -> Option<String> {
    if !matches!(status(run.state), Status::Failed | Status::Killed) {
        return None;
    }
    let state = run.state.as_str();
    let why = run.reason.as_ref().or(run.failures.last().map(|failure| &failure.error));
    Some(why.map_or_else(|| state.to_owned(), |why| format!("{state}: {why}")))
}

/// The same with the result of the last attempt: the pages show that, and no notes. A context with results comes only
/// from reading one.
fn with_error(ctx: &ExecutionContext, run: &Run, error: &str) -> Option<ExecutionContext> {
    let mut written = serde_json::to_value(ctx).ok()?;
    let ended = run.finished_at.or(run.failures.last().map(|failure| failure.at));
    let attempt = json!({
        "result": {
            "task_id": run.id.to_string(),
            "attempt": run.attempt,
            "status": status(run.state),
            "result": {"Err": error},
        },
        "lock_at": seconds(run.started_at.unwrap_or(run.fire_time)),
        "lock_by": run.backend,
        "done_at": ended.map(seconds),
    });
    written.as_object_mut()?.insert("runs".to_owned(), json!([attempt]));
    serde_json::from_value(written).ok()
}

pub(crate) fn seconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_millis() / 1_000).unwrap_or(0)
}

/// How the board calls a state.
pub(crate) fn status(state: RunState) -> Status {
    match state {
        RunState::Scheduled => Status::Pending,
        RunState::Queued => Status::Queued,
        RunState::Running => Status::Running,
        // It has failed and is tried again, as their `Failed` means.
        RunState::Retrying => Status::Failed,
        RunState::Succeeded => Status::Done,
        RunState::Failed | RunState::Cancelled | RunState::Skipped => Status::Killed,
    }
}

/// What passes as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsJson;

impl<T: Serialize + DeserializeOwned> Codec<T> for AsJson {
    type Error = serde_json::Error;
    type Compact = Value;

    fn encode(&self, value: &T) -> std::result::Result<Value, serde_json::Error> {
        serde_json::to_value(value)
    }

    fn decode(&self, value: &Value) -> std::result::Result<T, serde_json::Error> {
        T::deserialize(value)
    }
}

/// It has no work for a worker: the backend runs its own.
impl ApalisBackend for Board {
    type Task = ApalisTask<Value>;
    type Error = Error;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Option<Result<Self::Task>>> {
        Poll::Ready(None)
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for Board {
    type Args = Value;
    type Id = String;
    type Kind = Durable;
    type Config = Name;
    type Layer = Identity;

    fn config(&self) -> &Name {
        &self.queue
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}

impl WireFormatBackend for Board {
    type Codec = AsJson;
    type Compact = Value;

    fn codec(&self) -> &AsJson {
        &AsJson
    }
}

impl FetchById for Board {
    async fn fetch_by_id(&mut self, id: &TaskId) -> Result<Option<ApalisTask<Value>>> {
        // What is no id is the id of no run.
        let Ok(id) = id.to_string().parse::<RunId>() else { return Ok(None) };
        let page = self.backend.runs(&RunFilter::of_run(id)).await?;
        Ok(page.runs.iter().find(|run| self.has(run)).map(shown))
    }
}

/// Asks for runs: all that were sent since the last flush, or none of them.
impl Sink<ApalisTask<Value>> for Board {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let board = self.get_mut();
        board.poll_asking(cx)
    }

    fn start_send(self: Pin<&mut Self>, task: ApalisTask<Value>) -> Result<()> {
        let board = self.get_mut();
        // All of them or none.
        let request = board.order(task).inspect_err(|_| board.asked.clear())?;
        board.asked.push(request);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let board = self.get_mut();
        if !board.asked.is_empty() {
            match board.poll_asking(cx) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
            let (backend, asked) = (Arc::clone(&board.backend), std::mem::take(&mut board.asked));
            let asking: Asking = Box::pin(async move { backend.enqueue_all(asked).await.map(drop) });
            *board.asking.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(asking);
        }
        board.poll_asking(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_flush(cx)
    }
}

impl Board {
    fn poll_asking(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let asking = self.asking.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(under_way) = asking else { return Poll::Ready(Ok(())) };
        let answer = under_way.as_mut().poll(cx);
        if answer.is_ready() {
            *asking = None;
        }
        answer
    }
}
