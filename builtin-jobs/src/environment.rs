//! The environment that a program gets: nothing but what is listed here.
//!
//! It is made of the variables of the daemon that the allow-list names, the task's own, and the run's; a later
//! one wins. A secret in the daemon's environment stays there.

use std::collections::BTreeMap;
use std::ffi::OsString;

use scheduler_core::{ArgsError, Error, Result, RunContext};

use crate::marks::Owner;
use crate::text_or_secret::TextOrSecret;
use crate::{params, pointer};

/// What is passed on from the daemon's environment unless a task says otherwise.
pub(crate) const PASSED: [&str; 8] = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// Where programs are looked up when the child has no `PATH`, as most C libraries do it.
pub(crate) const DEFAULT_PATH: &str = "/usr/bin:/bin";

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
    own: BTreeMap<String, TextOrSecret>,
}

impl Environment {
    /// Passes on the daemon's variables that `passed` names, and adds `own`.
    ///
    /// # Errors
    /// Every name that no variable can have, every value that holds a NUL byte, and what only the run may set.
    pub(crate) fn new(
        passed: Vec<String>,
        own: BTreeMap<String, TextOrSecret>,
    ) -> Result<Self, Vec<ArgsError>> {
        let faulty_passed = passed.iter().enumerate().filter_map(|(index, name)| {
            bad_name(name).map(|fault| ArgsError::new(format!("/pass_env/{index}"), fault))
        });
        let faulty_own = own.iter().filter_map(|(name, value)| {
            let pointer = pointer::below("/env", name);
            bad_name(name).or_else(|| bad_value(name, value)).map(|fault| ArgsError::new(pointer, fault))
        });
        let faults: Vec<ArgsError> = faulty_passed.chain(faulty_own).collect();
        if faults.is_empty() { Ok(Self { passed, own }) } else { Err(faults) }
    }

    /// Where the child's programs are looked up.
    pub(crate) fn path(&self) -> OsString {
        let path = match self.own.get("PATH") {
            Some(TextOrSecret::Text(text)) => Some(text.into()),
            // `new` refuses a secret here.
            Some(TextOrSecret::Secret(_)) | None => self.passed("PATH"),
        };
        path.unwrap_or_else(|| DEFAULT_PATH.into())
    }

    /// The secrets that cannot be read now.
    pub(crate) fn missing(&self) -> impl Iterator<Item = ArgsError> {
        self.own.iter().filter_map(|(name, value)| value.missing(pointer::below("/env", name)))
    }

    /// All variables for one attempt, secrets read now.
    ///
    /// # Errors
    /// A secret that cannot be read, or that no variable can hold; the message names its place. Parameters that
    /// are too large.
    pub(crate) fn resolve(&self, ctx: &RunContext) -> Result<BTreeMap<String, OsString>> {
        let passed = self.passed.iter().filter_map(|name| Some((name.clone(), self.passed(name)?)));
        let mut variables: BTreeMap<String, OsString> = passed.collect();
        // The program may work in another folder, from which a relative path would lead nowhere.
        if let Some(config) = std::env::var_os(CONFIG).and_then(|path| std::path::absolute(path).ok()) {
            variables.insert(CONFIG.to_owned(), config.into());
        }
        for (name, value) in &self.own {
            variables.insert(name.clone(), value_of(name, value)?.into());
        }
        let run = run_variables(ctx).into_iter().map(|(name, value)| (name.to_owned(), value.into()));
        variables.extend(run);
        variables
            .extend(params::variables(ctx.params())?.into_iter().map(|(name, value)| (name, value.into())));
        Ok(variables)
    }

    fn passed(&self, name: &str) -> Option<OsString> {
        self.passed.iter().any(|passed| passed == name).then(|| std::env::var_os(name)).flatten()
    }
}

fn value_of(name: &str, value: &TextOrSecret) -> Result<String> {
    let value = value.read()?;
    if value.contains('\0') {
        let message = format!("the secret for `{name}` holds a NUL byte");
        return Err(Error::invalid("exec/bad_secret", message));
    }
    Ok(value)
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
    let is_runs = RUN_VARIABLES.contains(&name) || name == params::PARAMS || name.starts_with(params::PARAM);
    is_runs.then(|| format!("`{shown}` is set by the run itself"))
}

fn bad_value(name: &str, value: &TextOrSecret) -> Option<String> {
    match value {
        TextOrSecret::Text(text) if text.contains('\0') => {
            Some(format!("the value of `{name}` holds a NUL byte"))
        }
        TextOrSecret::Secret(_) if name == "PATH" => Some(
            "`PATH` cannot be a secret: the program is looked up in it when the task is checked".to_owned(),
        ),
        TextOrSecret::Text(_) | TextOrSecret::Secret(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_and_values_that_no_variable_can_have_are_faults() {
        let cases = [
            ("A", json!("x"), None),
            ("", json!("x"), Some("is empty")),
            ("A=B", json!("x"), Some("holds '='")),
            ("A\0", json!("x"), Some(r"holds '\0'")),
            ("A", json!("x\0canary"), Some("`A` holds a NUL")),
            ("TRACEPARENT", json!("x"), Some("set by the run")),
            ("SCHEDULER_PARAM_X", json!("x"), Some("set by the run")),
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
