//! A clock that stands still until a test moves it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::clock::Gate;
use crate::{BoxFuture, Busy, Clock, Timestamp};

/// How long [`TestClock::advance`] waits, in real time, for work that does not end.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often those who wait look whether their patience is over, in real time.
const GLANCE: Duration = Duration::from_millis(500);

/// A clock for tests: it stands still until [`advance`](Self::advance) moves it from one wake-up to the next,
/// letting everything that was woken finish before it goes on.
///
/// Clones share the time. A job takes no time unless it waits through its
/// [`RunContext`](crate::RunContext): `ctx.sleep(…)` and `ctx.cancelled()` let the clock move, any other
/// waiting holds it.
#[derive(Clone, Debug)]
pub struct TestClock(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    gate: Arc<WorkGate>,
}

#[derive(Debug)]
struct State {
    /// What the wall clock showed when the monotonic one stood at zero; so the two keep the same pace.
    wall_at_zero: Timestamp,
    monotonic: Duration,
    next_id: u64,
    sleepers: BTreeMap<(Duration, u64), Sleeper>,
}

/// Who to wake, and where to put the hold that lasts until the sleep is dropped.
type Sleeper = (Waker, Arc<Mutex<Option<Busy>>>);

impl TestClock {
    /// A clock that stands at `now`.
    pub fn at(now: Timestamp) -> Self {
        let state =
            State { wall_at_zero: now, monotonic: Duration::ZERO, next_id: 0, sleepers: BTreeMap::new() };
        Self(Arc::new(Shared { state: Mutex::new(state), gate: Arc::default() }))
    }

    /// Moves both clocks forward by `by`, stopping at each wake-up on the way until the work that it caused
    /// has ended or waits for a later one.
    ///
    /// # Panics
    /// When work neither ends nor waits through the clock for 20 s of real time.
    pub async fn advance(&self, by: Duration) {
        let target = self.0.lock().monotonic.saturating_add(by);
        loop {
            self.settle().await;
            if matches!(self.0.step_towards(target), Step::Last) {
                break;
            }
        }
        self.settle().await;
    }

    /// Waits, without moving the clock, until all work has ended or waits for the clock.
    ///
    /// # Panics
    /// As [`advance`](Self::advance).
    pub async fn settle(&self) {
        Idle { gate: Arc::clone(&self.0.gate), since: None }.await;
    }

    /// Moves both clocks by `by` in one jump, as a suspended machine or a stalled process sees it.
    pub async fn jump(&self, by: Duration) {
        loop {
            self.settle().await;
            let target = self.0.lock().monotonic.saturating_add(by);
            if self.0.step_to(|_| target) {
                break;
            }
        }
        self.settle().await;
    }

    /// Sets the wall clock alone, as an operator or a time server does.
    pub fn set_wall(&self, now: Timestamp) {
        let mut state = self.0.lock();
        state.wall_at_zero = now - state.monotonic;
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let state = self.0.lock();
        state.wall_at_zero + state.monotonic
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().monotonic
    }

    fn sleep_until(&self, at: Duration) -> BoxFuture<()> {
        let id = {
            let mut state = self.0.lock();
            state.next_id += 1;
            state.next_id
        };
        Box::pin(Sleep { shared: Arc::clone(&self.0), key: (at, id), woken: Arc::default() })
    }

    fn busy(&self) -> Busy {
        Busy::enter(Arc::clone(&self.0.gate) as Arc<dyn Gate>)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes to the next wake-up up to `target`, or to `target`. Whoever waited for it may have given up in the
    /// meantime.
    fn step_towards(&self, target: Duration) -> Step {
        let mut was_last = false;
        let next = |state: &State| {
            let next = state.sleepers.first_key_value().map(|((at, _), _)| *at).filter(|at| *at <= target);
            was_last = next.is_none();
            next.unwrap_or(target)
        };
        match self.step_to(next) {
            false => Step::Held,
            true if was_last => Step::Last,
            true => Step::Taken,
        }
    }

    /// Moves the clock to where `to` says and wakes whoever is due, unless there is work; says whether it moved.
    ///
    /// One step: work that begins on its own, because a thread looks around now and then, comes before it or after
    /// it. In between it could take its sleep back, and the clock would move past that.
    fn step_to(&self, to: impl FnOnce(&State) -> Duration) -> bool {
        let mut work = self.gate.lock();
        if work.held > 0 {
            return false;
        }
        let mut due = Vec::new();
        {
            let mut state = self.lock();
            state.monotonic = state.monotonic.max(to(&state));
            let now = state.monotonic;
            while let Some(entry) = state.sleepers.first_entry().filter(|entry| entry.key().0 <= now) {
                due.push(entry.remove());
            }
        }
        work.held += due.len();
        drop(work);
        for (waker, woken) in &due {
            let hold = Busy::entered(Arc::clone(&self.gate) as Arc<dyn Gate>);
            *woken.lock().unwrap_or_else(PoisonError::into_inner) = Some(hold);
            waker.wake_by_ref();
        }
        true
    }
}

/// How far a step came.
enum Step {
    /// To a wake-up.
    Taken,
    /// To the end.
    Last,
    /// Nowhere: work had begun.
    Held,
}

/// A sleep; once woken it holds the clock until it is dropped.
#[derive(Debug)]
struct Sleep {
    shared: Arc<Shared>,
    key: (Duration, u64),
    woken: Arc<Mutex<Option<Busy>>>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        if state.monotonic >= self.key.0 {
            return Poll::Ready(());
        }
        state.sleepers.insert(self.key, (cx.waker().clone(), Arc::clone(&self.woken)));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.shared.lock().sleepers.remove(&self.key);
    }
}

