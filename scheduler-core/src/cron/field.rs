//! Reads one field: a list of values, ranges and steps, and the words that only a day field has.

use super::dialect::Dialect;
use super::fields::Days;
use super::rules::CronRule;
use super::years::{self, YearRange};

/// The fields, in the order of an expression of seven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Second,
    Minute,
    Hour,
    DayOfMonth,
    Month,
    DayOfWeek,
    Year,
}

/// What a field names.
#[derive(Debug, Default)]
pub(super) struct Set {
    /// Bit n: the value n; not of years.
    pub(super) bits: u64,
    /// The days that are no numbers; the other parts of it are not used.
    pub(super) days: Days,
    pub(super) years: Vec<YearRange>,
    /// Whether the field is a `*` or `?` and nothing else.
    pub(super) is_bare: bool,
    /// Whether it begins with one.
    pub(super) is_wildcard: bool,
    /// Whether a `+` stands before it.
    pub(super) has_plus: bool,
    /// Whether something in it is written in a way that the Open Cron Pattern Specification does not know.
    pub(super) is_foreign: bool,
}

/// A part of a field that cannot be read: at which byte of the field it begins, and why.
pub(super) struct Unread {
    pub(super) at: usize,
    pub(super) reason: String,
}

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

impl Kind {
    pub(super) const ALL: [Self; 7] =
        [Self::Second, Self::Minute, Self::Hour, Self::DayOfMonth, Self::Month, Self::DayOfWeek, Self::Year];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day of month",
            Self::Month => "month",
            Self::DayOfWeek => "day of week",
            Self::Year => "year",
        }
    }

    /// The lowest and the highest number that may be written.
    fn bounds(self, dialect: Dialect) -> (u32, u32) {
        match self {
            Self::Second | Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::DayOfMonth => (1, 31),
            Self::Month => (1, 12),
            Self::DayOfWeek if dialect == Dialect::Quartz => (1, 7),
            Self::DayOfWeek => (0, 7),
            Self::Year => (years::FIRST, years::LAST),
        }
    }

    /// The values of a `*`.
    fn all(self) -> (u32, u32) {
        match self {
            Self::DayOfWeek => (0, 6),
            Self::Year => (years::STEPS_FROM, years::LAST),
            Self::Second | Self::Minute | Self::Hour | Self::DayOfMonth | Self::Month => {
                self.bounds(Dialect::Ocps)
            }
        }
    }

    fn is_of_days(self) -> bool {
        matches!(self, Self::DayOfMonth | Self::DayOfWeek)
    }

    fn takes(self, dialect: Dialect) -> String {
        let (low, high) = self.bounds(dialect);
        let special = dialect != Dialect::Vixie;
        match self {
            Self::Second | Self::Minute => "it takes 0-59, lists 1,2, ranges 1-5 and steps */15".into(),
            Self::Hour => "it takes 0-23, lists 1,2, ranges 1-5 and steps */2".into(),
            Self::DayOfMonth if special => "it takes 1-31, L, L-3, 15W, LW, lists, ranges and steps".into(),
            Self::DayOfMonth => "it takes 1-31, lists, ranges and steps".into(),
            Self::Month => "it takes 1-12, JAN-DEC, lists, ranges and steps".into(),
            Self::DayOfWeek => {
                let sunday = if dialect == Dialect::Quartz { "1 is Sunday" } else { "0 and 7 are Sunday" };
                let words = if special { ", 5L, 5#2" } else { "" };
                format!("it takes {low}-{high} or SUN-SAT ({sunday}){words}, lists, ranges and steps")
            }
            Self::Year => format!("it takes {low}-{high}, lists, ranges and steps"),
        }
    }
}

/// Reads a field.
pub(super) fn read(kind: Kind, text: &str, dialect: Dialect) -> Result<Set, Unread> {
    let mut set = Set::default();
    let mut at = 0;
    let mut rest = text;
    if kind == Kind::DayOfWeek
        && dialect == Dialect::Ocps
        && let Some(after) = text.strip_prefix('+')
    {
        (set.has_plus, rest, at) = (true, after, 1);
    }
    set.is_bare = is_wildcard(kind, rest, dialect);
    set.is_wildcard = rest.get(..1).is_some_and(|first| is_wildcard(kind, first, dialect));
    for part in rest.split(',') {
        item(kind, part, dialect, &mut set).map_err(|reason| Unread { at, reason })?;
        at += part.len() + 1;
    }
    if kind == Kind::DayOfWeek {
        if set.bits >> 7 & 1 != 0 && !CronRule::SundayIsSeven.is_broken() {
            set.bits |= 1;
        }
        set.bits &= 0x7f;
    }
    Ok(set)
}

/// Whether the text is a `*`, or a `?` where that is the same.
fn is_wildcard(kind: Kind, text: &str, dialect: Dialect) -> bool {
    text == "*" || (text == "?" && kind.is_of_days() && dialect != Dialect::Vixie)
}

