//! Reads TOML into a tree of values with places.

use std::ops::Range;
use std::path::Path;

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml_parser::lexer::TokenKind;

use crate::diagnostic::Diagnostic;
use crate::pointer;
use crate::source::{BAD_NUMBER, DEEPEST, MOST_FAULTS, Parsed, Span, Text};

/// A broken file can hold an error a byte; past this size only the first is collected.
const RECOVERABLE: usize = 256 * 1024;

pub(crate) fn parse(text: &Text) -> Result<Parsed, Vec<Diagnostic>> {
    let table = table(text)?;
    let mut reader = Reader { text, parsed: Parsed::default(), faults: Vec::new() };
    reader.parsed.tree = reader.table(table.get_ref(), "", 1);
    if reader.faults.is_empty() { Ok(reader.parsed) } else { Err(reader.faults) }
}

/// The value that a text stands for, if it is a TOML value.
pub(crate) fn parse_value(raw: &str) -> Option<Value> {
    let text = Text::new(Path::new(""), raw.into()).ok()?;
    if too_deep(&text).is_some() {
        return None;
    }
    let value = DeValue::parse(&text.content).ok()?;
    let mut reader = Reader { text: &text, parsed: Parsed::default(), faults: Vec::new() };
    let value = reader.value(&value, "", 1);
    reader.faults.is_empty().then_some(value)
}

fn table(text: &Text) -> Result<Spanned<DeTable<'_>>, Vec<Diagnostic>> {
    if let Some(fault) = too_deep(text) {
        return Err(vec![fault]);
    }
    let errors = if text.content.len() > RECOVERABLE {
        match DeTable::parse(&text.content) {
            Ok(table) => return Ok(table),
            Err(error) => vec![error],
        }
    } else {
        let (table, errors) = DeTable::parse_recoverable(&text.content);
        if errors.is_empty() {
            return Ok(table);
        }
        errors
    };
    Err(syntax_faults(text, &errors))
}

/// Where brackets and dotted keys nest too deeply.
///
/// The parser bounds each of the two, yet not their product, and merely dropping a tree that deep
/// exhausts the stack. So this looks at the tokens before there is a tree.
fn too_deep(text: &Text) -> Option<Diagnostic> {
    let mut open: Vec<(TokenKind, usize)> = Vec::new();
    let (mut depth, mut dots) = (0, 0);
    for token in toml_parser::Source::new(&text.content).lex() {
        match token.kind() {
            TokenKind::Dot => dots += 1,
            TokenKind::Comma | TokenKind::Newline => dots = 0,
            bracket @ (TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket) => {
                open.push((bracket, dots + 1));
                depth += dots + 1;
                dots = 0;
            }
            TokenKind::RightSquareBracket => depth -= close(&mut open, TokenKind::LeftSquareBracket),
            TokenKind::RightCurlyBracket => depth -= close(&mut open, TokenKind::LeftCurlyBracket),
            _ => {}
        }
        if depth + dots > DEEPEST {
            return Some(text.too_deep(&(token.span().start()..token.span().end())));
        }
    }
    None
}

/// How many levels the bracket that was opened last closes; none if it is of the other kind.
fn close(open: &mut Vec<(TokenKind, usize)>, opened_by: TokenKind) -> usize {
    open.pop_if(|(bracket, _)| *bracket == opened_by).map_or(0, |(_, levels)| levels)
}

fn syntax_faults(text: &Text, errors: &[toml::de::Error]) -> Vec<Diagnostic> {
    let mut errors: Vec<(Range<usize>, &str)> =
        errors.iter().map(|error| (error.span().unwrap_or(0..0), error.message())).collect();
    errors.sort_by_key(|(span, _)| span.start);
    // What follows the first error of a line is mostly the parser finding its feet again.
    errors.dedup_by_key(|(span, _)| text.line_of(span.start));
    errors.truncate(MOST_FAULTS);
    errors.into_iter().map(|(span, message)| syntax_fault(text, message, &span)).collect()
}