#[derive(Debug, Default)]
struct WorkGate(Mutex<Work>);

#[derive(Debug, Default)]
struct Work {
    held: usize,
    waiting: Vec<Waker>,
    /// Whether a thread looks after those who wait.
    is_watched: bool,
}

impl WorkGate {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes those who wait now and then, so that they notice when their patience is over.
    fn watch(gate: Weak<Self>) {
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(GLANCE);
                let Some(gate) = gate.upgrade() else { return };
                let waiting = std::mem::take(&mut gate.lock().waiting);
                waiting.into_iter().for_each(Waker::wake);
            }
        });
    }
}

impl Gate for WorkGate {
    fn enter(&self) {
        self.lock().held += 1;
    }

    fn leave(&self) {
        let mut work = self.lock();
        work.held -= 1;
        let waiting = if work.held == 0 { std::mem::take(&mut work.waiting) } else { Vec::new() };
        drop(work);
        waiting.into_iter().for_each(Waker::wake);
    }
}

struct Idle {
    gate: Arc<WorkGate>,
    since: Option<std::time::Instant>,
}

impl Future for Idle {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(std::time::Instant::now);
        let mut work = self.gate.lock();
        if work.held == 0 {
            return Poll::Ready(());
        }
        let held = work.held;
        work.waiting.push(cx.waker().clone());
        // One thread for all waits: a long test waits thousands of times.
        let is_watched = std::mem::replace(&mut work.is_watched, true);
        drop(work);
        assert!(
            since.elapsed() < PATIENCE,
            "the test clock has waited {PATIENCE:?} for {held} pieces of work that neither end nor wait through it"
        );
        if !is_watched {
            WorkGate::watch(Arc::downgrade(&self.gate));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn advancing_stops_at_each_wake_up_until_its_work_has_ended() {
        let clock = TestClock::at(Timestamp::from_millis(0));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (worker, out) = (clock.clone(), Arc::clone(&seen));
        let busy = clock.busy();
        tokio::spawn(async move {
            for second in 1..=3 {
                busy.parked(worker.sleep_until(Duration::from_secs(second))).await;
                tokio::task::yield_now().await;
                out.lock().unwrap().push(worker.now().as_millis());
            }
        });

        clock.advance(Duration::from_secs(10)).await;

        assert_eq!(*seen.lock().unwrap(), [1_000, 2_000, 3_000]);
        assert_eq!(clock.now(), Timestamp::from_millis(10_000));
    }

    #[test]
    fn a_step_looks_for_work_itself_so_that_none_begins_just_before() {
        let clock = TestClock::at(Timestamp::from_millis(0));
        let second = Duration::from_secs(1);
        let busy = clock.busy();
        assert!(matches!(clock.0.step_towards(second), Step::Held));
        assert_eq!(clock.monotonic(), Duration::ZERO);
        drop(busy);
        assert!(matches!(clock.0.step_towards(second), Step::Last));
        assert_eq!(clock.monotonic(), second);
    }

    #[tokio::test]
    async fn the_two_clocks_keep_the_same_pace_however_small_the_steps_are() {
        let clock = TestClock::at(Timestamp::from_millis(0));

        for _ in 0..2_000 {
            clock.advance(Duration::from_micros(500)).await;
        }

        assert_eq!((clock.monotonic(), clock.now()), (Duration::from_secs(1), Timestamp::from_millis(1_000)));
        clock.set_wall(Timestamp::from_millis(7));
        assert_eq!(clock.now(), Timestamp::from_millis(7));
    }
}
