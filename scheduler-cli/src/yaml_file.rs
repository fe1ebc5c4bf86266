//! Reads YAML into a tree of values with places.
//!
//! The core schema only: `yes` and `on` are strings. What makes YAML surprising or dangerous is
//! refused: anchors, aliases, tags, several documents, keys that are no strings.

use std::ops::Range;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Number, Value};

use crate::diagnostic::Diagnostic;
use crate::pointer;
use crate::source::{BAD_NUMBER, DEEPEST, MOST_FAULTS, Parsed, Span, Text};

pub(crate) fn parse(text: &Text) -> Result<Parsed, Vec<Diagnostic>> {
    let mut reader = Reader {
        text,
        parser: Parser::new_from_str(&text.content),
        offsets: character_offsets(&text.content),
        parsed: Parsed::default(),
        faults: Vec::new(),
    };
    // An `Err` says that reading stopped; its reason is among the faults.
    let _: Result<(), Stopped> = reader.document();
    if reader.faults.is_empty() { Ok(reader.parsed) } else { Err(reader.faults) }
}

/// The parser counts characters and everybody else bytes; they differ only outside ASCII.
fn character_offsets(content: &str) -> Option<Vec<usize>> {
    (!content.is_ascii()).then(|| content.char_indices().map(|(at, _)| at).collect())
}

struct Stopped;

struct Reader<'a> {
    text: &'a Text,
    parser: Parser<'a, StrInput<'a>>,
    offsets: Option<Vec<usize>>,
    parsed: Parsed,
    faults: Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<(), Stopped> {
        let mut documents = 0;
        loop {
            let (event, at) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(()),
                Event::StreamStart | Event::Nothing | Event::DocumentEnd => {}
                Event::DocumentStart(_) if documents > 0 => {
                    let message = "the file holds several documents";
                    let fault = self.text.fault("config/many_documents", message, &at);
                    return self.stop(fault.with_help("use one file a document, and `include`"));
                }
                Event::DocumentStart(_) => documents += 1,
                Event::Alias(_)
                | Event::Scalar(..)
                | Event::SequenceStart(..)
                | Event::SequenceEnd
                | Event::MappingStart(..)
                | Event::MappingEnd => match self.node(event, &at, "", 0)? {
                    Value::Object(tree) => self.parsed.tree = tree,
                    Value::Null => {}
                    Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                        let message = "the top of the file is no table of keys and values";
                        self.faults.push(self.text.fault("config/syntax", message, &at));
                    }
                },
            }
        }
    }

    fn node(
        &mut self,
        event: Event<'a>,
        at: &Range<usize>,
        place: &str,
        depth: usize,
    ) -> Result<Value, Stopped> {
        if depth > DEEPEST {
            return self.stop(self.text.too_deep(at));
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), at);
                Ok(if style == ScalarStyle::Plain { self.plain(&text, at) } else { text.into() })
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), at);
                self.sequence(place, depth)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), at);
                self.mapping(place, depth)
            }
            Event::Alias(_)
            | Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => {
                self.refuse_extras(1, false, at);
                Ok(Value::Null)
            }
        }
    }

    fn sequence(&mut self, place: &str, depth: usize) -> Result<Value, Stopped> {
        let mut values = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(Value::Array(values));
            }
            let place = pointer::child(place, &values.len().to_string());
            values.push(self.node(event, &at, &place, depth + 1)?);
            self.parsed.spans.insert(place, Span { key: at.clone(), value: at });
        }
    }

    fn mapping(&mut self, place: &str, depth: usize) -> Result<Value, Stopped> {
        let mut map = Map::new();
        loop {
            let (event, key_at) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Value::Object(map));
            }
            let key = self.key(event, &key_at, place, depth)?;
            let place = pointer::child(place, &key);
            if let Some(first) = map.contains_key(&key).then(|| self.parsed.spans.get(&place)).flatten() {
                let first = self.text.line_of(first.key.start) + 1;
                let message = format!("duplicate key `{key}`, first defined in line {first}");
                let fault = self.text.fault("config/duplicate_key", message, &key_at);
                self.faults.push(fault.with_help("remove one of the two"));
            }
            let (event, value_at) = self.next()?;
            let value = self.node(event, &value_at, &place, depth + 1)?;
            let span = if value.is_object() || value.is_null() { key_at.clone() } else { value_at };
            map.insert(key, value);
            self.parsed.spans.insert(place, Span { key: key_at, value: span });
        }
    }

    fn key(
        &mut self,
        event: Event<'a>,
        at: &Range<usize>,
        place: &str,
        depth: usize,
    ) -> Result<String, Stopped> {
        match self.node(event, at, place, depth + 1)? {
            Value::String(key) => Ok(key),
            key @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                let fault = self.text.fault("config/bad_key", "a key is no string", at);
                self.faults.push(fault.with_help("write the key in quotes"));
                Ok(key.to_string())
            }
        }
    }

    /// Resolves an unquoted scalar by the core schema.
    fn plain(&mut self, text: &str, at: &Range<usize>) -> Value {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
            "true" | "True" | "TRUE" => return Value::Bool(true),
            "false" | "False" | "FALSE" => return Value::Bool(false),
            _ => {}
        }
        match number(text) {
            Some(Some(number)) => Value::Number(number),
            Some(None) => {
                let fault = self.text.fault("config/bad_number", BAD_NUMBER, at);
                self.faults.push(fault.with_help("write it in quotes if it is a text"));
                Value::Null
            }
            None => text.into(),
        }
    }

    /// Anchors and aliases could make a small file expand to any size, and tags name types we have none of.
    fn refuse_extras(&mut self, anchor: usize, is_tagged: bool, at: &Range<usize>) {
        if anchor > 0 {
            let message = "anchors and aliases are not supported";
            let fault = self.text.fault("config/yaml_alias", message, at);
            self.faults.push(fault.with_help("write the value out"));
        }
        if is_tagged {
            let fault = self.text.fault("config/yaml_tag", "tags are not supported", at);
            self.faults.push(fault.with_help("remove the `!…` before the value"));
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Range<usize>), Stopped> {
        if self.faults.len() >= MOST_FAULTS {
            return Err(Stopped);
        }
        match self.parser.next_event() {
            None => Err(Stopped),
            Some(Ok((event, span))) => Ok((event, self.byte(span.start)..self.byte(span.end))),
            Some(Err(error)) => {
                let at = self.byte(*error.marker());
                self.stop(self.text.fault("config/syntax", error.info(), &(at..at)))
            }
        }
    }

    fn byte(&self, marker: Marker) -> usize {
        let length = self.text.content.len();
        match &self.offsets {
            None => marker.index().min(length),
            Some(offsets) => offsets.get(marker.index()).copied().unwrap_or(length),
        }
    }

    fn stop<T>(&mut self, fault: Diagnostic) -> Result<T, Stopped> {
        self.faults.push(fault);
        Err(Stopped)
    }
}

