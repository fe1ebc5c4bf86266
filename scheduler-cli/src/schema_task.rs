//! The part of the [schema](crate::schema) that describes a task.

use std::time::Duration;

use scheduler_core::{
    Backoff, Complexity, Durability, FiredBy, Frequency, Infrastructure, JobDescriptor, Misfire,
    MisfirePolicy, OnUnavailable, Overlap, Priority, RetryPolicy, Spelled, Tier, UniqueUntil, Visibility,
};
use serde_json::{Value, json};

/// A task whose job is one of these.
pub(crate) fn task(jobs: &[&JobDescriptor]) -> Value {
    let names: Vec<&str> = jobs.iter().map(|job| job.name().as_str()).collect();
    let each: Vec<Value> = jobs.iter().map(|job| args_of(job)).collect();
    json!({
        "type": "object",
        "required": ["job"],
        "additionalProperties": false,
        "properties": {
            "job": { "description": "What it does; `scheduler jobs` lists what there is.", "enum": names },
            "args": { "description": "The job's own settings.", "type": ["object", "null"] },
            "trigger": trigger(),
            "characteristics": characteristics(),
            "tier": {
                "description": "Overrides the classifier.",
                "enum": words(Tier::ALL, Tier::as_str),
            },
            "backend": { "description": "Overrides the backend, by name.", "type": "string" },
            "retry": retry(),
            "timeout": duration("The time limit of one attempt; none unless set.", None),
            "overlap": {
                "description": "What becomes of a fire while the last run lives.",
                "enum": words(Overlap::ALL, Overlap::as_str), "default": Overlap::Skip.as_str(),
            },
            "misfire": misfire(),
            "priority": {
                "description": "Higher goes first.",
                "type": "integer", "minimum": 0, "maximum": 9, "default": Priority::default().level(),
            },
            "queue": {
                "description": "The queue in which its runs wait on the queue tier; default unless set.",
                "type": "string",
            },
            "unique": unique(),
            "on_unavailable": {
                "description": "What happens when its tier has no backend.",
                "enum": words(OnUnavailable::ALL, OnUnavailable::as_str),
                "default": OnUnavailable::Error.as_str(),
            },
            "fired_by": {
                "description": "Who fires it on the workflow tier: the engine, also while no daemon runs, or the scheduler.",
                "enum": words(FiredBy::ALL, FiredBy::as_str), "default": FiredBy::Engine.as_str(),
            },
        },
        "allOf": each,
    })
}

/// A duration as it is written.
pub(crate) fn duration(description: &str, default: Option<Duration>) -> Value {
    let mut schema = json!({
        "description": description,
        "type": "string", "minLength": 2,
        "pattern": r"^(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$",
    });
    if let Some(default) = default {
        schema["default"] = Spelled(default).to_string().into();
    }
    schema
}

fn args_of(job: &JobDescriptor) -> Value {
    let name = job.name().as_str();
    let mut then = json!({ "properties": { "args": { "$ref": format!("#/$defs/job.{name}") } } });
    let needs_args =
        job.args_schema().get("required").and_then(Value::as_array).is_some_and(|keys| !keys.is_empty());
    if needs_args {
        then["required"] = json!(["args"]);
    }
    if job.tiers().len() < Tier::ALL.len() {
        then["properties"]["tier"] = json!({ "enum": words(job.tiers(), Tier::as_str) });
    }
    json!({ "if": { "properties": { "job": { "const": name } }, "required": ["job"] }, "then": then })
}

