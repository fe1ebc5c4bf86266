//! Finds from which item on a cache must be emptied, oldest first, without a list of its items.
//!
//! A pass counts items and bytes in tens of thousands of buckets by age. The bucket in which the bounds begin to hold
//! is counted again, until there are few enough items in it to know each. Memory is the buckets and those few; passes
//! are one or two.

use std::time::Duration;

use scheduler_core::Timestamp;

use crate::cache_pass::{Amount, Pass, Scale};

/// More passes than any range of keys can need; what changes meanwhile cannot make one endless.
const MOST_PASSES: usize = 12;

/// When an item was used last, and its number where that is the same instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) u128);

/// How much of a cache may stay.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) count: Option<u64>,
    pub(crate) bytes: Option<u64>,
}

/// The search for the first item that stays.
#[derive(Debug)]
pub(crate) struct Cutoff {
    bounds: Bounds,
    /// What is counted next; `None` when it is known.
    pass: Option<Pass>,
    passes: usize,
    /// Everything that is there, once the first pass is done.
    whole: Option<Amount>,
    /// What goes for certain.
    going: Amount,
    found: Key,
}

impl Key {
    /// The key of an item that was used last so many nanoseconds after the Unix epoch.
    pub(crate) fn new(used: i128, number: u64) -> Self {
        let used = u64::try_from(used.max(0)).unwrap_or(u64::MAX);
        Self((u128::from(used) << 64) | u128::from(number))
    }

    /// The first key of what is at most so old.
    pub(crate) fn before(now: Timestamp, age: Duration) -> Self {
        let age = i128::try_from(age.as_nanos()).unwrap_or(i128::MAX);
        Self::new(nanoseconds(now).saturating_sub(age), 0)
    }

    /// The place in the order of removal.
    pub(crate) fn order(self) -> u128 {
        self.0
    }

    fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

fn nanoseconds(at: Timestamp) -> i128 {
    i128::from(at.as_millis()) * 1_000_000
}

impl Cutoff {
    /// Everything before `oldest` goes anyhow.
    pub(crate) fn new(oldest: Key, bounds: Bounds, now: Timestamp) -> Self {
        let has_bounds = bounds.count.is_some() || bounds.bytes.is_some();
        let now = u64::try_from(nanoseconds(now).max(0)).unwrap_or(u64::MAX);
        let pass = has_bounds.then(|| Pass::new(oldest, Key(u128::MAX), Scale::Age(now)));
        Self { bounds, pass, passes: 0, whole: None, going: Amount::default(), found: oldest }
    }

    /// What to count next, if anything.
    pub(crate) fn pass(&self) -> Option<&Pass> {
        self.pass.as_ref()
    }

    /// Goes on from what was counted.
    pub(crate) fn narrow(&mut self) {
        let Some(pass) = self.pass.take() else { return };
        let buckets = pass.in_order();
        let sum = || buckets.iter().fold(Amount::default(), |sum, bucket| sum.plus(bucket.amount));
        let whole = *self.whole.get_or_insert_with(sum);
        self.passes += 1;
        for bucket in buckets.iter().filter(|bucket| bucket.amount.count > 0) {
            if self.bounds.hold(whole.minus(self.going)) {
                return;
            }
            let with_it = self.going.plus(bucket.amount);
            let is_single = bucket.first == bucket.last || self.passes >= MOST_PASSES;
            if self.bounds.hold(whole.minus(with_it)) && !is_single {
                self.pass = Some(Pass::between(bucket.first, bucket.last));
                return;
            }
            (self.going, self.found) = (with_it, bucket.last.next());
        }
    }

    /// The key of the first item that stays.
    pub(crate) fn found(&self) -> Key {
        self.found
    }
}

impl Bounds {
    fn hold(self, amount: Amount) -> bool {
        self.count.is_none_or(|most| amount.count <= most)
            && self.bytes.is_none_or(|most| amount.bytes <= most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How many of the items go, oldest first; also how many passes that took.
    fn going(items: &[(i128, u64)], bounds: Bounds, oldest: i128) -> (Vec<usize>, usize) {
        let key = |index: usize| Key::new(items[index].0, index as u64);
        let now = Timestamp::from_millis(2_000_000_000_000);
        let mut cutoff = Cutoff::new(Key::new(oldest, 0), bounds, now);
        while let Some(pass) = cutoff.pass() {
            (0..items.len()).for_each(|index| pass.count(key(index), items[index].1));
            cutoff.narrow();
        }
        let gone = (0..items.len()).filter(|index| key(*index) < cutoff.found()).collect();
        (gone, cutoff.passes)
    }

    /// The same, by sorting.
    fn expected(items: &[(i128, u64)], bounds: Bounds, oldest: i128) -> Vec<usize> {
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by_key(|index| (items[*index].0, *index));
        let mut stays = Amount { count: 0, bytes: 0 };
        for (used, bytes) in items {
            if *used >= oldest {
                stays = stays.plus(Amount { count: 1, bytes: *bytes });
            }
        }
        let mut gone = Vec::new();
        for index in order {
            if items[index].0 >= oldest {
                if bounds.hold(stays) {
                    break;
                }
                stays = stays.minus(Amount { count: 1, bytes: items[index].1 });
            }
            gone.push(index);
        }
        gone.sort_unstable();
        gone
    }

    proptest! {
        #[test]
        fn exactly_the_oldest_go_and_no_more_than_must(
            items in prop::collection::vec((0..2_000_000_000_i128, 0..1_000_u64), 0..300),
            spread in 1..2_000_000_000_i128,
            count in prop::option::of(0..300_u64),
            bytes in prop::option::of(0..150_000_u64),
            oldest in 0..1_000_000_000_i128,
        ) {
            // From all at one instant to decades apart.
            let items: Vec<(i128, u64)> =
                items.into_iter().map(|(used, bytes)| (used / spread * 1_000_000_000, bytes)).collect();
            let bounds = Bounds { count, bytes };
            let (gone, passes) = going(&items, bounds, oldest);
            prop_assert_eq!(gone, expected(&items, bounds, oldest));
            prop_assert!(passes <= 6, "{} passes", passes);
        }
    }

    #[test]
    fn a_million_items_of_one_day_take_few_passes() {
        let items: Vec<(i128, u64)> =
            (0..1_000_000_i128).map(|number| (1_999_913_600_000_000_000 + number * 86_399_123, 1)).collect();
        let (gone, passes) = going(&items, Bounds { count: Some(400_000), bytes: None }, 0);
        assert_eq!(gone.len(), 600_000);
        assert!(passes <= 3, "{passes} passes");
    }
}