fn syntax_fault(text: &Text, message: &str, span: &Range<usize>) -> Diagnostic {
    let marked = text.content.get(span.clone()).unwrap_or("");
    if message == "duplicate key" {
        return duplicate_key(text, marked, span);
    }
    // The parser guesses from the first letter what a bare word was meant to be: `nightly` to be `nan`.
    let is_bare_word = message.starts_with("string values must be quoted")
        || message.starts_with("invalid float") && marked.starts_with(char::is_alphabetic);
    match marked {
        "" if is_bare_word => text.fault("config/syntax", "a value is missing", span),
        _ if is_bare_word && text.is_masked(span) => {
            text.fault("config/syntax", "this text is no value", span).with_help("write it in quotes")
        }
        word if is_bare_word => text
            .fault("config/syntax", format!("`{word}` is no value"), span)
            .with_help("write texts and durations in quotes"),
        _ => text.fault("config/syntax", message, span),
    }
}

fn duplicate_key(text: &Text, key: &str, span: &Range<usize>) -> Diagnostic {
    let first = first_definition(text, key, span.start)
        .map_or(String::new(), |line| format!(", first defined in line {}", line + 1));
    text.fault("config/duplicate_key", format!("duplicate key `{key}`{first}"), span)
        .with_help("remove one of the two")
}

/// The line (from 0) that defined a key before, as far as the text alone can tell: the parser does not say.
fn first_definition(text: &Text, key: &str, at: usize) -> Option<usize> {
    let lines: Vec<&str> = text.content.lines().map(str::trim).collect();
    let again = text.line_of(at);
    let is_header = lines.get(again)?.starts_with('[');
    let before = lines.get(..again)?.iter().enumerate();
    if is_header {
        let header = lines[again].split('#').next().map(str::trim_end);
        return before
            .rev()
            .find(|(_, line)| line.split('#').next().map(str::trim_end) == header)
            .map(|(line, _)| line);
    }
    before
        .rev()
        .take_while(|(_, line)| !line.starts_with('['))
        .find(|(_, line)| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('=')))
        .map(|(line, _)| line)
}

