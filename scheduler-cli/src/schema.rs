//! The JSON Schema of a configuration (draft 2020-12): every key of ours, the args of every registered job and
//! the section of every kind of backend.
//!
//! Words and defaults come from the types that decode them, so the schema says what the loader does.

use scheduler_core::{JobDescriptor, Registry, Tier};
use serde_json::{Map, Value, json};

use crate::schema_task;
use crate::settings::{Scheduler, is_required};

const NAME: &str = "^[a-z0-9_]{1,64}$";

/// The schema of what this program takes.
pub(crate) fn schema(registry: &Registry) -> Value {
    let mut definitions = Definitions::default();
    let jobs: Vec<&JobDescriptor> = registry.jobs().map(|job| &job.item).collect();
    for job in &jobs {
        definitions.embed(&format!("job.{}", job.name()), job.args_schema());
    }
    let kinds: Vec<(&str, Tier)> =
        registry.backends().map(|kind| (kind.item.kind().as_str(), kind.item.tier())).collect();
    for kind in registry.backends() {
        let section = with_our_keys(kind.item.config_schema(), kind.item.tier());
        definitions.embed(&format!("kind.{}", kind.item.kind()), &section);
    }
    definitions.add("task", schema_task::task(&jobs));
    definitions.add("backend", backend(&kinds));
    let sections: Map<String, Value> =
        kinds.iter().map(|(kind, _)| ((*kind).to_owned(), section_named_like(kind))).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of the hybrid scheduler",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "include": {
                "description": "Other files, relative to this one; `*` and `?` match within a name.",
                "type": "array", "items": { "type": "string" },
            },
            "scheduler": scheduler(),
            "backends": {
                "description": "The backends, by name.",
                "type": ["object", "null"],
                "propertyNames": { "pattern": NAME },
                "properties": sections,
                "additionalProperties": { "$ref": "#/$defs/backend", "required": ["kind"] },
            },
            "jobs": jobs_section(&jobs),
            "tasks": {
                "description": "The tasks, by name.",
                "type": ["object", "null"],
                "propertyNames": { "pattern": NAME },
                "additionalProperties": { "$ref": "#/$defs/task" },
            },
        },
        "$defs": definitions.0,
    })
}

fn scheduler() -> Value {
    let default = Scheduler::default();
    json!({
        "description": "The daemon itself.",
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": {
            "namespace": {
                "description": "Part of every run's identity; daemons that share a store share it.",
                "type": "string", "pattern": NAME, "default": default.namespace.as_str(),
            },
            "timezone": {
                "description": "The IANA zone of every cron expression that names none.",
                "type": "string", "minLength": 1, "default": default.timezone,
            },
            "data_dir": {
                "description": "The folder for history and state; a relative one counts from this file.",
                "type": "string", "minLength": 1, "default": default.data_dir,
            },
            "shutdown_grace": schema_task::duration(
                "How long running work may go on after SIGTERM.", Some(default.shutdown_grace)),
        },
    })
}

/// What a configuration may say of jobs. Their defaults are the jobs' own, so they stand in words.
fn jobs_section(jobs: &[&JobDescriptor]) -> Value {
    let names: Vec<&str> = jobs.iter().map(|job| job.name().as_str()).collect();
    json!({
        "description": "The jobs, by name.",
        "type": ["object", "null"],
        "propertyNames": { "enum": names },
        "additionalProperties": {
            "type": ["object", "null"],
            "additionalProperties": false,
            "properties": {
                "adhoc": {
                    "description": "Whether it may run without a task, from args that whoever reaches the store gives.",
                    "type": "boolean",
                },
                "timeout": schema_task::duration(
                    "The time limit of an attempt without a task; one hour unless the job says otherwise.", None),
            },
        },
    })
}

fn backend(kinds: &[(&str, Tier)]) -> Value {
    let words: Vec<&str> = kinds.iter().map(|(kind, _)| *kind).collect();
    let sections: Vec<Value> = kinds
        .iter()
        .map(|(kind, _)| {
            json!({
                "if": { "properties": { "kind": { "const": kind } }, "required": ["kind"] },
                "then": { "$ref": format!("#/$defs/kind.{kind}") },
            })
        })
        .collect();
    json!({
        "type": ["object", "null"],
        "properties": { "kind": { "enum": words } },
        "allOf": sections,
    })
}

/// A section that has the name of a kind is of that kind unless it says otherwise.
fn section_named_like(kind: &str) -> Value {
    json!({
        "$ref": "#/$defs/backend",
        "if": { "required": ["kind"] },
        "else": { "$ref": format!("#/$defs/kind.{kind}") },
    })
}

/// The section of a kind with the keys that the program reads itself.
fn with_our_keys(section: &Value, tier: Tier) -> Value {
    let ours = json!({
        "kind": { "description": "What it is; its name unless set.", "type": "string" },
        "default": {
            "description": "Whether its tier uses it when a task names no backend.",
            "type": "boolean", "default": false,
        },
        "required": {
            "description": "Whether the daemon refuses to start without it.",
            "type": "boolean", "default": is_required(tier),
        },
    });
    let mut section = section.clone();
    let Value::Object(table) = &mut section else { return json!({ "properties": ours }) };
    let properties = table.entry("properties").or_insert_with(|| json!({}));
    if let (Value::Object(properties), Value::Object(ours)) = (properties, ours) {
        properties.extend(ours);
    }
    if table.get("type").is_some_and(|kind| kind == "object") {
        table.insert("type".to_owned(), json!(["object", "null"]));
    }
    section
}

