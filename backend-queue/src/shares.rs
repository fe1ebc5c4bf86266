//! How much is taken from each queue: what can be run at once is divided among them by their weights.
//!
//! What a queue leaves of its share the others get, so a weight holds nothing back; and what cannot be divided is owed,
//! so that also the least weight has its turn when runs are taken one by one.
//!
//! What was taken begins in turns by the same weights, since what does not begin soon is given back: if those of one queue
//! always came last, none of them would ever begin.

use std::collections::VecDeque;
use std::sync::Arc;

use scheduler_core::Name;

use crate::QueueConfig;
use crate::limits::Limits;
use crate::store::{Delivery, Share, kept_queue};

/// How far a run brings a queue of weight 1.
const STEP: u128 = 1_000_000;

/// The queues that this daemon takes from.
#[derive(Debug)]
pub(crate) struct Shares {
    queues: Vec<Weighed>,
    whole: i64,
    /// How far the queue had come of which a run began last: from there on goes one that had nothing to run.
    reached: u128,
}

#[derive(Debug)]
struct Weighed {
    queue: Option<Name>,
    weight: i64,
    limits: Option<Arc<Limits>>,
    /// What it has to get, in parts of a run of which the sum of all weights makes a whole one.
    owed: i64,
    /// How far it has come by what began, the farther the less it weighs; who has come least far is next.
    come: u128,
}

impl Weighed {
    fn step(&self) -> u128 {
        STEP / u128::try_from(self.weight).unwrap_or(1).max(1)
    }
}

impl Shares {
    pub(crate) fn new(config: &QueueConfig) -> Self {
        let weigh = |(name, weight): (Name, u32)| {
            let limits = config.queues.get(&name).and_then(Limits::of);
            Weighed { queue: kept_queue(&name), weight: i64::from(weight), limits, owed: 0, come: 0 }
        };
        let queues: Vec<Weighed> = config.weights().into_iter().map(weigh).collect();
        Self { whole: queues.iter().map(|queue| queue.weight).sum(), queues, reached: 0 }
    }

    /// Divides so many runs. Whoever is owed most comes first, also in taking what others leave.
    pub(crate) fn divide(&mut self, limit: u32) -> Vec<Share> {
        if let [Weighed { limits: None, .. }] = self.queues.as_slice() {
            // The store does nothing for a queue beside which there is no other.
            return Vec::new();
        }
        let mut left = limit;
        for queue in &mut self.queues {
            queue.owed += i64::from(limit) * queue.weight;
        }
        self.queues.sort_by_key(|queue| (std::cmp::Reverse(queue.owed), queue.queue.clone()));
        let mut shares = Vec::with_capacity(self.queues.len());
        for queue in &mut self.queues {
            let whole = u32::try_from(queue.owed.div_euclid(self.whole).max(0)).unwrap_or(u32::MAX);
            let count = whole.min(left);
            left -= count;
            queue.owed -= i64::from(count) * self.whole;
            shares.push(Share { queue: queue.queue.clone(), count, limits: queue.limits.clone() });
        }
        // Less than one run for each queue is left, and those that are owed most have the largest parts of one.
        let mut by_part: Vec<usize> = (0..self.queues.len()).collect();
        by_part.sort_by_key(|place| std::cmp::Reverse(self.queues[*place].owed));
        for place in by_part.into_iter().take(left as usize) {
            shares[place].count += 1;
            self.queues[place].owed -= self.whole;
        }
        shares
    }

    /// What was taken, in the order in which it is to begin.
    pub(crate) fn arranged(&self, taken: Vec<Delivery>) -> Vec<Delivery> {
        let is_mixed = taken.windows(2).any(|two| two[0].run.queue != two[1].run.queue);
        if !is_mixed {
            return taken;
        }
        let mut arranged = Vec::with_capacity(taken.len());
        let mut lines: Vec<Line> = Vec::new();
        for delivery in taken {
            let place = lines.iter().position(|line| line.queue == delivery.run.queue);
            let place = place.unwrap_or_else(|| {
                lines.push(self.line(delivery.run.queue.clone()));
                lines.len() - 1
            });
            lines[place].runs.push_back(delivery);
        }
        let next = |lines: &mut Vec<Line>| {
            let waiting = lines.iter_mut().filter(|line| !line.runs.is_empty());
            let line = waiting.min_by_key(|line| line.come)?;
            line.come += line.step;
            line.runs.pop_front()
        };
        while let Some(delivery) = next(&mut lines) {
            arranged.push(delivery);
        }
        arranged
    }

    fn line(&self, queue: Option<Name>) -> Line {
        let known = self.queues.iter().find(|known| known.queue == queue);
        let (come, step) = known.map_or((0, STEP), |known| (known.come, known.step()));
        Line { queue, come: come.max(self.reached), step, runs: VecDeque::new() }
    }

