//! When a task fires: one rule, and the bounds around it.
//!
//! Pure: the current time is an argument, so every rule here is tested without a clock.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use crate::cron::{Cron, Dialect};
use crate::duration::{DURATION_FORMS, parse_duration};
use crate::retry::spread;
use crate::timestamp::millis;
use crate::{Error, Frequency, Result, RunId, Spelled, Timestamp};

/// When a task fires.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    rule: Rule,
    bounds: Bounds,
}

/// The rule that names fire times.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// Once.
    At(Timestamp),
    /// At every multiple of the period from the anchor: `start` if there is one, else the Unix epoch.
    Every(Duration),
    /// That long after the last run finished; the first as with [`Rule::Every`].
    AfterFinish(Duration),
    /// At the times a cron expression names in its zone.
    Cron(Cron),
    /// Once at each start of its backend by a scheduler that has the task: cron's `@reboot`. It names no time.
    AtStart,
}

/// The bounds around a rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounds {
    /// No fire time before this instant.
    pub start: Option<Timestamp>,
    /// No fire time after this instant.
    pub end: Option<Timestamp>,
    /// At most this many runs by schedule.
    pub max_runs: Option<NonZeroU64>,
    /// A run begins up to this much after its fire time, by a share that the fire itself fixes.
    pub jitter: Duration,
}

impl Rule {
    /// Reads what stands where a cron expression may: one in a dialect, `@every 90s`, which is an interval, or
    /// `@reboot`, which is a start.
    ///
    /// # Errors
    /// As [`Cron::parse`].
    pub fn cron(dialect: Dialect, expression: &str, zone: &str, hash_key: &str) -> Result<Self> {
        if expression.trim() == "@reboot" && dialect != Dialect::Quartz {
            return Ok(Self::AtStart);
        }
        let period = expression.trim().strip_prefix("@every").filter(|_| dialect == Dialect::Ocps);
        let Some(period) = period.filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
        else {
            return Cron::parse_in(dialect, expression, zone, hash_key).map(Self::Cron);
        };
        parse_duration(period.trim()).map(Self::Every).map_err(|error| {
            let shown = expression.escape_debug();
            let message = format!("`{shown}` is no cron expression: {error}; {DURATION_FORMS}");
            Error::invalid("cron/bad_expression", message)
        })
    }
}

impl Trigger {
    /// Joins a rule and its bounds.
    ///
    /// # Errors
    /// `trigger/bad_period` for an interval below a millisecond; `trigger/bad_jitter` for a jitter longer than
    /// the time between fires; `trigger/start_in_bounds` for bounds around [`Rule::AtStart`]; `trigger/never_fires`
    /// when no instant within the bounds can ever be named.
    pub fn new(rule: Rule, bounds: Bounds) -> Result<Self> {
        if let Rule::Every(period) | Rule::AfterFinish(period) = &rule
            && period.as_millis() == 0
        {
            return Err(Error::invalid("trigger/bad_period", "an interval must be at least 1ms"));
        }
        let trigger = Self { rule, bounds };
        if let Some(period) = trigger.mean_period().filter(|period| trigger.bounds.jitter > *period) {
            let message = format!(
                "jitter {} is longer than the {} between fires",
                Spelled(trigger.bounds.jitter),
                Spelled(period)
            );
            return Err(Error::invalid("trigger/bad_jitter", message));
        }
        if trigger.is_at_start() {
            if trigger.bounds == Bounds::default() {
                return Ok(trigger);
            }
            let message = "`@reboot` names no time, so it takes no start, end, max_runs or jitter";
            return Err(Error::invalid("trigger/start_in_bounds", message));
        }
        match trigger.next_after(Timestamp::MIN) {
            Some(_) => Ok(trigger),
            None => Err(Error::invalid(
                "trigger/never_fires",
                format!("`{trigger}` never fires{}", trigger.why_never()),
            )),
        }
    }

