//! Cron expressions in a time zone: by the Open Cron Pattern Specification 1.4 with `H`, or in another dialect.
//!
//! An engine of our own: `fields` holds what is named as bits, `search` finds it on a wall clock that never changes,
//! `placed` decides what a gap or an overlap of the zone makes of it, and `zone` alone knows the library of zones.

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
mod words;
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

    /// When it fires, in words, such as `at 02:30 on Monday to Friday (Europe/Berlin)`.
    pub fn describe(&self) -> String {
        format!("{} ({})", words::describe(&self.0.fields), self.zone())
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
        "`@reboot` names a start, which is no time: it may stand as the cron of a task's trigger, and nowhere else",
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
