//! What the model of a store does with queues: which runs are taken from them, and how they stand.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use scheduler_core::{Name, Pause, RunState, Timestamp};

use crate::limits::{ByKey, GOOD, IN_LINE, Limits, Pace, key_of};
use crate::model_run::{Kept, Place, State, now};
use crate::store::{Claim, Delivery, QueueState, Share, Stepped};

/// What becomes of a run that is ready and comes first.
enum Admitted {
    Now,
    /// It waits until another of the same value of a parameter has ended, or for the slot of that value.
    InLine(Option<Timestamp>),
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
        let mut at_once = BTreeSet::new();
        for share in &open {
            at_once.extend(self.is_awaited(share).then(|| share.queue.clone()));
            let (is_closed, until) = self.release_lines(share);
            closed.extend(is_closed.then(|| share.queue.clone()));
            stepped.wait(until);
        }
        let own = open.iter().map(|share| (share, share.count));
        // What is left goes to whoever comes first.
        for (share, count) in own.chain(open.iter().map(|share| (share, claim.limit))) {
            let mut taken = 0;
            while taken < count
                && stepped.claimed.len() < claim.limit as usize
                && !closed.contains(&share.queue)
            {
                match self
                    .next_of(&share.queue)
                    .map(|index| (index, self.admit(index, share, at_once.contains(&share.queue))))
                {
                    None => break,
                    Some((index, Admitted::Now)) => {
                        stepped.claimed.push(self.deliver(index, claim));
                        taken += 1;
                    }
                    Some((index, Admitted::InLine(until))) => {
                        let kept = &mut self.runs[index];
                        (kept.due, kept.has_waited, kept.is_in_line) = (now() + IN_LINE, false, true);
                        kept.place = Place::Delayed(RunState::Queued);
                        stepped.wait(until);
                    }
                    Some((_, Admitted::Closed(until))) => {
                        closed.insert(share.queue.clone());
                        stepped.wait(until);
                    }
                }
            }
        }
        stepped.has_more =
            open.iter().any(|share| self.next_of(&share.queue).is_some() && !closed.contains(&share.queue));
        stepped.paused = Some(paused.into_iter().map(|share| share.queue.clone()).collect());
        stepped
    }

    /// Whether the limits of its queue let a run that is ready begin. Who waited for a slot of the queue as a whole has
    /// it also a little later.
    fn admit(&mut self, index: usize, share: &Share, is_awaited: bool) -> Admitted {
        let Some(limits) = &share.limits else { return Admitted::Now };
        if self.is_full(share, limits) {
            return Admitted::Closed(None);
        }
        if let Some(until) = self.wait_for(share, limits) {
            return Admitted::Closed(Some(until));
        }
        let by = limits.per_key.as_ref();
        let key = by.map(|by| key_of(&self.runs[index].run, &by.param));
        if let Some((by, key)) = by.zip(key.as_ref()) {
            let slot = by.pace.and_then(|pace| self.slot(share, Some(key), pace));
            if self.free(share, by, key) == 0 {
                return Admitted::InLine(None);
            } else if slot.is_some() {
                return Admitted::InLine(slot);
            }
        }
        // A slot of the whole queue is taken by a run whose own has come, so none is taken in vain.
        if let Some(pace) = limits.pace {
            self.take_slot(share, None, pace, is_awaited);
        }
        if let Some((pace, key)) = by.and_then(|by| by.pace).zip(key.as_ref()) {
            self.take_slot(share, Some(key), pace, self.runs[index].has_waited);
        }
        Admitted::Now
    }

    /// Whether as many runs of a queue are under way as may be.
    fn is_full(&self, share: &Share, limits: &Limits) -> bool {
        let of_queue = |kept: &&Kept| kept.place == Place::Running && kept.run.queue == share.queue;
        limits.concurrency.is_some_and(|most| self.runs.iter().filter(of_queue).count() >= most as usize)
    }

    /// Until when the rate of a queue as a whole lets nothing begin; it is noted that somebody waits for that.
    fn wait_for(&mut self, share: &Share, limits: &Limits) -> Option<Timestamp> {
        let pace = limits.pace?;
        let until = self.slot(share, None, pace)?;
        let next = self.next(share, None, pace);
        self.awaited.insert(share.queue.clone(), next);
        Some(until)
    }

    /// Whether somebody waits for the slot that a queue as a whole has next.
    fn is_awaited(&self, share: &Share) -> bool {
        let next = self.paces.get(&(share.queue.clone(), None));
        next.is_some() && next == self.awaited.get(&share.queue)
    }

    /// From when on the next may begin. A time further ahead than the rate can have come is not believed.
    fn next(&mut self, share: &Share, key: Option<&String>, pace: Pace) -> i64 {
        let latest = micros() + pace.tolerance + pace.interval;
        let next = self.paces.entry((share.queue.clone(), key.cloned())).or_default();
        *next = latest.min(*next);
        *next
    }

    /// The slot of whoever comes next, if it has not come.
    fn slot(&mut self, share: &Share, key: Option<&String>, pace: Pace) -> Option<Timestamp> {
        let slot = self.next(share, key, pace) - pace.tolerance;
        (slot > micros()).then(|| Timestamp::from_millis((slot + 999) / 1_000))
    }

    fn take_slot(&mut self, share: &Share, key: Option<&String>, pace: Pace, has_waited: bool) {
        let first = first_of(self.next(share, key, pace), has_waited);
        self.paces.insert((share.queue.clone(), key.cloned()), first + pace.interval);
    }

    /// How many more runs of a value of a parameter may be under way.
    fn free(&self, share: &Share, by: &ByKey, key: &str) -> usize {
        let most = by.concurrency.map_or(usize::MAX, |most| most as usize);
        most.saturating_sub(self.running_by(share, &by.param, key))
    }

    fn running_by(&self, share: &Share, param: &str, key: &str) -> usize {
        let of_queue = self.runs.iter().filter(|kept| kept.run.queue == share.queue);
        of_queue.filter(|kept| kept.place == Place::Running && key_of(&kept.run, param) == key).count()
    }

    /// Lets as many runs of each value of a parameter go on that wait in line as may begin; says whether nothing more of
    /// the queue begins, and when it is to be looked at again.
    fn release_lines(&mut self, share: &Share) -> (bool, Option<Timestamp>) {
        let Some(limits) = share.limits.clone() else { return (false, None) };
        let Some(by) = &limits.per_key else { return (false, None) };
        let is_in_line = |kept: &Kept| {
            kept.is_in_line && kept.run.queue == share.queue && matches!(kept.place, Place::Delayed(_))
        };
        let waiting = self.runs.iter().filter(|kept| is_in_line(kept));
        let keys: BTreeSet<String> = waiting.map(|kept| key_of(&kept.run, &by.param)).collect();
        let mut again: Option<Timestamp> = None;
        for key in keys {
            let mut free = self.free(share, by, &key);
            if let Some(pace) = by.pace.filter(|_| free > 0) {
                if let Some(slot) = self.slot(share, Some(&key), pace) {
                    again = Some(again.map_or(slot, |again| again.min(slot)));
                    continue;
                }
                let first = first_of(self.next(share, Some(&key), pace), true);
                let slots = (micros() + pace.tolerance - first) / pace.interval + 1;
                free = free.min(usize::try_from(slots).unwrap_or(0));
            }
            if free == 0 {
                continue;
            }
            if self.is_full(share, &limits) {
                return (false, again);
            }
            if let Some(until) = self.wait_for(share, &limits) {
                return (true, [again, Some(until)].into_iter().flatten().min());
            }
            let mut line: Vec<&mut Kept> = self
                .runs
                .iter_mut()
                .filter(|kept| is_in_line(kept) && key_of(&kept.run, &by.param) == key)
                .collect();
            line.sort_by_key(|kept| Reverse(kept.priority));
            for kept in line.into_iter().take(free) {
                (kept.place, kept.is_in_line, kept.has_waited) = (Place::Ready, false, true);
                // It is as old as it is, and behind nothing that came meanwhile.
                kept.due = now().min(kept.run.fire_time);
            }
        }
        (false, again)
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
        (kept.has_waited, kept.is_in_line) = (false, false);
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
        let ready = of_queue().filter(|kept| kept.place == Place::Ready).map(|kept| kept.due);
        let is_in_line = |kept: &&Kept| kept.is_in_line && matches!(kept.place, Place::Delayed(_));
        let in_line = of_queue().filter(is_in_line).map(|kept| kept.run.fire_time.min(now()));
        let waiting: Vec<Timestamp> = ready.chain(in_line).collect();
        QueueState {
            queue: queue.cloned(),
            waiting: waiting.len(),
            running: of_queue().filter(|kept| kept.place == Place::Running).count(),
            oldest: waiting.into_iter().min(),
            paused: self.pause_of(queue).cloned(),
        }
    }
}

impl Stepped {
    /// The next step is to be taken then at the latest.
    fn wait(&mut self, until: Option<Timestamp>) {
        let wait = until.map(|until| until.since(now()));
        self.next_due = [self.next_due, wait].into_iter().flatten().min();
    }
}

fn micros() -> i64 {
    now().as_millis() * 1_000
}

/// From when on a slot counts that is taken now: who waited for it has it also a little later.
fn first_of(next: i64, has_waited: bool) -> i64 {
    let good = i64::try_from(GOOD.as_micros()).unwrap();
    if has_waited && next >= micros() - good { next } else { next.max(micros()) }
}
