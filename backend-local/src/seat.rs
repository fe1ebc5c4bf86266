//! Whether a thread counts among those that take from the queue.
//!
//! Two decide that: the thread itself, which comes and goes, and the [`watch`](crate::watch), which counts one that
//! blocks no more. Each change is one step from a known state, so that nobody is subtracted twice or after it left.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// It takes nothing.
const AWAY: u8 = 0;
/// It takes from the queue and counts.
const TAKES: u8 = 1;
/// It takes from the queue, but blocks, and others have been called in its place.
const WRITTEN_OFF: u8 = 2;

/// The place of one thread.
#[derive(Debug, Default)]
pub(crate) struct Seat(AtomicU8);

impl Seat {
    /// It begins to take; whoever called it has counted it.
    pub(crate) fn take(&self) {
        self.0.store(TAKES, Ordering::SeqCst);
    }

    /// It is back from a job: counts again, if it was written off meanwhile.
    pub(crate) fn back(&self, takers: &AtomicUsize) {
        if self.step(WRITTEN_OFF, TAKES) {
            takers.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// It takes no longer; it counts until its caller says otherwise.
    pub(crate) fn leave(&self, takers: &AtomicUsize) {
        if self.0.swap(AWAY, Ordering::SeqCst) == WRITTEN_OFF {
            takers.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Counts it no more, if it does; says whether it did.
    pub(crate) fn write_off(&self, takers: &AtomicUsize) -> bool {
        let counted = self.step(TAKES, WRITTEN_OFF);
        if counted {
            takers.fetch_sub(1, Ordering::SeqCst);
        }
        counted
    }

    fn step(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_has_left_is_written_off_no_more() {
        let (seat, takers) = (Seat::default(), AtomicUsize::new(1));
        seat.take();
        seat.leave(&takers);
        assert!(!seat.write_off(&takers), "seen while it blocked, told of when it had left");
        assert_eq!(takers.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn one_that_was_written_off_counts_again_once_however_it_comes_back() {
        let ways: [fn(&Seat, &AtomicUsize); 2] = [Seat::back, Seat::leave];
        for comes_back in ways {
            let (seat, takers) = (Seat::default(), AtomicUsize::new(1));
            seat.take();
            assert!(seat.write_off(&takers) && !seat.write_off(&takers));
            assert_eq!(takers.load(Ordering::SeqCst), 0);
            comes_back(&seat, &takers);
            seat.back(&takers);
            seat.leave(&takers);
            assert_eq!(takers.load(Ordering::SeqCst), 1);
        }
    }

    #[test]
    fn the_count_is_right_after_both_have_changed_it_side_by_side() {
        let (seat, takers) = (Seat::default(), AtomicUsize::new(0));
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    seat.write_off(&takers);
                }
            });
            for _ in 0..100_000 {
                takers.fetch_add(1, Ordering::SeqCst);
                seat.take();
                seat.back(&takers);
                seat.leave(&takers);
                takers.fetch_sub(1, Ordering::SeqCst);
            }
            done.store(true, Ordering::SeqCst);
        });
        assert_eq!(takers.load(Ordering::SeqCst), 0);
    }
}
