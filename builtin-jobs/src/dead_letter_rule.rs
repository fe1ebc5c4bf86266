//! What is done with a dead letter: the first rule that fits its task and its error decides.

use std::time::Duration;

use scheduler_core::{ArgsError, DeadLetter, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dead_letter_pattern::Pattern;
use crate::duration;

/// The class of letters that no rule fits: they wait for a person.
pub(crate) const OTHER: &str = "other";

/// The most replays of one letter that can be asked for.
pub(crate) const MOST_REPLAYS: u32 = 100;

/// When a letter runs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Policy {
    /// Not at all.
    Never,
    /// With the next run of this job.
    Immediate,
    /// After `delay`, twice that, three times that, up to `max_delay`.
    Linear,
    /// After `delay`, twice that, four times that, up to `max_delay`.
    Exponential,
}

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

fn max_delay() -> Duration {
    Duration::from_secs(3_600)
}

fn replays() -> u32 {
    3
}

/// A rule that can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) class: String,
    errors: Vec<Pattern>,
    tasks: Vec<Name>,
    pub(crate) policy: Policy,
    delay: Duration,
    max_delay: Duration,
    pub(crate) replays: u32,
    pub(crate) archive_after: Option<Duration>,
}

/// The rules in their order, and behind them what holds for all others.
#[derive(Clone, Debug)]
pub(crate) struct Rules(Vec<Rule>);

impl Policy {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Immediate => "immediate",
            Self::Linear => "linear",
            Self::Exponential => "exponential",
        }
    }
}

