//! Cron expressions in a time zone: by the Open Cron Pattern Specification 1.4 with `H`, or in another dialect.
//!
//! An engine of our own: [`fields`] holds what is named as bits, [`search`] finds it on a wall clock that never changes,
//! [`placed`] decides what a gap or an overlap of the zone makes of it, and [`zone`] alone knows the library of zones.

mod dialect;
mod fault;
mod field;
mod fields;
mod hashed;
mod ocps;
mod parse;
mod placed;
mod rules;
mod search;
mod years;
mod zone;

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::{Error, Result, Timestamp};

pub use dialect::Dialect;
pub use fault::Fault;
#[cfg(feature = "test-util")]
#[doc(hidden)]
pub use rules::CronRule;
pub use zone::{Change, check_zone, in_zone, next_change, zones};

use fields::Fields;
use zone::Zone;

/// A cron expression and the zone it is read in.
///
/// Five fields begin with the minute, six with the second, seven end with the year. When both day fields are
/// restricted a day matches either; a `+` before the weekday asks for both. A fixed time that falls into a
/// daylight-saving gap fires once, at the first instant after it; one that exists twice fires at the first.
#[derive(Clone)]
pub struct Cron(Arc<Parts>);

struct Parts {
    expression: Box<str>,
    /// What [`Cron::plain`] answers, where that is not the expression.
    plain: Option<Box<str>>,
    dialect: Dialect,
    zone: Zone,
    fields: Fields,
    /// Counted when it is first asked for.
    mean_period: OnceLock<Duration>,
}

impl Cron {
    /// Reads an expression. `hash_key`, usually the task's name, fixes the value of each `H`.
    ///
    /// # Errors
    /// `cron/bad_expression` names each faulty field, where it stands and the reason; `cron/unknown_zone` the zone;
    /// `cron/no_start` is for `@reboot`; `trigger/never_fires` when no date matches.
    pub fn parse(expression: &str, zone: &str, hash_key: &str) -> Result<Self> {
        Self::parse_in(Dialect::Ocps, expression, zone, hash_key)
    }

