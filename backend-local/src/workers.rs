//! The threads that run jobs, off the loop's thread and off the program's own runtime.
//!
//! Attempts wait in one queue. A thread takes one after the other and polls its job once where it is: most end with
//! that. One that does not is taken up by any thread where it was left. So a job that blocks its thread delays no
//! other: when threads are blocked, [`watch`](crate::watch) lets others take what waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use async_executor::Executor;
use concurrent_queue::ConcurrentQueue;
use scheduler_core::{
    Busy, CancelReason, CancelToken, Placed, RunContext, RunHost, RunId, RunIdentity, Tier, Timestamp,
};
use serde_json::{Map, Value};
use tokio::runtime::Handle;

use crate::attempts::{Attempt, Watched, furnished, poll_in_place, whole_attempt};
use crate::command::{Command, Ended, Message};
use crate::inbox::Inbox;
use crate::live::{Owner, RunKey};
use crate::orders::Orders;
use crate::thread::{Thread, this_thread};

/// The most threads there will be, however many jobs block.
pub(crate) const MAX_THREADS: usize = 512;
/// Jobs that a thread polls before it looks after those that wait to go on.
const TURN: usize = 64;
/// Ends after which the loop is told, though more come at once.
const TELL: usize = 256;

/// A pool of threads.
#[derive(Debug)]
pub(crate) struct Workers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) executor: Executor<'static>,
    runtime: Handle,
    pub(crate) inbox: Arc<Inbox>,
    owner: Owner,
    host: Arc<RunHost>,
    queue: ConcurrentQueue<Item>,
    /// How many take from the queue, or are about to.
    takers: AtomicUsize,
    base: usize,
    threads: Mutex<Vec<Arc<Thread>>>,
    pub(crate) orders: Orders,
    pub(crate) ending: CancelToken,
}

/// An attempt that has not begun.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) run: RunKey,
    pub(crate) fence: u64,
    pub(crate) placed: Arc<Placed>,
    pub(crate) fire_time: Timestamp,
    pub(crate) attempt: u32,
    /// Of a run that was asked for; that of one by schedule follows from its task and time.
    pub(crate) asked: Option<Box<(RunId, Map<String, Value>)>>,
    /// Keeps a test clock still until it has begun.
    pub(crate) held: Busy,
}

impl Workers {
    pub(crate) fn start(
        runtime: Handle,
        inbox: Arc<Inbox>,
        owner: Owner,
        host: RunHost,
    ) -> std::io::Result<Self> {
        let base = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        let shared = Arc::new(Shared {
            executor: Executor::new(),
            runtime,
            inbox,
            owner,
            host: Arc::new(host),
            queue: ConcurrentQueue::unbounded(),
            takers: AtomicUsize::new(0),
            base,
            threads: Mutex::default(),
            orders: Orders::default(),
            ending: CancelToken::new(),
        });
        let workers = Self { shared };
        (0..base).try_for_each(|_| workers.shared.add_thread())?;
        Ok(workers)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Puts an attempt into the queue; its end comes back as [`Ended`]. Somebody must be [called](Self::call).
    pub(crate) fn begin(&self, item: Item) {
        // It is closed never, and has no bound.
        let _ = self.shared.queue.push(item);
    }

    /// Tells an attempt to stop, wherever it is.
    pub(crate) fn cancel(&self, fence: u64, reason: CancelReason) {
        if let Some(ctx) = self.shared.orders.cancel(fence, reason).or_else(|| self.shared.current(fence)) {
            ctx.cancel(reason);
        }
    }

    /// Forgets an attempt that has ended.
    pub(crate) fn forget(&self, fence: u64, went_on: bool) {
        drop(self.shared.orders.forget(fence, went_on));
    }

    /// Forgets an attempt: its future goes on by itself, if it can. Answers its context, if it has begun.
    pub(crate) fn give_up(&self, fence: u64) -> Option<RunContext> {
        self.shared.orders.forget(fence, true).map(|(ctx, _)| ctx).or_else(|| self.shared.current(fence))
    }

    /// Drops attempts now; what has not begun never does. Answers what is left to be waited for.
    pub(crate) fn cut(&self, fences: &[u64]) -> Vec<Attempt> {
        let mut going_on = Vec::new();
        for fence in fences {
            if let Some((ctx, attempt)) = self.shared.orders.cut(*fence) {
                ctx.cancel(CancelReason::Shutdown);
                going_on.push(attempt);
            } else if let Some(ctx) = self.shared.current(*fence) {
                ctx.cancel(CancelReason::Shutdown);
            }
        }
        while self.shared.queue.pop().is_ok() {}
        going_on
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.ending.cancel(CancelReason::Shutdown);
        for thread in self.shared.threads() {
            thread.retire(CancelReason::Shutdown);
        }
    }
}

/// One that takes from the queue. While it waits for its turn it does not keep alive what it takes from.
struct Taker(Weak<Shared>);

impl Drop for Taker {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.takers.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Shared {
    pub(crate) fn add_thread(self: &Arc<Self>) -> std::io::Result<()> {
        let thread = Arc::new(Thread::default());
        let (shared, this) = (Arc::clone(self), Arc::clone(&thread));
        self.threads_mut().push(Arc::clone(&thread));
        if let Some(reason) = self.ending.reason() {
            // Whoever ended the others may have missed this one.
            thread.retire(reason);
        }
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
        this.is_this();
        futures_lite::future::block_on(self.executor.run(this.retired()));
        self.threads_mut().retain(|thread| !Arc::ptr_eq(thread, this));
    }

