//! Time as something that is given: the wall clock, the monotonic clock, and waiting.
//!
//! Everything that must wait or ask the time does so through a [`Clock`], so a test can move it.

use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::Timestamp;

/// A boxed future that can be sent between threads.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A source of time.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The wall clock. It may step, in either direction.
    fn now(&self) -> Timestamp;

    /// Time since an arbitrary origin. It never goes back.
    fn monotonic(&self) -> Duration;

    /// Waits until [`monotonic`](Self::monotonic) has reached `at`, never shorter.
    fn sleep_until(&self, at: Duration) -> BoxFuture<()>;

    /// How long a thread has to sleep until [`monotonic`](Self::monotonic) has reached `at`, where this is the
    /// machine's own clock: a thread sleeps more exactly than a timer of tokio does. `None` where only
    /// [`sleep_until`](Self::sleep_until) knows when it has come.
    fn thread_sleep(&self, at: Duration) -> Option<Duration> {
        let _ = at;
        None
    }

    /// Says that work goes on for which a test clock has to wait before it moves; free on a real clock.
    fn busy(&self) -> Busy {
        Busy(None)
    }
}

/// Work that a test clock waits for: held from its making until the last clone is dropped, except while
/// [`parked`](Self::parked).
#[derive(Clone, Debug, Default)]
pub struct Busy(Option<Arc<Hold>>);

#[derive(Debug)]
struct Hold {
    gate: Arc<dyn Gate>,
    state: Mutex<HoldState>,
}

#[derive(Debug, PartialEq)]
enum HoldState {
    Held,
    Parked,
}

/// What counts the work that is going on.
pub(crate) trait Gate: Debug + Send + Sync {
    fn enter(&self);
    fn leave(&self);
}

impl Busy {
    #[cfg_attr(not(feature = "test-util"), expect(dead_code, reason = "only a test clock has a gate"))]
    pub(crate) fn enter(gate: Arc<dyn Gate>) -> Self {
        gate.enter();
        Self::entered(gate)
    }

    /// Work that the gate has counted already.
    pub(crate) fn entered(gate: Arc<dyn Gate>) -> Self {
        Self(Some(Arc::new(Hold { gate, state: Mutex::new(HoldState::Held) })))
    }

    /// Awaits something that only the clock, or other held work, can bring about. A sleep that is part of
    /// `future` has to outlive it, so pass it by reference: woken, it holds the clock until it is dropped.
    pub async fn parked<F: Future>(&self, future: F) -> F::Output {
        // The future is dropped after the work is held again, also when this is given up half-way: a sleep that
        // woke holds the clock until then.
        let mut future = pin!(future);
        let _held_again = HeldAgain(self);
        poll_fn(|cx| {
            let polled = future.as_mut().poll(cx);
            if polled.is_pending() {
                // Only now: before its first poll a sleep is not known to the clock, which would move past it.
                self.shift(&HoldState::Held, HoldState::Parked, |gate| gate.leave());
            }
            polled
        })
        .await
    }

    fn shift(&self, from: &HoldState, to: HoldState, then: impl FnOnce(&dyn Gate)) {
        let Some(hold) = &self.0 else { return };
        let mut state = hold.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *state == *from {
            *state = to;
            then(&*hold.gate);
        }
    }
}

struct HeldAgain<'a>(&'a Busy);

impl Drop for HeldAgain<'_> {
    fn drop(&mut self) {
        self.0.shift(&HoldState::Parked, HoldState::Held, |gate| gate.enter());
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if *self.state.get_mut().unwrap_or_else(PoisonError::into_inner) != HoldState::Parked {
            self.gate.leave();
        }
    }
}

/// The clocks of the operating system; waiting uses tokio's timer.
#[cfg(feature = "tokio")]
#[derive(Clone, Debug)]
pub struct SystemClock {
    origin: std::time::Instant,
    runtime: Option<tokio::runtime::Handle>,
}

#[cfg(feature = "tokio")]
impl SystemClock {
    /// A clock whose monotonic origin is now.
    ///
    /// Made inside a tokio runtime, it also serves threads outside of it.
    pub fn new() -> Self {
        Self { origin: std::time::Instant::now(), runtime: tokio::runtime::Handle::try_current().ok() }
    }
}

#[cfg(feature = "tokio")]
impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(feature = "tokio")]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        std::time::SystemTime::now().into()
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn thread_sleep(&self, at: Duration) -> Option<Duration> {
        Some(at.saturating_sub(self.monotonic()))
    }

    /// # Panics
    /// When neither the caller nor the place where the clock was made is inside a tokio runtime with a timer.
    fn sleep_until(&self, at: Duration) -> BoxFuture<()> {
        let inside = tokio::runtime::Handle::try_current().is_ok();
        let _entered = if inside { None } else { self.runtime.as_ref().map(tokio::runtime::Handle::enter) };
        Box::pin(tokio::time::sleep(at.saturating_sub(self.monotonic())))
    }
}
