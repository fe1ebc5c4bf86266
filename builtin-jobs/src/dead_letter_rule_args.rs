//! The args of a rule for dead letters, and their defaults.

use std::time::Duration;

use scheduler_core::{ArgsError, Name};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::dead_letter_pattern::Pattern;
use crate::dead_letter_rule::{OTHER, Policy, Rule};
use crate::duration;

/// The most replays of one letter that can be asked for.
pub(crate) const MOST_REPLAYS: u32 = 100;

/// Letters of one class, and what is done with them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleArgs {
    /// What the class is called, once in a task.
    class: String,
    /// Texts of which one stands in the error, whatever the case of its letters and as whole words; `*` stands for
    /// anything. Any error by default.
    #[serde(default)]
    errors: Vec<String>,
    /// Tasks whose letters are meant. All by default.
    #[serde(default)]
    tasks: Vec<String>,
    /// When they run again.
    policy: Policy,
    /// The first wait, counted from the failure. 5 minutes for `linear`, 1 minute for `exponential` by default.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    #[schemars(schema_with = "duration::schema")]
    delay: Option<Duration>,
    /// The longest wait. 1 hour by default.
    #[serde(default = "max_delay", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    max_delay: Duration,
    /// How often a letter runs again, at most 100, before it is given up. 3 by default.
    #[serde(default = "replays")]
    replays: u32,
    /// How long a letter that `never` runs again lies before it is archived. It is not by default; one that was
    /// given up is archived at once.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    #[schemars(schema_with = "duration::schema")]
    archive_after: Option<Duration>,
}

/// The longest wait unless a rule says otherwise.
pub(crate) fn max_delay() -> Duration {
    Duration::from_secs(3_600)
}

/// How often a letter runs again unless its rule says otherwise.
pub(crate) fn replays() -> u32 {
    3
}

impl RuleArgs {
    /// The rule, which stands at this place of the list.
    ///
    /// # Errors
    /// Every fault, with its place.
    pub(crate) fn read(self, index: usize) -> Result<Rule, Vec<ArgsError>> {
        let place = |key: &str| format!("/rules/{index}/{key}");
        let mut faults = Vec::new();
        let class = self.class.trim();
        if class.is_empty() || class == OTHER || self.class.chars().any(char::is_control) {
            let class = self.class.escape_debug();
            let fault = format!("`{class}` is no name for a class; `{OTHER}` is that of what no rule fits");
            faults.push(ArgsError::new(place("class"), fault));
        }
        if !(1..=MOST_REPLAYS).contains(&self.replays) {
            let fault = format!("{} replays are not from 1 to {MOST_REPLAYS}", self.replays);
            let help = "the policy `never` replays nothing";
            faults.push(ArgsError::new(place("replays"), fault).with_help(help));
        }
        if self.archive_after.is_some() && self.policy != Policy::Never {
            let fault = "`archive_after` is of no use here: what was given up is archived at once";
            faults.push(ArgsError::new(place("archive_after"), fault));
        }
        let delay = self.delay.unwrap_or(match self.policy {
            Policy::Linear => Duration::from_secs(300),
            Policy::Never | Policy::Immediate | Policy::Exponential => Duration::from_secs(60),
        });
        if delay > self.max_delay {
            faults.push(ArgsError::new(
                place("delay"),
                "the first wait is longer than the longest, `max_delay`",
            ));
        }
        let mut tasks = Vec::new();
        for (number, task) in self.tasks.iter().enumerate() {
            match Name::new(task.as_str()) {
                Ok(task) => tasks.push(task),
                Err(error) => {
                    faults.push(ArgsError::new(place(&format!("tasks/{number}")), error.to_string()));
                }
            }
        }
        let mut errors = Vec::new();
        for (number, error) in self.errors.iter().enumerate() {
            match Pattern::parse(error) {
                Some(pattern) => errors.push(pattern),
                None => faults.push(
                    ArgsError::new(place(&format!("errors/{number}")), "this text would fit any error")
                        .with_help("leave `errors` out for any"),
                ),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Rule {
            class: class.to_owned(),
            errors,
            tasks,
            policy: self.policy,
            delay,
            max_delay: self.max_delay,
            replays: self.replays,
            archive_after: self.archive_after,
        })
    }
}
