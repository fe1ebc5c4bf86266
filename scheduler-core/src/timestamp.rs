//! An instant: UTC milliseconds since the Unix epoch, written as RFC 3339.
//!
//! Civil time in a zone belongs to [`cron`](crate::cron); here every text is UTC or carries its offset.

use std::fmt;
use std::num::NonZeroI64;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, Result};

const MS_PER_DAY: i64 = 86_400_000;

/// An instant in UTC with millisecond precision, between the years 0001 and 9999.
///
/// Arithmetic saturates at these bounds, so no stored or typed value can overflow it.
// Counted from the millisecond before the earliest instant: no instant is 0 then, and an `Option` of one is as small
// as one, of which every task holds several.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(NonZeroI64);

/// The bounds in milliseconds since the Unix epoch.
const FIRST: i64 = -62_135_596_800_000;
const LAST: i64 = 253_402_300_799_999;
const ONE: NonZeroI64 = NonZeroI64::new(1).expect("1 is not 0");

impl Timestamp {
    /// The earliest instant, 0001-01-01T00:00:00Z.
    pub const MIN: Self = Self(ONE);
    /// The latest instant, 9999-12-31T23:59:59.999Z.
    pub const MAX: Self = Self::from_millis(LAST);

    /// The instant that many milliseconds after the Unix epoch, brought within the bounds.
    pub const fn from_millis(millis: i64) -> Self {
        let millis = if millis > LAST { LAST } else { millis };
        match NonZeroI64::new(millis.saturating_sub(FIRST - 1)) {
            Some(count) if count.get() > 0 => Self(count),
            _ => Self::MIN,
        }
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0.get() + (FIRST - 1)
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.get() - earlier.0.get()).unwrap_or(0))
    }
}

impl Default for Timestamp {
    /// The Unix epoch.
    fn default() -> Self {
        Self::from_millis(0)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({})", self.as_millis())
    }
}

/// The length in whole milliseconds, capped where an `i64` ends.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self::from_millis(self.as_millis().saturating_add(millis(duration)))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        Self::from_millis(self.as_millis().saturating_sub(millis(duration)))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self::default() + after,
            Err(before) => Self::default() - before.duration(),
        }
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, with milliseconds only where there are any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.as_millis().div_euclid(MS_PER_DAY));
        let ms = self.as_millis().rem_euclid(MS_PER_DAY);
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if ms % 1_000 != 0 {
            write!(f, ".{:03}", ms % 1_000)?;
        }
        f.write_str("Z")
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    /// Reads RFC 3339 with its offset, which may have seconds; digits past the millisecond are cut.
    ///
    /// # Errors
    /// `time/bad_timestamp` when the text is no RFC 3339 date and time with an offset.
    fn from_str(text: &str) -> Result<Self> {
        parse(text).ok_or_else(|| {
            Error::invalid(
                "time/bad_timestamp",
                format!(
                    "`{}` is no RFC 3339 time such as 2026-12-01T00:00:00Z or 2026-12-01T01:00:00+01:00",
                    text.escape_debug()
                ),
            )
        })
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = bytes.get(from..to)?;
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0')))
    };
    let mark = |at: usize, allowed: &[u8]| bytes.get(at).is_some_and(|b| allowed.contains(b));
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let separated = mark(4, b"-") && mark(7, b"-") && mark(10, b"Tt ") && mark(13, b":") && mark(16, b":");
    let days = days_from_civil(year, month, day);
    // RFC 3339 allows second 60; like POSIX, a leap second is read as the second after it.
    let valid =
        separated && civil_from_days(days) == (year, month, day) && hour < 24 && minute < 60 && second <= 60;
    if !valid || year == 0 {
        return None;
    }
    let mut at = 19;
    let mut ms = 0;
    if mark(at, b".") {
        let digits = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        (1..=9).contains(&digits).then_some(())?;
        ms = (0..3).fold(0, |n, i| n * 10 + if i < digits { i64::from(bytes[at + 1 + i] - b'0') } else { 0 });
        at += 1 + digits;
    }
    let offset = match bytes.get(at..)? {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _, rest @ ..] => {
            let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
            // Before a country had a standard time, its zone is off by seconds as well; RFC 9557 writes them.
            let seconds = match rest {
                [] => 0,
                [b':', _, _] => number(at + 7, at + 9)?,
                _ => return None,
            };
            let is_offset = hours < 24 && minutes < 60 && seconds < 60;
            let size = is_offset.then_some(hours * 3_600 + minutes * 60 + seconds)?;
            if *sign == b'+' { size } else { -size }
        }
        _ => return None,
    };
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset;
    let millis = seconds * 1_000 + ms;
    (FIRST..=LAST).contains(&millis).then(|| Timestamp::from_millis(millis))
}

