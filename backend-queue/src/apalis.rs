//! The one place that knows apalis: our deliveries as the tasks of an apalis worker.
//!
//! The driver puts deliveries into a channel and takes their ends from another, so nothing here waits for a
//! store, and no fault of a store ever reaches the worker.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::error::AbortError;
use apalis_core::task::Task;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::task_id::TaskId;
use apalis_core::worker::context::WorkerContext;
use scheduler_core::{AttemptEnd, JobError, Output};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tower_layer::Layer;
use tower_service::Service;

use crate::layers::{Attempt, AttemptFailure, BoxError, Jobs};
use crate::work::{Ended, Work};

/// What feeds an apalis worker.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) work: UnboundedReceiver<Work>,
    pub(crate) ended: UnboundedSender<Ended>,
    /// Whether layers are told what apalis notes of a task.
    pub(crate) is_layered: bool,
}

impl Feed {
    fn task_of(&self, work: Work) -> Task<Attempt> {
        let attempt = Attempt { work, jobs: self.is_layered.then(Jobs::default) };
        if !self.is_layered {
            // With its feature `task-context` apalis refuses a task without an id. A fence is that of one delivery.
            let id = TaskId::from_int(attempt.context().fence());
            return TaskBuilder::new(attempt).task_id(id).build();
        }
        let (id, number) = (attempt.context().run_id(), attempt.context().attempt());
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        TaskBuilder::new(attempt).task_id(TaskId::from_string(id.to_string())).attempt(number).build()
    }
}

impl Backend for Feed {
    type Task = Task<Attempt>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Task<Attempt>, Infallible>>> {
        self.work.poll_recv(cx).map(|work| work.map(|work| Ok(self.task_of(work))))
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for Feed {
    type Args = Attempt;
    type Id = u64;
    type Kind = apalis_core::backend::finalize::Ephemeral;
    type Config = ();
    type Layer = Acknowledge;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Acknowledge {
        Acknowledge(self.ended.clone())
    }
}

/// The outermost layer: whatever comes out of the others is how the attempt ended, once its job has.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledge(UnboundedSender<Ended>);

impl<S> Layer<S> for Acknowledge {
    type Service = Acknowledging<S>;

    fn layer(&self, inner: S) -> Acknowledging<S> {
        Acknowledging { inner, ended: self.0.clone(), refusal: None }
    }
}

/// The service of [`Acknowledge`].
#[derive(Debug)]
pub(crate) struct Acknowledging<S> {
    inner: S,
    ended: UnboundedSender<Ended>,
    /// Why the layers did not get ready for the next attempt.
    refusal: Option<AttemptEnd>,
}

impl<S> Service<Task<Attempt>> for Acknowledging<S>
where
    S: Service<Task<Attempt>, Response = Output, Error = BoxError>,
    S::Future: Send + Unpin + 'static,
{
    type Response = ();
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<(), Infallible>> + Send>>;

    /// A layer that fails to get ready fails each task that it is given, and ends nothing else.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // What it said before is of a time before: it is asked again before each task.
        self.refusal = None;
        let ready = guarded(|| self.inner.poll_ready(cx));
        self.refusal = match ready {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Ok(()))) => None,
            Ok(Poll::Ready(Err(error))) => Some(end_of(Err(error))),
            Err(panicked) => Some(panicked),
        };
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, task: Task<Attempt>) -> Self::Future {
        let (ctx, jobs) = (task.args.work.ctx.clone(), task.args.jobs.clone());
        let begun = match self.refusal.take() {
            Some(refusal) => Err(refusal),
            None => guarded(|| self.inner.call(task)),
        };
        let ended = self.ended.clone();
        Box::pin(async move {
            let end = match begun {
                Ok(attempt) => end_within(attempt).await,
                Err(end) => end,
            };
            if let Some(jobs) = jobs {
                // Another attempt would run beside a job that a layer gave up and that blocks its thread.
                jobs.end(&ctx).await;
            }
            // The driver is gone only when the process ends; the lease tells the rest.
            let _ = ended.send(Ended { run: ctx.run_id(), fence: ctx.fence(), end, ctx });
            Ok(())
        })
    }
}

/// Waits for an attempt. A layer that panics ends that attempt only.
async fn end_within(mut attempt: impl Future<Output = Result<Output, BoxError>> + Unpin) -> AttemptEnd {
    let end = poll_fn(|cx| match guarded(|| Pin::new(&mut attempt).poll(cx)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(answer)) => Poll::Ready(end_of(answer)),
        Err(panicked) => Poll::Ready(panicked),
    });
    let end = end.await;
    match guarded(|| drop(attempt)) {
        Ok(()) => end,
        Err(panicked) => panicked,
    }
}

/// How an attempt ended, by what the layers around it answered.
fn end_of(answer: Result<Output, BoxError>) -> AttemptEnd {
    let error = match answer {
        Ok(output) => return AttemptEnd::Succeeded(output),
        Err(error) => error,
    };
    match error.downcast::<AttemptFailure>() {
        Ok(failure) => failure.0,
        Err(error) if error.is::<AbortError>() => AttemptEnd::Failed(JobError::abort(error)),
        Err(error) => AttemptEnd::Failed(JobError::from_boxed(error)),
    }
}

fn guarded<T>(act: impl FnOnce() -> T) -> Result<T, AttemptEnd> {
    catch_unwind(AssertUnwindSafe(act)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let said = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        AttemptEnd::Panicked(format!("in a layer around the job: {said}"))
    })
}
