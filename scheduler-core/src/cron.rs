//! Cron expressions in a time zone, by the Open Cron Pattern Specification 1.4, plus `H`.
//!
//! croner matches the fields on a wall clock without changes, jiff knows the zones, and what happens in a gap
//! or an overlap is decided here; neither crate shows outside this file. The zone is
//! looked up by name at each search, so a changed time-zone database is seen.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::{Error, Result, Timestamp};

/// A cron expression and the zone it is read in.
///
/// Five fields begin with the minute, six with the second, seven end with the year. When both day fields are
/// restricted a day matches either; a `+` before the weekday asks for both. A fixed time that falls into a
/// daylight-saving gap fires once, at the first instant after it; one that exists twice fires at the first.
#[derive(Clone)]
pub struct Cron(Arc<Parts>);

struct Parts {
    expression: String,
    plain: String,
    zone: String,
    parsed: croner::Cron,
    /// Whether none of the second, minute and hour fields starts with `*` or `?`.
    fixed: bool,
    /// Counted when it is first asked for.
    mean_period: OnceLock<Duration>,
}

impl Cron {
    /// Reads an expression. `hash_key`, usually the task's name, fixes the value of each `H`.
    ///
    /// # Errors
    /// `cron/bad_expression` names the field and the reason; `cron/unknown_zone` the zone;
    /// `trigger/never_fires` when no date matches.
    pub fn parse(expression: &str, zone: &str, hash_key: &str) -> Result<Self> {
        lookup(zone)?;
        let plain = hashed::replace(expression, hash_key).map_err(|reason| bad(expression, &reason))?;
        field::check(&plain).map_err(|reason| bad(expression, &reason))?;
        let parsed = CronParser::builder()
            .seconds(Seconds::Optional)
            .year(Year::Optional)
            .build()
            .parse(&plain)
            .map_err(|error| bad(expression, &error.to_string()))?;
        let fixed = field::is_fixed(&plain);
        // One space between fields, whatever stood there, so that it can be printed anywhere.
        let spaced = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (expression, plain) = (spaced(expression), spaced(&plain));
        let zone = zone.to_owned();
        let cron =
            Self(Arc::new(Parts { expression, plain, zone, parsed, fixed, mean_period: OnceLock::new() }));
        // A leap day is at most eight years off, its weekday 40; croner itself gives up where nothing matches.
        match cron.next_after(Timestamp::from_millis(0)) {
            Some(_) => Ok(cron),
            None => Err(Error::invalid(
                "trigger/never_fires",
                format!("`{cron}` never fires: no such date exists"),
            )),
        }
    }

    /// The expression as it was written, with one space between its fields.
    pub fn expression(&self) -> &str {
        &self.0.expression
    }

    /// The expression with the value of each `H` in its place.
    pub fn plain(&self) -> &str {
        &self.0.plain
    }

    /// The name of the zone.
    pub fn zone(&self) -> &str {
        &self.0.zone
    }

    /// Whether it names times of the day: none of its second, minute and hour fields begins with `*` or `?`.
    pub fn is_fixed(&self) -> bool {
        self.0.fixed
    }

    /// The same expression on a clock that never changes.
    pub(crate) fn in_utc(&self) -> Option<Self> {
        Self::parse(&self.0.plain, "UTC", "").ok()
    }