struct Reader<'a> {
    text: &'a Text,
    parsed: Parsed,
    faults: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn table(&mut self, table: &DeTable<'_>, at: &str, depth: usize) -> Map<String, Value> {
        let mut map = Map::new();
        for (key, value) in table {
            let place = pointer::child(at, key.get_ref());
            let value_span = if value.get_ref().is_table() { key.span() } else { value.span() };
            map.insert(key.get_ref().to_string(), self.value(value, &place, depth));
            self.parsed.spans.insert(place, Span { key: key.span(), value: value_span });
        }
        map
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, at: &str, depth: usize) -> Value {
        if depth > DEEPEST {
            return self.refuse(self.text.too_deep(&value.span()));
        }
        let number = match value.get_ref() {
            DeValue::String(text) => return Value::String(text.to_string()),
            DeValue::Boolean(is_true) => return Value::Bool(*is_true),
            // No setting is a date of its own type: the text is parsed where it is used.
            DeValue::Datetime(time) => return Value::String(time.to_string()),
            DeValue::Table(table) => return Value::Object(self.table(table, at, depth + 1)),
            DeValue::Array(array) => return self.array(array, at, depth + 1),
            DeValue::Integer(integer) => {
                i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(Number::from)
            }
            DeValue::Float(float) => float.as_str().parse().ok().and_then(Number::from_f64),
        };
        number.map_or_else(
            || self.refuse(self.text.fault("config/bad_number", BAD_NUMBER, &value.span())),
            Value::Number,
        )
    }

    fn refuse(&mut self, fault: Diagnostic) -> Value {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(fault);
        }
        Value::Null
    }

    fn array(&mut self, array: &[Spanned<DeValue<'_>>], at: &str, depth: usize) -> Value {
        let mut values = Vec::with_capacity(array.len());
        for (index, value) in array.iter().enumerate() {
            let place = pointer::child(at, &index.to_string());
            values.push(self.value(value, &place, depth));
            self.parsed.spans.insert(place, Span { key: value.span(), value: value.span() });
        }
        Value::Array(values)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(content: &str) -> Result<Parsed, Vec<String>> {
        let text = Text::new(Path::new("a.toml"), content.into()).unwrap();
        parse(&text).map_err(|faults| faults.iter().map(summary).collect())
    }

    fn summary(fault: &Diagnostic) -> String {
        format!("{} {} {}", fault.origin.place(), fault.code, fault.message)
    }

    #[test]
    fn every_type_has_its_value() {
        let content = "s = 'x'\ni = 0x_1F\nn = -1_000\nf = 1.5\nb = true\nd = 2026-12-01T00:00:00Z\nl = [1, [2]]\nt.u = {}";

        let tree = Value::Object(read(&content.replace("0x_", "0x")).unwrap().tree);

        let expected = json!({"s": "x", "i": 31, "n": -1000, "f": 1.5, "b": true,
            "d": "2026-12-01T00:00:00Z", "l": [1, [2]], "t": {"u": {}}});
        assert_eq!(tree, expected);
    }

    #[test]
    fn a_secret_without_quotes_is_not_repeated() {
        for content in ["password = hunter2", "t.token = [\nhunter2\n]", "a = 1\nAPI_KEY = hunter2 # x"] {
            let faults = read(content).unwrap_err();

            assert!(faults[0].ends_with("config/syntax this text is no value"), "{faults:?}");
        }
    }

    #[test]
    fn every_broken_line_is_reported_at_its_place() {
        let faults = read("a = 1\nb = nightly\nc = 2\nd = = 3\n").unwrap_err();

        assert_eq!(faults.len(), 2, "{faults:?}");
        assert_eq!(faults[0], "a.toml:2:5 config/syntax `nightly` is no value");
        assert!(faults[1].starts_with("a.toml:4:5 config/syntax"), "{faults:?}");
    }

    #[test]
    fn a_duplicate_key_names_both_places() {
        let cases = [
            (
                "a = 1\nb = 2\na = 3",
                "a.toml:3:1 config/duplicate_key duplicate key `a`, first defined in line 1",
            ),
            (
                "[t.x]\na = 1\n[u]\na = 1\n[t.x] # again",
                "a.toml:5:4 config/duplicate_key duplicate key `x`, first defined in line 1",
            ),
            ("t = { a = 1, a = 2 }", "a.toml:1:14 config/duplicate_key duplicate key `a`"),
        ];

        for (content, fault) in cases {
            assert_eq!(read(content).unwrap_err(), [fault]);
        }
    }

    #[test]
    fn numbers_that_nothing_can_hold_are_refused() {
        for content in ["a = 99999999999999999999", "a = inf", "a = -nan", "a = 1e999"] {
            assert!(read(content).unwrap_err()[0].starts_with("a.toml:1:5 config/bad_number"), "{content}");
        }
    }

    #[test]
    fn trees_of_any_depth_are_refused_without_exhausting_the_stack() {
        let dotted = vec!["a"; 75].join(".");
        let nested = format!("{dotted} = {{ ").repeat(75) + "b = 1" + &" }".repeat(75);
        let cases = [
            format!("a = {}", "[".repeat(65) + &"]".repeat(65)),
            format!("a = {}", "[".repeat(100_000)),
            format!("{dotted} = 1"),
            format!("[{dotted}]\n{dotted} = 1"),
            nested.clone(),
            format!("[{dotted}]\n{nested}"),
        ];

        for content in cases {
            assert!(read(&content).is_err());
        }
        assert!(read(&format!("a = {}", "[".repeat(60) + &"]".repeat(60))).is_ok());
    }

    #[test]
    fn a_text_is_a_value_only_as_a_whole() {
        let cases = [
            ("5", Some(json!(5))),
            ("true", Some(json!(true))),
            ("'5'", Some(json!("5"))),
            ("[1, 2]", Some(json!([1, 2]))),
            ("{ a = 1 }", Some(json!({"a": 1}))),
            ("5m", None),
            ("", None),
            ("nan", None),
            ("5\n[x]", None),
            ("5 6", None),
            ("5 # five", None),
        ];

        for (text, value) in cases {
            assert_eq!(parse_value(text), value, "{text:?}");
        }
    }
}
