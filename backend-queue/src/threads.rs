//! Where the loop and the jobs run: the loop on one thread, the jobs on as many as run at once, so that one
//! that blocks its thread delays no other.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use apalis_core::task::Task;
use apalis_core::worker::builder::WorkerBuilder;
use scheduler_core::{AttemptEnd, BackendContext, Error, Name, Output, Result, attempt};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tower_service::Service;

use crate::QueueConfig;
use crate::apalis::Feed;
use crate::driver::Driver;
use crate::layers::{Attempt, AttemptFailure, AttemptService, Layers};
use crate::requests::Command;
use crate::store::Store;
use crate::work::Work;

/// The most threads for jobs.
const MOST_THREADS: usize = 64;

/// Starts the loop and its worker; the loop ends when it is stopped.
///
/// # Errors
/// `queue/no_threads`.
pub(crate) fn start(
    name: &Name,
    config: QueueConfig,
    ctx: BackendContext,
    store: Arc<dyn Store>,
    layers: &Layers,
) -> Result<UnboundedSender<Command>> {
    let no_threads = |error: std::io::Error| {
        Error::unavailable("queue/no_threads", format!("cannot start the threads of `{name}`"))
            .with_source(error)
    };
    let threads = config.concurrency.get().clamp(2, MOST_THREADS);
    let jobs =
        Builder::new_multi_thread().worker_threads(threads).thread_name("queue-job").enable_all().build();
    let jobs = jobs.map_err(no_threads)?;
    let own = Builder::new_current_thread().enable_all().build().map_err(no_threads)?;
    let (commands, received) = unbounded_channel();
    let (work, taken) = unbounded_channel();
    let (ended, ends) = unbounded_channel();
    let feed = Feed { work: taken, ended, is_layered: layers.are_there() };
    let attempts = layers.around(AttemptService::new(Attempts));
    let worker = WorkerBuilder::new(name.to_string()).backend(feed).build(attempts);
    let driver = Driver::new(name.clone(), config, ctx, store, work);
    let run = move || {
        jobs.spawn(worker.run());
        own.block_on(driver.run(received, ends));
        end(jobs);
        // Nor for one that is just made of what a neighbour pushed.
        end(own);
    };
    std::thread::Builder::new().name(format!("queue-{name}")).spawn(run).map_err(no_threads)?;
    Ok(commands)
}

/// Jobs that have not ended are dropped where they wait next; nobody waits for one that blocks its thread.
fn end(jobs: Runtime) {
    jobs.shutdown_background();
}

/// Runs attempts, each as a tokio task of its own.
#[derive(Clone, Debug)]
struct Attempts;

impl Service<Task<Attempt>> for Attempts {
    type Response = Output;
    type Error = AttemptFailure;
    type Future = Pin<Box<dyn Future<Output = Result<Output, AttemptFailure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), AttemptFailure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, task: Task<Attempt>) -> Self::Future {
        let Attempt { work: Work { placed, ctx }, jobs } = task.args;
        Box::pin(async move {
            let job = jobs.map(|jobs| jobs.begin());
            let under_way = UnderWay(tokio::spawn(async move {
                let _until_it_is_gone = job;
                attempt(&*placed.job, &ctx, placed.task.timeout).await
            }));
            match under_way.await {
                AttemptEnd::Succeeded(output) => Ok(output),
                end => Err(AttemptFailure(end)),
            }
        })
    }
}

/// An attempt under way. Whoever gives it up, as a layer with a time limit does, ends it: its job's future is dropped
/// where it waits next, and the attempt has not ended before that.
struct UnderWay(JoinHandle<AttemptEnd>);

impl Future for UnderWay {
    type Output = AttemptEnd;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<AttemptEnd> {
        let ended = Pin::new(&mut self.0).poll(cx);
        ended.map(|ended| ended.unwrap_or_else(|error| AttemptEnd::Panicked(error.to_string())))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.abort();
    }
}