    /// Notes that a run of a queue begins.
    pub(crate) fn note_begin(&mut self, queue: Option<&Name>) {
        let Some(weighed) = self.queues.iter_mut().find(|weighed| weighed.queue.as_ref() == queue) else {
            return;
        };
        self.reached = self.reached.max(weighed.come);
        weighed.come = self.reached + weighed.step();
    }
}

/// What was taken from a queue, while it is arranged.
struct Line {
    queue: Option<Name>,
    come: u128,
    step: u128,
    runs: VecDeque<Delivery>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use scheduler_core::{Run, RunId, Tier, Timestamp};
    use serde_json::json;

    use super::*;

    fn shares(queues: &serde_json::Value) -> Shares {
        Shares::new(&QueueConfig::from_value(&json!({ "queues": queues })).unwrap())
    }

    #[test]
    fn a_queue_without_others_is_not_divided() {
        assert!(shares(&json!({})).divide(16).is_empty());
        assert!(shares(&json!({"default": {"weight": 7}})).divide(16).is_empty());
    }

    #[test]
    fn over_time_each_queue_gets_what_its_weight_says_however_few_are_taken_at_once() {
        for limits in [&[1][..], &[3], &[16], &[100, 1, 7]] {
            let mut shares = shares(&json!({"mail": {"weight": 6}, "bulk": {"weight": 3}}));
            let mut got: BTreeMap<String, u32> = BTreeMap::new();
            let mut taken = 0;
            for limit in limits.iter().cycle().take(1_000) {
                let divided = shares.divide(*limit);
                assert_eq!(divided.iter().map(|share| share.count).sum::<u32>(), *limit);
                for share in divided {
                    *got.entry(share.queue.map_or("default".into(), |name| name.to_string())).or_default() +=
                        share.count;
                }
                taken += limit;
            }
            for (queue, weight) in [("mail", 6), ("bulk", 3), ("default", 1)] {
                let due = taken * weight / 10;
                assert!(got[queue].abs_diff(due) <= 2, "{queue} got {} of {taken}, not {due}", got[queue]);
            }
        }
    }

    /// As many deliveries as a store that has many runs of each queue answers with.
    fn taken(shares: &[Share]) -> Vec<Delivery> {
        let at = Timestamp::from_millis(1);
        let delivery = |queue: &Option<Name>| {
            let name = |text| Name::new(text).unwrap();
            let mut run = Run::queued(RunId::manual(at), name("t"), name("queue"), Tier::Queue, at);
            run.queue.clone_from(queue);
            Delivery { run, fence: 1, max_attempts: 1 }
        };
        shares.iter().flat_map(|share| (0..share.count).map(|_| delivery(&share.queue))).collect()
    }

    #[test]
    fn each_queue_begins_what_its_weight_says_also_when_the_last_of_what_was_taken_is_given_back() {
        for (limit, begins) in [(2, 1), (4, 2), (3, 1), (8, 4), (16, 8), (512, 4)] {
            let mut shares = shares(&json!({"mail": {"weight": 6}, "bulk": {"weight": 3}}));
            let mut begun: BTreeMap<String, u32> = BTreeMap::new();
            for _ in 0..1_000 {
                let divided = shares.divide(limit);
                for delivery in shares.arranged(taken(&divided)).into_iter().take(begins) {
                    let queue = delivery.run.queue;
                    shares.note_begin(queue.as_ref());
                    *begun.entry(queue.map_or("default".into(), |name| name.to_string())).or_default() += 1;
                }
            }
            for (queue, weight) in [("mail", 6), ("bulk", 3), ("default", 1)] {
                let (got, due) =
                    (begun.get(queue).copied().unwrap_or_default(), 100 * begins as u32 * weight);
                assert!(got.abs_diff(due) <= due / 20, "{queue} began {got}, not {due}: {begins} of {limit}");
            }
        }
    }

    #[test]
    fn what_was_taken_keeps_its_order_within_a_queue_and_one_that_rested_gets_no_more_for_it() {
        let mut shares = shares(&json!({"mail": {"weight": 1}}));
        let (mail, count) = (Name::new("mail").ok(), 4);
        let share = |queue: Option<Name>| Share { queue, count, limits: None };
        for _ in 0..1_000 {
            shares.note_begin(mail.as_ref());
        }

        let both = taken(&[share(mail.clone()), share(None)]);
        let ids = |queue: &Option<Name>, all: &[Delivery]| -> Vec<RunId> {
            all.iter().filter(|each| each.run.queue == *queue).map(|each| each.run.id).collect()
        };
        let before = [ids(&mail, &both), ids(&None, &both)];
        let arranged = shares.arranged(both);

        assert_eq!([ids(&mail, &arranged), ids(&None, &arranged)], before);
        let first_half = arranged.iter().take(4).filter(|each| each.run.queue.is_none()).count();
        assert!((2..=3).contains(&first_half), "{first_half} of 4");
    }
}