/// The proleptic Gregorian date of a day number since 1970-01-01 (Hinnant, "chrono-compatible low-level
/// date algorithms").
pub(crate) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil_from_days`], from the same source.
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rfc_3339_texts_name_their_instant() {
        let cases = [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-03-28T12:00:00+01:00", 1_774_695_600_000),
            ("2026-12-01T00:00:00.25Z", 1_796_083_200_250),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2000-02-29t00:00:00z", 951_782_400_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
            ("1890-01-08T12:00:00+10:36:20", -2_523_911_780_000),
        ];
        for (text, millis) in cases {
            assert_eq!(text.parse::<Timestamp>().unwrap().as_millis(), millis, "{text}");
        }
    }

    #[test]
    fn an_instant_that_may_be_missing_is_as_small_as_one() {
        assert_eq!(size_of::<Option<Timestamp>>(), 8);
        assert_eq!(Timestamp::default().to_string(), "1970-01-01T00:00:00Z");
        assert_eq!((Timestamp::MIN.as_millis(), Timestamp::MAX.as_millis()), (FIRST, LAST));
    }

    #[test]
    fn other_texts_are_refused_by_name() {
        let cases = ["", "2026-12-01", "2026-02-30T00:00:00Z", "2026-12-01T24:00:00Z", "2026-12-01T00:00:00"];
        for text in cases
            .into_iter()
            .chain(["0000-01-01T00:00:00Z", "2026-12-01T00:00:00.Z", "éé26-12-01T00:00:00Z"])
            .chain([
                "2026-12-01T00:00:00+01:00:60",
                "2026-12-01T00:00:00+01:00:0",
                "2026-12-01T00:00:00+01:00:000",
            ])
        {
            let error = text.parse::<Timestamp>().unwrap_err();
            assert_eq!(error.code(), "time/bad_timestamp", "{text}");
            assert!(error.to_string().contains(text));
        }
        let hostile = "2026\u{1b}[2J".parse::<Timestamp>().unwrap_err().to_string();
        assert!(!hostile.contains('\u{1b}'), "{hostile:?}");
    }

    proptest! {
        #[test]
        fn every_instant_survives_its_text(millis in FIRST..=LAST) {
            let instant = Timestamp::from_millis(millis);
            prop_assert_eq!(instant.as_millis(), millis);
            prop_assert_eq!(instant.to_string().parse::<Timestamp>().unwrap(), instant);
        }

        #[test]
        fn instants_are_ordered_as_their_milliseconds_and_stay_within_the_bounds(
            (a, b) in (proptest::num::i64::ANY, proptest::num::i64::ANY)
        ) {
            let [first, second] = [a, b].map(|millis| millis.clamp(FIRST, LAST));
            let (early, late) = (Timestamp::from_millis(a), Timestamp::from_millis(b));
            prop_assert_eq!((early.as_millis(), late.as_millis()), (first, second));
            prop_assert_eq!(early.cmp(&late), first.cmp(&second));
            prop_assert_eq!(late.since(early), Duration::from_millis(u64::try_from(second - first).unwrap_or(0)));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = text.parse::<Timestamp>();
        }
    }
}
