//! The bounds behind which a measured value is degraded or failed.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};

use crate::health_standing::Status;

/// A number, or a share of the whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Threshold {
    Number(f64),
    Percent(f64),
}

/// When a value is degraded and when it is failed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Thresholds {
    pub(crate) degraded: Threshold,
    pub(crate) failed: Threshold,
}

impl Threshold {
    fn of(self, whole: f64) -> f64 {
        match self {
            Self::Number(number) => number,
            Self::Percent(percent) => whole * percent / 100.0,
        }
    }
}

impl Thresholds {
    /// Judges a value of which there should be much, out of `whole`.
    pub(crate) fn when_below(self, value: f64, whole: f64) -> Status {
        if value < self.failed.of(whole) {
            return Status::Failed;
        }
        if value < self.degraded.of(whole) { Status::Degraded } else { Status::Healthy }
    }

    /// Judges a value of which there should be little.
    pub(crate) fn when_above(self, value: f64) -> Status {
        if value > self.failed.of(0.0) {
            return Status::Failed;
        }
        if value > self.degraded.of(0.0) { Status::Degraded } else { Status::Healthy }
    }

    /// Whether degraded comes before failed, as far as the two can be compared; `is_below` for values of which
    /// there should be much.
    pub(crate) fn are_in_order(self, is_below: bool) -> bool {
        match (self.degraded, self.failed) {
            (Threshold::Number(degraded), Threshold::Number(failed))
            | (Threshold::Percent(degraded), Threshold::Percent(failed)) => {
                if is_below {
                    failed <= degraded
                } else {
                    degraded <= failed
                }
            }
            (Threshold::Number(_), Threshold::Percent(_)) | (Threshold::Percent(_), Threshold::Number(_)) => {
                true
            }
        }
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ThresholdVisitor)
    }
}

struct ThresholdVisitor;

impl Visitor<'_> for ThresholdVisitor {
    type Value = Threshold;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number that is not negative, or a share such as \"10%\"")
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Threshold, E> {
        if number.is_finite() && number >= 0.0 {
            return Ok(Threshold::Number(number));
        }
        Err(E::invalid_value(de::Unexpected::Float(number), &self))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Threshold, E> {
        #[expect(clippy::cast_precision_loss, reason = "a threshold of petabytes may be a byte off")]
        self.visit_f64(number as f64)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Threshold, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Threshold, E> {
        let percent = text.strip_suffix('%').and_then(|number| number.parse().ok());
        let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
        percent.map(Threshold::Percent).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

impl JsonSchema for Threshold {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Threshold".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number, or a share of the whole.",
            "oneOf": [
                { "type": "number", "minimum": 0 },
                { "type": "string", "pattern": r"^\d+(\.\d+)?%$" },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_threshold_is_a_number_or_a_share() {
        let cases = [
            (json!(7), Some(Threshold::Number(7.0))),
            (json!(1.5), Some(Threshold::Number(1.5))),
            (json!("10%"), Some(Threshold::Percent(10.0))),
            (json!("0.5%"), Some(Threshold::Percent(0.5))),
            (json!(-1), None),
            (json!("101%"), None),
            (json!("-1%"), None),
            (json!("NaN%"), None),
            (json!("10"), None),
            (json!("10 GB"), None),
        ];
        for (value, expected) in cases {
            assert_eq!(serde_json::from_value(value.clone()).ok(), expected, "{value}");
        }
    }

    #[test]
    fn a_value_is_judged_by_both_bounds() {
        let free = Thresholds { degraded: Threshold::Percent(10.0), failed: Threshold::Number(5.0) };
        for (value, status) in
            [(10.0, Status::Healthy), (9.9, Status::Degraded), (5.0, Status::Degraded), (4.9, Status::Failed)]
        {
            assert_eq!(free.when_below(value, 100.0), status, "{value}");
        }
        let load = Thresholds { degraded: Threshold::Number(1.0), failed: Threshold::Number(2.0) };
        for (value, status) in
            [(1.0, Status::Healthy), (1.1, Status::Degraded), (2.0, Status::Degraded), (2.1, Status::Failed)]
        {
            assert_eq!(load.when_above(value), status, "{value}");
        }
        assert!(load.are_in_order(false) && !load.are_in_order(true) && free.are_in_order(true));
    }
}