fn trigger() -> Value {
    let instant =
        |description: &str| json!({ "description": description, "type": "string", "minLength": 10 });
    json!({
        "description": "When it fires; without one it runs when it is asked to.",
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": {
            "cron": {
                "description": "Five fields, six with seconds first, seven with the year last; \
                                or a nickname such as @daily.",
                "type": "string", "minLength": 1,
            },
            "timezone": { "description": "The IANA zone of `cron`.", "type": "string", "minLength": 1 },
            "dialect": {
                "description": "How `cron` is read: by the Open Cron Pattern Specification, or as Vixie's cron or Quartz do.",
                "enum": ["ocps", "vixie", "quartz"], "default": "ocps",
            },
            "every": duration("The period, counted from `start`, else from the Unix epoch.", None),
            "after": { "description": "Counts `every` from the end of the last run.", "enum": ["finish"] },
            "at": instant("Once, at this instant (RFC 3339)."),
            "start": instant("No fire before this instant (RFC 3339)."),
            "end": instant("No fire after this instant (RFC 3339)."),
            "max_runs": { "description": "At most so many fires.", "type": "integer", "minimum": 1 },
            "jitter": duration("Each run begins up to so much later.", Some(Duration::ZERO)),
        },
        "oneOf": [{ "required": ["cron"] }, { "required": ["every"] }, { "required": ["at"] }],
    })
}

fn characteristics() -> Value {
    let word = |description: &str, words: Value| json!({ "description": description, "enum": words });
    let mut visibility = word("Who watches it.", words(Visibility::ALL, Visibility::as_str));
    visibility["default"] = Visibility::ALL[0].as_str().into();
    let mut complexity = word("How many steps it has.", words(Complexity::ALL, Complexity::as_str));
    complexity["default"] = Complexity::ALL[0].as_str().into();
    let mut durability = word("Whether it may be lost.", words(Durability::ALL, Durability::as_str));
    durability["default"] = Durability::ALL[0].as_str().into();
    let mut infrastructure =
        word("How many machines share it.", words(Infrastructure::ALL, Infrastructure::as_str));
    infrastructure["default"] = Infrastructure::ALL[0].as_str().into();
    json!({
        "description": "The facts that decide the tier.",
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": {
            "frequency": word("How often it runs; it follows from the trigger unless set.",
                words(Frequency::ALL, Frequency::as_str)),
            "visibility": visibility,
            "complexity": complexity,
            "durability": durability,
            "infrastructure": infrastructure,
        },
    })
}

fn retry() -> Value {
    let default = RetryPolicy::default();
    json!({
        "description": "What follows a failed attempt.",
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": {
            "max_attempts": {
                "description": "Attempts in all; the tier's default unless set: local 1, queue 5, workflow 1.",
                "type": "integer", "minimum": 1, "maximum": u32::MAX,
            },
            "backoff": {
                "description": "How the wait grows.",
                "enum": words(Backoff::ALL, Backoff::as_str), "default": default.backoff.as_str(),
            },
            "initial": duration("The wait before the second attempt.", Some(default.initial)),
            "max": duration("The longest wait.", Some(default.max)),
            "jitter": {
                "description": "Whether each wait is drawn from its upper half.",
                "type": "boolean", "default": default.jitter,
            },
        },
    })
}

fn unique() -> Value {
    json!({
        "description": "Keeps out runs while another one of the same kind is there, on the queue tier.",
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": {
            "param": {
                "description": "The parameter by whose value runs are told apart; all are of one kind unless set.",
                "type": "string",
            },
            "until": {
                "description": "Until when a run keeps others out; done, or as long as `for` says alone, unless set.",
                "enum": words(UniqueUntil::ALL, UniqueUntil::as_str),
            },
            "for": duration("For how long at most, from when the run is taken.", None),
        },
    })
}

fn misfire() -> Value {
    let default = Misfire::default();
    let policies = words(MisfirePolicy::ALL, MisfirePolicy::as_str);
    json!({
        "description": "What becomes of fires nobody served.",
        "type": ["object", "string", "null"],
        "if": { "type": "string" },
        "then": { "enum": policies },
        "additionalProperties": false,
        "properties": {
            "policy": { "enum": policies, "default": default.policy.as_str() },
            "max_lateness": duration("A misfire older than this does not run.", None),
            "max": {
                "description": "How many run at most under `all`.",
                "type": "integer", "minimum": 1, "maximum": u32::MAX, "default": default.max,
            },
        },
    })
}

fn words<T: Copy>(all: &[T], word: fn(T) -> &'static str) -> Value {
    all.iter().map(|value| word(*value)).collect()
}
