//! What the model of a store does with queues: which runs are taken from them, and how they stand.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use scheduler_core::{Name, Pause, RunState, Timestamp};

use crate::limits::{ByKey, GOOD, HORIZON, IN_LINE, Pace, key_of};
use crate::model_run::{Kept, Place, State, now};
use crate::store::{Claim, Delivery, QueueState, Share, Stepped};

/// What becomes of a run that is ready and comes first.
enum Admitted {
    Now,
    /// It waits for its slot.
    At(Timestamp),
    /// It waits until another of the same value of a parameter has ended.
    InLine,
    /// Nothing more is taken from its queue, at most until then.
    Closed(Option<Timestamp>),
}

impl State {
    pub(crate) fn claim(&mut self, claim: &Claim) -> Stepped {
        let whole = [Share { queue: None, count: claim.limit, limits: None }];
        let shares = if claim.from.is_empty() { &whole } else { claim.from.as_slice() };
        let (paused, open): (Vec<&Share>, Vec<&Share>) =
            shares.iter().partition(|share| self.pause_of(share.queue.as_ref()).is_some());
        let (mut stepped, mut closed) = (Stepped::default(), BTreeSet::new());
        let own = open.iter().map(|share| (share, share.count));
        // What is left goes to whoever comes first.
        open.iter().for_each(|share| self.release_lines(share));
        for (share, count) in own.chain(open.iter().map(|share| (share, claim.limit))) {
            let mut taken = 0;
            while taken < count
                && stepped.claimed.len() < claim.limit as usize
                && !closed.contains(&share.queue)
            {
                match self.next_of(&share.queue).map(|index| (index, self.admit(index, share))) {
                    None => break,
                    Some((index, Admitted::Now)) => {
                        stepped.claimed.push(self.deliver(index, claim));
                        taken += 1;
                    }
                    Some((index, Admitted::At(slot))) => {
                        let kept = &mut self.runs[index];
                        (kept.due, kept.has_slot, kept.is_in_line) = (slot, true, false);
                        kept.place = Place::Delayed(RunState::Queued);
                    }
                    Some((index, Admitted::InLine)) => {
                        let kept = &mut self.runs[index];
                        (kept.due, kept.has_slot, kept.is_in_line) = (now() + IN_LINE, false, true);
                        kept.place = Place::Delayed(RunState::Queued);
                    }
                    Some((_, Admitted::Closed(until))) => {
                        closed.insert(share.queue.clone());
                        let wait = until.map(|until| until.since(now()));
                        stepped.next_due = [stepped.next_due, wait].into_iter().flatten().min();
                    }
                }
            }
        }
        stepped.has_more =
            open.iter().any(|share| self.next_of(&share.queue).is_some() && !closed.contains(&share.queue));
        stepped.paused = Some(paused.into_iter().map(|share| share.queue.clone()).collect());
        stepped
    }

    /// Whether the limits of its queue let a run that is ready begin.
    fn admit(&mut self, index: usize, share: &Share) -> Admitted {
        let Some(limits) = &share.limits else { return Admitted::Now };
        let of_queue = |kept: &&Kept| kept.place == Place::Running && kept.run.queue == share.queue;
        let running = self.runs.iter().filter(of_queue).count();
        if limits.concurrency.is_some_and(|most| running >= most as usize) {
            return Admitted::Closed(None);
        }
        let (kept, at) = (&self.runs[index], now());
        if let Some(ByKey { param, concurrency: Some(most), .. }) = &limits.per_key
            && self.running_by(share, param, &key_of(&kept.run, param)) >= *most as usize
        {
            return Admitted::InLine;
        }
        if kept.has_slot && at <= kept.due + GOOD {
            return Admitted::Now;
        }
        let by = limits.per_key.as_ref().and_then(|by| Some((Some(key_of(&kept.run, &by.param)), by.pace?)));
        let paces: Vec<(Option<String>, Pace)> =
            limits.pace.map(|pace| (None, pace)).into_iter().chain(by).collect();
        let now = at.as_millis() * 1_000;
        let next = |key: &Option<String>| {
            self.paces.get(&(share.queue.clone(), key.clone())).copied().unwrap_or_default()
        };
        if let Some(pace) = limits.pace {
            let horizon = i64::try_from(HORIZON.as_micros()).unwrap();
            let slot = next(&None) - pace.tolerance;
            if slot > now + horizon {
                return Admitted::Closed(Some(Timestamp::from_millis((slot - horizon) / 1_000)));
            }
        }
        let nexts: Vec<i64> = paces.iter().map(|(key, _)| next(key)).collect();
        let slots = nexts.iter().zip(&paces).map(|(next, (_, pace))| next - pace.tolerance);
        let slot = slots.fold(now, i64::max);
        for (next, (key, pace)) in nexts.into_iter().zip(paces) {
            self.paces.insert((share.queue.clone(), key), next.max(now) + pace.interval);
        }
        if slot > now { Admitted::At(Timestamp::from_millis((slot + 999) / 1_000)) } else { Admitted::Now }
    }

