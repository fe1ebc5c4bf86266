//! `scheduler explain`: where a task runs and why, when, and under which policies.

use clap::Args;
use scheduler_core::{
    Classification, FiredBy, Misfire, MisfirePolicy, Name, OnUnavailable, Overlap, Placement, Priority,
    Spelled, Task, Tier, Timestamp,
};
use serde::Serialize;

use crate::checked::CheckedTask;
use crate::diagnostic::Severity;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::reasoning::{alternatives, labelled};
use crate::schedule;
use crate::session::Session;

/// Which task.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The task.
    task: String,
    #[command(flatten)]
    output: OutputFlag,
}

#[derive(Serialize)]
struct Explanation<'a> {
    task: &'a str,
    job: &'a str,
    /// Where it runs; without a backend, where it belongs.
    tier: Tier,
    backend: Option<&'a str>,
    reasons: &'a [String],
    classification: &'a Classification,
    facts: Vec<Fact>,
    schedule: String,
    next: Option<String>,
    next_words: String,
    policies: Vec<Policy>,
    warnings: Vec<Warning<'a>>,
}

/// A characteristic and where its value comes from.
#[derive(Serialize)]
struct Fact {
    field: &'static str,
    value: &'static str,
    from: &'static str,
}

#[derive(Serialize)]
struct Policy {
    name: &'static str,
    value: String,
    is_default: bool,
}

#[derive(Serialize)]
struct Warning<'a> {
    code: &'a str,
    message: &'a str,
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    let checked = session.check()?;
    let is_faulty = checked.diagnostics.iter().any(|found| found.severity == Severity::Error);
    let task = match checked.task(&flags.task) {
        // It may be there, with a fault that leaves nothing to explain.
        Err(_) if is_faulty => return Err(session.refuse(checked.diagnostics)),
        found => found?,
    };
    if is_faulty && task.placement.is_some() {
        return Err(session.refuse(checked.diagnostics));
    }
    let classification = task.task.classify();
    let explanation = explain(task, &classification, &checked.settings.timezone);
    output::one(flags.output.format, &explanation, || explanation.text())?;
    if !is_faulty {
        return Ok(Exit::Done);
    }
    // Why it belongs where nothing can run it is part of the answer; that nothing can is still an error.
    let failure = session.refuse(checked.diagnostics);
    failure.print(output::Format::Table);
    Ok(failure.exit)
}

fn explain<'a>(task: &'a CheckedTask, classification: &'a Classification, timezone: &str) -> Explanation<'a> {
    let now = Timestamp::from(std::time::SystemTime::now());
    let next = task.next(now);
    let placement = task.placement.as_ref();
    let tier = placement.map_or(task.task.tier.unwrap_or(classification.tier), |placement| placement.tier);
    let zone = task.task.trigger.as_ref().map_or(timezone, |trigger| schedule::zone(trigger, timezone));
    let warnings = placement.map(|placement| placement.warnings.as_slice()).unwrap_or_default();
    Explanation {
        task: task.task.name.as_str(),
        job: task.task.job.as_str(),
        tier,
        backend: placement.map(|placement| placement.backend.as_str()),
        reasons: reasons(placement, classification),
        classification,
        facts: facts(&task.task),
        schedule: schedule::words(task.task.trigger.as_ref()),
        next: next.map(|next| schedule::written(next, zone)),
        next_words: schedule::next_words(task, next, now),
        policies: policies(&task.task, tier),
        warnings: warnings
            .iter()
            .map(|warning| Warning { code: warning.code, message: &warning.message })
            .collect(),
    }
}

fn reasons<'a>(placement: Option<&'a Placement>, classification: &'a Classification) -> &'a [String] {
    placement.map_or(&classification.reasons, |placement| &placement.reasons)
}

fn facts(task: &Task) -> Vec<Fact> {
    let stated = &task.characteristics;
    let is_stated = [
        stated.frequency.is_some(),
        stated.visibility.is_some(),
        stated.complexity.is_some(),
        stated.durability.is_some(),
        stated.infrastructure.is_some(),
    ];
    let facts = task.characteristics();
    let sourced = facts.words().into_iter().zip(is_stated);
    sourced
        .map(|((field, value), is_stated)| {
            let from = match (is_stated, field) {
                (true, _) => "stated",
                (false, "frequency") if task.trigger.is_some() => "from the trigger",
                (false, _) => "default",
            };
            Fact { field, value, from }
        })
        .collect()
}

