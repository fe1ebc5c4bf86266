//! Decides what happens to a task's fire times: fire, skip with a reason, or wait.
//!
//! Pure and shared by every backend: the caller gives the time and what lives, applies one [`Step`] and asks
//! again until it is told to wait. So a thousand missed fires cost one decision, never a burst.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroI64;
use std::time::Duration;

use crate::timestamp::millis;
use crate::{Bounds, MisfirePolicy, Name, Overlap, Rule, RunId, Spelled, Task, Timestamp, Trigger};

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
    /// A cursor for a task that is new at `now`: what lies before does not count as missed, and a fire at `now`
    /// itself is served.
    pub fn starting(now: Timestamp) -> Self {
        let before = now - Duration::from_millis(1);
        Self { decided: before, served_since: before, runs: 0, finished: None }
    }

    /// Notes that the trigger was edited at `now`: what the new one names before that was never promised.
    pub fn edit(&mut self, now: Timestamp) {
        self.decided = self.decided.max(now - Duration::from_millis(1));
        self.finished = self.finished.map(|finished| finished.max(now));
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
        Overlap::Skip | Overlap::CancelOther if caught_up && live.queued < MAX_QUEUED => Entry::Queue,
        Overlap::Queue if live.queued < MAX_QUEUED => Entry::Queue,
        Overlap::Queue => return Step::Skip { fire_time: next, reason: SkipReason::QueueFull },
        Overlap::Skip => return Step::Skip { fire_time: next, reason: SkipReason::Overlap },
        Overlap::CancelOther => Entry::CancelOthers,
    };
    cursor.runs += 1;
    Step::Fire { fire_time: next, entry }
}

/// A schedule of the plainest kind: a period, and nothing that ends, bounds or spreads its fires.
///
/// For such a task that has nothing live, [`step`](Self::step) decides the usual case as [`plan`] does, from
/// two numbers, which is what lets a loop fire a million of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// No fire before it; the anchor, unless it is the least number.
    start: i64,
    period: NonZeroI64,
}

impl Pace {
    /// The pace of a trigger, if it is a plain one.
    pub fn of(trigger: &Trigger) -> Option<Self> {
        let Rule::Every(period) = trigger.rule() else { return None };
        let Bounds { start, end: None, max_runs: None, jitter: Duration::ZERO } = *trigger.bounds() else {
            return None;
        };
        Some(Self {
            start: start.map_or(i64::MIN, Timestamp::as_millis),
            period: NonZeroI64::new(millis(*period))?,
        })
    }

    /// Decides a fire that is due, served and alone, moves the cursor past it, and answers its time and when the
    /// next one is due. `None` when nothing is due or [`plan`] has more to say: then nothing has changed.
    pub fn step(&self, cursor: &mut Cursor, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let next = self.next(cursor)?;
        let following = next.checked_add(self.period.get()).filter(|at| *at <= Timestamp::MAX.as_millis())?;
        let is_due = next <= now.as_millis() && following > now.as_millis();
        if !is_due || next <= cursor.served_since.as_millis() {
            return None;
        }
        cursor.decided = Timestamp::from_millis(next);
        cursor.runs += 1;
        Some((cursor.decided, Timestamp::from_millis(following)))
    }

    /// When the next fire is due, if that is after `now`: then [`plan`] would wait for it.
    pub fn wait(&self, cursor: &Cursor, now: Timestamp) -> Option<Timestamp> {
        self.next(cursor).map(Timestamp::from_millis).filter(|next| *next > now)
    }

    /// The first fire time that is not decided.
    fn next(&self, cursor: &Cursor) -> Option<i64> {
        let after = cursor.decided.as_millis().max(self.start.saturating_sub(1));
        let anchor = if self.start == i64::MIN { 0 } else { self.start };
        let period = self.period.get();
        let next = ((after - anchor).div_euclid(period) + 1).checked_mul(period)?.checked_add(anchor)?;
        Some(next).filter(|next| *next <= Timestamp::MAX.as_millis())
    }
}

