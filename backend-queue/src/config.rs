//! The settings of the durable tier.

use std::num::NonZeroUsize;
use std::time::Duration;

use scheduler_core::{ArgsError, parse_duration};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::store::Retention;

/// The shortest lease: it is renewed three times in its length, and a store takes a moment to answer.
const SHORTEST_LEASE: Duration = Duration::from_millis(300);

/// Settings of a [`QueueBackend`](crate::QueueBackend).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct QueueConfig {
    /// Where runs are kept: `sqlite:FILE`, relative to the data folder. `sqlite:queue.db` by default.
    pub url: String,
    /// How many attempts run at once. 16 by default.
    pub concurrency: NonZeroUsize,
    /// How long a worker that no longer answers keeps its runs. 30 seconds by default, at least 300 ms.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration_schema")]
    pub lease: Duration,
    /// Whether a commit waits for the disk (`full`, the default) or may be lost when the power fails (`normal`).
    pub synchronous: Synchronous,
    /// How many ended runs are kept. 10,000 by default.
    pub history_runs: usize,
    /// How many days an ended run is kept. 30 by default.
    pub history_days: u32,
    /// How many dead letters are kept besides those that are held. 10,000 by default.
    pub dead_letters: usize,
    /// How many days a dead letter is kept that is not held. 90 by default.
    pub dead_letter_days: u32,
}

/// What a commit waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Synchronous {
    /// Until it is on the disk: nothing that was acknowledged is lost.
    #[default]
    Full,
    /// Not at all: a power failure may lose the last commits, a crash of the process none.
    Normal,
}

impl Default for QueueConfig {
    fn default() -> Self {
        const SIXTEEN: NonZeroUsize = NonZeroUsize::new(16).expect("16 is not 0");
        Self {
            url: "sqlite:queue.db".to_owned(),
            concurrency: SIXTEEN,
            lease: Duration::from_secs(30),
            synchronous: Synchronous::Full,
            history_runs: 10_000,
            history_days: 30,
            dead_letters: 10_000,
            dead_letter_days: 90,
        }
    }
}

impl QueueConfig {
    /// Reads the backend's section of a config.
    ///
    /// # Errors
    /// Every fault that could be found, each with its place.
    pub fn from_value(value: &Value) -> Result<Self, Vec<ArgsError>> {
        if value.is_null() {
            return Ok(Self::default());
        }
        let config: Self = serde_path_to_error::deserialize(value).map_err(|error| {
            let pointer: String = error.path().iter().fold(String::new(), |pointer, segment| match segment {
                serde_path_to_error::Segment::Map { key } => format!("{pointer}/{key}"),
                _ => pointer,
            });
            vec![ArgsError::new(pointer, error.inner().to_string())]
        })?;
        let faults = config.faults();
        if faults.is_empty() { Ok(config) } else { Err(faults) }
    }

    /// The JSON Schema of the section.
    pub fn schema() -> Value {
        schemars::schema_for!(Self).to_value()
    }

    fn faults(&self) -> Vec<ArgsError> {
        let mut faults = Vec::new();
        match self.url.split_once(':') {
            Some(("sqlite", file)) if !file.is_empty() => {}
            Some(("redis" | "rediss", _)) => {
                let message = "this version keeps its queue in SQLite only";
                faults.push(ArgsError::new("/url", message).with_help("write url = \"sqlite:queue.db\""));
            }
            _ => {
                let message = format!("`{}` names no store", self.url.escape_debug());
                faults.push(ArgsError::new("/url", message).with_help("write url = \"sqlite:queue.db\""));
            }
        }
        if self.concurrency.get() > 4096 {
            faults.push(ArgsError::new("/concurrency", format!("{} is more than 4096", self.concurrency)));
        }
        if self.lease < SHORTEST_LEASE {
            let message = format!("{:?} is shorter than 300ms", self.lease);
            faults.push(ArgsError::new("/lease", message).with_help("write lease = \"30s\""));
        }
        for (place, days) in
            [("/history_days", self.history_days), ("/dead_letter_days", self.dead_letter_days)]
        {
            if !(1..=36_500).contains(&days) {
                faults.push(ArgsError::new(place, format!("{days} is not between 1 and 36500")));
            }
        }
        faults
    }

    pub(crate) fn retention(&self) -> Retention {
        let days = |days: u32| Duration::from_secs(u64::from(days) * 86_400);
        Retention {
            runs: self.history_runs,
            age: days(self.history_days),
            letters: self.dead_letters,
            letter_age: days(self.dead_letter_days),
        }
    }
}

mod duration {
    use scheduler_core::{DURATION_FORMS, Spelled};

    use super::*;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map_err(|error| D::Error::custom(format!("{error}: {DURATION_FORMS}")))
    }

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Spelled(*duration))
    }
}

fn duration_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "pattern": r"^(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$",
        "minLength": 2,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_defaults_hold_where_nothing_is_set() {
        assert_eq!(QueueConfig::from_value(&Value::Null).unwrap(), QueueConfig::default());
        let config = QueueConfig::from_value(&json!({"lease": "2s", "synchronous": "normal"})).unwrap();
        assert_eq!((config.lease.as_secs(), config.synchronous), (2, Synchronous::Normal));
    }

    #[test]
    fn every_fault_of_the_section_has_its_place() {
        let section = json!({"url": "mysql:x", "lease": "1ms", "history_days": 0, "concurrency": 9999});
        let faults = QueueConfig::from_value(&section).unwrap_err();
        let places: Vec<&str> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(places, ["/url", "/concurrency", "/lease", "/history_days"]);
        let redis = QueueConfig::from_value(&json!({"url": "redis://localhost"})).unwrap_err();
        assert!(redis[0].message.contains("SQLite only"), "{}", redis[0]);
        assert_eq!(QueueConfig::from_value(&json!({"lease": 3})).unwrap_err()[0].pointer, "/lease");
    }
}