    /// The first instant after `after`, exclusive, that the expression names.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let zone = lookup(&self.0.zone).ok()?;
        let after = jiff::Timestamp::from_millisecond(after.as_millis()).ok()?;
        let next =
            if self.0.fixed { self.next_fixed(after, &zone) } else { self.next_wildcard(after, &zone) };
        next.map(|next| Timestamp::from_millis(next.as_millisecond()))
    }

    /// A fixed time is searched on the wall, then placed: in a gap at its end, in an overlap at the first pass.
    fn next_fixed(&self, after: jiff::Timestamp, zone: &TimeZone) -> Option<jiff::Timestamp> {
        let mut wall = zone.to_datetime(after);
        loop {
            wall = self.next_on_wall(wall, false)?;
            let ambiguous = zone.to_ambiguous_zoned(wall);
            let instant = match ambiguous.offset() {
                AmbiguousOffset::Gap { after: offset, .. } => {
                    zone.following(offset.to_timestamp(wall).ok()?).next()?.timestamp()
                }
                _ => ambiguous.earlier().ok()?.timestamp(),
            };
            // A second pass, or several times in one gap, name an instant that has passed already.
            if instant > after {
                return Some(instant);
            }
        }
    }

    /// A wildcard follows real time: it is searched in each stretch of one offset after the other.
    fn next_wildcard(&self, after: jiff::Timestamp, zone: &TimeZone) -> Option<jiff::Timestamp> {
        let (mut from, mut inclusive) = (after, false);
        loop {
            let offset = zone.to_offset(from);
            let wall = self.next_on_wall(offset.to_datetime(from), inclusive)?;
            let instant = offset.to_timestamp(wall).ok()?;
            match zone.following(from).next().map(|change| change.timestamp()) {
                Some(change) if instant >= change => {
                    // Nothing matches before `wall`, on whatever offset; two days are more than any change.
                    let near = instant.checked_sub(jiff::SignedDuration::from_hours(48)).ok()?;
                    (from, inclusive) = (change.max(near), true);
                }
                _ => return Some(instant),
            }
        }
    }

    /// The next match on a wall clock that never changes.
    fn next_on_wall(&self, wall: DateTime, inclusive: bool) -> Option<DateTime> {
        let from = wall.to_zoned(TimeZone::UTC).ok()?;
        self.0.parsed.find_next_occurrence(&from, inclusive).ok().map(|found| found.datetime())
    }

    /// The mean time between fires over the 28 days from 2024-01-01 UTC; of an expression that fires less than
    /// twice there, those 28 days.
    pub fn mean_period(&self) -> Duration {
        *self.0.mean_period.get_or_init(|| self.count_mean_period())
    }

    fn count_mean_period(&self) -> Duration {
        const FROM: Timestamp = Timestamp::from_millis(1_704_067_200_000);
        const WINDOW: Duration = Duration::from_secs(28 * 86_400);
        // Beyond one fire a second nothing changes the class, so the count is bounded by looking at an hour first.
        let hour = self.count(FROM, Duration::from_secs(3_600));
        if hour >= 60 {
            return Duration::from_secs(3_600) / hour;
        }
        WINDOW / self.count(FROM, WINDOW).max(1)
    }

    fn count(&self, from: Timestamp, window: Duration) -> u32 {
        let mut at = from - Duration::from_millis(1);
        let mut count = 0;
        while let Some(next) = self.next_after(at).filter(|next| *next < from + window) {
            count += 1;
            at = next;
        }
        count
    }
}

/// Writes an instant as RFC 3339 with the offset that `zone` has then.
///
/// # Errors
/// `cron/unknown_zone` when the time-zone database has no such zone.
pub fn in_zone(instant: Timestamp, zone: &str) -> Result<String> {
    let zoned = jiff::Timestamp::from_millisecond(instant.as_millis())
        .map_err(|error| Error::invalid("time/bad_timestamp", error.to_string()))?
        .to_zoned(lookup(zone)?);
    let format =
        if instant.as_millis() % 1_000 == 0 { "%Y-%m-%dT%H:%M:%S%:z" } else { "%Y-%m-%dT%H:%M:%S%.3f%:z" };
    Ok(zoned.strftime(format).to_string())
}

/// A time at which the clock of a zone is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// How many seconds the clock was ahead of UTC before.
    pub before: i32,
    /// How many seconds it is ahead of UTC from then on; never the same number.
    pub after: i32,
}

