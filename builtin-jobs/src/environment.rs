//! The environment that a program gets: nothing but what is listed here.
//!
//! It is made of the variables of the daemon that the allow-list names, the task's own, and the run's; a later
//! one wins. A secret in the daemon's environment stays there.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use scheduler_core::{ArgsError, Error, Result, RunContext, Secret};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use crate::marks::Owner;

/// What is passed on from the daemon's environment unless a task says otherwise.
pub(crate) const PASSED: [&str; 8] = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// Where programs are looked up when the child has no `PATH`, as most C libraries do it.
const DEFAULT_PATH: &str = "/usr/bin:/bin";

/// Names the configuration of a daemon; passed on so that a program may call `scheduler`.
const CONFIG: &str = "SCHEDULER_CONFIG";

pub(crate) const RUN_ID: &str = "SCHEDULER_RUN_ID";
pub(crate) const TASK: &str = "SCHEDULER_TASK";
pub(crate) const OWNER: &str = "SCHEDULER_EXEC_OWNER";

/// The variables of a run; a task cannot set them.
const RUN_VARIABLES: [&str; 8] = [
    TASK,
    RUN_ID,
    "SCHEDULER_FIRE_TIME",
    "SCHEDULER_ATTEMPT",
    "SCHEDULER_FENCE",
    "SCHEDULER_IDEMPOTENCY_KEY",
    "TRACEPARENT",
    OWNER,
];

/// Where the variables of a program come from.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    passed: Vec<String>,
    own: BTreeMap<String, EnvValue>,
}

/// The value of a variable: a text, or the place of a secret.
#[derive(Clone, Debug)]
pub(crate) enum EnvValue {
    Text(String),
    Secret(Secret),
}

impl Environment {
    /// Passes on the daemon's variables that `passed` names, and adds `own`.
    ///
    /// # Errors
    /// Every name that no variable can have, every value that holds a NUL byte, and what only the run may set.
    pub(crate) fn new(passed: Vec<String>, own: BTreeMap<String, EnvValue>) -> Result<Self, Vec<ArgsError>> {
        let faulty_passed = passed.iter().enumerate().filter_map(|(index, name)| {
            bad_name(name).map(|fault| ArgsError::new(format!("/pass_env/{index}"), fault))
        });
        let faulty_own = own.iter().filter_map(|(name, value)| {
            let pointer = format!("/env/{}", name.replace('~', "~0").replace('/', "~1"));
            bad_name(name).or_else(|| bad_value(name, value)).map(|fault| ArgsError::new(pointer, fault))
        });
        let faults: Vec<ArgsError> = faulty_passed.chain(faulty_own).collect();
        if faults.is_empty() { Ok(Self { passed, own }) } else { Err(faults) }
    }

    /// Where the child's programs are looked up.
    pub(crate) fn path(&self) -> OsString {
        let path = match self.own.get("PATH") {
            Some(EnvValue::Text(text)) => Some(text.into()),
            // `new` refuses a secret here.
            Some(EnvValue::Secret(_)) | None => self.passed("PATH"),
        };
        path.unwrap_or_else(|| DEFAULT_PATH.into())
    }

    /// All variables for one attempt, secrets read now.
    ///
    /// # Errors
    /// A secret that cannot be read, or that no variable can hold; the message names its place.
    pub(crate) fn resolve(&self, ctx: &RunContext) -> Result<BTreeMap<String, OsString>> {
        let passed = self.passed.iter().filter_map(|name| Some((name.clone(), self.passed(name)?)));
        let mut variables: BTreeMap<String, OsString> = passed.collect();
        // The program may work in another folder, from which a relative path would lead nowhere.
        if let Some(config) = std::env::var_os(CONFIG).and_then(|path| std::path::absolute(path).ok()) {
            variables.insert(CONFIG.to_owned(), config.into());
        }
        for (name, value) in &self.own {
            variables.insert(name.clone(), value.resolve(name)?.into());
        }
        let run = run_variables(ctx).into_iter().map(|(name, value)| (name.to_owned(), value.into()));
        variables.extend(run);
        Ok(variables)
    }

    fn passed(&self, name: &str) -> Option<OsString> {
        self.passed.iter().any(|passed| passed == name).then(|| std::env::var_os(name)).flatten()
    }
}

