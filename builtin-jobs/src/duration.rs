//! Durations as they are written in args: `"500ms"`, `"5s"`, `"1m30s"`.

use std::time::Duration;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error};

const UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A hundred years: longer ones are mistakes, and added to a clock they could leave its range.
const LONGEST: u64 = 36_525 * 86_400_000;

/// Reads a duration from a string; for `#[serde(deserialize_with)]`.
///
/// # Errors
/// Names the text and how a duration is written.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| {
        D::Error::custom(format!(
            "`{}` is no duration: write whole numbers with units, ms, s, m, h, d or w, \
             such as \"500ms\" or \"1m30s\"",
            text.escape_debug()
        ))
    })
}

/// The JSON Schema of a duration; for `#[schemars(schema_with)]`.
pub(crate) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "pattern": r"^(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$",
        "minLength": 2,
        "examples": ["500ms", "5s", "1m30s"],
    })
}

/// Parses whole numbers with units, the largest first, each at most once, without spaces.
fn parse(text: &str) -> Option<Duration> {
    let mut units = UNITS.iter();
    let mut total = 0_u64;
    let mut rest = text;
    while !rest.is_empty() || text.is_empty() {
        let (digits, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        // The iterator goes on after the last unit, so a repeated or larger one is not found.
        let (_, millis) = units.find(|(name, _)| *name == unit)?;
        total = digits.parse::<u64>().ok()?.checked_mul(*millis)?.checked_add(total)?;
        rest = after;
    }
    (total <= LONGEST).then(|| Duration::from_millis(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_whole_numbers_with_units() {
        let cases = [
            ("500ms", Some(500)),
            ("5s", Some(5_000)),
            ("1m30s", Some(90_000)),
            ("1w2d3h4m5s6ms", Some(788_645_006)),
            ("0s", Some(0)),
            ("36525d", Some(LONGEST)),
            ("", None),
            ("30", None),
            ("s", None),
            ("-5s", None),
            ("1.5h", None),
            ("5 m", None),
            ("1h30", None),
            ("30m1h", None),
            ("1h1h", None),
            ("36525d1ms", None),
            ("99999999999999999999999s", None),
            ("٣s", None),
        ];
        for (text, millis) in cases {
            assert_eq!(parse(text), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn a_wrong_duration_is_named() {
        let error = deserialize(serde_json::json!("5min")).unwrap_err();
        assert!(error.to_string().starts_with("`5min` is no duration"), "{error}");
    }
}