    /// Fires once, at `at`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn at(at: Timestamp) -> Result<Self> {
        Self::new(Rule::At(at), Bounds::default())
    }

    /// Fires at every multiple of `period` since the Unix epoch.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn every(period: Duration) -> Result<Self> {
        Self::new(Rule::Every(period), Bounds::default())
    }

    /// Fires `pause` after each run finished.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn after_finish(pause: Duration) -> Result<Self> {
        Self::new(Rule::AfterFinish(pause), Bounds::default())
    }

    /// Fires at the times that `expression` names in the IANA time zone `zone`; if it is `@every 90s`, so often; if
    /// it is `@reboot`, at each start.
    ///
    /// # Errors
    /// As [`new`](Self::new) and [`Cron::parse`].
    pub fn cron(expression: &str, zone: &str) -> Result<Self> {
        Self::new(Rule::cron(Dialect::Ocps, expression, zone, "")?, Bounds::default())
    }

    /// The rule.
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// The bounds.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// The same rule within other bounds.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn within(self, bounds: Bounds) -> Result<Self> {
        Self::new(self.rule, bounds)
    }

    /// The first fire time after `after`, exclusive.
    ///
    /// For [`Rule::AfterFinish`] that is the first of all; the later ones follow from
    /// [`next_after_finish`](Self::next_after_finish). `max_runs` is not known here.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let start = self.bounds.start.unwrap_or(Timestamp::MIN);
        let after = after.max(start - Duration::from_millis(1));
        let next = match &self.rule {
            Rule::At(at) => {
                Some(*at).filter(|at| *at > after || (*at == Timestamp::MIN && after == Timestamp::MIN))
            }
            Rule::Every(period) | Rule::AfterFinish(period) => {
                let anchor = self.bounds.start.map_or(0, Timestamp::as_millis);
                let period = millis(*period);
                let steps = (after.as_millis() - anchor).div_euclid(period) + 1;
                steps.checked_mul(period).and_then(|offset| offset.checked_add(anchor)).and_then(exact)
            }
            Rule::Cron(cron) => cron.next_after(after),
            Rule::AtStart => None,
        };
        next.filter(|next| *next >= start && self.bounds.end.is_none_or(|end| *next <= end))
    }

    /// The fire time that follows a run which finished at `finished`, for [`Rule::AfterFinish`].
    pub fn next_after_finish(&self, finished: Timestamp) -> Option<Timestamp> {
        let Rule::AfterFinish(pause) = self.rule else { return None };
        Some(finished + pause).filter(|next| self.bounds.end.is_none_or(|end| *next <= end))
    }

    /// Whether the next fire time depends on when the last run finished.
    pub fn follows_finish(&self) -> bool {
        matches!(self.rule, Rule::AfterFinish(_))
    }

    /// Whether it fires no more from `now` on; whether it has fired `max_runs` times is not known here.
    pub fn has_passed(&self, now: Timestamp) -> bool {
        !self.is_at_start() && self.next_after(now - Duration::from_millis(1)).is_none()
    }

    /// Whether it fires at each start, and at no time.
    pub fn is_at_start(&self) -> bool {
        self.rule == Rule::AtStart
    }

    /// When the run with this id may begin: its fire time and its share of the jitter.
    pub fn due(&self, fire_time: Timestamp, run: RunId) -> Timestamp {
        if self.bounds.jitter.is_zero() {
            return fire_time;
        }
        fire_time + self.bounds.jitter.mul_f64(spread(run.seed(), 0))
    }

    /// The mean time between fires; `None` for a rule that fires once or at each start.
    pub fn mean_period(&self) -> Option<Duration> {
        match &self.rule {
            Rule::At(_) | Rule::AtStart => None,
            Rule::Every(period) | Rule::AfterFinish(period) => Some(*period),
            Rule::Cron(cron) => Some(cron.mean_period()),
        }
    }

    /// The frequency that follows from the rule.
    pub fn frequency(&self) -> Frequency {
        self.mean_period().map_or(Frequency::Low, Frequency::of_period)
    }

    fn why_never(&self) -> String {
        match (self.bounds.start, self.bounds.end) {
            (Some(start), Some(end)) if start > end => format!(": start {start} lies after end {end}"),
            (None, None) => ": no such date exists".to_owned(),
            _ => " within its start and end".to_owned(),
        }
    }
}

