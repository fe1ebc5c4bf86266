//! How a run hears that it should stop, and why.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Why a run was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CancelReason {
    /// Somebody asked for it.
    Requested,
    /// Its time limit has passed.
    TimedOut,
    /// A newer run of its task takes its place.
    Replaced,
    /// The backend stops and its grace has passed.
    Shutdown,
    /// Its lease was lost: somebody else may run it now, and its end counts no more.
    LeaseLost,
}

impl CancelReason {
    /// The reason in words, as it stands in history.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "cancelled on request",
            Self::TimedOut => "timed out",
            Self::Replaced => "replaced by a newer run",
            Self::Shutdown => "the scheduler stopped",
            Self::LeaseLost => "its lease was lost",
        }
    }
}

/// A signal to stop. Clones share it; the first reason stays.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    reason: Option<CancelReason>,
    next_id: u64,
    /// A handful at most.
    wakers: Vec<(u64, Waker)>,
}

impl CancelToken {
    /// A token that has not been cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells everybody who waits to stop. Later calls change nothing.
    pub fn cancel(&self, reason: CancelReason) {
        let wakers = {
            let mut state = self.lock();
            state.reason.get_or_insert(reason);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Why it was cancelled, if it was.
    pub fn reason(&self) -> Option<CancelReason> {
        self.lock().reason
    }

    /// Waits until it is cancelled.
    pub fn cancelled(&self) -> impl Future<Output = CancelReason> + Send + use<> {
        Cancelled { token: self.clone(), id: None }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Cancelled {
    token: CancelToken,
    id: Option<u64>,
}

impl Future for Cancelled {
    type Output = CancelReason;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CancelReason> {
        let mut state = self.token.lock();
        if let Some(reason) = state.reason {
            return Poll::Ready(reason);
        }
        let id = self.id.unwrap_or(state.next_id);
        if self.id.is_none() {
            state.next_id += 1;
        }
        state.wakers.retain(|(other, _)| *other != id);
        state.wakers.push((id, cx.waker().clone()));
        drop(state);
        self.id = Some(id);
        Poll::Pending
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.token.lock().wakers.retain(|(other, _)| *other != id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_waiter_hears_the_first_reason() {
        let token = CancelToken::new();
        let waiters: Vec<_> = (0..3).map(|_| tokio::spawn(token.cancelled())).collect();
        tokio::task::yield_now().await;

        token.cancel(CancelReason::TimedOut);
        token.cancel(CancelReason::Shutdown);

        for waiter in waiters {
            assert_eq!(waiter.await.unwrap(), CancelReason::TimedOut);
        }
        assert_eq!(token.cancelled().await, CancelReason::TimedOut);
    }

    #[test]
    fn a_waiter_that_gives_up_leaves_nothing_behind() {
        let token = CancelToken::new();
        let mut waiter = Box::pin(token.cancelled());
        assert!(waiter.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());

        drop(waiter);

        assert!(token.lock().wakers.is_empty());
    }
}
