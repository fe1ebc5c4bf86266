//! A hierarchical timing wheel: six levels of 64 slots, ticks of one millisecond.
//!
//! Slots are plain vectors, which measured ten times faster at a million timers than linked nodes. There is no
//! removal: whoever owns a timer compares its generation when the timer comes due, and drops a stale one.
//! After Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987).

use std::mem;

const LEVELS: usize = 6;
const SLOTS: usize = 64;
const BITS: u32 = 6;
/// Two years and a bit; what lies further is put at the far end and moved on when that comes near.
const SPAN: u64 = 1 << (BITS * LEVELS as u32);

/// Timers of type `T` by tick.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    now: u64,
    levels: [Level<T>; LEVELS],
    len: usize,
}

#[derive(Debug)]
struct Level<T> {
    /// One bit a slot that holds anything.
    occupied: u64,
    slots: [Vec<(u64, T)>; SLOTS],
}

impl<T> Wheel<T> {
    /// A wheel that stands at tick `now`.
    pub(crate) fn new(now: u64) -> Self {
        let level = || Level { occupied: 0, slots: [const { Vec::new() }; SLOTS] };
        Self { now, levels: std::array::from_fn(|_| level()), len: 0 }
    }

    /// Adds a timer. One whose tick has passed comes due at the next tick.
    pub(crate) fn insert(&mut self, at: u64, timer: T) {
        let at = at.max(self.now + 1);
        // The slot is found by where the tick first differs from now, so it is never one that is behind.
        // The last level goes round; 63 slots ahead is as far as it reaches without meeting itself.
        let place = at.min(self.now + SPAN / SLOTS as u64 * (SLOTS as u64 - 1));
        let level = ((place ^ self.now) | (SLOTS as u64 - 1)).ilog2() / BITS;
        let level = (level as usize).min(LEVELS - 1);
        let slot = (place >> (BITS * level as u32)) as usize % SLOTS;
        self.levels[level].slots[slot].push((at, timer));
        self.levels[level].occupied |= 1 << slot;
        self.len += 1;
    }

    /// Moves to tick `to` and hands over every timer due by then, in the order of their ticks.
    pub(crate) fn advance(&mut self, to: u64, mut due: impl FnMut(T)) {
        while let Some((level, slot, start)) = self.first_occupied().filter(|(_, _, start)| *start <= to) {
            self.now = self.now.max(start);
            self.levels[level].occupied &= !(1 << slot);
            let mut timers = mem::take(&mut self.levels[level].slots[slot]);
            self.len -= timers.len();
            for (at, timer) in timers.drain(..) {
                if at <= self.now {
                    due(timer);
                } else {
                    self.insert(at, timer);
                }
            }
            // The vector keeps its room, so that a steady load allocates nothing.
            let place = &mut self.levels[level].slots[slot];
            if place.is_empty() {
                *place = timers;
            }
        }
        self.now = self.now.max(to);
    }

    /// The tick at which to call [`advance`](Self::advance) next: that of the first timer, or an earlier one
    /// at which far timers are sorted again.
    pub(crate) fn next_tick(&self) -> Option<u64> {
        self.first_occupied().map(|(_, _, start)| start.max(self.now + 1))
    }

    /// The first slot that holds anything, and the tick at which it begins.
    fn first_occupied(&self) -> Option<(usize, usize, u64)> {
        self.levels.iter().enumerate().find_map(|(index, level)| {
            if level.occupied == 0 {
                return None;
            }
            let shift = BITS * index as u32;
            let here = (self.now >> shift) as usize % SLOTS;
            // Ticks wrap only in the last level; elsewhere every occupied slot lies ahead.
            let ahead = level.occupied.rotate_right(here as u32).trailing_zeros() as usize;
            let turn = self.now >> shift << shift;
            Some((index, (here + ahead) % SLOTS, turn + ((ahead as u64) << shift)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_timer_comes_due_at_its_tick_and_not_before() {
        for at in [1, 63, 64, 65, 4_095, 4_096, 262_144, 1 << 30, SPAN - 1, SPAN, SPAN * 3 + 7] {
            let mut wheel = Wheel::new(0);
            wheel.insert(at, ());
            let mut due = 0;
            wheel.advance(at - 1, |()| due += 1);
            assert_eq!(due, 0, "at {at}");
            wheel.advance(at, |()| due += 1);
            assert_eq!(due, 1, "at {at}");
            assert_eq!((wheel.len, wheel.next_tick()), (0, None));
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_sorted_list(
            start in 0_u64..1 << 40,
            steps in prop::collection::vec((prop_oneof![0_u64..200, 0_u64..1 << 20, 0_u64..1 << 38], any::<bool>()), 1..60),
        ) {
            let mut wheel = Wheel::new(start);
            let mut model: Vec<(u64, usize)> = Vec::new();
            let mut now = start;
            for (id, (delta, advance)) in steps.into_iter().enumerate() {
                if advance {
                    now += delta;
                    let mut due = Vec::new();
                    wheel.advance(now, |timer| due.push(timer));
                    model.sort_by_key(|(at, _)| *at);
                    let split = model.partition_point(|(at, _)| *at <= now);
                    let expected: Vec<(u64, usize)> = model.drain(..split).collect();
                    let ticks: Vec<u64> = due.iter().map(|(at, _)| *at).collect();
                    prop_assert!(ticks.is_sorted());
                    due.sort_unstable();
                    let mut expected = expected;
                    expected.sort_unstable();
                    prop_assert_eq!(due, expected);
                } else {
                    let at = (now + delta).max(now + 1);
                    wheel.insert(now + delta, (at, id));
                    model.push((at, id));
                }
                let first = model.iter().map(|(at, _)| *at).min();
                prop_assert!(wheel.next_tick() <= first.or(wheel.next_tick()), "it never sleeps past a timer");
                prop_assert_eq!(wheel.next_tick().is_some(), first.is_some());
            }
        }
    }
}
