//! What attempts are told while they are under way, wherever they are: in the queue, being polled, or waiting to go on.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use scheduler_core::{CancelReason, RunContext};

use crate::attempts::Attempt;

/// By the fence of each attempt.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    book: Mutex<Book>,
    /// How many are in `told`, so that those who have nothing to heed need not look.
    told: AtomicUsize,
}

#[derive(Debug, Default)]
struct Book {
    /// Those that did not end at their first poll.
    going_on: HashMap<u64, (RunContext, Attempt)>,
    /// What the others were told.
    told: HashMap<u64, Order>,
}

#[derive(Clone, Copy, Debug)]
enum Order {
    /// End soon.
    Cancel(CancelReason),
    /// Never be polled again.
    Cut,
}

impl Orders {
    /// Notes that an attempt should stop; answers the context of one that goes on. Any other heeds it when it begins,
    /// unless it is being polled.
    pub(crate) fn cancel(&self, fence: u64, reason: CancelReason) -> Option<RunContext> {
        let mut book = self.book();
        if let Some((ctx, _)) = book.going_on.get(&fence) {
            return Some(ctx.clone());
        }
        book.told.entry(fence).or_insert(Order::Cancel(reason));
        self.told.store(book.told.len(), Ordering::SeqCst);
        None
    }

    /// Notes that an attempt may not go on; answers one that does.
    pub(crate) fn cut(&self, fence: u64) -> Option<(RunContext, Attempt)> {
        let mut book = self.book();
        let going_on = book.going_on.remove(&fence);
        if going_on.is_none() {
            book.told.insert(fence, Order::Cut);
            self.told.store(book.told.len(), Ordering::SeqCst);
        }
        going_on
    }

    /// Whether an attempt that would begin may not. One that was told to stop hears it.
    pub(crate) fn is_cut(&self, fence: u64, ctx: &RunContext) -> bool {
        if self.told.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let told = self.book().told.get(&fence).copied();
        if let Some(order) = told {
            ctx.cancel(order.reason());
        }
        matches!(told, Some(Order::Cut))
    }

    /// Takes in an attempt that goes on, by `go_on`, unless it may not.
    pub(crate) fn goes_on(
        &self,
        fence: u64,
        ctx: &RunContext,
        go_on: impl FnOnce() -> (RunContext, Attempt),
    ) {
        let mut book = self.book();
        match book.told.get(&fence).copied() {
            Some(Order::Cut) => {
                drop(book);
                // What a job holds may panic when it is dropped.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(go_on)));
            }
            order => {
                book.going_on.insert(fence, go_on());
                drop(book);
                if let Some(order) = order {
                    ctx.cancel(order.reason());
                }
            }
        }
    }

    /// The context of an attempt that goes on.
    pub(crate) fn context(&self, fence: u64) -> Option<RunContext> {
        self.book().going_on.get(&fence).map(|(ctx, _)| ctx.clone())
    }

    /// Forgets an attempt that has ended, or is not waited for any longer.
    pub(crate) fn forget(&self, fence: u64, went_on: bool) -> Option<(RunContext, Attempt)> {
        if !went_on && self.told.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let mut book = self.book();
        book.told.remove(&fence);
        self.told.store(book.told.len(), Ordering::SeqCst);
        book.going_on.remove(&fence)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Order {
    fn reason(self) -> CancelReason {
        match self {
            Self::Cancel(reason) => reason,
            Self::Cut => CancelReason::Shutdown,
        }
    }
}
