//! The settings of the local tier.

use std::num::NonZeroUsize;
use std::time::Duration;

use scheduler_core::ArgsError;
use serde_json::Value;

/// Settings of a [`LocalBackend`](crate::LocalBackend).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalConfig {
    /// How many attempts run at once; more wait, the higher priority first. 1000 unless set.
    pub concurrency: NonZeroUsize,
    /// How many ended runs history keeps, besides the last of each task. 10,000 unless set.
    pub history_runs: usize,
    /// How long history keeps an ended run. 30 days unless set.
    pub history_age: Duration,
}

impl Default for LocalConfig {
    fn default() -> Self {
        const THOUSAND: NonZeroUsize = NonZeroUsize::new(1_000).expect("1000 is not 0");
        Self { concurrency: THOUSAND, history_runs: 10_000, history_age: Duration::from_secs(30 * 86_400) }
    }
}

impl LocalConfig {
    /// Reads the backend's section of a config: `concurrency`, `history_runs`, and `history_days`.
    ///
    /// # Errors
    /// Every fault, each with its place.
    pub fn from_value(value: &Value) -> Result<Self, Vec<ArgsError>> {
        let mut config = Self::default();
        let mut faults = Vec::new();
        let empty = serde_json::Map::new();
        let section = match value {
            Value::Object(section) => section,
            Value::Null => &empty,
            _ => return Err(vec![ArgsError::new("", "a backend's settings are a table")]),
        };
        for (key, value) in section {
            let whole = || value.as_u64().and_then(|number| usize::try_from(number).ok());
            let taken = match key.as_str() {
                "concurrency" => {
                    whole().and_then(NonZeroUsize::new).map(|number| config.concurrency = number)
                }
                "history_runs" => {
                    whole().filter(|n| *n <= 10_000_000).map(|number| config.history_runs = number)
                }
                "history_days" => value
                    .as_u64()
                    .filter(|days| (1..=36_500).contains(days))
                    .map(|days| config.history_age = Duration::from_secs(days * 86_400)),
                _ => {
                    let known = "concurrency, history_runs, history_days";
                    let message = format!("unknown key `{}` of a local backend", key.escape_debug());
                    let place = format!("/{}", key.replace('~', "~0").replace('/', "~1"));
                    faults.push(ArgsError::new(place, message).with_help(format!("known keys: {known}")));
                    continue;
                }
            };
            if taken.is_none() {
                let range = match key.as_str() {
                    "concurrency" => "1 or more",
                    "history_runs" => "0 to 10000000",
                    _ => "1 to 36500",
                };
                let message = format!("`{key}` is {value}, expected a whole number, {range}");
                faults.push(ArgsError::new(format!("/{key}"), message));
            }
        }
        if faults.is_empty() { Ok(config) } else { Err(faults) }
    }

    /// The JSON Schema of the section.
    pub fn schema() -> Value {
        serde_json::json!({
            "type": "object",
            "properties": {
                "concurrency": {
                    "type": "integer", "minimum": 1, "default": 1_000,
                    "description": "How many attempts run at once; more wait, the higher priority first."
                },
                "history_runs": {
                    "type": "integer", "minimum": 0, "maximum": 10_000_000, "default": 10_000,
                    "description": "How many ended runs history keeps, besides the last of each task."
                },
                "history_days": {
                    "type": "integer", "minimum": 1, "maximum": 36_500, "default": 30,
                    "description": "How many days history keeps an ended run."
                }
            },
            "additionalProperties": false
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_fault_of_the_section_is_reported_with_its_place() {
        let faults =
            LocalConfig::from_value(&json!({"concurency": 4, "concurrency": 0, "history_days": "x"}));
        let places: Vec<String> = faults.unwrap_err().into_iter().map(|fault| fault.pointer).collect();
        assert_eq!(places, ["/concurency", "/concurrency", "/history_days"]);
    }

    #[test]
    fn the_defaults_hold_where_nothing_is_set() {
        assert_eq!(LocalConfig::from_value(&Value::Null).unwrap(), LocalConfig::default());
        let config = LocalConfig::from_value(&json!({"concurrency": 4, "history_days": 2})).unwrap();
        assert_eq!((config.concurrency.get(), config.history_age.as_secs()), (4, 172_800));
    }
}