/// The first time after `after` at which the clock of a zone is set.
///
/// # Errors
/// `cron/unknown_zone` when the time-zone database has no such zone.
pub fn next_change(after: Timestamp, zone: &str) -> Result<Option<Change>> {
    let zone = lookup(zone)?;
    let Ok(from) = jiff::Timestamp::from_millisecond(after.as_millis()) else { return Ok(None) };
    let mut before = zone.to_offset(from).seconds();
    let changes = zone.following(from).map(|change| {
        let (at, after) = (change.timestamp().as_millisecond(), change.offset().seconds());
        Change { at: Timestamp::from_millis(at), before: std::mem::replace(&mut before, after), after }
    });
    // Some only change the name of the time.
    Ok(changes.into_iter().find(|change| change.before != change.after))
}

/// The names of the zones that the time-zone database knows.
pub fn zones() -> Vec<String> {
    jiff::tz::db().available().map(|zone| zone.to_string()).collect()
}

/// Checks that the time-zone database knows `zone`.
///
/// # Errors
/// `cron/unknown_zone`, naming the zone.
pub fn check_zone(zone: &str) -> Result<()> {
    lookup(zone).map(|_| ())
}

fn lookup(zone: &str) -> Result<TimeZone> {
    if zone == "UTC" {
        return Ok(TimeZone::UTC);
    }
    let unknown = || {
        let message =
            format!("`{}` is no time zone of the IANA database, such as Europe/Berlin", zone.escape_debug());
        Error::invalid("cron/unknown_zone", message)
    };
    let found = TimeZone::get(zone).map_err(|_| unknown())?;
    // jiff takes any spelling of case; a zone is stored by name, so only the one of the database is taken.
    if found.iana_name().is_some_and(|name| name != zone) { Err(unknown()) } else { Ok(found) }
}

fn bad(expression: &str, reason: &str) -> Error {
    Error::invalid(
        "cron/bad_expression",
        format!("`{}` is no cron expression: {}", expression.escape_debug(), printable(reason)),
    )
}

/// The reason without what a terminal would obey: it may quote the field.
fn printable(reason: &str) -> String {
    let shown = |character: char| match character.is_control() {
        true => character.escape_default().to_string(),
        false => character.to_string(),
    };
    reason.chars().map(shown).collect()
}

/// Names the field that is wrong, which croner's errors do not.
mod field {
    use super::{CronParser, Seconds, Year};

    const SEVEN: [&str; 7] = ["second", "minute", "hour", "day of month", "month", "day of week", "year"];

    pub(super) fn check(expression: &str) -> Result<(), String> {
        let text = expression.trim();
        if text.is_empty() {
            return Err("it is empty; five fields are minute, hour, day of month, month, day of week".into());
        }
        if text.starts_with('@') {
            return match text {
                "@yearly" | "@annually" | "@monthly" | "@weekly" | "@daily" | "@midnight" | "@hourly" => {
                    Ok(())
                }
                _ => Err(
                    "the nicknames are @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly; \
                          for an interval write every = \"90s\""
                        .into(),
                ),
            };
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let names = match fields.len() {
            5 => &SEVEN[1..6],
            6 => &SEVEN[..6],
            7 => &SEVEN[..],
            n => return Err(format!("it has {n} fields; 5, 6 (seconds first) or 7 (year last) are allowed")),
        };
        let parser = CronParser::builder().seconds(Seconds::Required).year(Year::Required).build();
        for (name, field) in names.iter().zip(&fields) {
            // Each field alone among wildcards: what is refused then is this field's own fault.
            let alone: Vec<&str> =
                SEVEN.iter().map(|other| if other == name { *field } else { "*" }).collect();
            if field.split(',').any(str::is_empty) {
                return Err(format!("{name} `{field}`: a list has an empty item"));
            }
            let steps = field.split(',').filter_map(|part| part.split_once('/'));
            if let Some((_, step)) =
                steps.clone().find(|(_, step)| step.parse::<u32>().is_ok_and(|n| n > width(name)))
            {
                return Err(format!("{name} `{field}`: step {step} is larger than the field"));
            }
            if parser.parse(&alone.join(" ")).is_err() {
                return Err(format!("{name} `{field}`: {}", allowed(name)));
            }
        }
        Ok(())
    }

    pub(super) fn is_fixed(expression: &str) -> bool {
        let fields: Vec<&str> = expression.split_whitespace().collect();
        let time = if fields.len() == 5 { 2 } else { 3 };
        match fields[..] {
            ["@hourly"] => false,
            [_] => true,
            _ => !fields.iter().take(time).any(|field| field.starts_with(['*', '?'])),
        }
    }

    fn allowed(name: &str) -> &'static str {
        match name {
            "second" | "minute" => "it takes 0-59, lists 1,2, ranges 1-5 and steps */15",
            "hour" => "it takes 0-23, lists 1,2, ranges 1-5 and steps */2",
            "day of month" => "it takes 1-31, L, 15W, lists, ranges and steps",
            "month" => "it takes 1-12, JAN-DEC, lists, ranges and steps",
            "day of week" => "it takes 0-7 or SUN-SAT (0 and 7 are Sunday), 5L, 1#2, lists, ranges and steps",
            _ => "it takes 1-9999, lists, ranges and steps",
        }
    }

