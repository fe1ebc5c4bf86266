//! The settings of the durable tier.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use scheduler_core::{ArgsError, Name, Secret, parse_duration};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::adopt::{self, AdoptSettings};
use crate::limits::{self, PerKey, Rate};
use crate::store::{DEFAULT_QUEUE, Retention};

/// The shortest lease: it is renewed three times in its length, and a store takes a moment to answer.
const SHORTEST_LEASE: Duration = Duration::from_millis(300);

/// The largest weight of a queue.
const HEAVIEST: u32 = 1_000;

/// Settings of a [`QueueBackend`](crate::QueueBackend). `Debug` does not show a password.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct QueueConfig {
    /// Where runs are kept: `sqlite:FILE`, relative to the data folder, or `redis://HOST:PORT/DATABASE`, or
    /// `rediss://` for TLS. `sqlite:queue.db` by default.
    pub url: String,
    /// The password for Redis: `{ env = "NAME" }` or `{ file = "/path" }`.
    #[schemars(schema_with = "secret_schema")]
    pub password: Option<Secret>,
    /// The certificates that a `rediss://` server's is checked against, in PEM; the system's unless set.
    pub ca_file: Option<PathBuf>,
    /// How many attempts run at once. 16 by default.
    pub concurrency: NonZeroUsize,
    /// How long a worker that no longer answers keeps its runs. 30 seconds by default, at least 300 ms.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration_schema")]
    pub lease: Duration,
    /// Whether a commit waits for the disk (`full`, the default) or may be lost when the power fails (`normal`);
    /// of SQLite only.
    pub synchronous: Synchronous,
    /// The queues that runs wait in besides `default`, which is always there and may be given a weight here.
    #[schemars(with = "BTreeMap<String, QueueSettings>")]
    pub queues: BTreeMap<Name, QueueSettings>,
    /// Queues of apalis on the same Redis whose jobs are taken over, by the names that they have there.
    pub adopt: BTreeMap<String, AdoptSettings>,
    /// How many ended runs are kept. 10,000 by default.
    pub history_runs: usize,
    /// How many days an ended run is kept. 30 by default.
    pub history_days: u32,
    /// How many dead letters are kept besides those that are held. 10,000 by default.
    pub dead_letters: usize,
    /// How many days a dead letter is kept that is not held. 90 by default.
    pub dead_letter_days: u32,
}

/// Settings of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct QueueSettings {
    /// Its share beside the other queues in what is run: of two with weights 3 and 1 the first gets three runs for each
    /// one of the second while both have some. 1 by default, at most 1000.
    pub weight: NonZeroU32,
    /// How many of its runs are under way at once, in all processes together; no limit unless set.
    pub concurrency: Option<NonZeroU32>,
    /// How many of its runs begin in a time, in all processes together; no limit unless set.
    pub rate: Option<Rate>,
    /// Limits for each value of a parameter besides.
    pub per_key: Option<PerKey>,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self { weight: NonZeroU32::MIN, concurrency: None, rate: None, per_key: None }
    }
}

/// The queue of what names none.
pub(crate) fn default_queue() -> Name {
    Name::new(DEFAULT_QUEUE).expect("`default` is a name")
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
            password: None,
            ca_file: None,
            concurrency: SIXTEEN,
            lease: Duration::from_secs(30),
            synchronous: Synchronous::Full,
            queues: BTreeMap::new(),
            adopt: BTreeMap::new(),
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
        match self.store() {
            Some(StoreKind::Sqlite(file)) if !file.is_empty() => {}
            Some(StoreKind::Redis) => faults.extend(self.redis_fault()),
            Some(StoreKind::Sqlite(_)) | None => {
                let message = format!("`{}` names no store", self.shown_url().escape_debug());
                let help = "write url = \"sqlite:queue.db\", or \"redis://HOST:6379/0\"";
                faults.push(ArgsError::new("/url", message).with_help(help));
            }
        }
        if !matches!(self.store(), Some(StoreKind::Redis)) && self.password.is_some() {
            faults
                .push(ArgsError::new("/password", "a SQLite file has no password").with_help("leave it out"));
        }
        if !self.url.starts_with("rediss://") && self.ca_file.is_some() {
            let message = "certificates are for TLS only";
            faults.push(ArgsError::new("/ca_file", message).with_help("write a `rediss://` URL"));
        }
        if self.concurrency.get() > 4096 {
            faults.push(ArgsError::new("/concurrency", format!("{} is more than 4096", self.concurrency)));
        }
        if self.lease < SHORTEST_LEASE {
            let message = format!("{:?} is shorter than 300ms", self.lease);
            faults.push(ArgsError::new("/lease", message).with_help("write lease = \"30s\""));
        }
        for (name, queue) in self.queues.iter().filter(|(_, queue)| queue.weight.get() > HEAVIEST) {
            let place = format!("/queues/{name}/weight");
            faults.push(ArgsError::new(place, format!("{} is more than {HEAVIEST}", queue.weight)));
        }
        faults.extend(limits::faults(&self.queues));
        faults.extend(adopt::faults(self, self.store() == Some(StoreKind::Redis)));
        for (place, days) in
            [("/history_days", self.history_days), ("/dead_letter_days", self.dead_letter_days)]
        {
            if !(1..=36_500).contains(&days) {
                faults.push(ArgsError::new(place, format!("{days} is not between 1 and 36500")));
            }
        }
        faults
    }

    /// The store that the URL names.
    pub(crate) fn store(&self) -> Option<StoreKind<'_>> {
        match self.url.split_once(':')? {
            ("sqlite", file) => Some(StoreKind::Sqlite(file)),
            ("redis" | "rediss", _) => Some(StoreKind::Redis),
            _ => None,
        }
    }

    #[cfg(feature = "redis")]
    fn redis_fault(&self) -> Option<ArgsError> {
        let help = "write url = \"redis://HOST:6379/0\"";
        let fault = match crate::redis_link::parse(&self.url) {
            Err(fault) => fault,
            Ok(info) if info.redis_settings().password().is_some() && self.password.is_some() => {
                return Some(
                    ArgsError::new("/password", "the URL has one as well").with_help("give one of them"),
                );
            }
            Ok(_) => return None,
        };
        Some(
            ArgsError::new("/url", format!("`{}`: {fault}", self.shown_url().escape_debug())).with_help(help),
        )
    }

    #[cfg(not(feature = "redis"))]
    #[expect(clippy::unused_self, reason = "with the store of Redis it reads the URL")]
    fn redis_fault(&self) -> Option<ArgsError> {
        None
    }

    /// The queues that are taken from, by name.
    pub(crate) fn queue_names(&self) -> BTreeSet<Name> {
        self.queues.keys().cloned().chain([default_queue()]).collect()
    }

    /// The same with their weights.
    pub(crate) fn weights(&self) -> Vec<(Name, u32)> {
        let weight = |name: &Name| self.queues.get(name).map_or(1, |queue| queue.weight.get());
        self.queue_names().into_iter().map(|name| (name.clone(), weight(&name))).collect()
    }

    /// The URL without what stands before its host.
    pub(crate) fn shown_url(&self) -> String {
        match (self.url.split_once("://"), self.url.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
            _ => self.url.clone(),
        }
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

/// Where runs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreKind<'a> {
    /// In this file.
    Sqlite(&'a str),
    Redis,
}

impl fmt::Debug for QueueConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { password, ca_file, concurrency, lease, synchronous, queues, adopt, .. } = self;
        f.debug_struct("QueueConfig")
            .field("url", &self.shown_url())
            .field("password", password)
            .field("ca_file", ca_file)
            .field("concurrency", concurrency)
            .field("lease", lease)
            .field("synchronous", synchronous)
            .field("queues", queues)
            .field("adopt", adopt)
            .field("retention", &self.retention())
            .finish()
    }
}

