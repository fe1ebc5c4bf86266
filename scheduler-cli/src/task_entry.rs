//! Decodes one task: everything but its trigger.

use std::num::NonZeroU32;
use std::time::Duration;

use scheduler_core::{
    Backoff, Complexity, Durability, FiredBy, Frequency, Infrastructure, Misfire, MisfirePolicy, Name,
    OnUnavailable, Overlap, Priority, RetryPolicy, StatedCharacteristics, Task, Tier, Unique, UniqueUntil,
    Visibility,
};
use serde_json::{Map, Value};

use crate::diagnostic::Diagnostic;
use crate::fields::Fields;
use crate::task_trigger;

/// A task as the configuration defines it.
#[derive(Debug)]
pub(crate) struct TaskEntry {
    /// Where it stands.
    pub(crate) pointer: String,
    /// The name of its job, if it has one.
    pub(crate) job: Option<String>,
    /// The definition; what was faulty has its default.
    pub(crate) task: Task,
    /// Whether the job can be given its args.
    pub(crate) has_sound_args: bool,
    /// Whether nothing was faulty.
    pub(crate) is_sound: bool,
}

/// Decodes a task; `timezone` is what its cron is read in unless it names another.
pub(crate) fn decode(
    name: &str,
    mut fields: Fields<'_>,
    timezone: &str,
    faults: &mut Vec<Diagnostic>,
) -> TaskEntry {
    let before = faults.len();
    let job: Option<String> = fields.require("job", faults);
    let mut task =
        Task::new(name_or_placeholder(name), name_or_placeholder(job.as_deref().unwrap_or_default()));
    let before_args = faults.len();
    task.args = args(&mut fields, faults);
    let has_sound_args = faults.len() == before_args;
    task.trigger = task_trigger::take(&mut fields, &task.name, timezone, faults);
    task.characteristics = characteristics(&mut fields, faults);
    task.tier = fields.word("tier", &words(Tier::ALL, Tier::as_str), faults);
    task.backend = fields.take::<String>("backend", faults).map(|name| name_or_placeholder(&name));
    task.retry = retry(&mut fields, faults);
    task.timeout = fields.take("timeout", faults);
    if task.timeout == Some(Duration::ZERO) {
        let message = format!("{} is 0s, which ends every attempt at once", fields.subject("timeout"));
        let help = "leave it out for no time limit";
        faults.push(fields.fault("config/out_of_range", "timeout", message).with_help(help));
    }
    let overlap = fields.word("overlap", &words(Overlap::ALL, Overlap::as_str), faults);
    task.overlap = overlap.unwrap_or(task.overlap);
    task.misfire_stated = fields.has("misfire");
    task.misfire = misfire(&mut fields, faults);
    task.priority = priority(&mut fields, faults);
    task.queue = queue(&mut fields, faults);
    task.unique = unique(&mut fields, faults);
    task.on_unavailable = on_unavailable(&mut fields, faults);
    let fired_by = fields.word("fired_by", &words(FiredBy::ALL, FiredBy::as_str), faults);
    task.fired_by = fired_by.unwrap_or(task.fired_by);
    let pointer = fields.pointer().to_owned();
    fields.finish(faults);
    // Whoever made the fields has told of a bad name.
    let is_sound = faults.len() == before && task.name.as_str() == name;
    TaskEntry { pointer, job, task, has_sound_args, is_sound }
}

/// The name, or another one where it is none: its fault is reported, and looking for others goes on.
pub(crate) fn name_or_placeholder(text: &str) -> Name {
    Name::new(text).unwrap_or_else(|_| Name::new("unnamed").expect("`unnamed` is a name"))
}

/// The words of one of core's enums, for [`Fields::word`].
fn words<T: Copy>(all: &[T], word: fn(T) -> &'static str) -> Vec<(&'static str, T)> {
    all.iter().map(|value| (word(*value), *value)).collect()
}

fn args(fields: &mut Fields<'_>, faults: &mut Vec<Diagnostic>) -> Value {
    let nothing = Value::Object(Map::new());
    // Asked for as a table, so that a list or a text is refused here and not by each job in its own words.
    match fields.table("args", faults) {
        Some(_) => fields.take("args", faults).filter(Value::is_object).unwrap_or(nothing),
        None => nothing,
    }
}

fn characteristics(fields: &mut Fields<'_>, faults: &mut Vec<Diagnostic>) -> StatedCharacteristics {
    let mut stated = StatedCharacteristics::default();
    if let Some(mut table) = fields.table("characteristics", faults) {
        stated.frequency = table.word("frequency", &words(Frequency::ALL, Frequency::as_str), faults);
        stated.visibility = table.word("visibility", &words(Visibility::ALL, Visibility::as_str), faults);
        stated.complexity = table.word("complexity", &words(Complexity::ALL, Complexity::as_str), faults);
        stated.durability = table.word("durability", &words(Durability::ALL, Durability::as_str), faults);
        stated.infrastructure =
            table.word("infrastructure", &words(Infrastructure::ALL, Infrastructure::as_str), faults);
        table.finish(faults);
    }
    stated
}

