//! Reads numbers as programs print them: the text format of Prometheus (0.0.4), the part of OpenMetrics that says
//! the same, plain lines of a name and a number, and a JSON object of numbers.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::metrics_sample::{Kind, Sample, is_label_name, is_metric_name};

/// How much of a line that cannot be read is told.
const TOLD: usize = 60;

/// The endings of samples that a histogram or a summary counts up.
const COUNTED: [&str; 3] = ["_bucket", "_count", "_sum"];

/// Reads what a server or a program sent. What is no number, `NaN`, is passed over.
///
/// # Errors
/// Names the first line that cannot be read, and why.
pub(crate) fn read(text: &str) -> Result<Vec<Sample>, String> {
    let mut samples = Vec::new();
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let mut has_ended = false;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        if has_ended {
            return Err(at(number, line, "something stands behind the end"));
        }
        if let Some(comment) = line.strip_prefix('#') {
            let mut words = comment.split_ascii_whitespace();
            match (words.next(), words.next(), words.next()) {
                (Some("TYPE"), Some(name), Some(kind)) => drop(kinds.insert(name, kind)),
                (Some("EOF"), None, None) => has_ended = true,
                _ => {}
            }
            continue;
        }
        let (name, labels, value) = sample(line).map_err(|fault| at(number, line, fault))?;
        if value.is_finite() {
            let kind = kind_of(name, &kinds);
            samples.push(Sample::bounded(name.to_owned(), labels, kind, value));
        }
    }
    Ok(samples)
}

/// Reads what a program printed: a JSON object whose members are numbers, or lines.
///
/// # Errors
/// As [`read`]; of JSON, the member that is no number.
pub(crate) fn read_printed(text: &str) -> Result<Vec<Sample>, String> {
    if !text.trim_start().starts_with('{') {
        return read(text);
    }
    let members: serde_json::Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| format!("line {}: this is no JSON object", error.line()))?;
    let sample = |(name, value): (String, Value)| match value.as_f64() {
        _ if !is_metric_name(&name) => Err(format!("`{}` is no name of a metric", told(&name))),
        None => Err(format!("`{}` is no number", told(&name))),
        Some(number) => Ok(Sample::bounded(name, Vec::new(), Kind::Gauge, number)),
    };
    members.into_iter().map(sample).collect()
}

fn at(number: u32, line: &str, fault: &str) -> String {
    format!("line {number}: {fault}: `{}`", told(line))
}

fn told(text: &str) -> String {
    let short: String = text.chars().take(TOLD).collect();
    let rest = if short.len() < text.len() { "…" } else { "" };
    format!("{}{rest}", short.escape_debug())
}

fn kind_of(name: &str, kinds: &BTreeMap<&str, &str>) -> Kind {
    let family = |ending: &str| name.strip_suffix(ending).and_then(|family| kinds.get(family)).copied();
    let is_counted = COUNTED.iter().any(|ending| matches!(family(ending), Some("histogram" | "summary")));
    match kinds.get(name).copied().or_else(|| family("_total")) {
        Some("counter") => Kind::Counter,
        _ if is_counted => Kind::Counter,
        // Nobody says what it is, and the name does.
        None if name.ends_with("_total") => Kind::Counter,
        _ => Kind::Gauge,
    }
}

type Labels = Vec<(String, String)>;

type Read<'a> = (&'a str, Labels, f64);

fn sample(line: &str) -> Result<Read<'_>, &'static str> {
    let end = line.find(|letter: char| letter == '{' || letter.is_ascii_whitespace());
    let (name, rest) = line.split_at(end.ok_or("a name and a number were expected")?);
    if !is_metric_name(name) {
        return Err("this is no name of a metric");
    }
    let (labels, rest) = match rest.trim_start().strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    // What OpenMetrics gives as an example for the number.
    let rest = rest.split(" # ").next().unwrap_or_default();
    let mut words = rest.split_ascii_whitespace();
    let value = words.next().and_then(number).ok_or("a number was expected")?;
    // When it was measured; what is kept is when it was asked for.
    if words.next().is_some_and(|time| time.parse::<f64>().is_err()) || words.next().is_some() {
        return Err("something stands behind the number");
    }
    Ok((name, labels, value))
}

fn number(word: &str) -> Option<f64> {
    match word {
        "NaN" | "Nan" | "nan" => Some(f64::NAN),
        "+Inf" | "Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        // What Rust reads besides, such as `infinity`, is no number of the format.
        word if word.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) => {
            word.parse().ok()
        }
        _ => None,
    }
}