impl EnvValue {
    fn resolve(&self, name: &str) -> Result<String> {
        let secret = match self {
            Self::Text(text) => return Ok(text.clone()),
            Self::Secret(secret) => secret.resolve()?,
        };
        if secret.expose().contains('\0') {
            return Err(Error::invalid(
                "exec/bad_secret",
                format!("the secret for `{name}` holds a NUL byte"),
            ));
        }
        Ok(secret.expose().to_owned())
    }
}

fn run_variables(ctx: &RunContext) -> Vec<(&'static str, String)> {
    let mut variables = vec![
        (TASK, ctx.task().to_string()),
        (RUN_ID, ctx.run_id().to_string()),
        ("SCHEDULER_FIRE_TIME", ctx.fire_time().to_string()),
        ("SCHEDULER_ATTEMPT", ctx.attempt().to_string()),
        ("SCHEDULER_FENCE", ctx.fence().to_string()),
        ("SCHEDULER_IDEMPOTENCY_KEY", ctx.idempotency_key()),
        ("TRACEPARENT", ctx.traceparent()),
    ];
    variables.extend(Owner::current().map(|owner| (OWNER, owner.to_string())));
    variables
}

fn bad_name(name: &str) -> Option<String> {
    let shown = name.escape_debug();
    if name.is_empty() {
        return Some("the name of a variable is empty".to_owned());
    }
    if let Some(bad) = name.chars().find(|c| matches!(c, '=' | '\0')) {
        return Some(format!("`{shown}` is no name of a variable: it holds {bad:?}"));
    }
    RUN_VARIABLES.contains(&name).then(|| format!("`{shown}` is set by the run itself"))
}

fn bad_value(name: &str, value: &EnvValue) -> Option<String> {
    match value {
        EnvValue::Text(text) if text.contains('\0') => {
            Some(format!("the value of `{name}` holds a NUL byte"))
        }
        EnvValue::Secret(_) if name == "PATH" => Some(
            "`PATH` cannot be a secret: the program is looked up in it when the task is checked".to_owned(),
        ),
        EnvValue::Text(_) | EnvValue::Secret(_) => None,
    }
}

impl<'de> Deserialize<'de> for EnvValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EnvValueVisitor)
    }
}

struct EnvValueVisitor;

impl<'de> Visitor<'de> for EnvValueVisitor {
    type Value = EnvValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a string, or a secret: { env = "NAME" } or { file = "/path" }"#)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<EnvValue, E> {
        Ok(EnvValue::Text(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EnvValue, A::Error> {
        Secret::deserialize(MapAccessDeserializer::new(map)).map(EnvValue::Secret)
    }
}

impl JsonSchema for EnvValue {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EnvValue".into()
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
    fn a_variable_is_a_text_or_the_place_of_a_secret() {
        let cases = [
            (json!("text"), None),
            (json!({"env": "TOKEN"}), None),
            (json!({"file": "/run/token"}), None),
            (json!(80), Some("invalid type: integer `80`, expected a string, or a secret")),
            (json!({"value": "canary"}), Some("unknown field `value`")),
            (json!({}), Some("a secret is written")),
        ];
        for (value, fault) in cases {
            let read = serde_json::from_value::<EnvValue>(value.clone());
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

    #[test]
    fn names_and_values_that_no_variable_can_have_are_faults() {
        let cases = [
            ("A", json!("x"), None),
            ("", json!("x"), Some("is empty")),
            ("A=B", json!("x"), Some("holds '='")),
            ("A\0", json!("x"), Some(r"holds '\0'")),
            ("A", json!("x\0canary"), Some("`A` holds a NUL")),
            ("TRACEPARENT", json!("x"), Some("set by the run")),
            ("PATH", json!({"env": "X"}), Some("cannot be a secret")),
        ];
        for (name, value, fault) in cases {
            let own = BTreeMap::from([(name.to_owned(), serde_json::from_value(value).unwrap())]);
            let faults = Environment::new(vec![], own).err().unwrap_or_default();
            assert_eq!(faults.len(), usize::from(fault.is_some()), "{name}");
            for (found, expected) in faults.iter().zip(fault) {
                assert!(found.message.contains(expected) && !found.message.contains("canary"), "{found}");
            }
        }
    }
}
