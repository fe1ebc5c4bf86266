//! The args of the job `health_check` and their defaults, read into checks.

use std::time::Duration;

use scheduler_core::ArgsError;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::address::Allowed;
use crate::duration;
use crate::health_check_args::CheckArgs;
use crate::health_probe::Check;
use crate::health_standing::Damping;

/// The most checks of a task: all of them are under way at once, and each has metrics of its own.
const MOST_CHECKS: usize = 1_000;

/// Looks at targets side by side and fails when one of them has failed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HealthArgs {
    /// What is looked at, at most 1000 targets.
    checks: Vec<CheckArgs>,
    /// The limit for each check that has none of its own. 5 seconds by default.
    #[serde(default = "timeout", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    timeout: Duration,
    /// How many results in a row, or out of the latest ones, change a status. Two in a row by default.
    #[serde(default)]
    pub(crate) damping: Damping,
    /// Addresses besides public ones that may be connected to, as in the job `http`. By default `loopback`,
    /// `private` and `shared`: one's own network.
    #[serde(default = "allow")]
    allow: Vec<String>,
}

fn timeout() -> Duration {
    Duration::from_secs(5)
}

fn allow() -> Vec<String> {
    ["loopback", "private", "shared"].map(str::to_owned).to_vec()
}

impl HealthArgs {
    /// The checks.
    ///
    /// # Errors
    /// Every fault that can be told without looking at a target.
    pub(crate) fn read(self) -> Result<Vec<Check>, Vec<ArgsError>> {
        let mut faults: Vec<ArgsError> = self.damping.faults().into_iter().collect();
        if self.checks.is_empty() {
            faults.push(ArgsError::new("/checks", "there is nothing to check").with_help("add a check"));
        }
        if self.checks.len() > MOST_CHECKS {
            let fault = format!("{} checks are more than {MOST_CHECKS}", self.checks.len());
            faults.push(ArgsError::new("/checks", fault).with_help("divide them into several tasks"));
        }
        let limits = self
            .checks
            .iter()
            .enumerate()
            .map(|(index, check)| (format!("/checks/{index}/timeout"), check.timeout));
        for (pointer, limit) in limits.chain([("/timeout".to_owned(), Some(self.timeout))]) {
            if limit.is_some_and(|limit| limit.is_zero()) {
                let fault = ArgsError::new(pointer, "a limit of nothing lets nothing succeed");
                faults.push(fault.with_help("write `5s`"));
            }
        }
        faults.extend(bad_names(&self.checks));
        let allowed = Allowed::parse(&self.allow, "/allow").map_err(|found| faults.extend(found));
        let mut checks = Vec::new();
        // What may be connected to is not known where `allow` cannot be read.
        let Ok(allowed) = allowed else { return Err(faults) };
        for (index, check) in self.checks.into_iter().enumerate() {
            match check.read(&allowed, &self.allow, self.timeout) {
                Ok(check) => checks.push(check),
                Err(found) => faults.extend(found.into_iter().map(|fault| below(index, fault))),
            }
        }
        if faults.is_empty() { Ok(checks) } else { Err(faults) }
    }
}

fn bad_names(checks: &[CheckArgs]) -> Vec<ArgsError> {
    let mut faults = Vec::new();
    for (index, check) in checks.iter().enumerate() {
        let fault = |text: String| ArgsError::new(format!("/checks/{index}/name"), text);
        let name = check.name.escape_debug();
        if check.name.trim().is_empty() || check.name.chars().any(char::is_control) {
            faults.push(fault(format!("`{name}` is no name that can be told")));
        }
        if checks[..index].iter().any(|other| other.name == check.name) {
            faults.push(fault(format!("`{name}` is the name of an earlier check")).with_help("rename it"));
        }
    }
    faults
}

/// The same fault, below its check.
pub(crate) fn below(index: usize, fault: ArgsError) -> ArgsError {
    ArgsError { pointer: format!("/checks/{index}{}", fault.pointer), ..fault }
}
