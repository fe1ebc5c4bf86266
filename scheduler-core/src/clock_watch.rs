//! Compares a wall clock with the monotonic one, and says how schedules go on when it was set.
//!
//! Pure: whoever owns schedules tells it what the clocks show at each wake, and sleeps no longer than [`MAX_SLEEP`].
//! A fire time is an instant of the wall clock. Where that is set back a little, an interval goes on as if it had not
//! been, ahead of the wall clock; a time that the clock shows again has fired. Where it is set back a lot, it was
//! corrected, and schedules begin anew.

use std::time::Duration;

use crate::timestamp::millis;
use crate::{Clock, Cursor, Rule, Timestamp, Trigger};

/// The longest sleep: a wall clock that was set is noticed after it at the latest.
pub const MAX_SLEEP: Duration = Duration::from_secs(5);
/// A difference between the clocks' pace that is a step and not drift, in milliseconds.
const STEP: i64 = 1_000;
/// A step back that is a correction, after which schedules begin anew (after Vixie cron: 3 hours).
const CORRECTION: i64 = 3 * 3_600_000;

/// What is known of the two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockWatch {
    /// The wall clock less the monotonic one.
    offset: i64,
    /// How far intervals are ahead of the wall clock.
    lag: i64,
}

/// The wall clock was set, or the machine was suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockStep {
    /// Where it would stand.
    pub from: Timestamp,
    /// Where it stands.
    pub to: Timestamp,
    /// Whether it was corrected, so that every schedule begins anew.
    pub is_correction: bool,
    /// How far intervals were ahead of it before.
    lag: i64,
}

impl ClockStep {
    /// Whether it skipped time of `trigger`, whose fires nobody served then: [`Cursor::resume`] says so.
    pub fn has_skipped_time_of(&self, trigger: &Trigger) -> bool {
        let moved = self.to.as_millis() - self.from.as_millis();
        match trigger.rule() {
            // They had gone on meanwhile.
            Rule::Every(_) | Rule::AfterFinish(_) => moved > self.lag,
            Rule::At(_) | Rule::Cron(_) | Rule::AtStart => moved > 0,
        }
    }
}

impl ClockWatch {
    /// Begins with what the clocks show now.
    pub fn new(wall: Timestamp, monotonic: Duration) -> Self {
        Self { offset: offset(wall, monotonic), lag: 0 }
    }

    /// Begins with what `clock` shows now.
    pub fn of(clock: &dyn Clock) -> Self {
        Self::new(clock.now(), clock.monotonic())
    }

    /// Looks at the clocks; says so when the wall clock was set since the last look.
    pub fn look(&mut self, wall: Timestamp, monotonic: Duration) -> Option<ClockStep> {
        let offset = offset(wall, monotonic);
        let moved = offset.saturating_sub(self.offset);
        self.offset = offset;
        if (-STEP < moved) && (moved < STEP) {
            return None;
        }
        let lag = self.lag;
        self.lag = self.lag.saturating_sub(moved).max(0);
        let is_correction = self.lag > CORRECTION;
        if is_correction {
            self.lag = 0;
        }
        Some(ClockStep {
            from: Timestamp::from_millis(wall.as_millis().saturating_sub(moved)),
            to: wall,
            is_correction,
            lag,
        })
    }

    /// The wall clock less the monotonic one, in milliseconds, at the last look.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// How far intervals are ahead of the wall clock.
    pub fn lag(&self) -> Duration {
        Duration::from_millis(self.lag.unsigned_abs())
    }

    /// How far the fire times of `trigger` are ahead of the wall clock: ask [`plan`](crate::plan) with a time that
    /// is later by so much, and wait until so long before the time that it answers.
    pub fn lag_of(&self, trigger: Option<&Trigger>) -> Duration {
        match trigger.map(Trigger::rule) {
            Some(Rule::Every(_) | Rule::AfterFinish(_)) => self.lag(),
            // These name times of the wall clock; what it shows again has fired already.
            Some(Rule::At(_) | Rule::Cron(_) | Rule::AtStart) | None => Duration::ZERO,
        }
    }
}

impl Cursor {
    /// Goes on after the wall clock was set.
    pub fn follow(&mut self, trigger: &Trigger, step: &ClockStep) {
        if step.is_correction {
            self.begin_anew(trigger, step.to);
        } else if step.has_skipped_time_of(trigger) {
            self.resume(step.to);
        }
    }

