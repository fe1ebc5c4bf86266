//! What is wrong with an expression: every faulty field, where it stands, and what it takes.

use std::fmt;

use crate::Error;

/// A field that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The name of the field, such as `day of month`; `expression` where the fault is not of one field.
    pub field: &'static str,
    /// What stands in the field.
    pub value: String,
    /// The character of the expression, from 1, with which the faulty part begins.
    pub position: usize,
    /// What is wrong with it, or what it takes.
    pub reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            WHOLE => write!(f, "{}", printable(&self.reason)),
            field => {
                let (value, reason) = (printable(&self.value), printable(&self.reason));
                write!(f, "{field} `{value}` at character {}: {reason}", self.position)
            }
        }
    }
}

/// The field of a fault that is not of one field.
const WHOLE: &str = "expression";

impl Fault {
    /// A fault of the expression as a whole.
    pub(super) fn whole(expression: &str, reason: impl Into<String>) -> Self {
        let position = 1 + expression.chars().take_while(|character| character.is_whitespace()).count();
        Self { field: WHOLE, value: expression.trim().to_owned(), position, reason: reason.into() }
    }
}

/// The one error of all faults of an expression.
pub(super) fn error(expression: &str, faults: &[Fault]) -> Error {
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let message = format!("`{}` is no cron expression: {}", expression.escape_debug(), told.join("; "));
    Error::invalid("cron/bad_expression", message)
}

/// A text without what a terminal would obey.
fn printable(text: &str) -> String {
    let shown = |character: char| match character.is_control() {
        true => character.escape_default().to_string(),
        false => character.to_string(),
    };
    text.chars().map(shown).collect()
}
