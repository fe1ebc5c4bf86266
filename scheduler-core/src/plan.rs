//! Decides what happens to a task's fire times: fire, skip with a reason, or wait.
//!
//! Pure and shared by every backend: the caller gives the time and what lives, applies one [`Step`] and asks
//! again until it is told to wait. So a thousand missed fires cost one decision, never a burst.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::{MisfirePolicy, Name, Overlap, RunId, Spelled, Task, Timestamp, Trigger};

/// How many fires may wait behind a live run under [`Overlap::Queue`].
pub const MAX_QUEUED: usize = 100;

/// Missed fires are counted one by one up to here; beyond it the count says "more than".
const MAX_COUNTED: u64 = 10_000;

/// How far a task's fires have been decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Every fire time up to here is decided.
    pub decided: Timestamp,
    /// Since when fires are served: one at or before this instant that is not decided is a misfire.
    pub served_since: Timestamp,
    /// Runs by schedule so far, for `max_runs`.
    pub runs: u64,
    /// When the last run finished, for a trigger that follows it.
    pub finished: Option<Timestamp>,
}

impl Cursor {
    /// A cursor for a task that is new at `now`: what lies before does not count as missed.
    pub fn starting(now: Timestamp) -> Self {
        Self { decided: now - Duration::from_millis(1), served_since: now, runs: 0, finished: None }
    }

    /// Notes that fires are served again from `now` on, after a pause or an absence.
    pub fn resume(&mut self, now: Timestamp) {
        self.served_since = now;
    }
}

/// The runs of a task that have not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Runs under way, and those that wait for their next attempt.
    pub running: usize,
    /// Runs that wait for their turn.
    pub queued: usize,
}

/// What to do next for a task.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Start the run of this fire time.
    Fire {
        /// The instant the trigger named.
        fire_time: Timestamp,
        /// Whether it waits, ends the live runs first, or just starts.
        entry: Entry,
    },
    /// Record a skipped run for this fire time, and go on.
    Skip {
        /// The fire time; of several, the last.
        fire_time: Timestamp,
        /// Why.
        reason: SkipReason,
    },
    /// Nothing is due before this instant.
    Wait(Timestamp),
    /// Nothing is due before the live run has finished.
    AwaitFinish,
    /// It never fires again.
    Done,
}

/// How a run enters beside the runs that live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It starts at once.
    Start,
    /// It starts when the runs before it have ended.
    Queue,
    /// The runs that live are cancelled; it starts when they have ended.
    CancelOthers,
}

/// Why a fire did not become a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// Nobody served these fires.
    Missed {
        /// How many.
        count: u64,
        /// Whether there were more than were counted.
        more: bool,
        /// The first of them.
        first: Timestamp,
        /// The policy that left them out.
        policy: MisfirePolicy,
    },
    /// Nobody served it, and it is older than `max_lateness`.
    TooLate {
        /// How late it is.
        lateness: Duration,
        /// How late it may be.
        max: Duration,
    },
    /// The last run still lives.
    Overlap,
    /// As many fires as may wait, wait already.
    QueueFull,
}

/// What the planner needs to know of a task.
#[derive(Clone, Copy, Debug)]
pub struct Schedule<'a> {
    /// The namespace, part of each run's identity.
    pub namespace: &'a Name,
    /// The task.
    pub task: &'a Task,
    /// Its trigger.
    pub trigger: &'a Trigger,
}

impl<'a> Schedule<'a> {
    /// The schedule of a task, if it has a trigger.
    pub fn of(namespace: &'a Name, task: &'a Task) -> Option<Self> {
        task.trigger.as_ref().map(|trigger| Self { namespace, task, trigger })
    }

    /// The id of the run that `fire_time` makes.
    pub fn run_id(&self, fire_time: Timestamp) -> RunId {
        RunId::scheduled(self.namespace, &self.task.name, fire_time)
    }

    fn due(&self, fire_time: Timestamp) -> Timestamp {
        if self.trigger.bounds().jitter.is_zero() {
            return fire_time;
        }
        self.trigger.due(fire_time, self.run_id(fire_time))
    }

    /// The first undecided fire time.
    fn next(&self, cursor: &Cursor) -> Option<Timestamp> {
        match cursor.finished {
            Some(finished) if self.trigger.follows_finish() => self.trigger.next_after_finish(finished),
            _ => self.trigger.next_after(cursor.decided),
        }
    }
}

