//! The one place that knows apalis: our deliveries as the tasks of an apalis worker.
//!
//! The driver puts deliveries into a channel and takes their ends from another, so nothing here waits for a
//! store, and no fault of a store ever reaches the worker.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::task::Task;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::worker::context::WorkerContext;
use scheduler_core::{AttemptEnd, JobError};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tower_layer::Layer;
use tower_service::Service;

use crate::work::{Ended, Work};

/// What feeds an apalis worker.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) work: UnboundedReceiver<Work>,
    pub(crate) ended: UnboundedSender<Ended>,
}

impl Backend for Feed {
    type Task = Task<Work>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Task<Work>, Infallible>>> {
        self.work.poll_recv(cx).map(|work| work.map(|work| Ok(TaskBuilder::new(work).build())))
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for Feed {
    type Args = Work;
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

/// The outermost layer: whatever comes out of the others is how the attempt ended.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledge(UnboundedSender<Ended>);

impl<S> Layer<S> for Acknowledge {
    type Service = Acknowledging<S>;

    fn layer(&self, inner: S) -> Acknowledging<S> {
        Acknowledging { inner, ended: self.0.clone() }
    }
}

/// The service of [`Acknowledge`].
#[derive(Clone, Debug)]
pub(crate) struct Acknowledging<S> {
    inner: S,
    ended: UnboundedSender<Ended>,
}

impl<S> Service<Task<Work>> for Acknowledging<S>
where
    S: Service<Task<Work>, Response = AttemptEnd>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send + 'static,
{
    type Response = ();
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<(), Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A layer that fails to get ready fails each task that it is given.
        self.inner.poll_ready(cx).map(|_| Ok(()))
    }

    fn call(&mut self, task: Task<Work>) -> Self::Future {
        let work = task.args.clone();
        let attempt = self.inner.call(task);
        let ended = self.ended.clone();
        Box::pin(async move {
            let end =
                attempt.await.unwrap_or_else(|error| AttemptEnd::Failed(JobError::from_boxed(error.into())));
            // The driver is gone only when the process ends; the lease tells the rest.
            let _ = ended.send(Ended { run: work.ctx.run_id(), fence: work.ctx.fence(), end, ctx: work.ctx });
            Ok(())
        })
    }
}
