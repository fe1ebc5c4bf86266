//! What a simulation draws, and what it sees: the promises that no crash may break.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use scheduler_core::{Name, Run, RunId, Timestamp};

use crate::store::{Ack, Delivery, Next, Stepped};

/// `SplitMix64`, by Sebastiano Vigna: the same numbers for a seed in every version of this program.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `most`, and not `most`.
    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    /// Up to so many milliseconds.
    pub(crate) fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.below(most + 1))
    }
}

/// What becomes of one call to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Answered,
    /// The daemon dies before the store hears of it.
    CrashBefore,
    /// The daemon dies when the store has done it.
    CrashAfter,
    /// The store does nothing and says so.
    Refused,
    /// The store has done it, and the daemon never hears of that.
    AnswerLost,
}

/// When calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// As the dice fall.
    Stormy,
    /// Never.
    Calm,
    /// This one, counted from nought, and no other.
    Struck(u64, Fate),
}

/// How long things take, and how many there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// What a second is in a simulation.
    pub(crate) unit: Duration,
    pub(crate) lease: Duration,
    /// How often each task fires.
    pub(crate) fires: u64,
    /// How long after a decision was written anybody hears of it.
    pub(crate) late: Duration,
}

/// Everything that was seen, and every promise that was broken.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) scale: Scale,
    dice: Mutex<Dice>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) weather: Weather,
    pub(crate) calls: u64,
    pub(crate) crashes: u64,
    pub(crate) stale_ends: u64,
    broken: Vec<String>,
    /// The latest delivery of each run.
    fences: BTreeMap<RunId, u64>,
    begun: BTreeSet<(RunId, u64)>,
    ended: BTreeSet<RunId>,
    accepted: BTreeSet<RunId>,
    decided: BTreeMap<Name, Vec<(Timestamp, bool)>>,
    /// How many decisions the store may have written of which nobody has heard.
    unheard: usize,
}

/// A decision that the store may have written and of which nobody has heard, until it is dropped.
#[derive(Debug)]
pub(crate) struct Unheard<'a>(&'a World);

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        self.0.seen().unheard -= 1;
    }
}

impl World {
    pub(crate) fn new(seed: u64, weather: Weather, scale: Scale) -> Self {
        Self { scale, dice: Mutex::new(Dice::new(seed)), seen: Mutex::new(Seen::new(weather)) }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// The store is asked to write a decision.
    pub(crate) fn deciding(&self) -> Unheard<'_> {
        self.seen().unheard += 1;
        Unheard(self)
    }

    pub(crate) fn dice(&self) -> MutexGuard<'_, Dice> {
        self.dice.lock().unwrap()
    }

    /// What becomes of the next call, how long it takes to arrive and how long its answer takes.
    pub(crate) fn fate(&self) -> (Fate, Duration, Duration) {
        let mut dice = self.dice();
        let mut seen = self.seen();
        seen.calls += 1;
        match seen.weather {
            Weather::Stormy => {}
            Weather::Calm => return (Fate::Answered, dice.millis(2), dice.millis(2)),
            Weather::Struck(call, fate) => {
                let is_struck = seen.calls == call + 1;
                seen.crashes += u64::from(is_struck);
                return (if is_struck { fate } else { Fate::Answered }, Duration::ZERO, Duration::ZERO);
            }
        }
        let fate = match dice.below(400) {
            0..3 => Fate::CrashBefore,
            3..6 => Fate::CrashAfter,
            6..10 => Fate::Refused,
            10..14 => Fate::AnswerLost,
            _ => Fate::Answered,
        };
        seen.crashes += u64::from(matches!(fate, Fate::CrashBefore | Fate::CrashAfter));
        // Now and then longer than a lease.
        let mut delay = || if dice.below(50) == 0 { dice.millis(4_000) } else { dice.millis(4) };
        (fate, delay(), delay())
    }
}

