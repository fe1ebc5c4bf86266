//! Finds from which item on a cache must be emptied, oldest first, without a list of its items.
//!
//! A pass counts items and bytes in tens of thousands of buckets by age. The bucket in which the bounds begin to hold
//! is counted again, until there are few enough items in it to know each. Memory is the buckets and those few; passes
//! are one or two.

use std::cell::RefCell;
use std::time::Duration;

use scheduler_core::Timestamp;

/// How many buckets there are, as a power of two.
const BUCKETS_BITS: u32 = 16;

/// More passes than any range of keys can need; what changes meanwhile cannot make one endless.
const MOST_PASSES: usize = 12;

/// The most items of a pass that are known one by one. Tests see more than that.
const MOST_ITEMS: usize = if cfg!(test) { 16 } else { 1 << 17 };

/// When an item was used last, and its number where that is the same instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(u128);

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

/// Counts the items between two keys.
#[derive(Debug)]
pub(crate) struct Pass {
    low: Key,
    high: Key,
    scale: Scale,
    tally: RefCell<Tally>,
}

#[derive(Debug)]
struct Tally {
    buckets: Vec<Bucket>,
    /// Every item as a bucket of its own, unless there are too many.
    items: Option<Vec<Bucket>>,
}

/// How keys are shared out among buckets; the smaller key never gets the later bucket.
#[derive(Clone, Copy, Debug)]
enum Scale {
    /// By the logarithm of the age at this instant, as nothing is known of the items yet.
    Age(u64),
    /// In equal parts of two to the power of this.
    Even(u32),
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Amount {
    count: u64,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    amount: Amount,
    first: Key,
    last: Key,
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
        let buckets = pass.tally.into_inner().in_order();
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

impl Pass {
    fn new(low: Key, high: Key, scale: Scale) -> Self {
        let tally = Tally { buckets: vec![Bucket::default(); 1 << BUCKETS_BITS], items: Some(Vec::new()) };
        Self { low, high, scale, tally: RefCell::new(tally) }
    }

    fn between(low: Key, high: Key) -> Self {
        let bits = u128::BITS - (high.0 - low.0).leading_zeros();
        Self::new(low, high, Scale::Even(bits.saturating_sub(BUCKETS_BITS)))
    }

    /// Counts an item, if this pass is about it.
    pub(crate) fn count(&self, key: Key, bytes: u64) {
        if key < self.low || key > self.high {
            return;
        }
        let bucket = match self.scale {
            Scale::Age(now) => (1 << BUCKETS_BITS) - 1 - logarithm(now.saturating_sub((key.0 >> 64) as u64)),
            Scale::Even(bits) => usize::try_from((key.0 - self.low.0) >> bits).unwrap_or(usize::MAX),
        };
        self.tally
            .borrow_mut()
            .add(bucket, Bucket { amount: Amount { count: 1, bytes }, first: key, last: key });
    }
}

impl Tally {
    fn add(&mut self, bucket: usize, item: Bucket) {
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            let first = if bucket.amount.count == 0 { item.first } else { bucket.first.min(item.first) };
            let last = bucket.last.max(item.last);
            *bucket = Bucket { amount: bucket.amount.plus(item.amount), first, last };
        }
        match &mut self.items {
            Some(items) if items.len() < MOST_ITEMS => items.push(item),
            Some(_) => self.items = None,
            None => {}
        }
    }

    /// What was counted, as finely as it is known.
    fn in_order(self) -> Vec<Bucket> {
        let Some(mut items) = self.items else { return self.buckets };
        items.sort_unstable_by_key(|item| item.first);
        items
    }
}

/// A number that rises with another one's logarithm, fine enough to tell an hour from an hour and four seconds.
fn logarithm(number: u64) -> usize {
    const MANTISSA: u32 = BUCKETS_BITS - 6;
    let exponent = 63 - (number | 1).leading_zeros();
    let mantissa =
        if exponent >= MANTISSA { number >> (exponent - MANTISSA) } else { number << (MANTISSA - exponent) };
    // The leading bit of the mantissa says nothing.
    ((exponent as usize) << MANTISSA) | (mantissa as usize & ((1 << MANTISSA) - 1))
}

impl Amount {
    fn plus(self, other: Self) -> Self {
        let bytes = self.bytes.saturating_add(other.bytes);
        Self { count: self.count.saturating_add(other.count), bytes }
    }

    fn minus(self, other: Self) -> Self {
        let bytes = self.bytes.saturating_sub(other.bytes);
        Self { count: self.count.saturating_sub(other.count), bytes }
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

    #[test]
    fn the_logarithm_never_falls_and_fits_the_buckets() {
        let mut last = 0;
        for exponent in 0..64 {
            for part in 0..64_u64 {
                let number = (1_u128 << exponent) | ((u128::from(part) << exponent) >> 6);
                let number = u64::try_from(number).unwrap();
                let next = logarithm(number);
                assert!(next >= last && next < 1 << BUCKETS_BITS, "{number}");
                last = next;
            }
        }
        assert!(logarithm(u64::MAX) < 1 << BUCKETS_BITS && logarithm(0) == 0);
    }
}