pub(crate) mod duration {
    use scheduler_core::{DURATION_FORMS, Spelled};

    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map_err(|error| D::Error::custom(format!("{error}: {DURATION_FORMS}")))
    }

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Spelled(*duration))
    }
}

pub(crate) fn duration_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "pattern": r"^(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$",
        "minLength": 2,
    })
}

fn secret_schema(_: &mut SchemaGenerator) -> Schema {
    let place = |key: &str| {
        let text = serde_json::json!({ "type": "string" });
        serde_json::json!({
            "type": "object", "properties": { key: text }, "required": [key], "additionalProperties": false
        })
    };
    json_schema!({ "oneOf": [{ "type": "null" }, place("env"), place("file")] })
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
        let section = json!({"url": "mysql:x", "lease": "1ms", "history_days": 0, "concurrency": 9999,
            "queues": {"mail": {"weight": 1001}}});
        let faults = QueueConfig::from_value(&section).unwrap_err();
        let places: Vec<&str> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(places, ["/url", "/concurrency", "/lease", "/queues/mail/weight", "/history_days"]);
        let bad = json!({"queues": {"mail": {"wait": 1}}});
        assert_eq!(QueueConfig::from_value(&bad).unwrap_err()[0].pointer, "/queues/mail/wait");
        assert_eq!(QueueConfig::from_value(&json!({"lease": 3})).unwrap_err()[0].pointer, "/lease");
    }

    #[cfg(feature = "redis")]
    #[test]
    fn a_url_of_redis_is_taken_and_never_weakened() {
        for url in ["redis://h", "redis://:p@h:1/3", "rediss://u:p@[::1]:6380"] {
            assert!(QueueConfig::from_value(&json!({"url": url})).is_ok(), "{url}");
        }
        for url in ["redis:h", "redis://h/x", "rediss://h/#insecure", "redis://h/?protocol=resp3", "redis://"]
        {
            assert_eq!(
                QueueConfig::from_value(&json!({"url": url})).unwrap_err()[0].pointer,
                "/url",
                "{url}"
            );
        }
        let twice = json!({"url": "redis://:hunter2@h", "password": {"env": "P"}});
        assert_eq!(QueueConfig::from_value(&twice).unwrap_err()[0].pointer, "/password");
        let faults =
            QueueConfig::from_value(&json!({"password": {"env": "P"}, "ca_file": "/c"})).unwrap_err();
        assert_eq!((faults[0].pointer.as_str(), faults[1].pointer.as_str()), ("/password", "/ca_file"));
    }

    #[test]
    fn no_message_and_no_debug_output_shows_a_password() {
        for url in [
            "redis://:hunter2@h/x",
            "redis://u:hunter2@h",
            "mysql://u:hunter2@h",
            "redis://hunter2@h/?x=hunter2",
        ] {
            let config = QueueConfig { url: url.to_owned(), ..QueueConfig::default() };
            assert!(!format!("{config:?}").contains("u:hunter2"), "{config:?}");
            let faults = QueueConfig::from_value(&json!({"url": url})).err();
            assert!(!format!("{faults:?}").contains(":hunter2"), "{faults:?}");
        }
    }
}