    /// Forgets what was decided of times after `now`, because the wall clock was corrected to it. A trigger that
    /// fires once does not fire again for that.
    pub fn begin_anew(&mut self, trigger: &Trigger, now: Timestamp) {
        if let Rule::At(at) = trigger.rule()
            && *at <= self.decided
        {
            return;
        }
        self.decided = now - Duration::from_millis(1);
        self.finished = self.finished.map(|finished| finished.min(now));
        self.resume(now);
    }

    /// How far an interval has to be ahead of the wall clock to go on from this cursor, which somebody left there
    /// before the clock was set back: `None` when it was set back so far that it was corrected.
    pub fn lag_behind(&self, trigger: &Trigger, now: Timestamp) -> Option<Duration> {
        let ahead = self.decided.since(now);
        if millis(ahead) > CORRECTION {
            return None;
        }
        Some(match trigger.rule() {
            Rule::Every(_) | Rule::AfterFinish(_) => ahead,
            Rule::At(_) | Rule::Cron(_) | Rule::AtStart => Duration::ZERO,
        })
    }
}

fn offset(wall: Timestamp, monotonic: Duration) -> i64 {
    wall.as_millis().saturating_sub(millis(monotonic))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn intervals_go_on_after_a_small_step_back_and_begin_anew_after_a_large_one() {
        // Each step of the wall clock, how far intervals are ahead after it, and whether it corrects.
        let cases: &[&[(i64, i64, bool)]] = &[
            &[(-HOUR, HOUR, false), (HOUR, 0, false)],
            &[(-HOUR, HOUR, false), (-HOUR, 2 * HOUR, false), (-2 * HOUR, 0, true)],
            &[(-3 * HOUR, 3 * HOUR, false)],
            &[(-3 * HOUR - 1, 0, true)],
            &[(24 * HOUR, 0, false), (-24 * HOUR, 0, true)],
            &[(2 * HOUR, 0, false), (-HOUR, HOUR, false), (5 * HOUR, 0, false)],
        ];
        for steps in cases {
            let (mut wall, mut monotonic) = (Timestamp::from_millis(1_000 * HOUR), Duration::from_secs(7));
            let mut watch = ClockWatch::new(wall, monotonic);
            let every = Trigger::every(Duration::from_secs(1)).unwrap();
            for (moved, lag, is_correction) in *steps {
                let from = wall + Duration::from_secs(5);
                wall = Timestamp::from_millis(from.as_millis() + moved);
                monotonic += Duration::from_secs(5);
                let before = watch.lag();
                let step = watch.look(wall, monotonic).unwrap();
                assert_eq!(
                    (step.from, step.to, step.is_correction),
                    (from, wall, *is_correction),
                    "{steps:?}"
                );
                let has_skipped = *moved > millis(before);
                assert_eq!(step.has_skipped_time_of(&every), has_skipped, "{steps:?}");
                assert_eq!(millis(watch.lag_of(Some(&every))), *lag, "{steps:?}");
            }
        }
    }

    #[test]
    fn a_clock_that_is_slewed_does_not_step() {
        let (mut wall, mut monotonic) = (Timestamp::from_millis(0), Duration::ZERO);
        let mut watch = ClockWatch::new(wall, monotonic);
        for _ in 0..100_000 {
            // A tenth too fast, as no clock ever is.
            (wall, monotonic) = (wall + Duration::from_millis(5_500), monotonic + Duration::from_secs(5));
            assert_eq!(watch.look(wall, monotonic), None);
        }
    }

    #[test]
    fn what_fires_once_does_not_fire_again_after_a_correction() {
        let now = Timestamp::from_millis(1_000 * HOUR);
        let later = now + Duration::from_secs(86_400);
        let fired = Cursor { decided: later, ..Cursor::starting(later) };
        let mut once = fired.clone();
        once.begin_anew(&Trigger::at(later).unwrap(), now);
        assert_eq!(once, fired);
        let mut often = fired;
        often.begin_anew(&Trigger::every(Duration::from_secs(1)).unwrap(), now);
        assert!(often.decided < now);
    }

    #[test]
    fn a_cursor_that_lies_ahead_says_how_far_intervals_are() {
        let now = Timestamp::from_millis(1_000 * HOUR);
        let every = Trigger::every(Duration::from_secs(1)).unwrap();
        let behind = |ahead: i64| {
            let decided = Timestamp::from_millis(now.as_millis() + ahead);
            Cursor { decided, ..Cursor::starting(now) }.lag_behind(&every, now).map(millis)
        };
        assert_eq!([behind(-5), behind(HOUR), behind(3 * HOUR + 1)], [Some(0), Some(HOUR), None]);
    }
}
