//! What an embedder wraps around attempts: layers of tower, as workers of apalis have them.
//!
//! They stand between the worker and the job. Leases, fences, retries and the end of a run stay outside of them, and so
//! does what a layer itself does wrong.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use apalis_core::task::Task as ApalisTask;
use scheduler_core::{AttemptEnd, CancelReason, Output, RunContext, Spelled, Task};
use tokio::sync::watch;
use tower_layer::Layer;
use tower_service::Service;

use crate::work::Work;

/// What a layer may fail with.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What answers whether an attempt succeeded.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Output, BoxError>> + Send>>;

/// An attempt, as layers see it: the args of a task of apalis.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub(crate) work: Work,
    /// Nothing where there are no layers, which alone may give a job up.
    pub(crate) jobs: Option<Jobs>,
}

impl Attempt {
    /// What its job is given: whose run it is, its number, its fence.
    pub fn context(&self) -> &RunContext {
        &self.work.ctx
    }

    /// The definition of its task.
    pub fn task(&self) -> &Task {
        &self.work.placed.task
    }
}

/// After how long it is told that a job goes on which a layer has given up.
const TOLD_AFTER: Duration = Duration::from_secs(10);

/// How often the job of an attempt is under way: once, or as often as layers have begun it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Jobs(Arc<watch::Sender<usize>>);

/// A job under way, until its future is gone: one that blocks its thread keeps it, whoever has given it up.
#[derive(Debug)]
pub(crate) struct JobUnderWay(Jobs);

impl Jobs {
    pub(crate) fn begin(&self) -> JobUnderWay {
        self.0.send_modify(|count| *count += 1);
        JobUnderWay(self.clone())
    }

    /// Waits until none is under way, and tells those that are that nobody waits for what they answer.
    pub(crate) async fn end(&self, ctx: &RunContext) {
        let mut count = self.0.subscribe();
        if *count.borrow_and_update() > 0 {
            ctx.cancel_token().cancel(CancelReason::TimedOut);
            // It cannot be closed while it is here.
            let mut gone = pin!(count.wait_for(|count| *count == 0));
            if tokio::time::timeout(TOLD_AFTER, gone.as_mut()).await.is_err() {
                tracing::warn!(
                    task = %ctx.task(), run_id = %ctx.run_id(),
                    "a layer has given this attempt up, and its job goes on: it keeps its place until it ends"
                );
                let _ = gone.await;
            }
        }
    }
}

impl Drop for JobUnderWay {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

/// How an attempt ended that did not succeed: the error that layers see. One that a layer makes in its place counts as
/// a failure that is tried again, or is not where it is apalis' `AbortError`.
#[derive(Debug)]
pub struct AttemptFailure(pub(crate) AttemptEnd);

impl AttemptFailure {
    /// How it ended.
    pub fn end(&self) -> &AttemptEnd {
        &self.0
    }
}

impl fmt::Display for AttemptFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            AttemptEnd::Succeeded(_) => f.write_str("succeeded"),
            AttemptEnd::Failed(error) => write!(f, "{error}"),
            AttemptEnd::TimedOut { limit, .. } => write!(f, "timed out after {}", Spelled(*limit)),
            AttemptEnd::Panicked(message) => write!(f, "panicked: {message}"),
            AttemptEnd::Cancelled { reason, .. } => write!(f, "cancelled: {}", reason.as_str()),
        }
    }
}

impl StdError for AttemptFailure {}

/// The service that layers wrap: it runs an attempt.
pub struct AttemptService(Box<dyn Erased>);

/// A service whose type is forgotten.
trait Erased: Send {
    fn ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>>;
    fn begin(&mut self, task: ApalisTask<Attempt>) -> Answer;
    fn another(&self) -> Box<dyn Erased>;
}

impl<S> Erased for S
where
    S: Service<ApalisTask<Attempt>, Response = Output> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    fn ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.poll_ready(cx).map_err(Into::into)
    }

    fn begin(&mut self, task: ApalisTask<Attempt>) -> Answer {
        let answer = self.call(task);
        Box::pin(async move { answer.await.map_err(Into::into) })
    }

    fn another(&self) -> Box<dyn Erased> {
        Box::new(self.clone())
    }
}

impl AttemptService {
    pub(crate) fn new<S>(service: S) -> Self
    where
        S: Service<ApalisTask<Attempt>, Response = Output> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        Self(Box::new(service))
    }
}

impl Clone for AttemptService {
    fn clone(&self) -> Self {
        Self(self.0.another())
    }
}

impl fmt::Debug for AttemptService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AttemptService")
    }
}

impl Service<ApalisTask<Attempt>> for AttemptService {
    type Response = Output;
    type Error = BoxError;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.ready(cx)
    }

    fn call(&mut self, task: ApalisTask<Attempt>) -> Answer {
        self.0.begin(task)
    }
}

type Wrap = dyn Fn(AttemptService) -> AttemptService + Send + Sync;

/// The layers of a backend, the outermost first.
#[derive(Clone, Default)]
pub(crate) struct Layers(Vec<Arc<Wrap>>);

impl Layers {
    pub(crate) fn add<L>(&mut self, layer: L)
    where
        L: Layer<AttemptService> + Send + Sync + 'static,
        L::Service: Service<ApalisTask<Attempt>, Response = Output> + Clone + Send + 'static,
        <L::Service as Service<ApalisTask<Attempt>>>::Error: Into<BoxError>,
        <L::Service as Service<ApalisTask<Attempt>>>::Future: Send + 'static,
    {
        self.0.push(Arc::new(move |inner| AttemptService::new(layer.layer(inner))));
    }

    pub(crate) fn are_there(&self) -> bool {
        !self.0.is_empty()
    }

    /// The service with all of them around it.
    pub(crate) fn around(&self, innermost: AttemptService) -> AttemptService {
        self.0.iter().rev().fold(innermost, |inner, wrap| wrap(inner))
    }
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} layers", self.0.len())
    }
}
