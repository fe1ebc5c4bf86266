//! Finds the next and the previous named time on a wall clock that never changes.
//!
//! A time is a number of seconds since 1970-01-01T00:00:00 on that wall. Days are found by month, months by year, so
//! that no search looks at more than a few numbers, however far off its answer is.

use super::fields::{Fields, Year};
use super::years;
use crate::timestamp::{civil_from_days, days_from_civil};

const DAY: i64 = 86_400;

/// The first named time at or after `from`.
pub(super) fn next(fields: &Fields, from: i64) -> Option<i64> {
    let day = from.div_euclid(DAY);
    let second_of_day = from.rem_euclid(DAY);
    let found = next_day(fields, day)?;
    if found > day {
        return Some(found * DAY + first_time(fields));
    }
    if let Some(time) = next_time(fields, second_of_day) {
        return Some(day * DAY + time);
    }
    next_day(fields, day + 1).map(|day| day * DAY + first_time(fields))
}

/// The last named time at or before `to`.
pub(super) fn previous(fields: &Fields, to: i64) -> Option<i64> {
    let day = to.div_euclid(DAY);
    let second_of_day = to.rem_euclid(DAY);
    let found = previous_day(fields, day)?;
    if found < day {
        return Some(found * DAY + last_time(fields));
    }
    if let Some(time) = previous_time(fields, second_of_day) {
        return Some(day * DAY + time);
    }
    previous_day(fields, day - 1).map(|day| day * DAY + last_time(fields))
}

/// How many named times there are from `from` to before `to`.
pub(super) fn count(fields: &Fields, from: i64, to: i64) -> u64 {
    let a_day = u64::from(fields.hours.count_ones())
        * u64::from(fields.minutes.count_ones())
        * u64::from(fields.seconds.count_ones());
    let until = |wall: i64, first_day: i64| {
        let mut count = 0;
        let (last, second_of_day) = (wall.div_euclid(DAY), wall.rem_euclid(DAY));
        let mut day = first_day;
        while let Some(named) = next_day(fields, day).filter(|named| *named <= last) {
            count += if named == last { times_before(fields, second_of_day) } else { a_day };
            day = named + 1;
        }
        count
    };
    let first_day = from.div_euclid(DAY);
    until(to, first_day) - until(from, first_day)
}

fn times_before(fields: &Fields, second_of_day: i64) -> u64 {
    let (hour, minute, second) = split(second_of_day);
    let below = |bits: u64, n: u32| u64::from((bits & ((1 << n) - 1)).count_ones());
    let has = |bits: u64, n: u32| bits >> n & 1;
    let (hours, minutes, seconds) = (u64::from(fields.hours), fields.minutes, fields.seconds);
    let an_hour = u64::from(minutes.count_ones()) * u64::from(seconds.count_ones());
    let in_hour = below(minutes, minute) * u64::from(seconds.count_ones())
        + has(minutes, minute) * below(seconds, second);
    below(hours, hour) * an_hour + has(hours, hour) * in_hour
}

/// The first named day at or after `day`.
fn next_day(fields: &Fields, day: i64) -> Option<i64> {
    let day = day.max(days_from_civil(i64::from(years::FIRST), 1, 1));
    let (number, month, day_of_month) = civil_from_days(day);
    if fields.years.contains(number) {
        let (year, month) = (Year::new(number), month as u32);
        let later = u32::MAX << day_of_month;
        if fields.months >> month & 1 != 0 {
            let named = fields.in_month(year, month) & later;
            if named != 0 {
                return Some(year.first_of(month) + i64::from(named.trailing_zeros()) - 1);
            }
        }
        // A month that follows is looked at whole.
        if let Some(day) = first_day_in(fields, year, fields.months & u32::MAX << (month + 1)) {
            return Some(day);
        }
    }
    if fields.is_impossible() {
        return None;
    }
    let mut number = fields.years.next(number + 1)?;
    loop {
        let year = Year::new(number);
        if fields.has_day_in(year) {
            return first_day_in(fields, year, fields.months);
        }
        number = fields.years.next(number + 1)?;
    }
}