fn policies(task: &Task, tier: Tier) -> Vec<Policy> {
    let attempts = task.retry.attempts_on(tier);
    let waits = match attempts {
        1 => String::new(),
        _ => format!(
            ", {} backoff from {} to {}{}",
            task.retry.backoff,
            Spelled(task.retry.initial),
            Spelled(task.retry.max),
            if task.retry.jitter { " with jitter" } else { "" }
        ),
    };
    let policy = |name, value: String, is_default| Policy { name, value, is_default };
    let mut policies = vec![
        policy("attempts", format!("{attempts} on {tier}{waits}"), task.retry.max_attempts.is_none()),
        policy(
            "timeout",
            task.timeout.map_or("none".to_owned(), |limit| Spelled(limit).to_string()),
            task.timeout.is_none(),
        ),
        policy("overlap", task.overlap.to_string(), task.overlap == Overlap::Skip),
        policy("misfire", misfire_words(&task.misfire), task.misfire == Misfire::default()),
        policy("priority", task.priority.level().to_string(), task.priority == Priority::default()),
        policy(
            "on_unavailable",
            task.on_unavailable.to_string(),
            task.on_unavailable == OnUnavailable::Error,
        ),
    ];
    if tier == Tier::Queue {
        let queue = task.queue.as_ref().map_or("default", Name::as_str);
        policies.push(policy("queue", queue.to_owned(), task.queue.is_none()));
        policies.extend(task.unique.as_ref().map(|unique| policy("unique", unique.to_string(), false)));
    }
    if tier == Tier::Workflow && task.trigger.is_some() {
        policies.push(policy("fired_by", task.fired_by.to_string(), task.fired_by == FiredBy::Engine));
    }
    policies
}

fn misfire_words(misfire: &Misfire) -> String {
    let mut text = misfire.policy.to_string();
    if misfire.policy == MisfirePolicy::All {
        text.push_str(&format!(", at most {}", misfire.max));
    }
    if let Some(lateness) = misfire.max_lateness {
        text.push_str(&format!(", at most {} late", Spelled(lateness)));
    }
    text
}

impl Explanation<'_> {
    fn text(&self) -> String {
        let backend = self.backend.map_or("no backend runs it".to_owned(), |name| format!("backend {name}"));
        let rule = self.classification.rule;
        let mut text = format!("{} -> {} ({backend})  rule {rule}\n", self.task, self.tier);
        // The rule stands in the line above.
        let prefix = format!("{rule}: ");
        let reasons = self.reasons.iter().map(|reason| reason.strip_prefix(&prefix).unwrap_or(reason));
        text.extend(reasons.map(|reason| labelled("because", reason)));
        if self.tier != self.classification.tier {
            let reasons = self.classification.reasons.join(", ");
            let said = format!("{} by {rule}: {reasons}", self.classification.tier);
            text.push_str(&labelled("classifier", &said));
        }
        text.push_str(&alternatives(self.classification, self.tier));
        text.push_str(&labelled("override", "tier = \"local\", \"queue\" or \"workflow\" on the task"));
        for (index, fact) in self.facts.iter().enumerate() {
            let label = if index == 0 { "facts" } else { "" };
            text.push_str(&labelled(label, &format!("{} = {} ({})", fact.field, fact.value, fact.from)));
        }
        text.push_str(&labelled("schedule", &self.schedule));
        let next = self.next.as_ref().map(|next| format!("{next} ({})", self.next_words));
        text.push_str(&labelled("next", next.as_ref().unwrap_or(&self.next_words)));
        text.push_str(&labelled("job", self.job));
        for policy in &self.policies {
            let default = if policy.is_default { " (default)" } else { "" };
            text.push_str(&labelled(policy.name, &format!("{}{default}", policy.value)));
        }
        text.extend(self.warnings.iter().map(|warning| labelled("warning", warning.message)));
        text
    }
}