    /// Sees to it that somebody takes what is in the queue.
    pub(crate) fn call(self: &Arc<Self>) {
        let waiting = self.queue.len();
        if waiting == 0 {
            return;
        }
        // Few wait: any of them may block, so each gets a thread. Of many, one thread takes most before another has
        // woken; where there are more processors, more help.
        let wanted = if waiting <= 2 * self.base { waiting.min(self.base) } else { (self.base - 1).max(1) };
        while self.takers.load(Ordering::SeqCst) < wanted {
            self.takers.fetch_add(1, Ordering::SeqCst);
            self.executor.spawn(take_all(Taker(Arc::downgrade(self)))).detach();
        }
    }

    /// Counts a thread that blocks no more among those that take from the queue, until it is back.
    pub(crate) fn write_off(self: &Arc<Self>, thread: &Thread) {
        if thread.seat().write_off(&self.takers) {
            self.call();
        }
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    fn context(&self, item: &mut Item) -> RunContext {
        let name = &item.placed.task.name;
        let (run_id, params) = match item.asked.take() {
            Some(asked) => *asked,
            None => (self.owner.id(name, item.fire_time), Map::new()),
        };
        let identity = RunIdentity {
            namespace: self.owner.namespace.clone(),
            task: name.clone(),
            tier: Tier::Local,
            backend: self.owner.backend.clone(),
            run_id,
            fire_time: item.fire_time,
            attempt: item.attempt,
            fence: item.fence,
            params,
        };
        RunContext::new(identity, Arc::clone(&self.host))
    }

    pub(crate) fn threads(&self) -> Vec<Arc<Thread>> {
        self.threads_mut().clone()
    }

    /// The context of an attempt that is being polled.
    fn current(&self, fence: u64) -> Option<RunContext> {
        self.threads_mut().iter().find_map(|thread| thread.context(fence))
    }

    /// Whether an attempt is being polled.
    pub(crate) fn polls(&self, fence: u64) -> bool {
        self.current(fence).is_some()
    }

    pub(crate) fn report_blocked(&self, run: RunKey, fence: u64, since: std::time::Duration) {
        let held = Busy::default();
        let _ = self.inbox.send(Message { command: Command::Blocked { run, fence, since }, held });
    }

    fn threads_mut(&self) -> MutexGuard<'_, Vec<Arc<Thread>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs what waits in the queue, until nothing does.
async fn take_all(taker: Taker) {
    // The room for a job's future is used again, unless one stays in it.
    let mut room = None;
    while let Some(shared) = taker.0.upgrade() {
        let thread = this_thread();
        thread.seat().take();
        for _ in 0..TURN {
            let Ok(mut item) = shared.queue.pop() else {
                thread.seat().leave(&shared.takers);
                drop(taker);
                shared.inbox.nudge();
                // What came just now may have been left to this one.
                shared.call();
                return;
            };
            let ctx = shared.context(&mut item);
            let Item { run, fence, placed, held, .. } = item;
            let id = ctx.run_id();
            thread.begin_poll(run, fence, ctx.clone());
            // After the mark above: whoever tells an attempt to stop looks there last.
            if shared.orders.is_cut(fence, &ctx) {
                thread.end_poll();
                continue;
            }
            let mut future = furnished(room.take(), whole_attempt(placed, ctx));
            match poll_in_place(&mut future, &mut Context::from_waker(Waker::noop())) {
                Poll::Ready((end, placed, ctx)) => {
                    future.as_mut().set(None);
                    room = Some(future);
                    drop(ctx);
                    thread.end_poll();
                    let end = Ended::shortened(end);
                    let ended = Ended { run, fence, id, placed, end, went_on: false, held };
                    if shared.inbox.put_end(ended) >= TELL {
                        shared.inbox.nudge();
                    }
                }
                Poll::Pending => {
                    shared.go_on(
                        Watched { run, fence, shared: Arc::downgrade(&shared), future },
                        id,
                        &thread,
                    );
                    thread.end_poll();
                    drop(held);
                }
            }
            thread.seat().back(&shared.takers);
        }
        thread.seat().leave(&shared.takers);
        drop((thread, shared));
        futures_lite::future::yield_now().await;
    }
}
