//! Runs that are taken before there is a free place for them.
//!
//! Where runs are short a store takes longer to answer than they take, so places would stand empty. As many are
//! taken ahead as ended a moment ago: at that pace they begin within a moment. Those that do not are given back, so
//! that nobody else is kept from them.

use std::collections::VecDeque;
use std::time::Duration;

use scheduler_core::{CancelReason, RunId, RunState, Timestamp};
use tokio::time::Instant;

use crate::store::{Ack, Delivery, Held, Next};

/// The moment over which the pace is measured.
const MOMENT: Duration = Duration::from_millis(20);
/// How long a run that was taken ahead may wait.
const PATIENCE: Duration = Duration::from_millis(100);
/// The most that are taken ahead.
const MOST: usize = 512;

/// What was taken and has not begun, and how fast runs end.
#[derive(Debug)]
pub(crate) struct Ahead {
    waiting: VecDeque<(Instant, Delivery)>,
    /// When the present moment began, how many ended in it, and how many in the one before.
    moment: Instant,
    ended: usize,
    ended_before: usize,
}

impl Ahead {
    pub(crate) fn new(now: Instant) -> Self {
        Self { waiting: VecDeque::new(), moment: now, ended: 0, ended_before: 0 }
    }

    /// Notes that a run ended.
    pub(crate) fn note_end(&mut self, now: Instant) {
        self.turn(now);
        self.ended += 1;
    }

    /// How many may be taken ahead.
    pub(crate) fn room(&mut self, now: Instant) -> usize {
        self.turn(now);
        self.ended.max(self.ended_before).min(MOST).saturating_sub(self.waiting.len())
    }

    /// Whether more than half of what may wait does.
    pub(crate) fn is_plenty(&mut self, now: Instant) -> bool {
        self.room(now) < self.waiting.len()
    }

    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.moment);
        if passed >= MOMENT {
            self.ended_before = if passed < MOMENT * 2 { self.ended } else { 0 };
            self.ended = 0;
            self.moment = now;
        }
    }

    pub(crate) fn push(&mut self, now: Instant, delivery: Delivery) {
        self.waiting.push_back((now, delivery));
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The next to begin.
    pub(crate) fn pop(&mut self) -> Option<Delivery> {
        self.waiting.pop_front().map(|(_, delivery)| delivery)
    }

    /// When those that still wait are to be given back.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.waiting.front().map(|(since, _)| *since + PATIENCE)
    }

    pub(crate) fn take(&mut self, run: RunId) -> Option<Delivery> {
        let place = self.waiting.iter().position(|(_, delivery)| delivery.run.id == run)?;
        self.waiting.remove(place).map(|(_, delivery)| delivery)
    }

    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Delivery> {
        std::mem::take(&mut self.waiting).into_iter().map(|(_, delivery)| delivery)
    }

    pub(crate) fn held(&self) -> impl Iterator<Item = Held> {
        self.waiting.iter().map(|(_, delivery)| Held { run: delivery.run.id, fence: delivery.fence })
    }
}

/// The end of a run that was taken and is not to begin.
pub(crate) fn prevented(delivery: Delivery, reason: CancelReason, now: Timestamp) -> Ack {
    let Delivery { mut run, fence, .. } = delivery;
    run.state = RunState::Cancelled;
    run.attempt = run.attempt.saturating_sub(1);
    run.reason = Some(reason.as_str().to_owned());
    run.finished_at = Some(now);
    run.next_attempt_at = None;
    Ack { run, fence, next: Next::End, is_followed: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn as_many_may_be_taken_ahead_as_ended_a_moment_ago() {
        let start = Instant::now();
        let mut ahead = Ahead::new(start);
        assert_eq!(ahead.room(start), 0, "nothing has ended");
        for _ in 0..7 {
            ahead.note_end(after(start, 1));
        }
        assert_eq!(ahead.room(after(start, 2)), 7);
        assert_eq!(ahead.room(after(start, 21)), 7, "the moment before counts");
        assert_eq!(ahead.room(after(start, 42)), 0, "that was long ago");
        for _ in 0..2 * MOST {
            ahead.note_end(after(start, 43));
        }
        assert_eq!(ahead.room(after(start, 44)), MOST);
        ahead.note_end(after(start, 200));
        assert_eq!(ahead.room(after(start, 201)), 1, "what was before the pause says nothing");
    }
}
