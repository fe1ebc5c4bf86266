//! Reads an expression: splits it into its fields, has each read, and puts their sets together.
//!
//! A field that is wrong does not hide the others: all faults are told at once.

use super::dialect::Dialect;
use super::fault::Fault;
use super::field::{self, Kind, Set};
use super::fields::{Days, Fields};
use super::hashed;
use super::ocps;
use super::rules::CronRule;
use super::years::Years;

/// An expression that was read.
pub(super) struct Parsed {
    pub(super) fields: Fields,
    /// The same in the words of the Open Cron Pattern Specification, where it is written otherwise.
    pub(super) plain: Option<String>,
}

/// Reads `expression`; `hash_key` fixes the value of each `H`.
pub(super) fn parse(dialect: Dialect, expression: &str, hash_key: &str) -> Result<Parsed, Vec<Fault>> {
    let text = nickname(dialect, expression).map_err(|reason| vec![Fault::whole(expression, reason)])?;
    let written: Vec<&str> = text.split_whitespace().collect();
    let kinds = kinds(dialect, written.len()).map_err(|reason| vec![Fault::whole(expression, reason)])?;

    let mut sets: [Set; 7] = Default::default();
    let mut replaced: Vec<Option<String>> = vec![None; written.len()];
    let mut faults = Vec::new();
    for (index, (kind, value)) in kinds.iter().zip(&written).enumerate() {
        let hash = if dialect == Dialect::Ocps { hashed::replace(*kind, value, hash_key) } else { Ok(None) };
        let read = hash.map_err(|reason| field::Unread { at: 0, reason }).and_then(|hash| {
            let set = field::read(*kind, hash.as_deref().unwrap_or(value), dialect)?;
            replaced[index] = hash;
            Ok(set)
        });
        match read {
            Ok(set) => sets[*kind as usize] = set,
            Err(unread) => faults.push(Fault {
                field: kind.name(),
                value: (*value).to_owned(),
                position: position(text, value, unread.at),
                reason: unread.reason,
            }),
        }
    }
    if faults.is_empty() && dialect == Dialect::Quartz && written[3] == "?" && written[5] == "?" {
        faults.push(Fault::whole(expression, "`?` may stand in one of the two day fields, not in both"));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let both = both_days(dialect, &sets[Kind::DayOfMonth as usize], &sets[Kind::DayOfWeek as usize]);
    let plain = ocps::plain(dialect, kinds, &written, &replaced, &sets, both);
    Ok(Parsed { fields: together(kinds, sets, both), plain })
}

/// The fields that a nickname stands for, or the expression as it is.
fn nickname(dialect: Dialect, expression: &str) -> Result<&str, String> {
    const NAMES: &str = "@yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly";
    let text = expression.trim();
    if !text.starts_with('@') {
        return Ok(expression);
    }
    if dialect == Dialect::Quartz {
        return Err("Quartz has no nicknames".into());
    }
    spelled_out(text).ok_or_else(|| {
        let lower = text.to_ascii_lowercase();
        match spelled_out(&lower) {
            Some(_) => format!("nicknames are written in small letters: {lower}"),
            None => format!("the nicknames are {NAMES}; for an interval write every = \"90s\""),
        }
    })
}

/// What a nickname stands for.
pub(super) fn spelled_out(nickname: &str) -> Option<&'static str> {
    Some(match nickname {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => return None,
    })
}

fn kinds(dialect: Dialect, count: usize) -> Result<&'static [Kind], String> {
    match (dialect, count) {
        (_, 0) => Err("it is empty; five fields are minute, hour, day of month, month, day of week".into()),
        (Dialect::Ocps | Dialect::Vixie, 5) => Ok(&Kind::ALL[1..6]),
        (Dialect::Ocps | Dialect::Quartz, 6) => Ok(&Kind::ALL[..6]),
        (Dialect::Ocps | Dialect::Quartz, 7) => Ok(&Kind::ALL),
        (Dialect::Ocps, n) => {
            Err(format!("it has {n} fields; 5, 6 (seconds first) or 7 (year last) are allowed"))
        }
        (Dialect::Vixie, n) => {
            Err(format!("it has {n} fields; the dialect vixie has 5, from minute to day of week"))
        }
        (Dialect::Quartz, n) => {
            Err(format!("it has {n} fields; the dialect quartz has 6 (seconds first) or 7 (year last)"))
        }
    }
}

/// The character of `text`, from 1, at byte `at` of a field, which is a part of it.
fn position(text: &str, field: &str, at: usize) -> usize {
    let start = field.as_ptr() as usize - text.as_ptr() as usize;
    1 + text.get(..start + at).unwrap_or(text).chars().count()
}

fn both_days(dialect: Dialect, numbers: &Set, weekdays: &Set) -> bool {
    match dialect {
        Dialect::Ocps => {
            weekdays.has_plus && !CronRule::PlusIsBoth.is_broken() || CronRule::EitherDay.is_broken()
        }
        Dialect::Vixie => numbers.is_wildcard || weekdays.is_wildcard,
        Dialect::Quartz => true,
    }
}

fn together(kinds: &[Kind], sets: [Set; 7], both: bool) -> Fields {
    let has_seconds = kinds.first() == Some(&Kind::Second);
    let timed = &sets[if has_seconds { 0 } else { 1 }..3];
    let is_fixed = !timed.iter().any(|set| set.is_wildcard) || CronRule::WildcardIsByTime.is_broken();
    let [second, minute, hour, number, month, weekday, year] = sets;
    let years = match year.is_bare || year.years.is_empty() {
        true => Years::Any,
        false => Years::Listed(year.years.into()),
    };
    let days = Days {
        numbers: number.bits as u32,
        weekdays: weekday.bits as u8,
        nth: weekday.days.nth,
        is_any_number: number.is_bare,
        is_any_weekday: weekday.is_bare,
        both,
        ..number.days
    };
    let seconds = if has_seconds { second.bits } else { 1 };
    Fields::new((seconds, minute.bits, hour.bits as u32), days, month.bits as u32, years, is_fixed)
}