    fn running_by(&self, share: &Share, param: &str, key: &str) -> usize {
        let of_queue = self.runs.iter().filter(|kept| kept.run.queue == share.queue);
        of_queue.filter(|kept| kept.place == Place::Running && key_of(&kept.run, param) == key).count()
    }

    /// Lets as many runs of each value of a parameter go on that wait in line as there are places.
    fn release_lines(&mut self, share: &Share) {
        let Some(ByKey { param, concurrency: Some(most), .. }) =
            share.limits.as_ref().and_then(|limits| limits.per_key.as_ref())
        else {
            return;
        };
        let is_in_line = |kept: &Kept| {
            kept.is_in_line && kept.run.queue == share.queue && matches!(kept.place, Place::Delayed(_))
        };
        let waiting = self.runs.iter().filter(|kept| is_in_line(kept));
        let keys: BTreeSet<String> = waiting.map(|kept| key_of(&kept.run, param)).collect();
        for key in keys {
            let free = (*most as usize).saturating_sub(self.running_by(share, param, &key));
            let mut line: Vec<&mut Kept> = self
                .runs
                .iter_mut()
                .filter(|kept| is_in_line(kept) && key_of(&kept.run, param) == key)
                .collect();
            line.sort_by_key(|kept| Reverse(kept.priority));
            for kept in line.into_iter().take(free) {
                (kept.place, kept.due, kept.is_in_line) = (Place::Ready, now(), false);
            }
        }
    }

    /// Which of the runs of a queue that are ready comes first.
    fn next_of(&self, queue: &Option<Name>) -> Option<usize> {
        let ready = self.runs.iter().enumerate().filter(|(_, kept)| kept.place == Place::Ready);
        let of_queue = ready.filter(|(_, kept)| kept.run.queue == *queue);
        // Of those that are alike the first is found, which came first.
        of_queue.min_by_key(|(_, kept)| (Reverse(kept.priority), kept.due)).map(|(index, _)| index)
    }

    fn deliver(&mut self, index: usize, claim: &Claim) -> Delivery {
        self.deliveries += 1;
        let kept = &mut self.runs[index];
        kept.run.attempt += 1;
        kept.place = Place::Running;
        kept.fence = self.deliveries;
        (kept.has_slot, kept.is_in_line) = (false, false);
        kept.leased_until = now() + claim.lease;
        Delivery { run: kept.shown(), fence: kept.fence, max_attempts: kept.max_attempts }
    }

    /// The pause of a queue that holds now.
    pub(crate) fn pause_of(&self, queue: Option<&Name>) -> Option<&Pause> {
        let pause = self.paused.get(&queue.cloned());
        pause.filter(|pause| pause.until.is_none_or(|until| now() < until))
    }

    /// How a queue stands.
    pub(crate) fn queue(&self, queue: Option<&Name>) -> QueueState {
        let of_queue = || self.runs.iter().filter(|kept| kept.run.queue.as_ref() == queue);
        let ready = || of_queue().filter(|kept| kept.place == Place::Ready);
        QueueState {
            queue: queue.cloned(),
            waiting: ready().count(),
            running: of_queue().filter(|kept| kept.place == Place::Running).count(),
            oldest: ready().map(|kept| kept.due).min(),
            paused: self.pause_of(queue).cloned(),
        }
    }
}