/// Reads labels behind their `{`, and answers what stands behind their `}`.
fn labels(mut rest: &str) -> Result<(Labels, &str), &'static str> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        let (name, value) = rest.split_once('=').ok_or("the labels have no end")?;
        let name = name.trim();
        if !is_label_name(name) {
            return Err("this is no name of a label");
        }
        let quoted = value.trim_start().strip_prefix('"').ok_or("a label's value stands in quotes")?;
        let (value, behind) = unquoted(quoted)?;
        labels.push((name.to_owned(), value));
        rest = behind.trim_start();
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None if rest.starts_with('}') => {}
            None => return Err("a `,` or a `}` was expected behind a label"),
        }
    }
}

fn unquoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match letters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, letter @ ('\\' | '"'))) => value.push(letter),
                Some((_, other)) => value.extend(['\\', other]),
                None => break,
            },
            letter => value.push(letter),
        }
    }
    Err("a label's value has no end")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each sample as `name{labels} value kind`.
    fn lines(samples: &[Sample]) -> Vec<String> {
        let line = |sample: &Sample| {
            let kind = if sample.kind == Kind::Counter { "counter" } else { "gauge" };
            format!("{}{} {} {kind}", sample.name, sample.label_text(), sample.value)
        };
        samples.iter().map(line).collect()
    }

    #[test]
    fn the_text_format_and_openmetrics_are_read() {
        let text = r#"
# HELP http_requests_total What it says.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400",}    3
# TYPE temperature gauge
temperature -1.5e-2
odd{path="C:\\DIR\\",error="no \"x\"\n{a=1}"} 4
# TYPE took histogram
took_bucket{le="0.5"} 1 # {trace_id="abc"} 0.4
took_bucket{le="+Inf"} 2
took_sum 1.5
took_count 2
# TYPE wait summary
wait{quantile="0.5"} NaN
wait_sum 3
# TYPE open counter
open_total 7 1395066363.5
undeclared_total 8
nothing NaN
much +Inf
# EOF
"#;
        let expected = [
            r#"http_requests_total{code="200",method="post"} 1027 counter"#,
            r#"http_requests_total{code="400",method="post"} 3 counter"#,
            "temperature -0.015 gauge",
            r#"odd{error="no \"x\"\n{a=1}",path="C:\\DIR\\"} 4 gauge"#,
            r#"took_bucket{le="0.5"} 1 counter"#,
            r#"took_bucket{le="+Inf"} 2 counter"#,
            "took_sum 1.5 counter",
            "took_count 2 counter",
            "wait_sum 3 counter",
            "open_total 7 counter",
            "undeclared_total 8 counter",
        ];
        assert_eq!(lines(&read(text).unwrap()), expected);
    }

    #[test]
    fn garbage_is_told_with_its_line() {
        let cases = [
            ("<html>", "line 1: a name and a number were expected: `<html>`"),
            ("a 1\n<p> 2", "line 2: this is no name of a metric: `<p> 2`"),
            ("a 1\n\nb{c=\"d\" 1", "line 3: a `,` or a `}` was expected behind a label: `b{c=\"d\" 1`"),
            ("b{c=\"d", "line 1: a label's value has no end"),
            ("b{c=d} 1", "line 1: a label's value stands in quotes"),
            ("b{c", "line 1: the labels have no end"),
            ("b{1=\"\"} 1", "line 1: this is no name of a label"),
            ("a one", "line 1: a number was expected"),
            ("a infinity", "line 1: a number was expected"),
            ("a 1 2 3", "line 1: something stands behind the number"),
            ("a 1 x", "line 1: something stands behind the number"),
            ("# EOF\na 1", "line 2: something stands behind the end"),
            ("a\0 1", "line 1: this is no name of a metric: `a\\0 1`"),
        ];
        for (text, fault) in cases {
            let found = read(text).unwrap_err();
            assert!(found.replace("\\\"", "\"").starts_with(fault), "{text}: {found}");
        }
        assert!(read(&"x".repeat(10_000)).unwrap_err().len() < 200);
    }

    #[test]
    fn a_program_prints_lines_or_an_object_of_numbers() {
        assert_eq!(lines(&read_printed("jobs 3\njobs{queue=\"a\"} 4\n").unwrap()).len(), 2);
        assert_eq!(lines(&read_printed(" {\"b\": 2, \"a\": 1.5}").unwrap()), ["a 1.5 gauge", "b 2 gauge"]);
        for (text, fault) in [
            ("{\"a\": \"x\"}", "`a` is no number"),
            ("{\"a b\": 1}", "`a b` is no name of a metric"),
            ("{\"a\": 1", "line 1: this is no JSON object"),
        ] {
            assert_eq!(read_printed(text).unwrap_err(), fault);
        }
        assert_eq!(read_printed("").unwrap(), []);
    }
}