impl RuleArgs {
    fn read(self, index: usize) -> Result<Rule, Vec<ArgsError>> {
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

impl Rule {
    /// How long a letter that was replayed `count` times waits for the next time.
    pub(crate) fn wait(&self, count: u32) -> Duration {
        let wait = match self.policy {
            Policy::Never | Policy::Immediate => Duration::ZERO,
            Policy::Linear => self.delay.saturating_mul(count.saturating_add(1)),
            Policy::Exponential => self.delay.saturating_mul(2_u32.saturating_pow(count)),
        };
        wait.min(self.max_delay)
    }

    fn fits(&self, letter: &DeadLetter, error: &str) -> bool {
        (self.tasks.is_empty() || self.tasks.contains(&letter.run.task))
            && (self.errors.is_empty() || self.errors.iter().any(|pattern| pattern.fits(error)))
    }
}

impl Rules {
    /// The rules of a task, or those it has without any.
    ///
    /// # Errors
    /// Every fault, with its place.
    pub(crate) fn read(args: Option<Vec<RuleArgs>>) -> Result<Self, Vec<ArgsError>> {
        let Some(args) = args else { return Ok(Self::usual()) };
        let mut faults = Vec::new();
        let mut rules: Vec<Rule> = Vec::new();
        for (index, rule) in args.into_iter().enumerate() {
            match rule.read(index) {
                Ok(rule) if rules.iter().any(|other| other.class == rule.class) => {
                    let fault = format!("`{}` is the class of an earlier rule", rule.class);
                    faults
                        .push(ArgsError::new(format!("/rules/{index}/class"), fault).with_help("rename it"));
                }
                Ok(rule) => rules.push(rule),
                Err(found) => faults.extend(found),
            }
        }
        if faults.is_empty() { Ok(Self(rules).with_others()) } else { Err(faults) }
    }

    /// What is done unless a task says otherwise: what time may heal runs again, all else waits for a person.
    fn usual() -> Self {
        let network = [
            "connection refused",
            "connection reset",
            "no connection",
            "no route to host",
            "broken pipe",
            "timed out",
            "timeout",
            "name resolution",
        ];
        let transient = [
            "temporarily",
            "temporary failure",
            "unavailable",
            "too many requests",
            "rate limit*",
            "try again",
            "overloaded",
            "database is locked",
        ];
        let resource = ["no space left", "out of memory", "cannot allocate", "quota", "too many open files"];
        let rule = |class: &str, errors: &[&str], policy, delay| Rule {
            class: class.to_owned(),
            errors: errors.iter().filter_map(|error| Pattern::parse(error)).collect(),
            tasks: Vec::new(),
            policy,
            delay: Duration::from_secs(delay),
            max_delay: max_delay(),
            replays: replays(),
            archive_after: None,
        };
        Self(vec![
            rule("network", &network, Policy::Exponential, 60),
            rule("transient", &transient, Policy::Exponential, 60),
            rule("resource", &resource, Policy::Linear, 300),
        ])
        .with_others()
    }

    fn with_others(mut self) -> Self {
        self.0.push(Rule {
            class: OTHER.to_owned(),
            errors: Vec::new(),
            tasks: Vec::new(),
            policy: Policy::Never,
            delay: Duration::ZERO,
            max_delay: max_delay(),
            replays: replays(),
            archive_after: None,
        });
        self
    }

    /// The rule for a letter.
    pub(crate) fn of(&self, letter: &DeadLetter) -> &Rule {
        let error = letter.run.reason.as_deref().unwrap_or_default().to_lowercase();
        let found = self.0.iter().find(|rule| rule.fits(letter, &error));
        found.or(self.0.last()).expect("the rule for all others fits")
    }

    /// The rule of this class, if there is one.
    pub(crate) fn named(&self, class: &str) -> Option<&Rule> {
        self.0.iter().find(|rule| rule.class == class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scheduler_core::{Run, RunId, Tier, Timestamp};
    use serde_json::json;

    fn letter(task: &str, error: &str) -> DeadLetter {
        let name = |text| Name::new(text).unwrap();
        let at = Timestamp::from_millis(0);
        let mut run = Run::queued(RunId::manual(at), name(task), name("queue"), Tier::Queue, at);
        run.reason = Some(error.to_owned());
        DeadLetter::new(run, at)
    }

    #[test]
    fn what_time_may_heal_runs_again_and_all_else_waits_for_a_person() {
        let rules = Rules::read(None).unwrap();
        let cases = [
            ("exit code 1: connect: Connection refused", "network", Policy::Exponential),
            ("timed out after 30s", "network", Policy::Exponential),
            ("HTTP 503 Service Unavailable", "transient", Policy::Exponential),
            ("write: No space left on device (os error 28)", "resource", Policy::Linear),
            ("permission denied", OTHER, Policy::Never),
            ("the namespace has no author", OTHER, Policy::Never),
            ("", OTHER, Policy::Never),
        ];
        for (error, class, policy) in cases {
            let letter = letter("import", error);
            let rule = rules.of(&letter);
            assert_eq!((rule.class.as_str(), rule.policy), (class, policy), "{error}");
        }
    }

    #[test]
    fn waits_grow_as_the_policy_says_up_to_the_longest() {
        let rule = |policy: &str| {
            let args = json!([{"class": "a", "policy": policy, "delay": "10s", "max_delay": "1m"}]);
            Rules::read(serde_json::from_value(args).unwrap()).unwrap().0.remove(0)
        };
        let waits = |policy| [0, 1, 2, 3, 90].map(|count| rule(policy).wait(count).as_secs());
        assert_eq!(waits("immediate"), [0, 0, 0, 0, 0]);
        assert_eq!(waits("linear"), [10, 20, 30, 40, 60]);
        assert_eq!(waits("exponential"), [10, 20, 40, 60, 60]);
    }

    #[test]
    fn the_first_rule_that_fits_task_and_error_decides() {
        let args = json!([
            {"class": "a", "tasks": ["import"], "errors": ["http 5*"], "policy": "immediate"},
            {"class": "b", "tasks": ["import"], "policy": "linear"},
        ]);
        let rules = Rules::read(serde_json::from_value(args).unwrap()).unwrap();
        for (task, error, class) in
            [("import", "HTTP 503", "a"), ("import", "HTTP 404", "b"), ("other", "HTTP 503", OTHER)]
        {
            assert_eq!(rules.of(&letter(task, error)).class, class, "{task} {error}");
        }
    }
}
