//! Says in words what an expression names, from its sets, so that every spelling of a rule reads the same.

use super::fields::{Days, Fields, ones};
use super::years::Years;

const MONTHS: [&str; 13] = [
    "",
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const NTH: [&str; 6] = ["last", "first", "second", "third", "fourth", "fifth"];

/// Up to so many times of a day are named one by one.
const MOST_TIMES: u32 = 6;

/// Says when a rule fires, without its zone.
pub(super) fn describe(fields: &Fields) -> String {
    let mut text = times(fields);
    let days = days(&fields.days);
    if days.is_empty() && fields.hours != ALL_HOURS {
        text.push_str(" every day");
    }
    for part in [days, months(fields.months), years(&fields.years)] {
        if !part.is_empty() {
            text.push(' ');
            text.push_str(&part);
        }
    }
    text
}

const ALL_SIXTY: u64 = (1 << 60) - 1;
const ALL_HOURS: u32 = (1 << 24) - 1;

fn times(fields: &Fields) -> String {
    let Fields { seconds, minutes, hours, .. } = *fields;
    let count = seconds.count_ones() * minutes.count_ones() * hours.count_ones();
    if hours != ALL_HOURS && count <= MOST_TIMES {
        let mut times = Vec::new();
        for hour in ones(hours) {
            for minute in values(minutes) {
                times.extend(values(seconds).map(|second| time(hour, minute, second)));
            }
        }
        return format!("at {}", joined(&times, "and"));
    }
    let minute = match (minutes, rhythm(minutes)) {
        (ALL_SIXTY, _) => "every minute".to_owned(),
        (1, _) => "every hour".to_owned(),
        (_, Some(step)) => format!("every {step} minutes"),
        (_, None) => format!("at {} of every hour", numbered("minute", minutes)),
    };
    let second = match (seconds, rhythm(seconds)) {
        (1, _) => String::new(),
        (ALL_SIXTY, _) => "every second".to_owned(),
        (_, Some(step)) => format!("every {step} seconds"),
        (_, None) => format!("at {}", numbered("second", seconds)),
    };
    let rhythm = match (second.is_empty(), minutes) {
        (true, _) => minute,
        (false, ALL_SIXTY) if seconds == ALL_SIXTY || rhythm(seconds).is_some() => second,
        (false, ALL_SIXTY) => format!("{second} of every minute"),
        (false, _) => format!("{second} in {} of every hour", numbered("minute", minutes)),
    };
    match hours {
        ALL_HOURS => rhythm,
        _ => format!("{rhythm} in {}", numbered("hour", hours.into())),
    }
}

fn time(hour: u32, minute: u32, second: u32) -> String {
    if second == 0 { format!("{hour:02}:{minute:02}") } else { format!("{hour:02}:{minute:02}:{second:02}") }
}

/// The step of a set that names every so many of sixty, evenly, from 0.
fn rhythm(bits: u64) -> Option<u32> {
    let step = (bits & !1).trailing_zeros();
    let even = step > 1 && step < 60 && 60 % step == 0;
    let full = |step: u32| (0..60).step_by(step as usize).fold(0_u64, |bits, value| bits | 1 << value);
    (even && bits == full(step)).then_some(step)
}

fn numbered(unit: &str, bits: u64) -> String {
    let (many, values) = (bits.count_ones() > 1, ranges(bits, |value| value.to_string(), "to"));
    format!("{unit}{} {}", if many { "s" } else { "" }, joined(&values, "and"))
}

/// The days; nothing where every day is named.
fn days(days: &Days) -> String {
    let (numbers, weekdays) = (numbers(days), weekdays(days));
    match (days.is_any_number, days.is_any_weekday) {
        (true, true) => String::new(),
        (false, true) => format!("on {}", joined(&numbers, "and")),
        (true, false) => format!("on {}", joined(&weekdays, "and")),
        (false, false) if days.both => {
            format!("on {} where that is {}", joined(&numbers, "or"), joined(&weekdays, "or"))
        }
        (false, false) => format!("on {} and on {}", joined(&numbers, "and"), joined(&weekdays, "and")),
    }
}

fn numbers(days: &Days) -> Vec<String> {
    let before = |n: u32| match n {
        0 => "the last day of the month".to_owned(),
        1 => "the day before the last of the month".to_owned(),
        n => format!("the {} day before the last of the month", ordinal(n)),
    };
    let mut parts = ranges(days.numbers.into(), |day| format!("the {}", ordinal(day)), "to");
    parts.extend(ones(days.before_last).map(before));
    parts.extend(ones(days.nearest).map(|day| format!("the working day nearest to the {}", ordinal(day))));
    parts.extend(ones(days.nearest_before_last).map(|n| match n {
        0 => "the last working day of the month".to_owned(),
        n => format!("the working day nearest to {}", before(n)),
    }));
    parts
}

fn weekdays(days: &Days) -> Vec<String> {
    let name = |weekday: u32| WEEKDAYS[weekday as usize % 7].to_owned();
    let mut parts = match days.weekdays {
        // From Monday on, as most people count.
        0b111_1111 => vec!["every weekday".to_owned()],
        weekdays => ranges(u64::from(weekdays & !1) | u64::from(weekdays & 1) << 7, name, "to"),
    };
    for (nth, weekdays) in days.nth.iter().enumerate() {
        let of_month = |weekday| format!("the {} {} of the month", NTH[nth], name(weekday));
        parts.extend(ones(u32::from(*weekdays)).map(of_month));
    }
    parts
}

fn months(months: u32) -> String {
    if months.count_ones() == 12 {
        return String::new();
    }
    let parts = ranges(months.into(), |month| MONTHS[month as usize].to_owned(), "to");
    format!("in {}", joined(&parts, "and"))
}

fn years(years: &Years) -> String {
    let Years::Listed(ranges) = years else { return String::new() };
    let parts: Vec<String> = ranges
        .iter()
        .map(|range| match (range.low == range.high, range.step) {
            (true, _) => range.low.to_string(),
            (false, 1) => format!("{} to {}", range.low, range.high),
            (false, step) => format!("every {step} years from {} to {}", range.low, range.high),
        })
        .collect();
    format!("in {}", joined(&parts, "and"))
}

fn values(bits: u64) -> impl Iterator<Item = u32> {
    (0..64).filter(move |value| bits >> value & 1 != 0)
}

/// The values in words; three or more that follow each other as a range.
fn ranges(bits: u64, word: impl Fn(u32) -> String, to: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = bits;
    while rest != 0 {
        let first = rest.trailing_zeros();
        let length = (rest >> first).trailing_ones();
        let taken = if length < 3 { 1 } else { length };
        parts.push(match taken {
            1 => word(first),
            _ => format!("{} {to} {}", word(first), word(first + taken - 1)),
        });
        rest &= !(((1 << taken) - 1) << first);
    }
    parts
}

fn joined(parts: &[String], and: &str) -> String {
    match parts {
        [] => "no day".to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} {and} {last}", most.join(", ")),
    }
}

fn ordinal(number: u32) -> String {
    let ending = match (number % 10, number % 100) {
        (1, hundred) if hundred != 11 => "st",
        (2, hundred) if hundred != 12 => "nd",
        (3, hundred) if hundred != 13 => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}