    /// Reads an expression in a dialect; only [`Dialect::Ocps`] has `H`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_in(dialect: Dialect, expression: &str, zone: &str, hash_key: &str) -> Result<Self> {
        let zone = Zone::named(zone)?;
        if expression.trim() == "@reboot" && dialect != Dialect::Quartz {
            return Err(no_start());
        }
        let parsed = parse::parse(dialect, expression, hash_key)
            .map_err(|faults| fault::error(expression, &faults))?;
        let parts = Parts {
            // One space between fields, whatever stood there, so that it can be printed anywhere.
            expression: spaced(expression),
            plain: parsed.plain.map(String::into_boxed_str),
            dialect,
            zone,
            fields: parsed.fields,
            mean_period: OnceLock::new(),
        };
        let cron = Self(Arc::new(parts));
        match cron.next_after(Timestamp::from_millis(-1)) {
            Some(_) => Ok(cron),
            None => Err(Error::invalid(
                "trigger/never_fires",
                format!("`{cron}` never fires: no such date exists"),
            )),
        }
    }

    /// What is wrong with an expression: every faulty field, in their order; empty where it can be read.
    pub fn faults(dialect: Dialect, expression: &str) -> Vec<Fault> {
        parse::parse(dialect, expression, "").err().unwrap_or_default()
    }

    /// The expression as it was written, with one space between its fields.
    pub fn expression(&self) -> &str {
        &self.0.expression
    }

    /// The expression by the Open Cron Pattern Specification, with the value of each `H` in its place.
    pub fn plain(&self) -> &str {
        self.0.plain.as_ref().unwrap_or(&self.0.expression)
    }

    /// The dialect in which it is written.
    pub fn dialect(&self) -> Dialect {
        self.0.dialect
    }

    /// The name of the zone.
    pub fn zone(&self) -> &str {
        self.0.zone.name()
    }

    /// Whether it names times of the day: none of its second, minute and hour fields begins with `*` or `?`.
    pub fn is_fixed(&self) -> bool {
        self.0.fields.is_fixed
    }

    /// The same expression on a clock that never changes.
    pub(crate) fn in_utc(&self) -> Option<Self> {
        let parts = Parts {
            expression: self.0.expression.clone(),
            plain: self.0.plain.clone(),
            dialect: self.0.dialect,
            zone: Zone::Utc,
            fields: self.0.fields.clone(),
            mean_period: OnceLock::new(),
        };
        Some(Self(Arc::new(parts)))
    }

    /// The first instant after `after`, exclusive, that the expression names.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let from = after.as_millis().div_euclid(1_000) + 1;
        placed::next(&self.0.fields, &self.0.zone.windows(), from).and_then(instant)
    }

    /// The last instant before `before`, exclusive, that the expression names.
    pub fn previous_before(&self, before: Timestamp) -> Option<Timestamp> {
        let to = (before.as_millis() - 1).div_euclid(1_000);
        placed::previous(&self.0.fields, &self.0.zone.windows(), to).and_then(instant)
    }

    /// Whether the expression names `at`.
    pub fn matches(&self, at: Timestamp) -> bool {
        let second = at.as_millis().div_euclid(1_000);
        at.as_millis() % 1_000 == 0
            && placed::next(&self.0.fields, &self.0.zone.windows(), second) == Some(second)
    }

    /// The instants after `after` that the expression names, in their order.
    pub fn fires_after(&self, after: Timestamp) -> impl Iterator<Item = Timestamp> {
        std::iter::successors(self.next_after(after), |fire| self.next_after(*fire))
    }

    /// The instants before `before` that the expression names, from the last to the first.
    pub fn fires_before(&self, before: Timestamp) -> impl Iterator<Item = Timestamp> {
        std::iter::successors(self.previous_before(before), |fire| self.previous_before(*fire))
    }

    /// The mean time between fires over the 28 days from 2024-01-01 UTC; of an expression that fires less than
    /// twice there, those 28 days.
    pub fn mean_period(&self) -> Duration {
        *self.0.mean_period.get_or_init(|| self.count_mean_period())
    }

    fn count_mean_period(&self) -> Duration {
        const FROM: i64 = 1_704_067_200;
        const HOUR: i64 = 3_600;
        const WINDOW: i64 = 28 * 86_400;
        // Beyond one fire a second nothing changes the class, so an hour decides where there are many.
        match self.count(FROM, HOUR) {
            many if many >= 60 => Duration::from_secs(3_600) / many,
            _ => Duration::from_secs(WINDOW as u64) / self.count(FROM, WINDOW).max(1),
        }
    }

    /// How many fires there are in so many seconds from an instant.
    fn count(&self, from: i64, seconds: i64) -> u32 {
        let (fields, windows) = (&self.0.fields, self.0.zone.windows());
        let (first, last) = (windows.at(from), windows.at(from + seconds));
        if first != last || from < first.from + first.overlap() {
            let fires = std::iter::successors(placed::next(fields, &windows, from), |fire| {
                placed::next(fields, &windows, fire + 1)
            });
            return fires.take_while(|fire| *fire < from + seconds).count() as u32;
        }
        let wall = from + first.offset;
        search::count(fields, wall, wall + seconds) as u32
    }
}

fn instant(second: i64) -> Option<Timestamp> {
    let millis = second.checked_mul(1_000)?;
    Some(Timestamp::from_millis(millis)).filter(|instant| instant.as_millis() == millis)
}

fn spaced(text: &str) -> Box<str> {
    let mut spaced = String::with_capacity(text.len());
    for field in text.split_whitespace() {
        if !spaced.is_empty() {
            spaced.push(' ');
        }
        spaced.push_str(field);
    }
    spaced.into()
}

