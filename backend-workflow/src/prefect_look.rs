//! How long the answer to a look is waited for.
//!
//! Who follows runs asks every few seconds. One request that got lost would keep him waiting for the whole time limit,
//! while everybody else is served; so a look is given up early and sent again, by what the looks before it took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The least that is waited for, whatever the last answers took.
const LEAST: Duration = Duration::from_secs(2);
/// How many times as long as the last one an answer may take.
const ROOM: u32 = 4;

/// The time limit of the next look. It goes up where answers are slow and comes down as they get faster.
#[derive(Debug)]
pub(crate) struct LookLimit {
    millis: AtomicU64,
    most: Duration,
}

impl LookLimit {
    /// At most `most`, the time limit of any request.
    pub(crate) fn new(most: Duration) -> Self {
        let limit = Self { millis: AtomicU64::new(0), most };
        limit.set(LEAST);
        limit
    }

    pub(crate) fn get(&self) -> Duration {
        Duration::from_millis(self.millis.load(Ordering::Relaxed))
    }

    /// Notes that an answer took so long.
    pub(crate) fn answered(&self, took: Duration) {
        self.set(took.saturating_mul(ROOM));
    }

    /// Notes that there was no answer within `limit`.
    pub(crate) fn passed(&self, limit: Duration) {
        self.set(limit.saturating_mul(2));
    }

    fn set(&self, limit: Duration) {
        let limit = limit.max(LEAST).min(self.most);
        self.millis.store(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_answers_and_never_leaves_its_bounds() {
        let second = Duration::from_secs(1);
        let limit = LookLimit::new(second * 30);
        assert_eq!(limit.get(), LEAST);
        limit.answered(second / 10);
        assert_eq!(limit.get(), LEAST);
        for expected in [4, 8, 16, 30, 30] {
            limit.passed(limit.get());
            assert_eq!(limit.get(), second * expected);
        }
        limit.answered(second * 3);
        assert_eq!(limit.get(), second * 12);
        assert_eq!(LookLimit::new(second / 2).get(), second / 2);
    }
}
