//! The settings of the workflow tier.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use scheduler_core::{ArgsError, Secret, parse_duration};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::address::{read_url, shown_url};

/// The shortest time between two looks at the runs that live.
const SHORTEST_POLL: Duration = Duration::from_millis(10);

/// Settings of a [`WorkflowBackend`](crate::WorkflowBackend). `Debug` does not show a password.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct WorkflowConfig {
    /// The engine: `prefect`, which is also the default.
    pub engine: EngineKind,
    /// Where its API is: `http://127.0.0.1:4200/api` by default.
    pub url: String,
    /// Where people look at its runs, for links; derived from `url` unless set.
    pub ui_url: Option<String>,
    /// The user for basic authentication.
    pub username: Option<String>,
    /// The password for basic authentication: `{ env = "NAME" }` or `{ file = "/path" }`.
    #[schemars(schema_with = "secret_schema")]
    pub password: Option<Secret>,
    /// The key for bearer authentication: `{ env = "NAME" }` or `{ file = "/path" }`.
    #[schemars(schema_with = "secret_schema")]
    pub api_key: Option<Secret>,
    /// The certificates that an `https://` server's is checked against besides the system's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// How long one call may take. 30 seconds by default.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration_schema")]
    pub timeout: Duration,
    /// The pool whose workers run tasks of ours. `hybrid-scheduler` by default.
    pub work_pool: String,
    /// The program that runs a task on a worker: `scheduler` by default, or a path on the worker's machine.
    pub program: String,
    /// The configuration that this program reads, a path on the worker's machine; the one that this section stands in
    /// unless set.
    pub config_file: Option<String>,
    /// The folder on the worker's machine that holds our flow, as `scheduler workflow install` puts it there;
    /// `workflow` in the data folder unless set.
    pub flow_folder: Option<String>,
    /// Environment variables for the worker's process.
    pub env: BTreeMap<String, String>,
    /// Whether schedules of tasks that the configuration no longer has are deleted. They are reported otherwise.
    pub prune: bool,
    /// Whether the engine's stream of events tells what changes; runs are looked at as well, but only every `idle_poll`.
    pub events: bool,
    /// How often the runs that live are looked at. Two seconds by default.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration_schema")]
    pub poll: Duration,
    /// How often new runs are looked for while none lives. Fifteen seconds by default.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration_schema")]
    pub idle_poll: Duration,
}

/// The workflow engines that are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EngineKind {
    /// Prefect 3.
    #[default]
    Prefect,
}

impl Default for WorkflowConfig {
    fn default() -> Self {
        Self {
            engine: EngineKind::Prefect,
            url: "http://127.0.0.1:4200/api".to_owned(),
            ui_url: None,
            username: None,
            password: None,
            api_key: None,
            ca_file: None,
            timeout: Duration::from_secs(30),
            work_pool: "hybrid-scheduler".to_owned(),
            program: "scheduler".to_owned(),
            config_file: None,
            flow_folder: None,
            env: BTreeMap::new(),
            prune: false,
            events: false,
            poll: Duration::from_secs(2),
            idle_poll: Duration::from_secs(15),
        }
    }
}

