//! Durations as they are written in args: `"500ms"`, `"5s"`, `"1m30s"`.

use std::time::Duration;

use scheduler_core::{DURATION_FORMS, Spelled, parse_duration};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::Serializer;
use serde::de::{Deserialize, Deserializer, Error};

/// Reads a duration from a string; for `#[serde(deserialize_with)]`.
///
/// # Errors
/// Names the text and how a duration is written.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map_err(|error| D::Error::custom(format!("{error}: {DURATION_FORMS}")))
}

/// Writes a duration as [`deserialize`] reads it; for `#[serde(serialize_with)]`, by which a schema shows a default.
pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Spelled(*duration))
}

/// Reads a duration that may be left out; for `#[serde(deserialize_with)]`.
///
/// # Errors
/// As [`deserialize`].
pub(crate) fn deserialize_some<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    deserialize(deserializer).map(Some)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_duration_is_named() {
        let error = deserialize(serde_json::json!("5min")).unwrap_err();
        assert!(error.to_string().starts_with("`min` in `5min` is no unit of time: write"), "{error}");
    }
}
