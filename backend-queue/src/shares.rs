//! How much is taken from each queue: what can be run at once is divided among them by their weights.
//!
//! What a queue leaves of its share the others get, so a weight holds nothing back; and who has begun least for its weight
//! comes first, so that also the least weight has its turn when runs are taken one by one.
//!
//! Only what began counts, and what was taken begins in turns by the same weights: what does not begin soon is given back,
//! and if that were always what one queue got, none of its runs would ever begin.

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
    /// How far the queue had come of which a run began last: from there on goes one that had nothing to run.
    reached: u128,
}

#[derive(Debug)]
struct Weighed {
    queue: Option<Name>,
    limits: Option<Arc<Limits>>,
    /// How far a run brings it: the farther the less it weighs.
    step: u128,
    /// How far it has come by what began; who has come least far is next.
    come: u128,
}

impl Shares {
    pub(crate) fn new(config: &QueueConfig) -> Self {
        let weigh = |(name, weight): (Name, u32)| {
            let limits = config.queues.get(&name).and_then(Limits::of);
            Weighed { queue: kept_queue(&name), limits, step: STEP / u128::from(weight.max(1)), come: 0 }
        };
        Self { queues: config.weights().into_iter().map(weigh).collect(), reached: 0 }
    }

    /// Divides so many runs. Who has come least far comes first, also in taking what others leave.
    pub(crate) fn divide(&mut self, limit: u32) -> Vec<Share> {
        if let [Weighed { limits: None, .. }] = self.queues.as_slice() {
            // The store does nothing for a queue beside which there is no other.
            return Vec::new();
        }
        let reached = self.reached;
        self.queues.sort_by_key(|queue| (queue.come.max(reached), queue.queue.clone()));
        let mut come: Vec<u128> = self.queues.iter().map(|queue| queue.come.max(reached)).collect();
        let mut counts = vec![0; come.len()];
        for _ in 0..limit {
            let Some(next) = (0..come.len()).min_by_key(|place| come[*place]) else { break };
            come[next] += self.queues[next].step;
            counts[next] += 1;
        }
        let share = |(queue, count): (&Weighed, u32)| Share {
            queue: queue.queue.clone(),
            count,
            limits: queue.limits.clone(),
        };
        self.queues.iter().zip(counts).map(share).collect()
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
        let (come, step) = known.map_or((0, STEP), |known| (known.come, known.step));
        Line { queue, come: come.max(self.reached), step, runs: VecDeque::new() }
    }

    /// Notes that a run of a queue begins.
    pub(crate) fn note_begin(&mut self, queue: Option<&Name>) {
        let Some(weighed) = self.queues.iter_mut().find(|weighed| weighed.queue.as_ref() == queue) else {
            return;
        };
        self.reached = self.reached.max(weighed.come);
        weighed.come = self.reached + weighed.step;
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
                for delivery in shares.arranged(taken_from(&divided)) {
                    shares.note_begin(delivery.run.queue.as_ref());
                }
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
    fn taken_from(shares: &[Share]) -> Vec<Delivery> {
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
        let none: (u32, usize) = (2, 0);
        for steps in [
            &[(2, 1)][..],
            &[(4, 2)],
            &[(3, 1)],
            &[(16, 8)],
            &[(512, 4)],
            &[(2, 2), none],
            &[(1, 1), none],
            &[(4, 4), none, (1, 1)],
        ] {
            let mut shares = shares(&json!({"mail": {"weight": 6}, "bulk": {"weight": 3}}));
            let mut begun: BTreeMap<String, u32> = BTreeMap::new();
            for (limit, begins) in steps.iter().cycle().take(1_000) {
                let divided = shares.divide(*limit);
                for delivery in shares.arranged(taken_from(&divided)).into_iter().take(*begins) {
                    let queue = delivery.run.queue;
                    shares.note_begin(queue.as_ref());
                    *begun.entry(queue.map_or("default".into(), |name| name.to_string())).or_default() += 1;
                }
            }
            for (queue, weight) in [("mail", 6), ("bulk", 3), ("default", 1)] {
                let due = begun.values().sum::<u32>() * weight / 10;
                let got = begun.get(queue).copied().unwrap_or_default();
                assert!(got.abs_diff(due) <= due / 20 + 1, "{queue} began {got}, not {due}: {steps:?}");
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

        let both = taken_from(&[share(mail.clone()), share(None)]);
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
