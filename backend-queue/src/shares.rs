//! How much is taken from each queue: what can be run at once is divided among them by their weights.
//!
//! What a queue leaves of its share the others get, so a weight holds nothing back; and what cannot be divided is owed,
//! so that also the least weight has its turn when runs are taken one by one.

use std::sync::Arc;

use scheduler_core::Name;

use crate::QueueConfig;
use crate::limits::Limits;
use crate::store::{Share, kept_queue};

/// The queues that this daemon takes from.
#[derive(Debug)]
pub(crate) struct Shares {
    queues: Vec<Weighed>,
    whole: i64,
}

#[derive(Debug)]
struct Weighed {
    queue: Option<Name>,
    weight: i64,
    limits: Option<Arc<Limits>>,
    /// What it has to get, in parts of a run of which the sum of all weights makes a whole one.
    owed: i64,
}

impl Shares {
    pub(crate) fn new(config: &QueueConfig) -> Self {
        let weigh = |(name, weight): (Name, u32)| {
            let limits = config.queues.get(&name).and_then(Limits::of);
            Weighed { queue: kept_queue(&name), weight: i64::from(weight), limits, owed: 0 }
        };
        let queues: Vec<Weighed> = config.weights().into_iter().map(weigh).collect();
        Self { whole: queues.iter().map(|queue| queue.weight).sum(), queues }
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
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
}