impl WorkflowConfig {
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
        let urls = [("/url", Some(&self.url)), ("/ui_url", self.ui_url.as_ref())];
        for (place, url) in urls.into_iter().filter_map(|(place, url)| Some((place, url?))) {
            faults.extend(read_url(url).err().map(|fault| {
                let help = format!("write {} = \"http://HOST:4200/api\"", &place[1..]);
                ArgsError::new(place, format!("`{}` {fault}", shown_url(url).escape_debug())).with_help(help)
            }));
        }
        faults.extend(self.credential_faults());
        if self.ca_file.is_some() && !self.url.starts_with("https:") {
            let message = "certificates are for TLS only";
            faults.push(ArgsError::new("/ca_file", message).with_help("write an `https://` URL"));
        }
        for (place, text) in [("/work_pool", &self.work_pool), ("/program", &self.program)] {
            if text.trim().is_empty() {
                faults.push(ArgsError::new(place, "is empty").with_help("leave it out for the default"));
            }
        }
        if self.work_pool.contains(['/', '%', '&', '>', '<']) {
            let message = format!("`{}` holds one of / % & > <", self.work_pool.escape_debug());
            faults.push(ArgsError::new("/work_pool", message));
        }
        for name in self.env.keys().filter(|name| name.is_empty() || name.contains(['=', '\0'])) {
            let message = format!("`{}` is no name of a variable", name.escape_debug());
            faults.push(ArgsError::new("/env", message));
        }
        let longest = Duration::from_secs(3_600);
        for (place, length, shortest) in [
            ("/timeout", self.timeout, Duration::from_millis(100)),
            ("/poll", self.poll, SHORTEST_POLL),
            ("/idle_poll", self.idle_poll, SHORTEST_POLL),
        ] {
            if !(shortest..=longest).contains(&length) {
                let message = format!("{length:?} is not between {shortest:?} and one hour");
                faults.push(ArgsError::new(place, message));
            }
        }
        faults
    }

    fn credential_faults(&self) -> Vec<ArgsError> {
        match (&self.username, &self.password, &self.api_key) {
            (None, None, _) | (Some(_), Some(_), None) => Vec::new(),
            (Some(_), None, _) => vec![
                ArgsError::new("/username", "a user without a password")
                    .with_help("write password = { env = \"NAME\" } as well"),
            ],
            (None, Some(_), _) => {
                vec![ArgsError::new("/password", "a password without a user").with_help("set `username`")]
            }
            (Some(_), Some(_), Some(_)) => vec![
                ArgsError::new("/api_key", "a key beside a user and a password")
                    .with_help("give one of the two"),
            ],
        }
    }

    /// The URL without what stands before its host.
    pub(crate) fn shown_url(&self) -> String {
        shown_url(&self.url)
    }
}

impl fmt::Debug for WorkflowConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkflowConfig")
            .field("engine", &self.engine)
            .field("url", &self.shown_url())
            .field("username", &self.username)
            .field("password", &self.password)
            .field("api_key", &self.api_key)
            .field("work_pool", &self.work_pool)
            .field("prune", &self.prune)
            .finish_non_exhaustive()
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
        assert_eq!(WorkflowConfig::from_value(&Value::Null).unwrap(), WorkflowConfig::default());
        let section = json!({"url": "https://h/api", "timeout": "5s", "api_key": {"env": "K"}});
        let config = WorkflowConfig::from_value(&section).unwrap();
        assert_eq!((config.timeout.as_secs(), config.work_pool.as_str()), (5, "hybrid-scheduler"));
    }

    #[test]
    fn every_fault_of_the_section_has_its_place() {
        let section = json!({
            "url": "ftp://h", "ui_url": "x", "password": {"env": "P"}, "work_pool": "a/b", "program": "",
            "env": {"A=B": "1"}, "timeout": "1ms", "poll": "2h",
        });
        let faults = WorkflowConfig::from_value(&section).unwrap_err();
        let places: Vec<&str> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        let expected =
            ["/url", "/ui_url", "/password", "/program", "/work_pool", "/env", "/timeout", "/poll"];
        assert_eq!(places, expected);
        for (section, place) in [
            (json!({"engine": "airflow"}), "/engine"),
            (json!({"surprise": 1}), "/surprise"),
            (json!({"poll": 3}), "/poll"),
            (json!({"api_key": "plain"}), "/api_key"),
        ] {
            assert_eq!(WorkflowConfig::from_value(&section).unwrap_err()[0].pointer, place);
        }
    }

    #[test]
    fn credentials_come_whole_and_once() {
        let (user, password, key) = (json!("u"), json!({"env": "P"}), json!({"env": "K"}));
        let place = |section: Value| WorkflowConfig::from_value(&section).map_err(|f| f[0].pointer.clone());
        assert!(place(json!({"username": user, "password": password})).is_ok());
        assert_eq!(place(json!({"username": user})).unwrap_err(), "/username");
        let both = json!({"username": user, "password": password, "api_key": key});
        assert_eq!(place(both).unwrap_err(), "/api_key");
    }

    #[test]
    fn no_message_and_no_debug_output_shows_a_password() {
        let url = "http://u:hunter2@h/api";
        let faults = WorkflowConfig::from_value(&json!({"url": url})).unwrap_err();
        let config = WorkflowConfig { url: url.to_owned(), ..WorkflowConfig::default() };
        assert!(!format!("{faults:?}{config:?}").contains("hunter2"));
    }
}
