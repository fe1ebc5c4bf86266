//! What is wrong with a configuration, where, and what to do next.
//!
//! A fault is data until it is printed: as text with the source line and a caret, or as JSON for
//! scripts. The code of a fault is permanent, its message is not.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::origin::{FilePosition, Origin, printable};
use crate::redact;

/// One fault of a configuration.
///
/// Message and help may hold text from the input; both printed forms escape its control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the configuration can be used in spite of it.
    pub severity: Severity,
    /// A permanent slug such as `config/unknown_key`.
    pub code: &'static str,
    /// What is wrong, naming the thing and the value.
    pub message: String,
    /// What wrote the offending key or value.
    pub origin: Origin,
    /// The next step.
    pub help: Option<String>,
}

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// The configuration can be used, yet is probably not what its author meant.
    Warning,
}

impl Diagnostic {
    /// A fault that makes the configuration unusable.
    pub fn error(code: &'static str, message: impl Into<String>, origin: Origin) -> Self {
        let message = redact::mask_urls(&message.into()).into_owned();
        Self { severity: Severity::Error, code, message, origin, help: None }
    }

    /// A fault that leaves the configuration usable.
    pub fn warning(code: &'static str, message: impl Into<String>, origin: Origin) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message, origin) }
    }

    /// Adds the next step.
    #[must_use]
    pub fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(redact::mask_urls(&help.into()).into_owned()), ..self }
    }

    /// The text form: several lines, each ended by a newline.
    pub fn render(&self, colour: bool) -> String {
        let paint = Paint { colour };
        let (word, style) = match self.severity {
            Severity::Error => ("error", RED),
            Severity::Warning => ("warning", YELLOW),
        };
        let head = paint.styled(style, &format!("{word}[{}]", self.code));
        let mut text = format!("{head}: {}\n", printable(&self.message));
        let margin = match &self.origin {
            Origin::File(position) => paint.excerpt(style, &position.place(), position, &mut text),
            Origin::Environment { over: Some(position), .. } => {
                paint.excerpt(style, &self.origin.place(), position, &mut text)
            }
            Origin::Environment { over: None, .. } | Origin::Flag { .. } => {
                paint.arrow(&self.origin.place(), &mut text)
            }
            Origin::None => 1,
        };
        if let Some(help) = &self.help {
            let equals = paint.styled(BLUE, "=");
            text.push_str(&format!("{:margin$} {equals} help: {}\n", "", printable(help)));
        }
        text
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.render(false))
    }
}

impl Serialize for Diagnostic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut report = Report {
            severity: self.severity,
            code: self.code,
            message: printable(&self.message),
            file: None,
            line: None,
            column: None,
            variable: None,
            flag: None,
            help: self.help.as_deref().map(printable),
        };
        if let Origin::Environment { variable, .. } = &self.origin {
            report.variable = Some(variable);
        }
        match &self.origin {
            Origin::File(position) | Origin::Environment { over: Some(position), .. } => {
                report.file = Some(position.path.display().to_string());
                report.line = Some(position.line);
                report.column = Some(position.column);
            }
            Origin::Flag { key } => report.flag = Some(key),
            Origin::Environment { over: None, .. } | Origin::None => {}
        }
        report.serialize(serializer)
    }
}

/// The JSON form. Fields that do not apply are null, so that every line has the same columns.
#[derive(Serialize)]
struct Report<'a> {
    severity: Severity,
    code: &'static str,
    message: String,
    file: Option<String>,
    line: Option<usize>,
    column: Option<usize>,
    variable: Option<&'a str>,
    flag: Option<&'a str>,
    help: Option<String>,
}

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const BLUE: &str = "\x1b[1;34m";

struct Paint {
    colour: bool,
}

impl Paint {
    fn styled(&self, style: &str, text: &str) -> String {
        if self.colour { format!("{style}{text}\x1b[0m") } else { text.to_owned() }
    }

    fn arrow(&self, place: &str, text: &mut String) -> usize {
        text.push_str(&format!(" {} {}\n", self.styled(BLUE, "-->"), printable(place)));
        1
    }

    /// Prints the place, the line and the caret; answers how wide the line numbers are.
    fn excerpt(&self, style: &str, place: &str, position: &FilePosition, text: &mut String) -> usize {
        let number = position.line.to_string();
        let margin = number.len();
        let bar = self.styled(BLUE, "|");
        text.push_str(&" ".repeat(margin - 1));
        self.arrow(place, text);
        let line = &position.excerpt.text;
        let indent = " ".repeat(position.excerpt.indent);
        let caret = self.styled(style, &"^".repeat(position.excerpt.width));
        let number = self.styled(BLUE, &number);
        text.push_str(&format!("{:margin$} {bar}\n{number} {bar} {line}\n", ""));
        text.push_str(&format!("{:margin$} {bar} {indent}{caret}\n", ""));
        margin
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn unknown_key() -> Diagnostic {
        let position = FilePosition::new(Path::new("scheduler.toml"), 12, "retires = 3", 1, 7);
        let message = "unknown key `retires` in task `backup`";
        Diagnostic::error("config/unknown_key", message, Origin::file(position))
            .with_help("did you mean `retry`?")
    }

    #[test]
    fn a_fault_in_a_file_shows_its_line_and_a_caret() {
        let expected = "\
error[config/unknown_key]: unknown key `retires` in task `backup`
  --> scheduler.toml:12:1
   |
12 | retires = 3
   | ^^^^^^^
   = help: did you mean `retry`?
";

        assert_eq!(unknown_key().to_string(), expected);
    }

    #[test]
    fn colour_is_printed_only_when_asked_for() {
        assert!(!unknown_key().render(false).contains('\x1b'));
        assert!(unknown_key().render(true).contains("\x1b[1;31merror[config/unknown_key]\x1b[0m"));
    }

    #[test]
    fn a_fault_in_the_environment_names_the_variable() {
        let origin = Origin::Environment { variable: "SCHEDULER_FOO".into(), over: None };

        let text = Diagnostic::warning("config/x", "odd", origin).with_help("stop").to_string();

        assert_eq!(text, "warning[config/x]: odd\n --> environment variable SCHEDULER_FOO\n  = help: stop\n");
    }

    #[test]
    fn control_characters_of_the_input_never_reach_the_terminal() {
        let position = FilePosition::new(Path::new("a\x1b[2J.toml"), 1, "a\x1b[31mb = \u{202e}1", 1, 1);
        let fault = Diagnostic::error("config/x", "bad `\x1b]0;t\x07`\nsecond", Origin::file(position))
            .with_help("drop `\r`");

        let text = fault.to_string();

        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(!text.contains('\u{202e}'));
        assert_eq!(text.lines().count(), 6);
    }

    #[test]
    fn the_json_form_has_the_same_fields_for_every_fault() {
        let json = serde_json::to_value(unknown_key()).unwrap();

        let expected = serde_json::json!({
            "severity": "error", "code": "config/unknown_key", "file": "scheduler.toml",
            "message": "unknown key `retires` in task `backup`", "line": 12, "column": 1,
            "variable": null, "flag": null, "help": "did you mean `retry`?",
        });
        assert_eq!(json, expected);
    }
}