/// The schema's `$defs`.
#[derive(Default)]
struct Definitions(Map<String, Value>);

impl Definitions {
    fn add(&mut self, name: &str, schema: Value) {
        self.0.insert(name.to_owned(), schema);
    }

    /// Adds somebody's schema under `name`, its own definitions beside it under names of their own.
    fn embed(&mut self, name: &str, schema: &Value) {
        let mut schema = schema.clone();
        if let Value::Object(table) = &mut schema {
            table.remove("$schema");
            table.remove("title");
            for key in ["$defs", "definitions"] {
                let Some(Value::Object(inner)) = table.remove(key) else { continue };
                for (inner_name, mut definition) in inner {
                    rename_references(&mut definition, name);
                    self.add(&format!("{name}.{inner_name}"), definition);
                }
            }
        }
        rename_references(&mut schema, name);
        self.add(name, schema);
    }
}

/// Turns `#/$defs/X` into `#/$defs/NAME.X`, and `#` into `#/$defs/NAME`.
fn rename_references(schema: &mut Value, name: &str) {
    match schema {
        Value::Object(table) => {
            for (key, value) in table {
                match value {
                    Value::String(reference) if key == "$ref" => {
                        let inner = ["#/$defs/", "#/definitions/"]
                            .iter()
                            .find_map(|prefix| reference.strip_prefix(prefix));
                        if let Some(inner) = inner {
                            *reference = format!("#/$defs/{name}.{inner}");
                        } else if reference == "#" {
                            *reference = format!("#/$defs/{name}");
                        }
                    }
                    inner => rename_references(inner, name),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| rename_references(inner, name)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use scheduler_core::{BackendKind, Way, source};

    use super::*;

    fn registry() -> Registry {
        let args = json!({
            "type": "object", "required": ["to"], "additionalProperties": false,
            "properties": { "to": { "$ref": "#/$defs/Address" }, "copies": { "type": "integer", "default": 1 } },
            "$defs": { "Address": { "type": "string", "minLength": 3 } },
        });
        let mail = JobDescriptor::function("mail", "mails", |_| async { Ok(Value::Null) })
            .on(&[Tier::Queue])
            .with_schema(args);
        let section = json!({
            "type": "object", "additionalProperties": false, "properties": { "url": { "type": "string" } },
        });
        let kind = BackendKind::new("pigeon", Tier::Queue, "flies", |_| Err(Vec::new())).with_schema(section);
        let mut registry = Registry::new();
        registry.add_job(mail, source!(), Way::Explicit).unwrap();
        registry.add_backend(kind, source!(), Way::Explicit).unwrap();
        registry
    }

    #[test]
    fn a_job_and_a_kind_that_somebody_registered_are_part_of_it() {
        let validator = jsonschema::validator_for(&schema(&registry())).unwrap();
        let cases = [
            (r#"{"tasks":{"a":{"job":"mail","args":{"to":"you"}}}}"#, true),
            (r#"{"tasks":{"a":{"job":"mail","args":{"to":"u"}}}}"#, false),
            (r#"{"tasks":{"a":{"job":"mail","args":{}}}}"#, false),
            (r#"{"tasks":{"a":{"job":"mail"}}}"#, false),
            (r#"{"tasks":{"a":{"job":"mail","args":{"to":"you","cc":"me"}}}}"#, false),
            (r#"{"tasks":{"a":{"job":"male","args":{"to":"you"}}}}"#, false),
            (r#"{"tasks":{"a":{"job":"mail","args":{"to":"you"},"tier":"local"}}}"#, false),
            (r#"{"tasks":{"a":{"job":"mail","args":{"to":"you"},"tier":"queue"}}}"#, true),
            (r#"{"tasks":{"A":{"job":"mail","args":{"to":"you"}}}}"#, false),
            (r#"{"jobs":{"mail":{"adhoc":true,"timeout":"5m"}}}"#, true),
            (r#"{"jobs":{"male":{"adhoc":true}}}"#, false),
            (r#"{"jobs":{"mail":{"adhoc":1}}}"#, false),
            (r#"{"backends":{"pigeon":{"url":"x","default":true}}}"#, true),
            (r#"{"backends":{"pigeon":null}}"#, true),
            (r#"{"backends":{"pigeon":{"uri":"x"}}}"#, false),
            (r#"{"backends":{"second":{"kind":"pigeon","url":"x"}}}"#, true),
            (r#"{"backends":{"second":{"kind":"pigeon","url":1}}}"#, false),
            (r#"{"backends":{"second":{"url":"x"}}}"#, false),
            (r#"{"backends":{"second":{"kind":"dove"}}}"#, false),
        ];

        for (config, is_valid) in cases {
            let config: Value = serde_json::from_str(config).unwrap();
            assert_eq!(validator.is_valid(&config), is_valid, "{config}");
        }
    }
}
