//! What is done with a dead letter: the first rule that fits its task and its error decides.

use std::time::Duration;

use scheduler_core::{ArgsError, DeadLetter, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dead_letter_pattern::Pattern;
use crate::dead_letter_rule_args::{RuleArgs, max_delay, replays};

/// The class of letters that no rule fits: they wait for a person.
pub(crate) const OTHER: &str = "other";

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

/// A rule that can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) class: String,
    pub(crate) errors: Vec<Pattern>,
    pub(crate) tasks: Vec<Name>,
    pub(crate) policy: Policy,
    pub(crate) delay: Duration,
    pub(crate) max_delay: Duration,
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
