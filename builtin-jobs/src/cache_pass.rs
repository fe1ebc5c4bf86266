//! One pass over a cache: how much of it is how old, counted in buckets.

use std::cell::RefCell;

use crate::cache_cutoff::Key;

/// How many buckets there are, as a power of two.
const BUCKETS_BITS: u32 = 16;

/// The most items of a pass that are known one by one. Tests see more than that.
const MOST_ITEMS: usize = if cfg!(test) { 16 } else { 1 << 17 };

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
pub(crate) enum Scale {
    /// By the logarithm of the age at this instant, as nothing is known of the items yet.
    Age(u64),
    /// In equal parts of two to the power of this.
    Even(u32),
}

/// Items.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Amount {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

/// Items that are near each other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    pub(crate) amount: Amount,
    pub(crate) first: Key,
    pub(crate) last: Key,
}

impl Pass {
    pub(crate) fn new(low: Key, high: Key, scale: Scale) -> Self {
        let tally = Tally { buckets: vec![Bucket::default(); 1 << BUCKETS_BITS], items: Some(Vec::new()) };
        Self { low, high, scale, tally: RefCell::new(tally) }
    }

    pub(crate) fn between(low: Key, high: Key) -> Self {
        let bits = u128::BITS - (high.0 - low.0).leading_zeros();
        Self::new(low, high, Scale::Even(bits.saturating_sub(BUCKETS_BITS)))
    }

    /// What was counted, in order and as finely as it is known.
    pub(crate) fn in_order(self) -> Vec<Bucket> {
        self.tally.into_inner().in_order()
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
    pub(crate) fn plus(self, other: Self) -> Self {
        let bytes = self.bytes.saturating_add(other.bytes);
        Self { count: self.count.saturating_add(other.count), bytes }
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        let bytes = self.bytes.saturating_sub(other.bytes);
        Self { count: self.count.saturating_sub(other.count), bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