fn first_day_in(fields: &Fields, year: Year, months: u32) -> Option<i64> {
    super::fields::ones(months).find_map(|month| {
        let named = fields.in_month(year, month);
        (named != 0).then(|| year.first_of(month) + i64::from(named.trailing_zeros()) - 1)
    })
}

/// The last named day at or before `day`.
fn previous_day(fields: &Fields, day: i64) -> Option<i64> {
    let day = day.min(days_from_civil(i64::from(years::LAST), 12, 31));
    let (number, month, day_of_month) = civil_from_days(day);
    if fields.years.contains(number) {
        let (year, month) = (Year::new(number), month as u32);
        let earlier = u32::MAX >> (31 - day_of_month);
        if fields.months >> month & 1 != 0 {
            let named = fields.in_month(year, month) & earlier;
            if named != 0 {
                return Some(year.first_of(month) + i64::from(named.ilog2()) - 1);
            }
        }
        if let Some(day) = last_day_in(fields, year, fields.months & ((1 << month) - 1)) {
            return Some(day);
        }
    }
    if fields.is_impossible() {
        return None;
    }
    let mut number = fields.years.previous(number - 1)?;
    loop {
        let year = Year::new(number);
        if fields.has_day_in(year) {
            return last_day_in(fields, year, fields.months);
        }
        number = fields.years.previous(number - 1)?;
    }
}

fn last_day_in(fields: &Fields, year: Year, months: u32) -> Option<i64> {
    let mut months = months;
    while months != 0 {
        let month = months.ilog2();
        let named = fields.in_month(year, month);
        if named != 0 {
            return Some(year.first_of(month) + i64::from(named.ilog2()) - 1);
        }
        months &= !(1 << month);
    }
    None
}

/// The first named time of a day at or after a second of it.
fn next_time(fields: &Fields, second_of_day: i64) -> Option<i64> {
    let (hour, minute, second) = split(second_of_day);
    if fields.hours >> hour & 1 != 0 {
        if fields.minutes >> minute & 1 != 0
            && let Some(second) = next_bit(fields.seconds, second)
        {
            return Some(join(hour, minute, second));
        }
        if let Some(minute) = next_bit(fields.minutes, minute + 1) {
            return Some(join(hour, minute, fields.seconds.trailing_zeros()));
        }
    }
    let hour = next_bit(u64::from(fields.hours), hour + 1)?;
    Some(join(hour, fields.minutes.trailing_zeros(), fields.seconds.trailing_zeros()))
}

/// The last named time of a day at or before a second of it.
fn previous_time(fields: &Fields, second_of_day: i64) -> Option<i64> {
    let (hour, minute, second) = split(second_of_day);
    if fields.hours >> hour & 1 != 0 {
        if fields.minutes >> minute & 1 != 0
            && let Some(second) = previous_bit(fields.seconds, second + 1)
        {
            return Some(join(hour, minute, second));
        }
        if let Some(minute) = previous_bit(fields.minutes, minute) {
            return Some(join(hour, minute, fields.seconds.ilog2()));
        }
    }
    let hour = previous_bit(u64::from(fields.hours), hour)?;
    Some(join(hour, fields.minutes.ilog2(), fields.seconds.ilog2()))
}

fn first_time(fields: &Fields) -> i64 {
    join(fields.hours.trailing_zeros(), fields.minutes.trailing_zeros(), fields.seconds.trailing_zeros())
}

fn last_time(fields: &Fields) -> i64 {
    join(fields.hours.ilog2(), fields.minutes.ilog2(), fields.seconds.ilog2())
}

/// The lowest bit from `from` on; `from` is at most 60.
fn next_bit(bits: u64, from: u32) -> Option<u32> {
    let rest = bits >> from;
    (rest != 0).then(|| from + rest.trailing_zeros())
}

/// The highest bit below `to`; `to` is at most 60.
fn previous_bit(bits: u64, to: u32) -> Option<u32> {
    (bits & ((1 << to) - 1)).checked_ilog2()
}

fn split(second_of_day: i64) -> (u32, u32, u32) {
    let seconds = second_of_day as u32;
    (seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

fn join(hour: u32, minute: u32, second: u32) -> i64 {
    i64::from(hour * 3_600 + minute * 60 + second)
}
