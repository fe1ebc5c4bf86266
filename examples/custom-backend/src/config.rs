//! The settings, read by hand so that every fault is reported at once and by its place.

use scheduler_core::ArgsError;
use serde_json::{Value, json};

/// Settings of a [`CustomBackend`](super::CustomBackend).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// How many runs may live at once; more are refused. 10,000 unless set.
    pub live_runs: usize,
    /// How many ended runs it remembers. 1,000 unless set.
    pub ended_runs: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { live_runs: 10_000, ended_runs: 1_000 }
    }
}

impl Config {
    /// Reads a section of a config.
    ///
    /// # Errors
    /// Every fault, each with its place.
    pub fn from_value(value: &Value) -> Result<Self, Vec<ArgsError>> {
        let empty = serde_json::Map::new();
        let section = match value {
            Value::Object(section) => section,
            Value::Null => &empty,
            _ => return Err(vec![ArgsError::new("", "a backend's settings are a table")]),
        };
        let mut config = Self::default();
        let mut faults = Vec::new();
        for (key, value) in section {
            let setting = match key.as_str() {
                "live_runs" => &mut config.live_runs,
                "ended_runs" => &mut config.ended_runs,
                _ => {
                    let place = format!("/{}", key.replace('~', "~0").replace('/', "~1"));
                    let fault = ArgsError::new(place, format!("unknown key `{}`", key.escape_debug()));
                    faults.push(fault.with_help("known keys: live_runs, ended_runs"));
                    continue;
                }
            };
            match value.as_u64().filter(|number| (1..=10_000_000).contains(number)) {
                Some(number) => *setting = number as usize,
                None => {
                    let message = format!("`{key}` is {value}, expected a whole number, 1 to 10000000");
                    faults.push(ArgsError::new(format!("/{key}"), message));
                }
            }
        }
        if faults.is_empty() { Ok(config) } else { Err(faults) }
    }

    /// The JSON Schema of the section.
    pub fn schema() -> Value {
        let number = |default: usize, description: &str| {
            json!({
                "type": "integer", "minimum": 1, "maximum": 10_000_000,
                "default": default, "description": description
            })
        };
        let default = Self::default();
        json!({
            "type": "object",
            "properties": {
                "live_runs": number(default.live_runs, "How many runs may live at once; more are refused."),
                "ended_runs": number(default.ended_runs, "How many ended runs it remembers."),
            },
            "additionalProperties": false
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_the_section_is_reported_with_its_place() {
        let faults = Config::from_value(&json!({"live_run": 4, "live_runs": 0, "ended_runs": "x"}));
        let places: Vec<String> = faults.unwrap_err().into_iter().map(|fault| fault.pointer).collect();
        assert_eq!(places, ["/ended_runs", "/live_run", "/live_runs"]);
    }

    #[test]
    fn the_defaults_hold_where_nothing_is_set() {
        assert_eq!(Config::from_value(&Value::Null).unwrap(), Config::default());
        assert_eq!(Config::from_value(&json!({"ended_runs": 2})).unwrap().ended_runs, 2);
    }
}
