//! One task that the driver fires: what was decided for it, and what waits.
//!
//! Pure: every decision is made at once, under the driver's lock, from what was seen before. So nothing that
//! changes meanwhile (an edit, a pause, a stop in mid-step) can undo a decision or make it twice.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::{
    ClockStep, Cursor, Entry, Live, MisfirePolicy, Name, Overlap, Pause, Placed, Schedule, ScheduleStatus,
    Step, Timestamp, Trigger, plan,
};

/// How often a task is looked at whose next step depends on a run that lives, or on a backend that is away.
pub(crate) const LIVE_POLL: Duration = Duration::from_secs(1);

/// A task that the driver fires.
#[derive(Debug)]
pub(crate) struct Driven {
    pub(crate) placed: Arc<Placed>,
    pub(crate) cursor: Cursor,
    /// How far its fire times are ahead of the wall clock, after that was set back.
    pub(crate) lag: Duration,
    pub(crate) paused: Option<Pause>,
    /// Fires that are decided; each stays until its backend has it, or refuses it for good.
    pub(crate) pending: VecDeque<Timestamp>,
    /// The first of them is on its way to a backend, maybe one that the task has just left.
    pub(crate) is_under_way: bool,
    /// The backend did not answer since the last plan.
    pub(crate) was_away: bool,
    next: Option<Timestamp>,
}

/// What to do next for a task.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Enqueue this fire, the first of those that wait.
    Enqueue(Timestamp),
    /// Cancel the runs that live, and record that these fires, which waited, were replaced.
    CancelOthers(VecDeque<Timestamp>),
    /// Record that this fire is skipped, and why.
    Skip(Timestamp, String),
    /// Look again at this time; never by itself when there is none.
    Wait(Option<Timestamp>),
}

impl Driven {
    /// A task that is new to this process at `now`; `last` is its last fire before, if it is known.
    pub(crate) fn new(placed: Arc<Placed>, now: Timestamp, last: Option<Timestamp>, lag: Duration) -> Self {
        let mut cursor = Cursor::starting(now + lag);
        if let Some(last) = last {
            cursor.decided = cursor.decided.min(last);
            cursor.runs = 1;
        }
        Self {
            placed,
            cursor,
            lag,
            paused: None,
            pending: VecDeque::new(),
            is_under_way: false,
            was_away: false,
            next: None,
        }
    }

    /// Takes another definition of the task.
    pub(crate) fn edit(&mut self, placed: Arc<Placed>, now: Timestamp, lag: Duration) {
        if self.placed.task.trigger != placed.task.trigger {
            self.cursor.edit(now + lag);
        }
        self.placed = placed;
        self.lag = lag;
    }

    /// Fires are served again from `now` on.
    pub(crate) fn resume(&mut self, now: Timestamp) {
        self.cursor.resume(now + self.lag);
    }

    /// When to look again, if nothing is to be done at `now` whatever runs live.
    pub(crate) fn rest(&mut self, namespace: &Name, now: Timestamp) -> Option<Decision> {
        if let Some(pause) = &self.paused {
            match pause.until {
                Some(until) if until <= now => {
                    self.paused = None;
                    self.resume(now);
                }
                until => return Some(Decision::Wait(until)),
            }
        }
        self.next = None;
        let placed = Arc::clone(&self.placed);
        let step = Schedule::of(namespace, &placed.task)
            .map(|schedule| plan(&schedule, &mut self.cursor.clone(), Live::default(), now + self.lag));
        if let Some(Step::Wait(at)) = step {
            self.next = Some(at - self.lag);
        }
        match step {
            _ if !self.pending.is_empty() => None,
            None | Some(Step::Done) => Some(Decision::Wait(None)),
            Some(Step::Wait(at)) if !self.follows_finish() => Some(Decision::Wait(Some(at - self.lag))),
            Some(_) => None,
        }
    }

