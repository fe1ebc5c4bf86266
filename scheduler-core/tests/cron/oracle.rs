//! The truth about fire times, by trying every instant: it shares nothing with the engine that it judges.
//!
//! An expression of the Open Cron Pattern Specification is read from its text, and each step of real time is asked
//! whether it fires. Of the zone it knows only what its wall clock shows at an instant.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;

/// An expression, as values to be looked up one by one.
pub(crate) struct Oracle {
    seconds: Vec<u32>,
    minutes: Vec<u32>,
    hours: Vec<u32>,
    days: String,
    months: Vec<u32>,
    weekdays: String,
    years: Option<Vec<u32>>,
    is_fixed: bool,
}

impl Oracle {
    /// Reads an expression that is known to be right.
    pub(crate) fn read(expression: &str) -> Self {
        let fields: Vec<&str> = expression.split(' ').collect();
        let [second, minute, hour, day, month, weekday, year] = match fields[..] {
            [minute, hour, day, month, weekday] => ["0", minute, hour, day, month, weekday, "*"],
            [second, minute, hour, day, month, weekday] => [second, minute, hour, day, month, weekday, "*"],
            [second, minute, hour, day, month, weekday, year] => {
                [second, minute, hour, day, month, weekday, year]
            }
            _ => panic!("`{expression}` has {} fields", fields.len()),
        };
        let months = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC";
        let month = named(month, months, 1);
        Self {
            seconds: values(second, 0, 59),
            minutes: values(minute, 0, 59),
            hours: values(hour, 0, 23),
            days: day.replace('?', "*"),
            months: values(&month, 1, 12),
            weekdays: named(&weekday.replace('?', "*"), "SUN MON TUE WED THU FRI SAT", 0),
            years: (year != "*").then(|| values(year, 1970, 9999)),
            is_fixed: ![second, minute, hour].iter().any(|field| field.starts_with('*')),
        }
    }

    /// The fires from `from` to before `to`, which lie on multiples of `step` seconds.
    ///
    /// Right where offsets, changes of the clock and the fields for times are multiples of the step too.
    pub(crate) fn fires(&self, zone: &TimeZone, from: i64, to: i64, step: i64) -> Vec<i64> {
        let mut fires = Vec::new();
        let mut days = Days { oracle: self, last: None };
        // From before, so that it is known what the clock has shown: no overlap here is longer than that.
        let mut latest: Option<DateTime> = None;
        let mut instant = (from - 4 * 3_600).div_euclid(step) * step;
        while instant < to {
            let wall = zone.to_datetime(Timestamp::from_second(instant).unwrap());
            let mut is_fire = days.name(wall);
            if self.is_fixed {
                let is_repeated = latest.is_some_and(|latest| wall <= latest);
                is_fire = (is_fire && !is_repeated) || self.is_in_gap(&mut days, latest, wall, step);
            }
            if is_fire && instant >= from {
                fires.push(instant);
            }
            latest = latest.max(Some(wall));
            instant += step;
        }
        fires
    }

    /// Whether a time is named that the clock skipped between two steps.
    fn is_in_gap(&self, days: &mut Days<'_>, latest: Option<DateTime>, wall: DateTime, step: i64) -> bool {
        let step = jiff::SignedDuration::from_secs(step);
        let Some(mut skipped) = latest.map(|latest| latest + step) else { return false };
        while skipped < wall {
            if days.name(skipped) {
                return true;
            }
            skipped += step;
        }
        false
    }

    fn is_named_day(&self, date: Date) -> bool {
        let (year, month) = (date.year() as u32, date.month() as u32);
        if !self.months.contains(&month) || self.years.as_ref().is_some_and(|years| !years.contains(&year)) {
            return false;
        }
        let both = self.weekdays.starts_with('+');
        let weekdays = self.weekdays.trim_start_matches('+');
        let by_day = self.days.split(',').any(|part| is_day_of_month(part, date));
        let by_weekday = weekdays.split(',').any(|part| is_day_of_week(part, date));
        match (self.days == "*", weekdays == "*") {
            (true, true) => true,
            (true, false) => by_weekday,
            (false, true) => by_day,
            (false, false) if both => by_day && by_weekday,
            (false, false) => by_day || by_weekday,
        }
    }
}

/// Remembers the answer for a day, of which many times are asked.
struct Days<'a> {
    oracle: &'a Oracle,
    last: Option<(Date, bool)>,
}

impl Days<'_> {
    fn name(&mut self, wall: DateTime) -> bool {
        let oracle = self.oracle;
        let is_time = oracle.minutes.contains(&(wall.minute() as u32))
            && oracle.hours.contains(&(wall.hour() as u32))
            && oracle.seconds.contains(&(wall.second() as u32));
        if !is_time {
            return false;
        }
        match self.last {
            Some((date, is_named)) if date == wall.date() => is_named,
            Some(_) | None => {
                let is_named = oracle.is_named_day(wall.date());
                self.last = Some((wall.date(), is_named));
                is_named
            }
        }
    }
}

fn is_day_of_month(part: &str, date: Date) -> bool {
    let (day, length) = (i64::from(date.day()), i64::from(date.days_in_month()));
    let base = part.trim_end_matches('W');
    let target = match base.strip_prefix('L') {
        Some("") => length,
        Some(before) => length - before[1..].parse::<i64>().unwrap(),
        None if base == part => return values(part, 1, 31).contains(&(day as u32)),
        None => base.parse().unwrap(),
    };
    if base == part {
        return day == target;
    }
    if !(1..=length).contains(&target) {
        return false;
    }
    let is_working = |day: i64| {
        let weekday = date.with().day(day as i8).build().unwrap().weekday();
        !matches!(weekday, Weekday::Saturday | Weekday::Sunday)
    };
    let near = [0, -1, 1, -2, 2].map(|offset| target + offset);
    let nearest = near.into_iter().find(|near| (1..=length).contains(near) && is_working(*near));
    nearest == Some(day)
}

fn is_day_of_week(part: &str, date: Date) -> bool {
    let weekday = date.weekday().to_sunday_zero_offset() as u32;
    let is = |text: &str| text.parse::<u32>().unwrap() % 7 == weekday;
    let is_last = date.day() + 7 > date.days_in_month();
    match (part.split_once('#'), part.strip_suffix('L')) {
        (Some((text, "L")), _) | (None, Some(text)) => is(text) && is_last,
        (Some((text, nth)), _) => is(text) && (date.day() as u32).div_ceil(7) == nth.parse::<u32>().unwrap(),
        (None, None) if part.starts_with('*') => values(part, 0, 6).contains(&weekday),
        (None, None) => values(part, 0, 7).iter().any(|value| value % 7 == weekday),
    }
}

/// The field with numbers for names; a Sunday that ends a range is 7.
fn named(field: &str, names: &str, first: usize) -> String {
    let field = field.to_uppercase().replace("-SUN", "-7");
    names
        .split(' ')
        .enumerate()
        .fold(field, |field, (index, name)| field.replace(name, &(first + index).to_string()))
}

/// What a list of values, ranges and steps names.
fn values(field: &str, first: u32, last: u32) -> Vec<u32> {
    let mut values = Vec::new();
    for part in field.split(',') {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let (low, high) = match range.split_once('-') {
            Some((low, high)) => (low.parse().unwrap(), high.parse().unwrap()),
            None if range == "*" => (first, last),
            None => (range.parse().unwrap(), range.parse().unwrap()),
        };
        let mut value: u32 = low;
        while value <= high {
            values.push(value);
            value += step.parse::<u32>().unwrap();
        }
    }
    values
}
