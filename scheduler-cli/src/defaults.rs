//! What a configuration leaves out, taken from its [schema](crate::schema).

use serde_json::{Map, Value};

use crate::pointer;

/// Deeper than any configuration: a schema may refer to itself.
const DEEPEST: usize = 32;

/// The keys that the tree leaves out and that have a default, as JSON pointers with their values.
pub(crate) fn applied(schema: &Value, tree: &Value) -> Vec<(String, Value)> {
    let mut walk = Walk { root: schema, found: Vec::new() };
    walk.table(schema, tree, "");
    walk.found
}

struct Walk<'a> {
    root: &'a Value,
    found: Vec<(String, Value)>,
}

impl<'a> Walk<'a> {
    fn table(&mut self, schema: &'a Value, tree: &Value, place: &str) {
        let nothing = Map::new();
        let Some(table) = tree.as_object().or(tree.is_null().then_some(&nothing)) else { return };
        if pointer::keys(place).len() > DEEPEST {
            return;
        }
        let parts = self.parts(schema, table);
        let properties = |part: &'a Value| part.get("properties").and_then(Value::as_object);
        let known: Vec<(&String, &'a Value)> =
            parts.iter().copied().filter_map(properties).flatten().collect();
        for (key, inner) in &known {
            self.key(inner, table.get(*key), pointer::child(place, key));
        }
        let named = parts.iter().filter_map(|part| part.get("additionalProperties"));
        for inner in named.filter(|inner| inner.is_object()) {
            for (key, value) in table.iter().filter(|(key, _)| known.iter().all(|(known, _)| known != key)) {
                self.table(inner, value, &pointer::child(place, key));
            }
        }
    }

    fn key(&mut self, schema: &'a Value, value: Option<&Value>, place: String) {
        let parts = self.parts(schema, &Map::new());
        let Some(value) = value else {
            let default =
                parts.iter().find_map(|part| part.get("default")).filter(|default| !default.is_null());
            // An absent table that must hold something is not there at all, such as a task's trigger.
            let is_implied = parts.iter().all(|part| part.get("required").or(part.get("oneOf")).is_none());
            match default {
                Some(default) => self.found.push((place, default.clone())),
                None if is_implied => self.table(schema, &Value::Null, &place),
                None => {}
            }
            return;
        };
        self.table(schema, value, &place);
    }

    /// The schema and everything it refers to that applies to this table.
    fn parts(&self, schema: &'a Value, table: &Map<String, Value>) -> Vec<&'a Value> {
        let (mut parts, mut open) = (Vec::new(), vec![schema]);
        while let Some(part) = open.pop().filter(|_| parts.len() < DEEPEST) {
            parts.push(part);
            let reference = part.get("$ref").and_then(Value::as_str).and_then(|at| at.strip_prefix('#'));
            open.extend(reference.and_then(|at| self.root.pointer(at)));
            open.extend(part.get("allOf").and_then(Value::as_array).into_iter().flatten());
            if let Some(condition) = part.get("if") {
                open.extend(part.get(if holds(condition, table) { "then" } else { "else" }));
            }
        }
        parts
    }
}

/// Whether a condition of ours holds for a table: keys that must be there, and values they must have.
fn holds(condition: &Value, table: &Map<String, Value>) -> bool {
    let required = condition.get("required").and_then(Value::as_array).into_iter().flatten();
    let has_keys = required.filter_map(Value::as_str).all(|key| table.contains_key(key));
    let constants = condition.get("properties").and_then(Value::as_object).into_iter().flatten();
    let is_table = condition.get("type").is_none_or(|kind| kind == "object");
    is_table
        && has_keys
        && constants.into_iter().all(|(key, wanted)| {
            wanted.get("const").is_none_or(|constant| table.get(key).is_none_or(|value| value == constant))
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_out_is_listed_where_it_applies() {
        let schema = json!({
            "properties": { "tasks": { "additionalProperties": { "$ref": "#/$defs/task" } } },
            "$defs": {
                "task": {
                    "properties": {
                        "overlap": { "default": "skip" },
                        "retry": { "properties": { "jitter": { "default": true }, "max": { "type": "integer" } } },
                        "trigger": { "properties": { "start": { "default": 0 } }, "oneOf": [] },
                        "self": { "$ref": "#/$defs/task/properties/retry" },
                    },
                    "allOf": [
                        { "if": { "properties": { "job": { "const": "x" } }, "required": ["job"] },
                          "then": { "properties": { "args": { "$ref": "#/$defs/x" } } } },
                        { "if": { "properties": { "job": { "const": "y" } }, "required": ["job"] },
                          "then": { "properties": { "args": { "properties": { "wrong": { "default": 1 } } } } } },
                    ],
                },
                "x": { "properties": { "copies": { "default": 1 }, "again": { "$ref": "#/$defs/x" } } },
            },
        });
        let tree = json!({ "tasks": { "a": { "job": "x", "retry": { "jitter": false } },
                                      "b": { "job": "x", "overlap": "queue", "trigger": {}, "args": { "copies": 2 } } } });

        let mut found = applied(&schema, &tree);
        found.retain(|(place, _)| !place.contains("/again"));
        found.sort_by(|a, b| a.0.cmp(&b.0));

        let expected = [
            ("/tasks/a/args/copies", json!(1)),
            ("/tasks/a/overlap", json!("skip")),
            ("/tasks/a/self/jitter", json!(true)),
            ("/tasks/b/retry/jitter", json!(true)),
            ("/tasks/b/self/jitter", json!(true)),
            ("/tasks/b/trigger/start", json!(0)),
        ];
        assert_eq!(found, expected.map(|(place, value)| (place.to_owned(), value)));
    }
}
