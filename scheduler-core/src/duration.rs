//! Durations as people write them: `30s`, `500ms`, `1h30m`.

use std::fmt;
use std::time::Duration;

use crate::{Error, Result};

/// How a duration is written, for help lines.
pub const DURATION_FORMS: &str =
    "write whole numbers with units, ms, s, m, h, d or w, such as \"30s\" or \"1h30m\"";

const UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// A hundred years: longer ones are mistakes, and added to a clock they could leave its range.
const LONGEST: u64 = 36_525 * 86_400_000;

/// Parses whole numbers with units, the largest unit first, each at most once, without spaces.
///
/// # Errors
/// `time/bad_duration` for anything else, a bare number too, and for more than a hundred years.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let bad = |message: String| Error::invalid("time/bad_duration", message);
    let error = |problem: &str| bad(format!("`{}` {problem}", text.escape_debug()));
    let mut units = UNITS.iter();
    let mut total = 0_u64;
    let mut rest = text;
    if rest.is_empty() {
        return Err(error("is no duration"));
    }
    while !rest.is_empty() {
        let (digits, after) = split(rest, |character| character.is_ascii_digit());
        let (unit, after) = split(after, |character| !character.is_ascii_digit());
        if digits.is_empty() {
            return Err(error("is no duration"));
        }
        if unit.is_empty() {
            return Err(error("has no unit"));
        }
        if UNITS.iter().all(|(name, _)| *name != unit) {
            let (unit, text) = (unit.escape_debug(), text.escape_debug());
            return Err(bad(format!("`{unit}` in `{text}` is no unit of time")));
        }
        // The iterator goes on after the last unit, so a repeated or larger one is not found.
        let Some((_, milliseconds)) = units.find(|(name, _)| *name == unit) else {
            return Err(error("does not name its units from large to small"));
        };
        total = digits
            .parse::<u64>()
            .ok()
            .and_then(|count| count.checked_mul(*milliseconds)?.checked_add(total))
            .filter(|total| *total <= LONGEST)
            .ok_or_else(|| error("is longer than a hundred years"))?;
        rest = after;
    }
    Ok(Duration::from_millis(total))
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|character| !belongs(character)).unwrap_or(text.len()))
}

/// A duration as it is written in a config: `1h30m`, `500ms`.
#[derive(Clone, Copy, Debug)]
pub struct Spelled(pub Duration);

impl fmt::Display for Spelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.pad("0s");
        }
        let mut text = String::new();
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            if rest >= size {
                text.push_str(&format!("{}{unit}", rest / size));
                rest %= size;
            }
        }
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_whole_numbers_with_units() {
        let cases = [
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1w2d3h4m5s6ms", 788_645_006),
            ("0s", 0),
            ("90m", 5_400_000),
            ("36525d", LONGEST),
        ];

        for (text, milliseconds) in cases {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(milliseconds), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        let cases = [
            ("", "`` is no duration"),
            ("30", "`30` has no unit"),
            ("1h30", "`1h30` has no unit"),
            ("s", "`s` is no duration"),
            ("-5s", "`-5s` is no duration"),
            ("1.5h", "`.` in `1.5h` is no unit of time"),
            ("5 m", "` m` in `5 m` is no unit of time"),
            ("5min", "`min` in `5min` is no unit of time"),
            ("30m1h", "`30m1h` does not name its units from large to small"),
            ("1h1h", "`1h1h` does not name its units from large to small"),
            ("36525d1ms", "`36525d1ms` is longer than a hundred years"),
            ("99999999999999999999999s", "`99999999999999999999999s` is longer than a hundred years"),
            ("٣s", "`٣s` is no duration"),
        ];

        for (text, reason) in cases {
            assert_eq!(parse_duration(text).unwrap_err().to_string(), reason);
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_spelled_is_read_again(millis in 0..LONGEST) {
            let duration = Duration::from_millis(millis);
            proptest::prop_assert_eq!(parse_duration(&Spelled(duration).to_string()).unwrap(), duration);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-9a-z٣ .-]{0,40}") {
            let _ = parse_duration(&text);
        }
    }
}