    /// Decides the next step, given how many runs live.
    pub(crate) fn decide(&mut self, namespace: &Name, running: usize, now: Timestamp) -> Decision {
        let soon = Some(now + LIVE_POLL);
        if self.paused.is_some() || self.is_under_way {
            return Decision::Wait(soon);
        }
        let placed = Arc::clone(&self.placed);
        let task = &placed.task;
        let Some(schedule) = Schedule::of(namespace, task) else {
            return self.first_of_pending(running, task.overlap).unwrap_or(Decision::Wait(soon));
        };
        loop {
            if let Some(first) = self.first_of_pending(running, task.overlap) {
                return first;
            }
            if std::mem::take(&mut self.was_away) && task.misfire.policy == MisfirePolicy::All {
                // Nobody served while the backend was away; what came due then takes turns.
                self.resume(now);
            }
            let live = Live { running, queued: self.pending.len() };
            match plan(&schedule, &mut self.cursor, live, now + self.lag) {
                Step::Fire { fire_time, entry: Entry::Start | Entry::Queue } => {
                    self.pending.push_back(fire_time);
                }
                Step::Fire { fire_time, entry: Entry::CancelOthers } => {
                    let replaced = std::mem::replace(&mut self.pending, VecDeque::from([fire_time]));
                    return Decision::CancelOthers(replaced);
                }
                Step::Skip { fire_time, reason } => return Decision::Skip(fire_time, reason.to_string()),
                Step::Wait(at) => {
                    let at = at - self.lag;
                    self.next = Some(at);
                    let waiting = soon.filter(|_| !self.pending.is_empty());
                    return Decision::Wait(waiting.into_iter().chain([at]).min());
                }
                Step::AwaitFinish => return Decision::Wait(soon),
                Step::Done => return Decision::Wait(soon.filter(|_| !self.pending.is_empty())),
            }
        }
    }

    fn first_of_pending(&mut self, running: usize, overlap: Overlap) -> Option<Decision> {
        let may_start = running == 0 || overlap == Overlap::Allow;
        let first = *self.pending.front().filter(|_| may_start)?;
        self.is_under_way = true;
        Some(Decision::Enqueue(first))
    }

    /// Goes on after the wall clock was set.
    pub(crate) fn follow(&mut self, step: &ClockStep) {
        if let Some(trigger) = &self.placed.task.trigger {
            self.cursor.follow(trigger, step);
        }
    }

    /// Forgets a fire that waited: it is settled.
    pub(crate) fn settle(&mut self, fire_time: Timestamp) {
        self.pending.retain(|pending| *pending != fire_time);
    }

    /// Forgets a fire that waited: its backend never takes it, so no run of it will finish.
    pub(crate) fn refuse(&mut self, fire_time: Timestamp, now: Timestamp) {
        self.settle(fire_time);
        self.note_finish(None, now);
    }

    /// Whether its next fire depends on when its last run finished.
    pub(crate) fn follows_finish(&self) -> bool {
        self.placed.task.trigger.as_ref().is_some_and(Trigger::follows_finish)
    }

    /// Notes when the last run finished, for a trigger that follows it.
    pub(crate) fn note_finish(&mut self, finished: Option<Timestamp>, now: Timestamp) {
        if !self.follows_finish() {
            return;
        }
        // A finish is told by the wall clock; after that was set back it is as if it were now, which is soon after.
        let finished = finished.filter(|_| self.lag.is_zero());
        let now = now + self.lag;
        self.cursor.finished = self.cursor.finished.max(finished);
        let is_known = self.cursor.finished.is_some_and(|finished| finished >= self.cursor.decided);
        if self.cursor.runs > 0 && self.pending.is_empty() && !is_known {
            // The backend refused the last fire or keeps no ended runs: without a finish it would fire again
            // at once, and so for ever.
            self.cursor.finished = Some(now);
        }
    }

    pub(crate) fn status(&self) -> ScheduleStatus {
        ScheduleStatus {
            paused: self.paused.clone(),
            live: self.pending.len(),
            ..ScheduleStatus::new(self.placed.task.name.clone(), self.next.filter(|_| self.paused.is_none()))
        }
    }
}
