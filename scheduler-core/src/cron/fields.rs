//! What an expression names, as sets of bits: times of a day, days of a month, months, years.
//!
//! Which days of a month are named depends on nothing but its length and the weekday it begins with, so a month is
//! one number with a bit for each of its days, and a year is one of fourteen kinds.

use super::rules::CronRule;
use super::years::Years;
use crate::timestamp::days_from_civil;

/// The sets of all fields; bit n stands for the value n.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) seconds: u64,
    pub(super) minutes: u64,
    pub(super) hours: u32,
    pub(super) days: Days,
    pub(super) months: u32,
    pub(super) years: Years,
    /// Whether none of the second, minute and hour fields begins with a wildcard.
    pub(super) is_fixed: bool,
    /// Bit n: a year of kind n has a named day.
    kinds: u16,
}

/// The two fields of days.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Days {
    /// Bit n: day n.
    pub(super) numbers: u32,
    /// Bit n: the day that lies n days before the last.
    pub(super) before_last: u32,
    /// Bit n: the working day nearest to day n.
    pub(super) nearest: u32,
    /// Bit n: the working day nearest to the day that lies n days before the last.
    pub(super) nearest_before_last: u32,
    /// Bit n: weekday n, where Sunday is 0.
    pub(super) weekdays: u8,
    /// Bit n of entry k: the k-th weekday n of the month; entry 0 is the last one.
    pub(super) nth: [u8; 6],
    /// Whether the day of month is a bare wildcard, so that the weekday decides.
    pub(super) is_any_number: bool,
    /// Whether the weekday is a bare wildcard, so that the day of month decides.
    pub(super) is_any_weekday: bool,
    /// Whether both fields must name a day, not either.
    pub(super) both: bool,
}

/// A year with the fact that decides about its days: the weekday it begins with, and whether it is a leap year.
#[derive(Clone, Copy, Debug)]
pub(super) struct Year {
    /// The day number of its first of January.
    first: i64,
    is_leap: bool,
}

/// The days before each month of a common year; index 0 is not used.
const BEFORE: [i64; 13] = [0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

impl Fields {
    pub(super) fn new(times: (u64, u64, u32), days: Days, months: u32, years: Years, is_fixed: bool) -> Self {
        let (seconds, minutes, hours) = times;
        let mut fields = Self { seconds, minutes, hours, days, months, years, is_fixed, kinds: 0 };
        fields.kinds = (0..14)
            .filter(|kind| fields.names_a_day_in(Year::of_kind(*kind)))
            .fold(0, |kinds, kind| kinds | 1 << kind);
        fields
    }

    fn names_a_day_in(&self, year: Year) -> bool {
        ones(self.months).any(|month| self.in_month(year, month) != 0)
    }

    /// Whether no year has a named day; the set of years is another matter.
    pub(super) fn is_impossible(&self) -> bool {
        self.kinds == 0
    }

    /// Whether such a year has a named day.
    pub(super) fn has_day_in(&self, year: Year) -> bool {
        self.kinds >> year.kind() & 1 != 0
    }

    /// The named days of a month, whether or not the month is named: bit n is day n.
    #[inline]
    pub(super) fn in_month(&self, year: Year, month: u32) -> u32 {
        self.days.of_month(year.length(month), weekday(year.first_of(month)))
    }
}

impl Days {
    fn of_month(&self, length: u32, first: u32) -> u32 {
        let all = u32::MAX >> (31 - length) & !1;
        let named = match (self.is_any_number, self.is_any_weekday) {
            (true, true) => all,
            (true, false) => self.by_weekday(length, first),
            (false, true) => self.by_number(length, first),
            (false, false) if self.both => self.by_number(length, first) & self.by_weekday(length, first),
            (false, false) => self.by_number(length, first) | self.by_weekday(length, first),
        };
        named & all
    }

    fn by_number(&self, length: u32, first: u32) -> u32 {
        let mut named = self.numbers;
        if self.before_last | self.nearest | self.nearest_before_last != 0 {
            let length_taken = if CronRule::LastDay.is_broken() { 30 } else { length };
            let from_last =
                |bits: u32| ones(bits).filter(move |n| *n < length).map(move |n| length_taken - n);
            named |= from_last(self.before_last).fold(0, |days, day| days | 1 << day);
            for day in
                ones(self.nearest).filter(|day| *day <= length).chain(from_last(self.nearest_before_last))
            {
                named |= 1_u32.checked_shl(nearest_working_day(day, length, first)).unwrap_or(0);
            }
        }
        named
    }

    fn by_weekday(&self, length: u32, first: u32) -> u32 {
        // Bit n of a week that begins with `start` is its n-th day, if its weekday is in the set.
        let week =
            |set: u8, start: u32| u64::from((u32::from(set) | u32::from(set) << 7) >> (start % 7) & 0x7f);
        let mut named = (week(self.weekdays, first) * 0x1020_4081) << 1;
        if self.nth != [0; 6] {
            for nth in 1..6_u32 {
                let counted = if CronRule::NthIsCounted.is_broken() { nth.min(4) } else { nth };
                named |= week(self.nth[nth as usize], first) << ((counted - 1) * 7 + 1);
            }
            let last = if CronRule::LastWeekday.is_broken() { 28 } else { length };
            named |= week(self.nth[0], first + last - 7) << (last - 6);
        }
        named as u32
    }
}

/// The working day nearest to a day of a month, within the month.
fn nearest_working_day(day: u32, length: u32, first: u32) -> u32 {
    let stays = !CronRule::NearestStaysInMonth.is_broken();
    match (first + day - 1) % 7 {
        6 if day == 1 && stays => 3,
        6 => day - 1,
        0 if day == length && stays => day - 2,
        0 => day + 1,
        _ => day,
    }
}

impl Year {
    pub(super) fn new(year: i64) -> Self {
        Self { first: days_from_civil(year, 1, 1), is_leap: is_leap(year) }
    }

    /// A year that stands for its kind.
    fn of_kind(kind: u16) -> Self {
        let (weekday, is_leap) = (i64::from(kind % 7), kind >= 7);
        // 1970-01-04 was a Sunday.
        Self { first: 3 + weekday, is_leap }
    }

    fn kind(self) -> u32 {
        weekday(self.first) + if self.is_leap { 7 } else { 0 }
    }

    /// The day number of the first of a month.
    #[inline]
    pub(super) fn first_of(self, month: u32) -> i64 {
        self.first + BEFORE[month as usize] + i64::from(self.is_leap && month > 2)
    }

    #[inline]
    pub(super) fn length(self, month: u32) -> u32 {
        match month {
            2 => 28 + u32::from(self.is_leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0 || CronRule::CenturyIsCommon.is_broken())
}

/// The weekday of a day number; Sunday is 0.
#[inline]
pub(super) fn weekday(day: i64) -> u32 {
    (day + 4).rem_euclid(7) as u32
}

/// The bits that are set, from the lowest.
pub(super) fn ones(bits: u32) -> impl Iterator<Item = u32> {
    let mut rest = bits;
    std::iter::from_fn(move || {
        let lowest = (rest != 0).then(|| rest.trailing_zeros())?;
        rest &= rest - 1;
        Some(lowest)
    })
}