fn exact(millis: i64) -> Option<Timestamp> {
    Some(Timestamp::from_millis(millis)).filter(|instant| instant.as_millis() == millis)
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Rule::At(at) => write!(f, "at {at}"),
            Rule::Every(period) => write!(f, "every {}", Spelled(*period)),
            Rule::AfterFinish(pause) => write!(f, "{} after finish", Spelled(*pause)),
            Rule::Cron(cron) => write!(f, "{cron}"),
            Rule::AtStart => f.write_str("@reboot"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ts(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn an_interval_is_anchored_and_never_drifts() {
        let every = Trigger::every(Duration::from_secs(90)).unwrap();
        assert_eq!(every.next_after(ts("1970-01-01T00:00:00Z")), Some(ts("1970-01-01T00:01:30Z")));
        assert_eq!(every.next_after(ts("1969-12-31T23:59:59Z")), Some(ts("1970-01-01T00:00:00Z")));
        let start = Some(ts("2026-01-01T00:00:07Z"));
        let anchored = every.within(Bounds { start, ..Bounds::default() }).unwrap();
        assert_eq!(anchored.next_after(ts("2000-01-01T00:00:00Z")), start);
        assert_eq!(anchored.next_after(ts("2026-01-01T00:03:00Z")), Some(ts("2026-01-01T00:03:07Z")));
    }

    #[test]
    fn an_interval_may_stand_where_a_cron_expression_does() {
        let every = Trigger::cron(" @every  1h30m", "Europe/Berlin").unwrap();
        assert_eq!(every.rule(), &Rule::Every(Duration::from_secs(5_400)));
        for wrong in ["@every", "@every x", "@every 5", "@every -5s", "@everything"] {
            let error = Trigger::cron(wrong, "UTC").unwrap_err();
            assert_eq!(error.code(), "cron/bad_expression", "{wrong}");
        }
        assert!(Rule::cron(Dialect::Quartz, "@every 5s", "UTC", "").is_err());
    }

    #[test]
    fn a_start_may_stand_where_a_cron_expression_does_and_names_no_time() {
        for dialect in [Dialect::Ocps, Dialect::Vixie] {
            let start = Trigger::new(Rule::cron(dialect, " @reboot ", "UTC", "").unwrap(), Bounds::default());
            let start = start.unwrap();
            assert!(start.is_at_start() && start.next_after(Timestamp::MIN).is_none());
            assert_eq!((start.to_string(), start.frequency()), ("@reboot".into(), Frequency::Low));
        }
        assert!(Rule::cron(Dialect::Quartz, "@reboot", "UTC", "").is_err());
        let bounds = Bounds { jitter: Duration::from_secs(1), ..Bounds::default() };
        let bounded = Trigger::cron("@reboot", "UTC").unwrap().within(bounds).unwrap_err();
        assert_eq!(bounded.code(), "trigger/start_in_bounds");
    }

    #[test]
    fn bounds_are_inclusive() {
        let bounds = Bounds {
            start: Some(ts("2026-01-01T10:00:00Z")),
            end: Some(ts("2026-01-01T12:00:00Z")),
            ..Bounds::default()
        };
        let hourly = Trigger::every(Duration::from_secs(3600)).unwrap().within(bounds).unwrap();
        let mut at = Timestamp::MIN;
        let mut fires = Vec::new();
        while let Some(next) = hourly.next_after(at) {
            fires.push(next.to_string());
            at = next;
        }
        assert_eq!(fires, ["2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z", "2026-01-01T12:00:00Z"]);
    }

    #[test]
    fn a_rule_that_never_fires_is_refused() {
        let swapped = Bounds {
            start: Some(ts("2026-02-01T00:00:00Z")),
            end: Some(ts("2026-01-01T00:00:00Z")),
            ..Bounds::default()
        };
        let late = Bounds { start: Some(ts("2026-02-01T00:00:00Z")), ..Bounds::default() };
        let between = Bounds {
            start: Some(ts("2026-01-01T00:00:01Z")),
            end: Some(ts("2026-01-01T00:00:02Z")),
            ..Bounds::default()
        };
        let cases = [
            Trigger::every(Duration::from_secs(1)).unwrap().within(swapped),
            Trigger::at(ts("2026-01-01T00:00:00Z")).unwrap().within(late),
            Trigger::cron("0 0 30 2 *", "UTC"),
            Trigger::cron("0 0 * * *", "UTC").unwrap().within(between),
        ];
        for refused in cases {
            assert_eq!(refused.unwrap_err().code(), "trigger/never_fires");
        }
        assert_eq!(Trigger::every(Duration::ZERO).unwrap_err().code(), "trigger/bad_period");
    }

    #[test]
    fn jitter_is_bounded_and_fixed_by_the_run() {
        let bounds = Bounds { jitter: Duration::from_secs(5), ..Bounds::default() };
        let trigger = Trigger::every(Duration::from_secs(60)).unwrap().within(bounds).unwrap();
        let task = crate::Name::new("t").unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for minute in 0..50 {
            let fire = Timestamp::from_millis(minute * 60_000);
            let run = RunId::scheduled(&task, &task, fire);
            let due = trigger.due(fire, run);
            assert!(due >= fire && due < fire + Duration::from_secs(5));
            assert_eq!(due, trigger.due(fire, run));
            seen.insert(due.as_millis() - fire.as_millis());
        }
        assert!(seen.len() > 40, "the jitter is spread: {seen:?}");
    }
}
