//! When a task fires, in words.

use scheduler_core::{Name, Rule, Spelled, Timestamp, Trigger, cron};

use crate::checked::CheckedTask;
use crate::relative::relative;

/// The trigger of a task with its bounds.
pub(crate) fn words(trigger: Option<&Trigger>) -> String {
    let Some(trigger) = trigger else { return "when asked".to_owned() };
    let mut text = trigger.to_string();
    let bounds = trigger.bounds();
    if let Some(start) = bounds.start {
        text.push_str(&format!(", from {start}"));
    }
    if let Some(end) = bounds.end {
        text.push_str(&format!(", until {end}"));
    }
    if let Some(runs) = bounds.max_runs {
        text.push_str(&format!(", at most {runs} runs"));
    }
    if !bounds.jitter.is_zero() {
        text.push_str(&format!(", up to {} later", Spelled(bounds.jitter)));
    }
    text
}

/// When a task fires next: `in 4m`, or why it does not.
pub(crate) fn next_words(task: &CheckedTask, next: Option<Timestamp>, now: Timestamp) -> String {
    match (&task.task.trigger, next) {
        (_, Some(next)) => relative(next, now),
        (None, None) => "when asked".to_owned(),
        (Some(trigger), None) if trigger.is_at_start() => "at each start".to_owned(),
        (Some(_), None) => "passed".to_owned(),
    }
}

/// The zone whose offset shows when instants of this trigger are written out.
pub(crate) fn zone<'a>(trigger: &'a Trigger, default: &'a str) -> &'a str {
    match trigger.rule() {
        Rule::Cron(cron) => cron.zone(),
        Rule::At(_) | Rule::Every(_) | Rule::AfterFinish(_) | Rule::AtStart => default,
    }
}

/// RFC 3339 with the zone's offset.
pub(crate) fn written(instant: Timestamp, zone: &str) -> String {
    // The zone was known a moment ago; should the database have lost it, UTC is as good.
    cron::in_zone(instant, zone).unwrap_or_else(|_| instant.to_string())
}

/// The task that fires first of all, and when.
pub(crate) fn first<'a>(
    tasks: impl IntoIterator<Item = &'a CheckedTask>,
    now: Timestamp,
) -> Option<(&'a Name, Timestamp)> {
    let fires = tasks.into_iter().filter_map(|task| Some((&task.task.name, task.next(now)?)));
    fires.min_by_key(|(_, next)| *next)
}
