//! What the loop has to look at, and how its thread sleeps until there is something.

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

use polling::{Events, Poller};
use scheduler_core::{Busy, Clock};

use crate::command::{Ended, Message};

/// Messages of callers and ends of attempts, until the loop takes them.
#[derive(Debug)]
pub(crate) struct Inbox {
    clock: Arc<dyn Clock>,
    messages: Mutex<Messages>,
    ends: Mutex<Vec<Ended>>,
    /// Whether the loop has been told since it last began to look.
    told: AtomicBool,
    /// Keeps a test clock still from being told until the loop is awake and does so itself.
    held: Mutex<Option<Busy>>,
    waker: Mutex<Option<Waker>>,
    sleeper: Arc<Sleeper>,
}

#[derive(Debug, Default)]
struct Messages {
    waiting: Vec<Message>,
    is_closed: bool,
}

impl Inbox {
    /// # Errors
    /// The machine lends nothing to sleep on.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        Ok(Self {
            clock,
            messages: Mutex::default(),
            ends: Mutex::default(),
            told: AtomicBool::default(),
            held: Mutex::default(),
            waker: Mutex::default(),
            sleeper: Arc::new(Sleeper::new()?),
        })
    }

    /// Gives a message to the loop; gives it back when that has ended.
    pub(crate) fn send(&self, message: Message) -> Result<(), Message> {
        {
            let mut messages = lock(&self.messages);
            if messages.is_closed {
                return Err(message);
            }
            messages.waiting.push(message);
        }
        self.nudge();
        Ok(())
    }

    /// Gives the end of an attempt to the loop, which hears of it at the next [`nudge`](Self::nudge): many come
    /// together. Answers how many there are now.
    pub(crate) fn put_end(&self, ended: Ended) -> usize {
        let mut ends = lock(&self.ends);
        ends.push(ended);
        ends.len()
    }

    /// Whether there are ends that the loop has not taken.
    pub(crate) fn has_ends(&self) -> bool {
        !lock(&self.ends).is_empty()
    }

    /// Makes the loop look.
    pub(crate) fn nudge(&self) {
        if self.told.load(Ordering::SeqCst) {
            return;
        }
        let mut held = lock(&self.held);
        if !self.told.swap(true, Ordering::SeqCst) {
            *held = Some(self.clock.busy());
            if let Some(waker) = &*lock(&self.waker) {
                waker.wake_by_ref();
            }
        }
    }

    /// The ends so far, in place of `room`, which is empty.
    pub(crate) fn take_ends(&self, room: &mut Vec<Ended>) {
        std::mem::swap(&mut *lock(&self.ends), room);
    }

    /// At most `limit` messages, in their order.
    pub(crate) fn take_messages(&self, room: &mut Vec<Message>, limit: usize) {
        let mut messages = lock(&self.messages);
        if messages.waiting.len() <= limit {
            std::mem::swap(&mut messages.waiting, room);
            return;
        }
        room.extend(messages.waiting.drain(..limit));
        drop(messages);
        self.nudge();
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.messages).is_closed
    }

    /// The loop has ended: nobody waits for an answer any longer.
    pub(crate) fn close(&self) {
        let waiting = {
            let mut messages = lock(&self.messages);
            messages.is_closed = true;
            std::mem::take(&mut messages.waiting)
        };
        drop(waiting);
        drop(std::mem::take(&mut *lock(&self.ends)));
        // Nobody will be awake to let a test clock go on.
        self.told.store(true, Ordering::SeqCst);
        drop(lock(&self.held).take());
    }

    /// Lets the thread of the loop sleep until it is told or `until` has come on the clock; a test clock may move
    /// meanwhile.
    pub(crate) fn wait(&self, until: Duration, busy: &Busy) {
        if let Some(left) = self.clock.thread_sleep(until) {
            return self.sleep(left);
        }
        // The sleep outlives the wait: on a test clock it holds the time until the loop itself does.
        let mut sleep = self.clock.sleep_until(until);
        let waiting = async {
            let told = poll_fn(|cx| {
                *lock(&self.waker) = Some(cx.waker().clone());
                if self.told.swap(false, Ordering::SeqCst) {
                    Poll::Ready(())
                } else {
                    sleep.as_mut().poll(cx)
                }
            });
            busy.parked(told).await;
        };
        futures_lite::future::block_on(waiting);
        drop(lock(&self.held).take());
        drop(sleep);
    }

    fn sleep(&self, left: Duration) {
        let deadline = Instant::now() + left;
        lock(&self.waker).get_or_insert_with(|| Waker::from(Arc::clone(&self.sleeper)));
        while !self.told.swap(false, Ordering::SeqCst) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            // Where that is refused, the thread looks by itself every millisecond.
            if self.sleeper.sleep(left).is_err() {
                std::thread::sleep(left.min(Duration::from_millis(1)));
            }
        }
    }
}

/// A thread sleeps on it for so long, not until an instant that a clock shows: a clock may lie, as in the tests.
#[derive(Debug)]
struct Sleeper {
    poller: Poller,
    /// What woke the thread, which says nothing more than that.
    woken_by: Mutex<Events>,
}

impl Sleeper {
    fn new() -> std::io::Result<Self> {
        Ok(Self { poller: Poller::new()?, woken_by: Mutex::new(Events::with_capacity(NonZeroUsize::MIN)) })
    }

    fn sleep(&self, left: Duration) -> std::io::Result<()> {
        let mut woken_by = lock(&self.woken_by);
        // It adds to what is there, and refuses where there is no room.
        woken_by.clear();
        self.poller.wait(&mut woken_by, Some(left)).map(drop)
    }
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // It has been woken already, or looks by itself soon.
        let _ = self.poller.notify();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use scheduler_core::SystemClock;

    #[test]
    fn a_thread_that_was_woken_sleeps_again() {
        let sleeper = Sleeper::new().unwrap();
        for _ in 0..3 {
            sleeper.poller.notify().unwrap();
            sleeper.sleep(Duration::from_secs(3_600)).unwrap();
            sleeper.sleep(Duration::from_millis(1)).unwrap();
        }
    }

    #[test]
    fn a_nudge_before_the_sleep_or_during_it_ends_it() {
        let clock = Arc::new(SystemClock::new());
        let inbox = Arc::new(Inbox::new(Arc::clone(&clock) as Arc<dyn Clock>).unwrap());
        let long = Duration::from_secs(3_600);
        inbox.nudge();
        inbox.wait(long, &Busy::default());
        let nudging = std::thread::spawn({
            let inbox = Arc::clone(&inbox);
            move || {
                while lock(&inbox.waker).is_none() {
                    std::thread::yield_now();
                }
                inbox.nudge();
            }
        });
        inbox.wait(long, &Busy::default());
        nudging.join().unwrap();
        let before = clock.monotonic();
        inbox.wait(before + Duration::from_millis(3), &Busy::default());
        assert!(clock.monotonic() >= before + Duration::from_millis(3), "it sleeps no shorter");
    }
}