/// The due fires, from `next` on, that the misfire policy leaves out: the last of them, and why.
fn left_out(
    schedule: &Schedule<'_>,
    cursor: &mut Cursor,
    next: Timestamp,
    now: Timestamp,
) -> Option<(Timestamp, SkipReason)> {
    let misfire = &schedule.task.misfire;
    // Under `skip` the fires that nobody served go together; one that came later may still be the newest.
    let (until, keep) = match misfire.policy {
        MisfirePolicy::Skip if next <= cursor.served_since => (cursor.served_since, 0),
        MisfirePolicy::Skip | MisfirePolicy::Latest => (Timestamp::MAX, 1),
        MisfirePolicy::All => (Timestamp::MAX, misfire.max.get() as usize),
    };
    let missed = |count, more| SkipReason::Missed { count, more, first: next, policy: misfire.policy };
    let backlog =
        if schedule.trigger.follows_finish() { None } else { backlog(schedule, next, until, now, keep) };
    if let Some(backlog) = &backlog
        && backlog.left_out > 0
    {
        return Some((backlog.last_left_out, missed(backlog.left_out, backlog.more)));
    }
    if let Some(backlog) = backlog.filter(|backlog| backlog.kept > 1) {
        // Nobody served up to the last of them, whether somebody meant to or not: a stall is an absence.
        cursor.served_since = cursor.served_since.max(backlog.newest);
    }
    if next > cursor.served_since {
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
    newest: Timestamp,
}

/// Counts the due fires from `next` to `until`, of which the newest `keep` are kept; `None` when `next` is alone.
fn backlog(
    schedule: &Schedule<'_>,
    next: Timestamp,
    until: Timestamp,
    now: Timestamp,
    keep: usize,
) -> Option<Backlog> {
    let is_due = |fire: &Timestamp| *fire <= until && schedule.due(*fire) <= now;
    let due_after = |fire| schedule.trigger.next_after(fire).filter(is_due);
    due_after(next)?;
    let mut from = next;
    let mut more = false;
    let mut window: VecDeque<Timestamp> = VecDeque::from([next]);
    let mut last_left_out = next;
    let mut counted = 0;
    if keep == 0 {
        window.clear();
        counted = 1;
    }
    while let Some(fire) = due_after(from) {
        window.push_back(fire);
        from = fire;
        if window.len() > keep {
            last_left_out = window.pop_front().expect("it holds more than it keeps");
            counted += 1;
        }
        if counted == MAX_COUNTED && !more {
            more = true;
            if let Some(later) = before_the_last(schedule, from, until.min(now), keep) {
                window = if keep == 0 { VecDeque::new() } else { VecDeque::from([later]) };
                (from, last_left_out) = (later, later);
            }
        }
    }
    Some(Backlog {
        left_out: if more { MAX_COUNTED } else { counted },
        more,
        last_left_out,
        kept: window.len(),
        newest: from,
    })
}

/// A due fire after `after` that at least `keep` due fires up to `now` follow: found by looking back in
/// growing windows, so that a long absence of a frequent task costs no more than a short one.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Misfire;
    use proptest::prelude::*;
    use std::num::{NonZeroU32, NonZeroU64};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1_000)
    }

    fn task(change: impl FnOnce(&mut Task)) -> Task {
        let mut task = Task::new(Name::new("t").unwrap(), Name::new("j").unwrap());
        task.trigger = Some(Trigger::every(Duration::from_secs(10)).unwrap());
        change(&mut task);
        task
    }

    fn policy(policy: MisfirePolicy) -> impl FnOnce(&mut Task) {
        move |task| task.misfire.policy = policy
    }

    /// Takes every step at `now` with nothing live, each fire ending at once; in words.
    fn steps(task: &Task, cursor: &mut Cursor, now: Timestamp) -> Vec<String> {
        let namespace = Name::new("n").unwrap();
        let schedule = Schedule::of(&namespace, task).unwrap();
        let mut seen = Vec::new();
        loop {
            match plan(&schedule, cursor, Live::default(), now) {
                Step::Fire { fire_time, .. } => seen.push(format!("fire {}", fire_time.as_millis() / 1_000)),
                Step::Skip { fire_time, reason } => {
                    let count = match reason {
                        SkipReason::Missed { count, more, .. } => {
                            format!("{count}{}", if more { "+" } else { "" })
                        }
                        other => other.to_string(),
                    };
                    seen.push(format!("skip {} ({count})", fire_time.as_millis() / 1_000));
                }
                Step::Wait(until) => seen.push(format!("wait {}", until.as_millis() / 1_000)),
                Step::AwaitFinish => seen.push("await".into()),
                Step::Done => seen.push("done".into()),
            }
            if !seen.last().is_some_and(|step| step.starts_with("fire") || step.starts_with("skip")) {
                return seen;
            }
        }
    }

    /// Away from 5 to `back`, then served again.
    fn away(task: &Task, back: i64) -> Vec<String> {
        let mut cursor = Cursor::starting(at(5));
        cursor.resume(at(back));
        steps(task, &mut cursor, at(back))
    }

    #[test]
    fn missed_fires_follow_the_policy() {
        let bounded = |task: &mut Task| {
            task.misfire = Misfire {
                policy: MisfirePolicy::All,
                max: NonZeroU32::new(2).unwrap(),
                ..Misfire::default()
            };
        };
        let late = |task: &mut Task| task.misfire.max_lateness = Some(Duration::from_secs(3));
        let cases: &[(Task, &[&str])] = &[
            (task(policy(MisfirePolicy::Latest)), &["skip 30 (3)", "fire 40", "wait 50"]),
            (task(policy(MisfirePolicy::Skip)), &["skip 40 (4)", "wait 50"]),
            (task(policy(MisfirePolicy::All)), &["fire 10", "fire 20", "fire 30", "fire 40", "wait 50"]),
            (task(bounded), &["skip 20 (2)", "fire 30", "fire 40", "wait 50"]),
            (task(late), &["skip 30 (3)", "skip 40 (missed by 5s, more than max_lateness 3s)", "wait 50"]),
        ];
        for (task, expected) in cases {
            assert_eq!(away(task, 45), *expected, "{:?}", task.misfire);
        }
    }

    #[test]
    fn mere_lateness_is_no_misfire() {
        for misfire in MisfirePolicy::ALL {
            let mut task = task(policy(*misfire));
            task.misfire.max_lateness = Some(Duration::from_secs(1));
            assert_eq!(
                steps(&task, &mut Cursor::starting(at(5)), at(18)),
                ["fire 10", "wait 20"],
                "{misfire}"
            );
        }
    }

    #[test]
    fn a_stall_is_no_burst() {
        for misfire in [MisfirePolicy::Latest, MisfirePolicy::Skip] {
            let task = task(policy(misfire));
            assert_eq!(
                steps(&task, &mut Cursor::starting(at(5)), at(48)),
                ["skip 30 (3)", "fire 40", "wait 50"]
            );
        }
    }

    #[test]
    fn after_a_stall_all_fires_take_turns() {
        let namespace = Name::new("n").unwrap();
        let task = task(policy(MisfirePolicy::All));
        let schedule = Schedule::of(&namespace, &task).unwrap();
        let mut cursor = Cursor::starting(at(5));
        let mut live = Live::default();
        for (fire_time, entry) in [(at(10), Entry::Start), (at(20), Entry::Queue), (at(30), Entry::Queue)] {
            assert_eq!(plan(&schedule, &mut cursor, live, at(38)), Step::Fire { fire_time, entry });
            if entry == Entry::Start { live.running += 1 } else { live.queued += 1 }
        }
        let skip = Step::Skip { fire_time: at(40), reason: SkipReason::Overlap };
        assert_eq!(plan(&schedule, &mut cursor, live, at(40)), skip, "that one is on time");
    }

    #[test]
    fn a_long_absence_is_counted_up_to_a_bound() {
        let every = |policy| {
            task(|task| {
                task.trigger = Some(Trigger::every(Duration::from_secs(1)).unwrap());
                task.misfire.policy = policy;
            })
        };
        let year = 31_536_000;
        assert_eq!(
            away(&every(MisfirePolicy::Latest), year),
            [format!("skip {} (10000+)", year - 1), format!("fire {year}"), format!("wait {}", year + 1)]
        );
        assert_eq!(
            away(&every(MisfirePolicy::Skip), year),
            [format!("skip {year} (10000+)"), format!("wait {}", year + 1)]
        );
        let all = away(&every(MisfirePolicy::All), year);
        assert_eq!((all.len(), all[1].as_str()), (102, format!("fire {}", year - 99).as_str()));
    }

    #[test]
    fn max_runs_counts_runs_and_not_skips() {
        let task = task(|task| {
            let max_runs = NonZeroU64::new(2);
            let trigger = task.trigger.take().unwrap();
            task.trigger = Some(trigger.within(Bounds { max_runs, ..Bounds::default() }).unwrap());
        });
        let mut cursor = Cursor::starting(at(5));
        assert_eq!(steps(&task, &mut cursor, at(35)), ["skip 20 (2)", "fire 30", "wait 40"]);
        assert_eq!(steps(&task, &mut cursor, at(40)), ["fire 40", "done"]);
    }

    #[test]
    fn a_live_run_is_met_as_the_overlap_says() {
        let namespace = Name::new("n").unwrap();
        let fire_time = at(10);
        let fire = |entry| Step::Fire { fire_time, entry };
        let skip = |reason| Step::Skip { fire_time, reason };
        let one = Live { running: 1, queued: 0 };
        let full = Live { running: 1, queued: MAX_QUEUED };
        let cases = [
            (Overlap::Skip, Live::default(), fire(Entry::Start)),
            (Overlap::Skip, one, skip(SkipReason::Overlap)),
            (Overlap::Queue, one, fire(Entry::Queue)),
            (Overlap::Queue, full, skip(SkipReason::QueueFull)),
            (Overlap::CancelOther, one, fire(Entry::CancelOthers)),
            (Overlap::Allow, one, fire(Entry::Start)),
        ];
        for (overlap, live, expected) in cases {
            let task = task(|task| task.overlap = overlap);
            let schedule = Schedule::of(&namespace, &task).unwrap();
            assert_eq!(plan(&schedule, &mut Cursor::starting(at(5)), live, at(10)), expected, "{overlap}");
        }
        let all = task(policy(MisfirePolicy::All));
        let schedule = Schedule::of(&namespace, &all).unwrap();
        let mut caught_up = Cursor::starting(at(5));
        caught_up.resume(at(10));
        assert_eq!(
            plan(&schedule, &mut caught_up, one, at(10)),
            fire(Entry::Queue),
            "caught-up fires take turns"
        );
    }

    #[test]
    fn a_trigger_that_follows_the_finish_waits_for_it() {
        let namespace = Name::new("n").unwrap();
        let task = task(|task| task.trigger = Some(Trigger::after_finish(Duration::from_secs(10)).unwrap()));
        let schedule = Schedule::of(&namespace, &task).unwrap();
        let mut cursor = Cursor::starting(at(5));
        assert_eq!(steps(&task, &mut cursor, at(10))[0], "fire 10");
        let live = Live { running: 1, queued: 0 };
        assert_eq!(plan(&schedule, &mut cursor, live, at(30)), Step::AwaitFinish);
        cursor.finished = Some(at(33));
        assert_eq!(plan(&schedule, &mut cursor, Live::default(), at(33)), Step::Wait(at(43)));
    }

    proptest! {
        #[test]
        fn a_pace_decides_as_the_plan_does_or_leaves_it_to_that(
            period in 1_i64..5_000,
            start in prop::option::of(-10_000_i64..10_000),
            decided in -20_000_i64..20_000,
            served in 0_i64..6_000,
            ahead in 0_i64..12_000,
        ) {
            let start = start.map(Timestamp::from_millis);
            let rule = Rule::Every(Duration::from_millis(period.unsigned_abs()));
            let trigger = Trigger::new(rule, Bounds { start, ..Bounds::default() }).unwrap();
            let pace = Pace::of(&trigger).unwrap();
            let task = task(|task| task.trigger = Some(trigger));
            let namespace = Name::new("n").unwrap();
            let schedule = Schedule::of(&namespace, &task).unwrap();
            let decided = Timestamp::from_millis(decided);
            let mut cursor = Cursor { served_since: decided + Duration::from_millis(served.unsigned_abs()),
                ..Cursor::starting(decided + Duration::from_millis(1)) };
            let now = decided + Duration::from_millis(ahead.unsigned_abs());
            let (mut paced, before) = (cursor.clone(), cursor.clone());

            let Some((fire_time, following)) = pace.step(&mut paced, now) else {
                prop_assert_eq!(&paced, &before);
                let planned = plan(&schedule, &mut cursor, Live::default(), now);
                let wait = if let Step::Wait(due) = planned { Some(due) } else { None };
                prop_assert_eq!(pace.wait(&paced, now), wait);
                return Ok(());
            };

            prop_assert_eq!(
                plan(&schedule, &mut cursor, Live::default(), now),
                Step::Fire { fire_time, entry: Entry::Start }
            );
            prop_assert_eq!(&cursor, &paced);
            prop_assert_eq!(plan(&schedule, &mut cursor, Live::default(), now), Step::Wait(following));
        }
    }

    #[test]
    fn a_pace_serves_the_usual_fire_and_no_other_trigger_has_one() {
        let task = task(|_| ());
        let trigger = task.trigger.clone().unwrap();
        let pace = Pace::of(&trigger).unwrap();
        let mut cursor = Cursor::starting(at(5));
        assert_eq!(pace.step(&mut cursor, at(9)), None);
        assert_eq!(pace.step(&mut cursor, at(10)), Some((at(10), at(20))));
        assert_eq!(pace.step(&mut cursor, at(40)), None, "a backlog is for the plan");
        let bounds = [
            Bounds { end: Some(at(1_000)), ..Bounds::default() },
            Bounds { max_runs: NonZeroU64::new(5), ..Bounds::default() },
            Bounds { jitter: Duration::from_secs(1), ..Bounds::default() },
        ];
        for bounds in bounds {
            assert_eq!(Pace::of(&trigger.clone().within(bounds).unwrap()), None);
        }
        assert_eq!(Pace::of(&Trigger::after_finish(Duration::from_secs(1)).unwrap()), None);
    }
}