fn retry(fields: &mut Fields<'_>, faults: &mut Vec<Diagnostic>) -> RetryPolicy {
    let mut policy = RetryPolicy::default();
    let Some(mut table) = fields.table("retry", faults) else { return policy };
    policy.max_attempts = table.take("max_attempts", faults);
    policy.backoff =
        table.word("backoff", &words(Backoff::ALL, Backoff::as_str), faults).unwrap_or(policy.backoff);
    policy.initial = table.take("initial", faults).unwrap_or(policy.initial);
    policy.max = table.take("max", faults).unwrap_or(policy.max);
    policy.jitter = table.take("jitter", faults).unwrap_or(policy.jitter);
    if policy.initial > policy.max {
        let spelled = scheduler_core::Spelled;
        let (initial, max) = (spelled(policy.initial), spelled(policy.max));
        let message = format!("{} is {initial}, longer than `max`, {max}", table.subject("initial"));
        let help = "set `max` to the longest wait between two attempts";
        faults.push(table.fault("retry/initial_above_max", "initial", message).with_help(help));
    }
    table.finish(faults);
    policy
}

fn misfire(fields: &mut Fields<'_>, faults: &mut Vec<Diagnostic>) -> Misfire {
    let policies = words(MisfirePolicy::ALL, MisfirePolicy::as_str);
    let mut misfire = Misfire::default();
    if fields.take::<Value>("misfire", faults).is_none_or(|value| value.is_string()) {
        misfire.policy = fields.word("misfire", &policies, faults).unwrap_or(misfire.policy);
        return misfire;
    }
    let Some(mut table) = fields.table("misfire", faults) else { return misfire };
    misfire.policy = table.word("policy", &policies, faults).unwrap_or(misfire.policy);
    misfire.max_lateness = table.take("max_lateness", faults);
    misfire.max = table.take::<NonZeroU32>("max", faults).unwrap_or(misfire.max);
    table.finish(faults);
    misfire
}

fn priority(fields: &mut Fields<'_>, faults: &mut Vec<Diagnostic>) -> Priority {
    let Some(level) = fields.take::<i64>("priority", faults) else { return Priority::default() };
    u8::try_from(level).ok().and_then(Priority::new).unwrap_or_else(|| {
        let message = format!("{} is {level}", fields.subject("priority"));
        let help = "write a number from 0 to 9, the highest first; 5 is the default";
        faults.push(fields.fault("config/out_of_range", "priority", message).with_help(help));
        Priority::default()
    })
}

fn queue(fields: &mut Fields<'_>, faults: &mut Vec<Diagnostic>) -> Option<Name> {
    let text: String = fields.take("queue", faults)?;
    let named = Name::new(&text);
    named.map_err(|error| faults.push(fields.fault(error.code(), "queue", error.to_string()))).ok()
}

fn unique(fields: &mut Fields<'_>, faults: &mut Vec<Diagnostic>) -> Option<Unique> {
    let mut table = fields.table("unique", faults)?;
    let mut unique = Unique::default();
    unique.param = table.take("param", faults);
    if unique.param.as_deref() == Some("") {
        let message = format!("{} is empty, and names no parameter", table.subject("param"));
        let help = "leave it out where all runs of the task are of one kind";
        faults.push(table.fault("config/out_of_range", "param", message).with_help(help));
    }
    unique.until = table.word("until", &words(UniqueUntil::ALL, UniqueUntil::as_str), faults);
    unique.window = table.take("for", faults);
    if unique.window == Some(Duration::ZERO) {
        let message = format!("{} is 0s, which keeps no run out", table.subject("for"));
        let help = "leave it out to keep others out until a run is done";
        faults.push(table.fault("config/out_of_range", "for", message).with_help(help));
    }
    table.finish(faults);
    Some(unique)
}

fn on_unavailable(fields: &mut Fields<'_>, faults: &mut Vec<Diagnostic>) -> OnUnavailable {
    if fields.take::<Value>("on_unavailable", faults).is_some_and(|value| value == "spool") {
        let message =
            format!("{} is `spool`, which this version does not offer", fields.subject("on_unavailable"));
        let help = "write \"error\" or \"fallback\"";
        faults.push(fields.fault("config/not_available", "on_unavailable", message).with_help(help));
        return OnUnavailable::Error;
    }
    let words = words(OnUnavailable::ALL, OnUnavailable::as_str);
    fields.word("on_unavailable", &words, faults).unwrap_or(OnUnavailable::Error)
}
