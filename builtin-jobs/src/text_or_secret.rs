//! A value in args that may be a secret.

use std::fmt;

use scheduler_core::{ArgsError, Result, Secret};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

/// A text, or the place of a secret.
#[derive(Clone, Debug)]
pub(crate) enum TextOrSecret {
    Text(String),
    Secret(Secret),
}

impl TextOrSecret {
    /// The value, a secret read now.
    ///
    /// # Errors
    /// A secret that cannot be read; the message names its place.
    pub(crate) fn read(&self) -> Result<String> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::Secret(secret) => Ok(secret.resolve()?.expose().to_owned()),
        }
    }

    /// The fault of a secret that cannot be read now; for [`Job::check`](scheduler_core::Job::check).
    pub(crate) fn missing(&self, pointer: String) -> Option<ArgsError> {
        let Self::Secret(secret) = self else { return None };
        let fault = ArgsError::new(pointer, secret.resolve().err()?.to_string());
        Some(fault.with_help("give it to the scheduler before it starts"))
    }

    pub(crate) fn is_secret(&self) -> bool {
        matches!(self, Self::Secret(_))
    }
}

impl<'de> Deserialize<'de> for TextOrSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrSecretVisitor)
    }
}

struct TextOrSecretVisitor;

impl<'de> Visitor<'de> for TextOrSecretVisitor {
    type Value = TextOrSecret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a string, or a secret: { env = "NAME" } or { file = "/path" }"#)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<TextOrSecret, E> {
        Ok(TextOrSecret::Text(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TextOrSecret, A::Error> {
        Secret::deserialize(MapAccessDeserializer::new(map)).map(TextOrSecret::Secret)
    }
}

impl JsonSchema for TextOrSecret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TextOrSecret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let place = |key: &str| {
            serde_json::json!({
                "type": "object",
                "properties": { key: { "type": "string" } },
                "required": [key],
                "additionalProperties": false,
            })
        };
        json_schema!({
            "description": "A text, or the place of a secret.",
            "oneOf": [{ "type": "string" }, place("env"), place("file")],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_is_a_text_or_the_place_of_a_secret() {
        let cases = [
            (json!("text"), None),
            (json!({"env": "TOKEN"}), None),
            (json!({"file": "/run/token"}), None),
            (json!(80), Some("invalid type: integer `80`, expected a string, or a secret")),
            (json!({"value": "canary"}), Some("unknown field `value`")),
            (json!({}), Some("a secret is written")),
        ];
        for (value, fault) in cases {
            let read = serde_json::from_value::<TextOrSecret>(value.clone());
            match (read, fault) {
                (Ok(_), None) => {}
                (Err(error), Some(fault)) => {
                    assert!(
                        error.to_string().contains(fault) && !error.to_string().contains("canary"),
                        "{error}"
                    );
                }
                (read, _) => panic!("{value}: {read:?}"),
            }
        }
    }
}
