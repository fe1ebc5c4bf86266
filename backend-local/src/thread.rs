//! A thread that runs jobs, and the marks by which others see what it is at.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scheduler_core::{CancelReason, CancelToken, RunContext};

use crate::live::RunKey;
use crate::seat::Seat;

/// What a thread is doing.
#[derive(Debug, Default)]
pub(crate) struct Thread {
    /// Raised when it begins to poll a job, and when that is done: odd while it polls.
    polls: AtomicU64,
    /// The run whose job it polls.
    current: Mutex<Option<(RunKey, u64, RunContext)>>,
    seat: Seat,
    retire: CancelToken,
}

thread_local! {
    static THIS_THREAD: RefCell<Option<Arc<Thread>>> = const { RefCell::new(None) };
}

impl Thread {
    /// How many polls have begun or ended; odd while one goes on.
    pub(crate) fn polls(&self) -> u64 {
        self.polls.load(Ordering::Acquire)
    }

    /// The run whose job it polls.
    pub(crate) fn run(&self) -> Option<(RunKey, u64)> {
        self.current().as_ref().map(|(run, fence, _)| (*run, *fence))
    }

    /// The context of an attempt, if it polls that.
    pub(crate) fn context(&self, fence: u64) -> Option<RunContext> {
        self.current().as_ref().filter(|(_, other, _)| *other == fence).map(|(_, _, ctx)| ctx.clone())
    }

    pub(crate) fn begin_poll(&self, run: RunKey, fence: u64, ctx: RunContext) {
        *self.current() = Some((run, fence, ctx));
        self.polls.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn end_poll(&self) {
        self.polls.fetch_add(1, Ordering::Release);
        let current = self.current().take();
        drop(current);
    }

    /// Whether it counts among those that take from the queue.
    pub(crate) fn seat(&self) -> &Seat {
        &self.seat
    }

    /// Lets it end, once it polls no job.
    pub(crate) fn retire(&self, reason: CancelReason) {
        self.retire.cancel(reason);
    }

    /// Resolves when it is told to end.
    pub(crate) async fn retired(&self) {
        self.retire.cancelled().await;
    }

    /// Says that it is the thread that runs here, from now on.
    pub(crate) fn is_this(self: &Arc<Self>) {
        THIS_THREAD.set(Some(Arc::clone(self)));
    }

    fn current(&self) -> MutexGuard<'_, Option<(RunKey, u64, RunContext)>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that polls this.
pub(crate) fn this_thread() -> Arc<Thread> {
    // Whatever drives the executor is a thread of ours; the empty mark is one that nobody looks at.
    THIS_THREAD.with_borrow(Clone::clone).unwrap_or_default()
}
