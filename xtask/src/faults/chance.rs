//! Chance that can be repeated: the same seed gives the same row the same moments.

use std::time::Duration;

/// A source of numbers (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The source of one row on one store, so that a row repeated alone meets what it met among the others.
    pub(crate) fn of(seed: u64, row: &str, store: &str) -> Self {
        let name = row.bytes().chain(*b" on ").chain(store.bytes());
        // FNV-1a, then apart from what a neighbouring seed gives.
        let hash = name.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut chance = Self(seed ^ hash);
        chance.next();
        chance
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` up to and without `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low).max(1)
    }

    /// A time of so many milliseconds.
    pub(crate) fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }

    /// One of several.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        let length = u64::try_from(length.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % length).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_each_row_has_its_own_chance() {
        let drawn = |seed, row, store| {
            let mut chance = Chance::of(seed, row, store);
            [(); 4].map(|()| chance.between(10, 20))
        };
        assert_eq!(drawn(7, "kill", "redis"), drawn(7, "kill", "redis"));
        assert_ne!(drawn(7, "kill", "redis"), drawn(7, "kill", "sqlite"));
        assert_ne!(drawn(7, "kill", "redis"), drawn(8, "kill", "redis"));
        assert!(drawn(7, "kill", "redis").iter().all(|number| (10..20).contains(number)));
    }
}
