//! The threads that run jobs, off the loop's thread and off the program's own runtime.
//!
//! Any thread may take up any job where it was left, so a job that blocks its thread delays no other: when all
//! threads are blocked, [`watch`](crate::watch) adds one.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_executor::{Executor, Task};
use scheduler_core::{CancelReason, CancelToken, RunContext};
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;

use crate::command::{Command, Message};
use crate::live::RunKey;

/// The most threads there will be, however many jobs block.
pub(crate) const MAX_THREADS: usize = 512;

/// A pool of threads.
#[derive(Debug)]
pub(crate) struct Workers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    executor: Executor<'static>,
    runtime: Handle,
    messages: UnboundedSender<Message>,
    origin: Instant,
    threads: Mutex<Vec<Arc<Thread>>>,
    pub(crate) ending: CancelToken,
}

/// What a thread is doing.
#[derive(Debug, Default)]
pub(crate) struct Thread {
    /// When it began to poll a job, in milliseconds since the origin plus one; 0 while it does not.
    polling_since: AtomicU64,
    /// The run whose job it polls.
    run: Mutex<Option<(RunKey, u64)>>,
    retire: CancelToken,
}

/// An attempt under way; dropping it drops the job's future as soon as it is not being polled.
#[derive(Debug)]
pub(crate) struct Attempt(Option<Task<()>>);

thread_local! {
    static THIS_THREAD: RefCell<Option<Arc<Thread>>> = const { RefCell::new(None) };
}

impl Workers {
    pub(crate) fn start(runtime: Handle, messages: UnboundedSender<Message>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            executor: Executor::new(),
            runtime,
            messages,
            origin: Instant::now(),
            threads: Mutex::default(),
            ending: CancelToken::new(),
        });
        let workers = Self { shared };
        let base = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        (0..base).try_for_each(|_| workers.shared.add_thread())?;
        Ok(workers)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Begins an attempt; its end comes back as [`Command::Finished`].
    pub(crate) fn begin(
        &self,
        run: RunKey,
        ctx: RunContext,
        attempt: impl Future<Output = scheduler_core::AttemptEnd> + Send + 'static,
    ) -> Attempt {
        let fence = ctx.fence();
        let messages = self.shared.messages.clone();
        let shared = Arc::downgrade(&self.shared);
        let work = async move {
            let end = Watched { future: Box::pin(attempt), run, fence, origin: shared }.await;
            // The context goes along: it holds a test clock until the loop has taken note.
            let held = ctx.clock().busy();
            let _ = messages.send(Message { command: Command::Finished { run, fence, end, ctx }, held });
        };
        Attempt(Some(self.shared.executor.spawn(work)))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.ending.cancel(CancelReason::Shutdown);
        for thread in self.shared.threads() {
            thread.retire.cancel(CancelReason::Shutdown);
        }
    }
}

impl Attempt {
    /// Ends it now: the future is dropped. Resolves once that has happened.
    pub(crate) async fn end(mut self) {
        if let Some(task) = self.0.take() {
            task.cancel().await;
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // A blocked job never comes back to be dropped; nobody waits for it.
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}

impl Shared {
    pub(crate) fn add_thread(self: &Arc<Self>) -> std::io::Result<()> {
        let thread = Arc::new(Thread::default());
        let (shared, this) = (Arc::clone(self), Arc::clone(&thread));
        self.threads_mut().push(thread);
        let builder = std::thread::Builder::new().name("scheduler-local-job".into());
        let started = builder.spawn(move || shared.work(&this));
        if started.is_err() {
            self.threads_mut().pop();
        }
        started.map(|_| ())
    }

    fn work(&self, this: &Arc<Thread>) {
        // Jobs use the program's tokio: its timers and sockets are driven elsewhere, on threads none of them block.
        let _entered = self.runtime.enter();
        THIS_THREAD.set(Some(Arc::clone(this)));
        let retired = async {
            this.retire.cancelled().await;
        };
        futures_lite::future::block_on(self.executor.run(retired));
        self.threads_mut().retain(|thread| !Arc::ptr_eq(thread, this));
    }

    pub(crate) fn threads(&self) -> Vec<Arc<Thread>> {
        self.threads_mut().clone()
    }

    /// How long a thread has been polling one job without a break, and which run that is.
    pub(crate) fn blocked(&self, thread: &Thread) -> Option<(Duration, RunKey, u64)> {
        let since = thread.polling_since.load(Ordering::Acquire).checked_sub(1)?;
        let (run, fence) = (*lock(&thread.run))?;
        Some((self.origin.elapsed().saturating_sub(Duration::from_millis(since)), run, fence))
    }

    pub(crate) fn retire(thread: &Thread) {
        thread.retire.cancel(CancelReason::Requested);
    }

    pub(crate) fn report_blocked(&self, run: RunKey, fence: u64, since: Duration) {
        let held = scheduler_core::Busy::default();
        let _ = self.messages.send(Message { command: Command::Blocked { run, fence, since }, held });
    }

    fn threads_mut(&self) -> MutexGuard<'_, Vec<Arc<Thread>>> {
        lock(&self.threads)
    }
}

/// A job's future that leaves a mark on its thread while it is polled.
struct Watched<F> {
    future: Pin<Box<F>>,
    run: RunKey,
    fence: u64,
    origin: std::sync::Weak<Shared>,
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let thread = THIS_THREAD.with_borrow(Clone::clone);
        if let (Some(thread), Some(shared)) = (&thread, self.origin.upgrade()) {
            *lock(&thread.run) = Some((self.run, self.fence));
            let now = shared.origin.elapsed().as_millis() as u64;
            thread.polling_since.store(now + 1, Ordering::Release);
        }
        let polled = self.future.as_mut().poll(cx);
        if let Some(thread) = &thread {
            thread.polling_since.store(0, Ordering::Release);
        }
        polled
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