impl Seen {
    fn new(weather: Weather) -> Self {
        Self {
            weather,
            calls: 0,
            crashes: 0,
            stale_ends: 0,
            broken: Vec::new(),
            fences: BTreeMap::new(),
            begun: BTreeSet::new(),
            ended: BTreeSet::new(),
            accepted: BTreeSet::new(),
            decided: BTreeMap::new(),
            unheard: 0,
        }
    }

    /// Whether the store has said that it has such a run.
    pub(crate) fn has_accepted(&self, run: RunId) -> bool {
        self.accepted.contains(&run)
    }

    /// Notes that a promise was broken.
    pub(crate) fn broke(&mut self, what: String) {
        self.broken.push(what);
    }

    pub(crate) fn broken(&self) -> &[String] {
        &self.broken
    }

    /// The store said that it has this run.
    pub(crate) fn accept(&mut self, run: RunId) {
        self.accepted.insert(run);
    }

    /// A job began, by this delivery.
    pub(crate) fn begin(&mut self, run: RunId, fence: u64) {
        if !self.begun.insert((run, fence)) {
            self.broke(format!("delivery {fence} of {run} began twice"));
        }
    }

    /// The store has written these ends and taken these runs.
    pub(crate) fn step(&mut self, acks: &[Ack], stepped: &Stepped) {
        for (index, ack) in acks.iter().enumerate() {
            let is_marked = stepped.marked.iter().any(|(marked, _)| *marked == index);
            if stepped.refused.contains(&index) {
                self.stale_ends += 1;
            } else if !is_marked {
                self.written(ack);
            }
        }
        for Delivery { run, fence, max_attempts } in &stepped.claimed {
            if self.ended.contains(&run.id) {
                self.broke(format!("{} was delivered after its end", run.id));
            }
            if run.attempt > *max_attempts {
                self.broke(format!("{} had attempt {} of {max_attempts}", run.id, run.attempt));
            }
            if self.fences.insert(run.id, *fence).is_some_and(|before| before >= *fence) {
                self.broke(format!("delivery {fence} of {} is not above the one before", run.id));
            }
        }
    }

    fn written(&mut self, ack: &Ack) {
        let (run, fence) = (ack.run.id, ack.fence);
        if let Some(latest) = self.fences.get(&run).filter(|latest| **latest != fence) {
            self.broke(format!("the end of delivery {fence} of {run} was written after delivery {latest}"));
        }
        if ack.next == Next::End {
            self.end(run);
        }
    }

    /// A run has ended for good.
    pub(crate) fn end(&mut self, run: RunId) {
        if !self.ended.insert(run) {
            self.broke(format!("{run} ended twice"));
        }
    }

    /// A fire was decided: it runs, or it is skipped.
    pub(crate) fn decide(&mut self, run: &Run, is_fired: bool) {
        let decided = self.decided.entry(run.task.clone()).or_default();
        let before = decided.last().map(|(at, _)| *at);
        decided.push((run.fire_time, is_fired));
        if before.is_some_and(|before| before >= run.fire_time) {
            let told = format!("the fire of {} at {} was decided again", run.task, run.fire_time);
            self.broke(told);
        }
        if is_fired {
            self.accept(run.id);
        }
    }

    /// Whether everything that the store had written of decisions when this was asked has been heard of.
    pub(crate) fn has_heard_all(&self) -> bool {
        self.unheard == 0
    }

    /// Which runs were accepted and have not ended.
    pub(crate) fn owed(&self) -> Vec<RunId> {
        self.accepted.difference(&self.ended).copied().collect()
    }

    /// How many fires of a task ran, and how many were decided at all.
    pub(crate) fn fires(&self, task: &Name) -> (usize, usize) {
        let decided = self.decided.get(task).map(Vec::as_slice).unwrap_or_default();
        (decided.iter().filter(|(_, is_fired)| *is_fired).count(), decided.len())
    }
}