    fn width(name: &str) -> u32 {
        match name {
            "second" | "minute" => 59,
            "hour" => 23,
            "day of month" => 31,
            "month" => 12,
            "day of week" => 7,
            _ => 9_999,
        }
    }
}

/// `H`: a value that the task's name fixes, so that many tasks of one rhythm do not fire together.
mod hashed {
    use sha2::{Digest, Sha256};

    /// The range of each of the seven fields, as `H` uses it: a day that every month has.
    const RANGES: [(u64, u64); 7] = [(0, 59), (0, 59), (0, 23), (1, 28), (1, 12), (0, 6), (1970, 2199)];

    pub(super) fn replace(expression: &str, key: &str) -> Result<String, String> {
        if !expression.contains('H') {
            return Ok(expression.to_owned());
        }
        let fields: Vec<&str> = expression.split_whitespace().collect();
        let first = usize::from(fields.len() == 5);
        let replaced: Result<Vec<String>, String> = fields
            .iter()
            .enumerate()
            .map(|(i, field)| match (field.strip_prefix('H'), RANGES.get(first + i)) {
                (Some(rest), Some(range)) => one(field, rest, *range, &format!("{key}/{}", first + i)),
                _ => Ok((*field).to_owned()),
            })
            .collect();
        Ok(replaced?.join(" "))
    }

    /// `H`, `H/step`, `H(low-high)` or `H(low-high)/step`.
    fn one(field: &str, rest: &str, range: (u64, u64), key: &str) -> Result<String, String> {
        let wrong = || format!("`{field}` is not H, H/15, H(0-29) or H(0-29)/10");
        let (range, rest) = match rest.strip_prefix('(') {
            Some(inner) => {
                let (inner, rest) = inner.split_once(')').ok_or_else(wrong)?;
                let (low, high) = inner.split_once('-').ok_or_else(wrong)?;
                let bounds = (low.parse().map_err(|_| wrong())?, high.parse().map_err(|_| wrong())?);
                if bounds.0 > bounds.1 || bounds.0 < range.0 || bounds.1 > range.1 {
                    return Err(format!("`{field}`: H takes {}-{} here", range.0, range.1));
                }
                (bounds, rest)
            }
            None => (range, rest),
        };
        let digest = Sha256::digest(key);
        let hash = digest.iter().take(8).fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
        let (low, high) = range;
        match rest.strip_prefix('/') {
            None if rest.is_empty() => Ok((low + hash % (high - low + 1)).to_string()),
            Some(step) => {
                let step: u64 =
                    step.parse().ok().filter(|step| (1..=high - low).contains(step)).ok_or_else(wrong)?;
                Ok(format!("{}-{high}/{step}", low + hash % step))
            }
            None => Err(wrong()),
        }
    }
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
            && self.0.zone == other.0.zone
            && self.0.parsed == other.0.parsed
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.expression)?;
        if self.0.zone == "UTC" { Ok(()) } else { write!(f, " {}", self.0.zone) }
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
            ("1,,2 * * * *", "minute `1,,2`: a list has an empty item"),
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
