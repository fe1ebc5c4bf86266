//! Wakes a loop that fires tasks, and holds a test clock until the loop has looked.

use std::future::{Future, poll_fn};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::Busy;

/// A wake-up that is never lost while somebody attends, and holds nothing while nobody does.
#[derive(Debug, Default)]
pub(crate) struct Signal(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    attended: bool,
    held: Option<Busy>,
    waker: Option<Waker>,
}

impl Signal {
    /// From now on a notification waits to be taken.
    pub(crate) fn attend(&self) {
        self.lock().attended = true;
    }

    /// Nobody takes notifications any longer; one that waits lets the clock go.
    pub(crate) fn leave(&self) {
        let left = std::mem::take(&mut *self.lock());
        drop(left);
    }

    pub(crate) fn notify(&self, held: Busy) {
        let (waker, spare) = {
            let mut state = self.lock();
            match (state.attended, &state.held) {
                (true, None) => {
                    state.held = Some(held);
                    (state.waker.take(), None)
                }
                _ => (None, Some(held)),
            }
        };
        // Letting go of a clock wakes others, which is not done under the lock.
        drop(spare);
        waker.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn take(&self) -> Option<Busy> {
        self.lock().held.take()
    }

    pub(crate) fn notified(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|cx: &mut Context<'_>| {
            let mut state = self.lock();
            if state.held.is_some() {
                return Poll::Ready(());
            }
            state.waker = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
