//! Values of a configuration as lines of TOML, each with its whole key: `tasks.backup.timeout = "1h"`.

use serde_json::Value;

use crate::origin::printable;
use crate::pointer;

/// The values that are no tables, and the empty tables, by JSON pointer.
pub(crate) fn leaves(tree: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    collect(tree, String::new(), &mut found);
    found
}

fn collect<'a>(value: &'a Value, place: String, found: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Object(table) if place.is_empty() || !table.is_empty() => {
            for (key, inner) in table {
                collect(inner, pointer::child(&place, key), found);
            }
        }
        Value::Null => {}
        leaf => found.push((place, leaf)),
    }
}

/// The line of a value.
pub(crate) fn written(place: &str, value: &Value) -> String {
    format!("{} = {}", key(place), inline(value))
}

/// The dotted key of a place.
pub(crate) fn key(place: &str) -> String {
    let keys: Vec<String> = pointer::keys(place).iter().map(|key| bare_or_quoted(key)).collect();
    keys.join(".")
}

fn bare_or_quoted(key: &str) -> String {
    let is_bare = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
    if !key.is_empty() && key.chars().all(is_bare) { key.to_owned() } else { quoted(key) }
}

/// A basic string of TOML. JSON's escapes are among TOML's, but for characters that neither escapes and no
/// terminal should get.
fn quoted(text: &str) -> String {
    let json = Value::String(text.to_owned()).to_string();
    if printable(&json) == json {
        return json;
    }
    let mut escaped = String::new();
    for character in json.chars() {
        let mut buffer = [0; 4];
        if printable(character.encode_utf8(&mut buffer)).starts_with('\\') && character != '\\' {
            escaped.push_str(&format!("\\U{:08X}", u32::from(character)));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(list) => format!("[{}]", list.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(table) if table.is_empty() => "{}".to_owned(),
        Value::Object(table) => {
            let pairs: Vec<String> = table
                .iter()
                .map(|(key, inner)| format!("{} = {}", bare_or_quoted(key), inline(inner)))
                .collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        // TOML has no null; a list of YAML may hold one.
        Value::Null => "\"\"".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_reads_back_as_the_same_tree() {
        let tree = json!({
            "scheduler": { "timezone": "UTC" },
            "tasks": {
                "a": { "job": "exec", "args": { "env": {}, "a b": "x\u{1b}[2J\u{202e}\n\"q\"\\", "n": -5, "f": 1.5e30,
                       "list": [1, "two", { "x.y": [true] }], "日本": "é" } },
            },
        });

        let text: String = leaves(&tree).iter().map(|(place, value)| written(place, value) + "\n").collect();

        let source = crate::source::Source::parse("x.toml".as_ref(), text.clone().into_bytes()).unwrap();
        assert_eq!(Value::Object(source.tree().clone()), tree, "{text}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{text:?}");
    }
}
