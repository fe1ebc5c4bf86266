//! Writes an expression of any dialect in the words of the Open Cron Pattern Specification, meaning the same.
//!
//! What reads no other dialect gets this, an engine of workflows for one.

use super::dialect::Dialect;
use super::field::{Kind, Set};
use super::fields::ones;
use super::years::YearRange;

/// The expression in words of the specification; `None` where it is written in them already.
pub(super) fn plain(
    dialect: Dialect,
    kinds: &[Kind],
    written: &[&str],
    replaced: &[Option<String>],
    sets: &[Set; 7],
    both: bool,
) -> Option<String> {
    if dialect == Dialect::Ocps && replaced.iter().all(Option::is_none) {
        return None;
    }
    let are_restricted = !sets[Kind::DayOfMonth as usize].is_bare && !sets[Kind::DayOfWeek as usize].is_bare;
    let mut text = String::new();
    for ((kind, value), replaced) in kinds.iter().zip(written).zip(replaced) {
        if !text.is_empty() {
            text.push(' ');
        }
        if *kind == Kind::DayOfWeek && dialect != Dialect::Ocps && both && are_restricted {
            text.push('+');
        }
        let set = &sets[*kind as usize];
        match replaced {
            Some(value) => text.push_str(value),
            None if set.is_bare => text.push('*'),
            // Weekdays are counted otherwise in Quartz, but a `*` is all of them and its steps begin with Sunday.
            None if dialect == Dialect::Quartz && *kind == Kind::DayOfWeek && !is_star(value) => {
                text.push_str(&weekdays(set));
            }
            None if set.is_foreign => text.push_str(&values(*kind, set)),
            None => text.push_str(value),
        }
    }
    Some(text)
}

/// Whether the field is a `*` with or without a step.
fn is_star(text: &str) -> bool {
    text.starts_with('*') && !text.contains(',')
}

fn values(kind: Kind, set: &Set) -> String {
    if kind == Kind::Year {
        let range = |range: &YearRange| format!("{}-{}/{}", range.low, range.high, range.step);
        return set.years.iter().map(range).collect::<Vec<_>>().join(",");
    }
    let mut values: Vec<String> =
        (0..64).filter(|value| set.bits >> value & 1 != 0).map(|value: u32| value.to_string()).collect();
    let from_last = |before: u32| if before == 0 { "L".to_owned() } else { format!("L-{before}") };
    let days = &set.days;
    values.extend(ones(days.before_last).map(from_last));
    values.extend(ones(days.nearest).map(|day| format!("{day}W")));
    values.extend(ones(days.nearest_before_last).map(|before| format!("{}W", from_last(before))));
    values.join(",")
}

fn weekdays(set: &Set) -> String {
    let mut values: Vec<String> = ones(set.bits as u32).map(|weekday| weekday.to_string()).collect();
    for (nth, weekdays) in set.days.nth.iter().enumerate() {
        let nth = if nth == 0 { "L".to_owned() } else { format!("#{nth}") };
        values.extend(ones(u32::from(*weekdays)).map(|weekday| format!("{weekday}{nth}")));
    }
    values.join(",")
}
