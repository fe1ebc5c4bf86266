//! Single values that the environment or a flag sets.

use std::ffi::OsString;

use serde_json::{Map, Value};

use crate::diagnostic::Diagnostic;
use crate::origin::Origin;
use crate::suggest::suggestion;
use crate::{pointer, toml_file};

/// Set for the programs that we run, or read before there is a configuration: no settings.
pub(crate) const NO_SETTINGS: [&str; 8] = [
    "SCHEDULER_TASK",
    "SCHEDULER_RUN_ID",
    "SCHEDULER_FIRE_TIME",
    "SCHEDULER_ATTEMPT",
    "SCHEDULER_FENCE",
    "SCHEDULER_IDEMPOTENCY_KEY",
    "SCHEDULER_PARAMS",
    "SCHEDULER_CONFIG",
];

/// What a variable of this name sets, if it is a setting.
fn setting(name: &str) -> Option<&str> {
    if NO_SETTINGS.contains(&name)
        || name.starts_with("SCHEDULER_EXEC_")
        || name.starts_with("SCHEDULER_PARAM_")
    {
        return None;
    }
    name.strip_prefix("SCHEDULER_")
}

/// The variables that are text, and the faults of settings that are not; other programs' are passed over.
pub(crate) fn texts(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> (Vec<(String, String)>, Vec<Diagnostic>) {
    let (mut texts, mut faults) = (Vec::new(), Vec::new());
    for (name, value) in variables {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => texts.push((name, value)),
            (name, _) => {
                let variable = name.unwrap_or_else(|name| name.to_string_lossy().into_owned());
                faults.extend(setting(&variable).is_some().then(|| not_text(variable)));
            }
        }
    }
    (texts, faults)
}

fn not_text(variable: String) -> Diagnostic {
    let origin = Origin::Environment { variable, over: None };
    let message = format!("{} is not UTF-8", origin.place());
    Diagnostic::error("config/not_utf8", message, origin).with_help("write it as UTF-8, or unset it")
}

/// One value that the environment or a flag sets.
pub(crate) struct Override {
    origin: Origin,
    path: Vec<String>,
    raw: String,
    value: Value,
}

impl Override {
    /// What a variable sets, if it is a setting.
    pub(crate) fn variable(name: String, raw: String) -> Option<Self> {
        let path = setting(&name)?.to_lowercase();
        let path = path.split("__").map(str::to_owned).collect();
        Some(Self::new(Origin::Environment { variable: name, over: None }, path, raw))
    }

    /// What a flag sets; the keys of its path are separated by dots.
    pub(crate) fn flag(key: &str, raw: &str) -> Self {
        let path = key.split('.').map(str::to_owned).collect();
        Self::new(Origin::Flag { key: key.to_owned() }, path, raw.to_owned())
    }

    fn new(origin: Origin, path: Vec<String>, raw: String) -> Self {
        let value = toml_file::parse_value(&raw).unwrap_or_else(|| Value::String(raw.clone()));
        Self { origin, path, raw, value }
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The value as it was written.
    pub(crate) fn raw(&self) -> &str {
        &self.raw
    }

    pub(crate) fn pointer(&self) -> String {
        pointer::from_path(self.path.iter().map(String::as_str))
    }

    /// The value under its path, and nothing else.
    pub(crate) fn tree(&self) -> Value {
        let wrap = |inner, key: &String| Value::Object(Map::from_iter([(key.clone(), inner)]));
        self.path.iter().rev().fold(self.value.clone(), wrap)
    }

    /// The faults of changing tasks or backends that no file defines: mostly a typing error, which
    /// would otherwise change nothing in silence.
    pub(crate) fn unknown(&self, written: &Value, new_backends: &[String]) -> Vec<Diagnostic> {
        let (section, kind) = match self.path.first().map(String::as_str) {
            Some("tasks") => ("tasks", "task"),
            Some("backends") => ("backends", "backend"),
            _ => return Vec::new(),
        };
        let mut known: Vec<&str> = match written.get(section) {
            Some(Value::Object(table)) => table.keys().map(String::as_str).collect(),
            _ => Vec::new(),
        };
        if section == "backends" {
            known.extend(new_backends.iter().map(String::as_str));
        }
        let changed: Vec<&str> = match (self.path.get(1), &self.value) {
            (Some(name), _) => vec![name],
            (None, Value::Object(table)) => table.keys().map(String::as_str).collect(),
            (None, _) => Vec::new(),
        };
        let unknown = changed.into_iter().filter(|name| !known.contains(name));
        unknown
            .map(|name| {
                let place = self.origin.place();
                let message = format!("{place} changes {kind} `{name}`, which no file defines");
                Diagnostic::error("config/unknown_override", message, self.origin.clone())
                    .with_help(suggestion(name, section, &known))
            })
            .collect()
    }
}