fn item(kind: Kind, text: &str, dialect: Dialect, set: &mut Set) -> Result<(), String> {
    if text.is_empty() {
        return Err("a list has an empty item".into());
    }
    if dialect != Dialect::Vixie
        && kind.is_of_days()
        && special(kind, text, dialect, set).ok_or_else(|| kind.takes(dialect))?
    {
        return Ok(());
    }
    let (base, step) = match text.split_once('/') {
        Some((base, step)) => (base, Some(read_step(kind, step, dialect)?)),
        None => (text, None),
    };
    let (low, high) = if is_wildcard(kind, base, dialect) {
        kind.all()
    } else if base.is_empty() && step.is_some() && dialect == Dialect::Quartz {
        set.is_foreign = true;
        kind.all()
    } else if let Some((low, high)) = base.split_once('-') {
        range(kind, low, high, dialect, set)?
    } else {
        let low = value(kind, base, dialect).ok_or_else(|| kind.takes(dialect))?;
        match step {
            None => (low, low),
            Some(_) if dialect == Dialect::Quartz => {
                set.is_foreign = true;
                (low, kind.all().1)
            }
            Some(step) => {
                let last = kind.all().1;
                return Err(format!("a step counts through a range: write {base}-{last}/{step}"));
            }
        }
    };
    add(kind, low, high, step.unwrap_or(1), set);
    Ok(())
}

fn range(kind: Kind, low: &str, high: &str, dialect: Dialect, set: &mut Set) -> Result<(u32, u32), String> {
    let takes = || kind.takes(dialect);
    let first = value(kind, low, dialect).ok_or_else(takes)?;
    let mut last = value(kind, high, dialect).ok_or_else(takes)?;
    if kind == Kind::DayOfWeek && dialect != Dialect::Quartz && last == 0 && high.eq_ignore_ascii_case("SUN")
    {
        // As the end of a range the name is the Sunday after Saturday.
        last = 7;
    }
    if first <= last {
        return Ok((first, last));
    }
    if dialect != Dialect::Quartz || kind == Kind::Year {
        return Err(format!("the range {low}-{high} runs backwards"));
    }
    set.is_foreign = true;
    let (lowest, highest) = kind.all();
    Ok((first, last + highest - lowest + 1))
}

/// Adds the values from `low` to `high`; those past the highest go on with the lowest.
fn add(kind: Kind, low: u32, high: u32, step: u32, set: &mut Set) {
    if kind == Kind::Year {
        set.years.push(YearRange { low, high, step });
        return;
    }
    let (lowest, highest) = kind.all();
    // As a number, Sunday may be one more than the highest.
    let highest = if kind == Kind::DayOfWeek && high == 7 { 7 } else { highest };
    let start = if CronRule::StepFromStart.is_broken() {
        lowest + (low - lowest).next_multiple_of(step)
    } else {
        low
    };
    for value in (start..=high).step_by(step as usize) {
        set.bits |= 1 << if value > highest { value - (highest - lowest + 1) } else { value };
    }
}

fn read_step(kind: Kind, text: &str, dialect: Dialect) -> Result<u32, String> {
    match number(text) {
        None => Err(kind.takes(dialect)),
        Some(0) => Err("a step is at least 1".into()),
        Some(step) if step > kind.bounds(Dialect::Ocps).1 => {
            Err(format!("step {step} is larger than the field"))
        }
        Some(step) => Ok(step),
    }
}

/// A value as its number: weekdays as ours, where Sunday is 0 or 7.
fn value(kind: Kind, text: &str, dialect: Dialect) -> Option<u32> {
    let named = |names: &[&str]| names.iter().position(|name| name.eq_ignore_ascii_case(text));
    let name = match kind {
        Kind::Month => named(&MONTHS).map(|index| index as u32 + 1),
        Kind::DayOfWeek => named(&WEEKDAYS).map(|index| index as u32),
        Kind::Second | Kind::Minute | Kind::Hour | Kind::DayOfMonth | Kind::Year => None,
    };
    name.or_else(|| {
        let (low, high) = kind.bounds(dialect);
        let value = number(text).filter(|number| (low..=high).contains(number))?;
        Some(if kind == Kind::DayOfWeek && dialect == Dialect::Quartz { value - 1 } else { value })
    })
}

fn number(text: &str) -> Option<u32> {
    let is_number = (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.bytes().fold(0, |number, digit| number * 10 + u32::from(digit - b'0')))
}

/// Reads `L`, `L-3`, `LW`, `15W`, `5L` or `5#2`; whether it was one. `None` where it is one and wrong.
fn special(kind: Kind, text: &str, dialect: Dialect, set: &mut Set) -> Option<bool> {
    let days = &mut set.days;
    if kind == Kind::DayOfMonth {
        let (day, is_nearest) = match text.strip_suffix(['W', 'w']) {
            Some(day) => (day, true),
            None => (text, false),
        };
        let Some(from_last) = day.strip_prefix(['L', 'l']) else {
            if is_nearest {
                days.nearest |= 1 << value(kind, day, dialect)?;
            }
            return Some(is_nearest);
        };
        let before = match from_last.strip_prefix('-') {
            Some(before) => number(before).filter(|before| *before <= 30)?,
            None => from_last.is_empty().then_some(0)?,
        };
        *if is_nearest { &mut days.nearest_before_last } else { &mut days.before_last } |= 1 << before;
        return Some(true);
    }
    let (weekday, nth) = match (text.split_once('#'), text.strip_suffix(['L', 'l'])) {
        (Some((weekday, "L" | "l")), _) => (weekday, 0),
        (Some((weekday, nth)), _) => (weekday, number(nth).filter(|nth| (1..=5).contains(nth))?),
        // Alone it is the last day of a week in Quartz, and nothing elsewhere.
        (None, Some("")) if dialect == Dialect::Quartz => {
            (set.bits, set.is_foreign) = (set.bits | 1 << 6, true);
            return Some(true);
        }
        (None, Some(weekday)) => (weekday, 0),
        (None, None) => return Some(false),
    };
    days.nth[nth as usize] |= 1 << (value(kind, weekday, dialect)? % 7);
    Some(true)
}