/// Decides the next step and moves the cursor past what it decided.
///
/// A fire is a *misfire* when nobody served at its time (`cursor.served_since`), or when a later fire of the
/// task is due as well; a lone fire that is served late is merely late and runs.
pub fn plan(schedule: &Schedule<'_>, cursor: &mut Cursor, live: Live, now: Timestamp) -> Step {
    let task = schedule.task;
    if schedule.trigger.bounds().max_runs.is_some_and(|max| cursor.runs >= max.get()) {
        return Step::Done;
    }
    let any_live = live.running + live.queued > 0;
    if schedule.trigger.follows_finish() && any_live {
        return Step::AwaitFinish;
    }
    let Some(next) = schedule.next(cursor) else { return Step::Done };
    let due = schedule.due(next);
    if due > now {
        return Step::Wait(due);
    }
    if let Some((fire_time, reason)) = left_out(schedule, cursor, next, now) {
        cursor.decided = fire_time;
        // A trigger that follows the finish counts its pause from now, not from each missed fire.
        cursor.finished = cursor.finished.map(|_| now);
        return Step::Skip { fire_time, reason };
    }
    cursor.decided = next;
    let caught_up = next <= cursor.served_since && task.misfire.policy == MisfirePolicy::All;
    let entry = match task.overlap {
        _ if !any_live => Entry::Start,
        Overlap::Allow => Entry::Start,
        // Fires that are caught up arrive together, which is no fault of theirs: they take turns.
        Overlap::Queue | Overlap::Skip | Overlap::CancelOther if caught_up => Entry::Queue,
        Overlap::Queue if live.queued < MAX_QUEUED => Entry::Queue,
        Overlap::Queue => return Step::Skip { fire_time: next, reason: SkipReason::QueueFull },
        Overlap::Skip => return Step::Skip { fire_time: next, reason: SkipReason::Overlap },
        Overlap::CancelOther => Entry::CancelOthers,
    };
    cursor.runs += 1;
    Step::Fire { fire_time: next, entry }
}

/// The due fires, from `next` on, that the misfire policy leaves out: the last of them, and why.
fn left_out(
    schedule: &Schedule<'_>,
    cursor: &Cursor,
    next: Timestamp,
    now: Timestamp,
) -> Option<(Timestamp, SkipReason)> {
    let misfire = &schedule.task.misfire;
    let keep = match misfire.policy {
        MisfirePolicy::Skip | MisfirePolicy::Latest => 1,
        MisfirePolicy::All => misfire.max.get() as usize,
    };
    let missed = |count, more| SkipReason::Missed { count, more, first: next, policy: misfire.policy };
    let backlog = if schedule.trigger.follows_finish() { None } else { backlog(schedule, next, now, keep) };
    if let Some(backlog) = &backlog
        && backlog.left_out > 0
    {
        return Some((backlog.last_left_out, missed(backlog.left_out, backlog.more)));
    }
    let followed = backlog.is_some_and(|backlog| backlog.kept > 1);
    if next > cursor.served_since && !followed {
        return None;
    }
    if misfire.policy == MisfirePolicy::Skip {
        return Some((next, missed(1, false)));
    }
    let lateness = now.since(next);
    let max = misfire.max_lateness.filter(|max| lateness > *max)?;
    Some((next, SkipReason::TooLate { lateness, max }))
}

struct Backlog {
    left_out: u64,
    more: bool,
    last_left_out: Timestamp,
    kept: usize,
}

/// Counts the due fires from `next` on, of which the newest `keep` are kept; `None` when `next` is alone.
fn backlog(schedule: &Schedule<'_>, next: Timestamp, now: Timestamp, keep: usize) -> Option<Backlog> {
    let due_after = |fire| schedule.trigger.next_after(fire).filter(|fire| schedule.due(*fire) <= now);
    due_after(next)?;
    let mut from = next;
    let mut more = false;
    let mut counted = 0;
    let mut window: VecDeque<Timestamp> = VecDeque::from([next]);
    let mut last_left_out = next;
    while let Some(fire) = due_after(from) {
        window.push_back(fire);
        from = fire;
        if window.len() > keep {
            last_left_out = window.pop_front().expect("it holds more than it keeps");
            counted += 1;
        }
        if counted == MAX_COUNTED && !more {
            more = true;
            if let Some(later) = before_the_last(schedule, from, now, keep) {
                window = VecDeque::from([later]);
                (from, last_left_out) = (later, later);
            }
        }
    }
    Some(Backlog {
        left_out: if more { MAX_COUNTED } else { counted },
        more,
        last_left_out,
        kept: window.len(),
    })
}

/// A due fire after `after` that at least `keep` due fires follow: found by looking back from now in growing
/// windows, so that a long absence of a frequent task costs no more than a short one.
fn before_the_last(
    schedule: &Schedule<'_>,
    after: Timestamp,
    now: Timestamp,
    keep: usize,
) -> Option<Timestamp> {
    let mut window = Duration::from_secs(1);
    while now - window > after {
        let candidate = schedule.trigger.next_after(now - window)?;
        let mut at = candidate;
        let followers = std::iter::from_fn(|| {
            at = schedule.trigger.next_after(at).filter(|fire| schedule.due(*fire) <= now)?;
            Some(at)
        });
        if followers.take(keep + 1).count() > keep {
            return Some(candidate);
        }
        window *= 2;
    }
    None
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missed { count: 1, first, policy, .. } => {
                write!(f, "missed: nobody served the fire of {first} (misfire = {policy})")
            }
            Self::Missed { count, more, first, policy } => {
                let more = if *more { "more than " } else { "" };
                write!(f, "missed: nobody served {more}{count} fires from {first} on (misfire = {policy})")
            }
            Self::TooLate { lateness, max } => {
                write!(f, "missed by {}, more than max_lateness {}", Spelled(*lateness), Spelled(*max))
            }
            Self::Overlap => f.write_str("the last run was still going (overlap = skip)"),
            Self::QueueFull => write!(f, "{MAX_QUEUED} fires waited already (overlap = queue)"),
        }
    }
}
