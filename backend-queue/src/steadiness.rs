//! Whether the store has answered in time lately.
//!
//! After a while without answers every lease looks expired, whoever holds it. Then what is held is renewed first,
//! and nobody's lease is taken away before the others had time to do the same.

use std::time::Duration;

use tokio::time::Instant;

/// What the loop knows about the time between answers.
#[derive(Debug)]
pub(crate) struct Steadiness {
    lease: Duration,
    /// When the turn under way began.
    turn: Instant,
    /// Since when the store has refused every answer, while it does.
    silent_since: Option<Instant>,
    doubt: Option<Doubt>,
    /// Whether what is held must be renewed now.
    is_renewal_due: bool,
}

/// Leases that look expired may only not have been renewed.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    since: Instant,
    until: Instant,
}

impl Steadiness {
    pub(crate) fn new(lease: Duration, now: Instant) -> Self {
        Self { lease, turn: now, silent_since: None, doubt: None, is_renewal_due: false }
    }

    /// A turn of the loop begins. The loop sleeps for a quarter of the lease at most, so a turn that took longer
    /// than half of it waited for the store, or the process stood still.
    pub(crate) fn begin_turn(&mut self, now: Instant) {
        self.note_gap(self.turn, now);
        self.turn = now;
    }

    /// The store did not do as it was asked.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.silent_since.get_or_insert(now);
    }

    pub(crate) fn answered(&mut self, now: Instant) {
        if let Some(since) = self.silent_since.take() {
            self.note_gap(since, now);
        }
    }

    /// Whether what is held must be renewed now; answers so once.
    pub(crate) fn take_renewal(&mut self) -> bool {
        std::mem::take(&mut self.is_renewal_due)
    }

    /// Whether leases that look expired may be taken away.
    pub(crate) fn may_reap(&mut self, now: Instant) -> bool {
        self.note_gap(self.turn, now);
        let is_open = self.doubt.is_none_or(|doubt| doubt.until <= now);
        if self.silent_since.is_some() || !is_open {
            return false;
        }
        self.doubt = None;
        true
    }

    fn note_gap(&mut self, from: Instant, now: Instant) {
        if now.duration_since(from) <= self.lease / 2 {
            return;
        }
        self.is_renewal_due = true;
        let since = self.doubt.map_or(now, |doubt| doubt.since);
        // A store that is always slow does not keep the runs of the dead for ever.
        let until = (now + self.lease / 3).min(since + self.lease);
        self.doubt = Some(Doubt { since, until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_millis(1_200);

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn after_a_gap_what_is_held_is_renewed_and_reaping_waits_a_third_of_the_lease() {
        let start = Instant::now();
        let mut steadiness = Steadiness::new(LEASE, start);

        steadiness.begin_turn(at(start, 600));
        assert!(!steadiness.take_renewal() && steadiness.may_reap(at(start, 600)), "half a lease is no gap");
        steadiness.begin_turn(at(start, 1_201));

        assert!(steadiness.take_renewal() && !steadiness.take_renewal());
        assert!(!steadiness.may_reap(at(start, 1_600)));
        assert!(steadiness.may_reap(at(start, 1_601)));
    }

    #[test]
    fn a_turn_under_way_counts_and_so_does_a_series_of_refusals() {
        let start = Instant::now();
        let mut steadiness = Steadiness::new(LEASE, start);
        assert!(!steadiness.may_reap(at(start, 601)));

        let mut steadiness = Steadiness::new(LEASE, start);
        for tick in 0..10 {
            steadiness.begin_turn(at(start, tick * 100));
            steadiness.failed(at(start, tick * 100));
            assert!(!steadiness.may_reap(at(start, tick * 100)), "nothing is known of the others");
        }
        steadiness.answered(at(start, 1_000));
        assert!(steadiness.take_renewal() && !steadiness.may_reap(at(start, 1_399)));
        assert!(steadiness.may_reap(at(start, 1_400)));
    }

    #[test]
    fn a_store_that_is_always_slow_delays_reaping_by_one_lease_at_most() {
        let start = Instant::now();
        let mut steadiness = Steadiness::new(LEASE, start);
        let reaped: Vec<u64> = (1..10)
            .map(|turn| turn * 700)
            .filter(|millis| {
                steadiness.begin_turn(at(start, *millis));
                steadiness.may_reap(at(start, *millis))
            })
            .collect();

        assert_eq!(reaped, [2_100, 4_200, 6_300]);
    }
}