/// `None` if the text is no number, `Some(None)` if it is one that no setting can have.
fn number(text: &str) -> Option<Option<Number>> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            let is_number = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
            return is_number.then(|| i64::from_str_radix(digits, radix).ok().map(Number::from));
        }
    }
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(None);
    }
    if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    if unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.parse::<i64>().ok().map(Number::from));
    }
    text.parse::<f64>().ok().map(Number::from_f64)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn text(content: &str) -> Text {
        Text::new(Path::new("a.yaml"), content.into()).unwrap()
    }

    fn faults(content: &str) -> Vec<String> {
        let faults = parse(&text(content)).unwrap_err();
        faults.iter().map(|fault| format!("{} {}", fault.origin.place(), fault.code)).collect()
    }

    #[test]
    fn only_the_core_schema_gives_types() {
        let content = "on: yes\nn: [no, off, y, 'true', 12:30, 5m, 0b1, 1_000, .5.6, 2026-12-01]\n\
            i: [1, -2, +3, 0x1F, 0o17, 010]\nf: [1.5, .5, 1e3]\nz: [~, null, ]\nb: [true, False]\ne:\n";

        let tree = Value::Object(parse(&text(content)).unwrap().tree);

        let expected = json!({"on": "yes",
            "n": ["no", "off", "y", "true", "12:30", "5m", "0b1", "1_000", ".5.6", "2026-12-01"],
            "i": [1, -2, 3, 31, 15, 10], "f": [1.5, 0.5, 1000.0], "z": [null, null], "b": [true, false], "e": null});
        assert_eq!(tree, expected);
    }

    #[test]
    fn values_stand_where_they_are_written() {
        let text = text("ä: [日, x]\ntasks:\n  b: {c: 'd'}\n  e:\n    - 1\n");
        let parsed = parse(&text).unwrap();
        let cases =
            [("/ä", 1, 4), ("/ä/1", 1, 8), ("/tasks", 2, 1), ("/tasks/b", 3, 3), ("/tasks/b/c", 3, 10)];

        for (place, line, column) in cases {
            let origin = text.locate(&parsed.spans[place].value);
            assert_eq!(origin.place(), format!("a.yaml:{line}:{column}"), "{place}");
        }
    }

    #[test]
    fn what_makes_yaml_dangerous_is_refused() {
        let cases = [
            ("a: &x 1\nb: *x", vec!["a.yaml:1:4 config/yaml_alias", "a.yaml:2:4 config/yaml_alias"]),
            ("a: !!str 1", vec!["a.yaml:1:4 config/yaml_tag"]),
            ("a: !x {b: 1}", vec!["a.yaml:1:4 config/yaml_tag"]),
            ("a: 1\n---\nb: 2", vec!["a.yaml:2:1 config/many_documents"]),
            ("1: a\ntrue: b", vec!["a.yaml:1:1 config/bad_key", "a.yaml:2:1 config/bad_key"]),
            ("a: {b: 1, b: 2}", vec!["a.yaml:1:11 config/duplicate_key"]),
            ("a: 99999999999999999999", vec!["a.yaml:1:4 config/bad_number"]),
            ("a: .inf", vec!["a.yaml:1:4 config/bad_number"]),
            ("- a", vec!["a.yaml:1:1 config/syntax"]),
            ("a: [1", vec!["a.yaml:1:6 config/syntax"]),
        ];

        for (content, expected) in cases {
            assert_eq!(faults(content), expected, "{content}");
        }
    }

    #[test]
    fn an_alias_bomb_expands_to_nothing() {
        let bomb: String = (1..60).map(|n| format!("a{n}: &a{n} [*a{m}, *a{m}]\n", m = n - 1)).collect();

        let parsed = parse(&text(&format!("a0: &a0 x\n{bomb}")));

        assert!(parsed.is_err_and(|faults| faults.iter().all(|fault| fault.code == "config/yaml_alias")));
    }

    #[test]
    fn trees_of_any_depth_are_refused_without_exhausting_the_stack() {
        let indented: String = (0..300).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        for content in
            ["a: ".to_owned() + &"[".repeat(100_000), "- ".repeat(100_000), "? ".repeat(100_000), indented]
        {
            assert!(faults(&content).iter().any(|fault| fault.contains("config/")));
        }
    }
}
