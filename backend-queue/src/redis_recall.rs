//! What became of a step whose answer did not arrive.
//!
//! Redis may have done it or not, or do it yet. It remembers what it answered last, by the number of the step, so
//! it is asked before the next one: what was done is neither done again nor lost, and what was not is called off.

use std::collections::{HashMap, HashSet};

use scheduler_core::{Run, RunId, RunState};

use crate::redis_wire::Middle;
use crate::store::{Ack, Delivery, Next, Stepped};

/// A delivery, by its run and its fence.
type Key = (RunId, u64);

/// What became of an acknowledgement.
#[derive(Clone, Debug, PartialEq)]
enum Settled {
    Written,
    Refused,
    /// It asks for another attempt, and the run shall be cancelled, for this reason.
    Marked(String),
}

/// What is known of steps that did not end well.
#[derive(Debug, Default)]
pub(crate) struct Unanswered {
    /// The number of the last step.
    number: u64,
    /// The acknowledgements of the step with that number, if nobody knows what became of it.
    open: Option<Vec<Key>>,
    /// Acknowledgements of which it is known what became, but whose caller has not heard of it.
    settled: HashMap<Key, Settled>,
    /// What was claimed and has not been delivered.
    claimed: Vec<Delivery>,
    /// What could not be read, and has not been told.
    undecodable: Vec<Run>,
    /// What an acknowledgement can repeat of a run, so that Redis need not look it up.
    middles: HashMap<Key, Middle>,
}

/// A delivery that is never acknowledged leaves something behind; it all goes when there is more than this.
const MOST_MIDDLES: usize = 1 << 16;

impl Unanswered {
    /// The number of a step that is about to be taken, with these acknowledgements.
    pub(crate) fn begin(&mut self, acks: &[&Ack]) -> u64 {
        self.number += 1;
        self.open = Some(acks.iter().map(|ack| key(ack)).collect());
        self.number
    }

    /// Notes what a step answered: places among its acknowledgements.
    pub(crate) fn end(&mut self, refused: &[usize], marked: impl Iterator<Item = (usize, String)>) {
        let acks = self.open.take().unwrap_or_default();
        let mut outcomes: HashMap<usize, Settled> =
            marked.map(|(index, reason)| (index, Settled::Marked(reason))).collect();
        outcomes.extend(refused.iter().map(|index| (*index, Settled::Refused)));
        for (index, key) in acks.into_iter().enumerate() {
            self.middles.remove(&key);
            self.settled.insert(key, outcomes.remove(&index).unwrap_or(Settled::Written));
        }
    }

    /// Notes that a step was not taken.
    pub(crate) fn call_off(&mut self) {
        self.open = None;
    }

    /// The number of the step of which nobody knows what became.
    pub(crate) fn open(&self) -> Option<u64> {
        self.open.as_ref().map(|_| self.number)
    }

    /// The acknowledgements whose outcome is not known; of two for one delivery the first one counts.
    pub(crate) fn unsettled<'a>(&self, acks: &'a [Ack]) -> Vec<&'a Ack> {
        let mut seen = HashSet::new();
        acks.iter().filter(|ack| !self.settled.contains_key(&key(ack)) && seen.insert(key(ack))).collect()
    }

    pub(crate) fn deliver(&mut self, stepped: Stepped) {
        self.claimed.extend(stepped.claimed);
        self.undecodable.extend(stepped.undecodable);
    }

    /// Keeps what is known of a delivery.
    pub(crate) fn remember(&mut self, run: RunId, fence: u64, packed: &[u8]) {
        if self.middles.len() >= MOST_MIDDLES {
            self.middles.clear();
        }
        self.middles.extend(Middle::of(packed).map(|middle| ((run, fence), middle)));
    }

    pub(crate) fn middle(&self, ack: &Ack) -> Option<&Middle> {
        self.middles.get(&key(ack))
    }

    /// How many deliveries wait for somebody who takes them.
    pub(crate) fn undelivered(&self) -> usize {
        self.claimed.len()
    }

    /// Takes deliveries that nobody asks for any more, so that they can be given back.
    pub(crate) fn surplus(&mut self, wanted: usize) -> Vec<Ack> {
        let surplus = self.claimed.split_off(wanted.min(self.claimed.len()));
        surplus.into_iter().map(given_back).collect()
    }

    /// Answers all that is known.
    pub(crate) fn answer(&mut self, acks: &[Ack]) -> Stepped {
        let mut settled = std::mem::take(&mut self.settled);
        let (mut seen, mut refused, mut marked) = (HashSet::new(), Vec::new(), Vec::new());
        for (index, ack) in acks.iter().enumerate() {
            let is_second = !seen.insert(key(ack));
            match settled.remove(&key(ack)) {
                Some(Settled::Marked(reason)) => marked.push((index, reason)),
                Some(Settled::Refused) => refused.push(index),
                Some(Settled::Written) | None if is_second => refused.push(index),
                Some(Settled::Written) | None => {}
            }
        }
        Stepped {
            refused,
            marked,
            claimed: std::mem::take(&mut self.claimed),
            undecodable: std::mem::take(&mut self.undecodable),
            next_due: None,
            has_more: false,
            paused: None,
        }
    }
}

fn key(ack: &Ack) -> Key {
    (ack.run.id, ack.fence)
}

/// The run goes back to its place in the queue, and the attempt does not count.
fn given_back(delivery: Delivery) -> Ack {
    let Delivery { mut run, fence, .. } = delivery;
    run.state = RunState::Queued;
    run.attempt = run.attempt.saturating_sub(1);
    Ack { run, fence, next: Next::Back, is_followed: false }
}