fn no_start() -> Error {
    Error::unsupported(
        "cron/no_start",
        "`@reboot` names the start of a machine, which is no time: what shall run at a start is run by what starts it",
    )
}

impl FromStr for Cron {
    type Err = Error;

    /// Reads an expression in UTC.
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text, "UTC", "")
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.0.expression == other.0.expression
            && self.0.dialect == other.0.dialect
            && self.zone() == other.zone()
            && self.0.fields == other.0.fields
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.expression)?;
        if self.0.dialect != Dialect::Ocps {
            write!(f, " ({})", self.0.dialect)?;
        }
        if self.zone() == "UTC" { Ok(()) } else { write!(f, " {}", self.zone()) }
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fires(expression: &str, zone: &str, after: &str, n: usize) -> Vec<String> {
        let cron = Cron::parse(expression, zone, "").unwrap();
        let mut at: Timestamp = after.parse().unwrap();
        (0..n)
            .map_while(|_| {
                at = cron.next_after(at)?;
                in_zone(at, zone).ok()
            })
            .collect()
    }

    #[test]
    fn fire_times_keep_the_rules_of_daylight_saving() {
        let cases: &[(&str, &str, &str, &[&str])] = &[
            // A fixed time in the gap fires once, at the first instant after it.
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-03-28T12:00:00+01:00",
                &["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"],
            ),
            // A fixed time that exists twice fires at the first.
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-10-24T12:00:00+02:00",
                &["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
            ),
            // A wildcard follows real time through the overlap.
            (
                "*/30 * * * *",
                "Europe/Berlin",
                "2026-10-25T02:00:00+02:00",
                &["2026-10-25T02:30:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T02:30:00+01:00"],
            ),
            // Times that fall into the same gap make one fire.
            (
                "0,30 2 * * *",
                "Europe/Berlin",
                "2026-03-28T12:00:00+01:00",
                &["2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"],
            ),
            // A wildcard time that falls into a gap does not exist that day.
            (
                "*/30 2 * * *",
                "Europe/Berlin",
                "2026-03-28T12:00:00+01:00",
                &["2026-03-30T02:00:00+02:00", "2026-03-30T02:30:00+02:00"],
            ),
            // The gap of Lord Howe is half an hour, its overlap too.
            (
                "15 2 * * *",
                "Australia/Lord_Howe",
                "2026-10-03T12:00:00+10:30",
                &["2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"],
            ),
            (
                "0 * * * *",
                "Australia/Lord_Howe",
                "2026-04-05T01:00:00+11:00",
                &["2026-04-05T02:00:00+10:30", "2026-04-05T03:00:00+10:30"],
            ),
            // A day that a zone skipped whole is a gap like any other.
            (
                "0 12 * * *",
                "Pacific/Apia",
                "2011-12-29T12:00:00-10:00",
                &["2011-12-31T00:00:00+14:00", "2011-12-31T12:00:00+14:00"],
            ),
        ];
        for (expression, zone, after, expected) in cases {
            assert_eq!(fires(expression, zone, after, expected.len()), *expected, "{expression} {zone}");
        }
    }

    #[test]
    fn the_dialect_is_that_of_the_specification() {
        let cases: &[(&str, &[&str])] = &[
            ("0 0 13 * 5", &["2026-01-02", "2026-01-09", "2026-01-13"]),
            ("0 0 13 * +5", &["2026-02-13", "2026-03-13"]),
            ("0 0 L * *", &["2026-01-31", "2026-02-28"]),
            ("0 0 * * 7", &["2026-01-04", "2026-01-11"]),
            ("0 0 * * SUN", &["2026-01-04", "2026-01-11"]),
            ("0 0 * * 1#2", &["2026-01-12", "2026-02-09"]),
            ("0 0 15W * *", &["2026-01-15", "2026-02-16"]),
            ("0 0 0 1 1 * 2028", &["2028-01-01"]),
            ("@daily", &["2026-01-02", "2026-01-03"]),
        ];
        for (expression, days) in cases {
            let found = fires(expression, "UTC", "2026-01-01T00:00:00Z", days.len());
            let found: Vec<&str> = found.iter().map(|fire| &fire[..10]).collect();
            assert_eq!(found, *days, "{expression}");
        }
    }

    #[test]
    fn a_bad_expression_reaches_no_terminal_as_it_is() {
        for expression in ["0\u{1b}[2J * * * *", "H(\u{7}) * * * *", "* * * * \u{9b}2J", "\u{1b} * * * *"] {
            let error = Cron::parse(expression, "UTC", "a").unwrap_err().to_string();
            assert!(!error.contains(char::is_control), "{error:?}");
        }
        let spaced = Cron::parse(" 1\t2 *\u{b}* * ", "UTC", "a").unwrap();
        assert_eq!(spaced.expression(), "1 2 * * *");
    }

    #[test]
    fn a_bad_expression_names_the_field_and_the_reason() {
        let cases = [
            ("61 * * * *", "minute `61`"),
            ("* 25 * * *", "hour `25`"),
            ("* * 32 * *", "day of month `32`"),
            ("* * * 13 *", "month `13`"),
            ("* * * * MOM", "day of week `MOM`"),
            ("99 * * * * *", "second `99`"),
            ("*/90 * * * *", "step 90"),
            ("* * *", "3 fields"),
            ("", "empty"),
            ("@fortnightly", "nicknames"),
            ("1,,2 * * * *", "minute `1,,2` at character 3: a list has an empty item"),
            ("61 25 * * 9", "minute `61` at character 1: it takes 0-59"),
            ("61 25 * * 9", "hour `25` at character 4: it takes 0-23"),
            ("61 25 * * 9", "day of week `9` at character 11: it takes 0-7"),
            ("@Daily", "@daily"),
            ("H(5-99) * * * *", "0-59"),
        ];
        for (expression, part) in cases {
            let error = Cron::parse(expression, "UTC", "").unwrap_err();
            assert_eq!(error.code(), "cron/bad_expression");
            assert!(error.to_string().contains(part), "{error}");
        }
        assert_eq!(Cron::parse("* * * * *", "Mars/Olympus", "").unwrap_err().code(), "cron/unknown_zone");
        assert_eq!(Cron::parse("0 0 31 2 *", "UTC", "").unwrap_err().code(), "trigger/never_fires");
    }

    #[test]
    fn h_is_fixed_by_the_name_and_differs_between_names() {
        let minute = |key: &str| {
            let cron = Cron::parse("H * * * *", "UTC", key).unwrap();
            cron.next_after(Timestamp::from_millis(0)).unwrap().as_millis() / 60_000 % 60
        };
        assert_eq!(minute("backup"), minute("backup"));
        let distinct: std::collections::BTreeSet<_> = (0..40).map(|i| minute(&format!("task_{i}"))).collect();
        assert!(distinct.len() > 15, "{distinct:?}");
        assert!(Cron::parse("H(0-29)/10 H/6 * * *", "UTC", "x").is_ok());
        let hashed = Cron::parse("H  H * * THU", "UTC", "x").unwrap();
        assert_eq!(hashed.expression(), "H H * * THU");
        assert!(hashed.plain().ends_with(" * * THU") && !hashed.plain().starts_with('H'));
        assert_eq!(hashed.plain().parse::<Cron>().unwrap().mean_period(), hashed.mean_period());
    }

    #[test]
    fn the_mean_period_comes_from_28_days() {
        let seconds = |expression: &str| Cron::parse(expression, "UTC", "").unwrap().mean_period().as_secs();
        assert_eq!(seconds("* * * * *"), 60);
        assert_eq!(seconds("*/10 * * * * *"), 10);
        assert_eq!(seconds("30 2 * * *"), 86_400);
        assert_eq!(seconds("0 * * * *"), 3_600);
        assert_eq!(seconds("0 0 29 2 *"), 28 * 86_400);
    }
}
