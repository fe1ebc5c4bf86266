//! Faults in what a job or a backend reads itself, told like those of our own keys.

use scheduler_core::ArgsError;
use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::layers::Document;
use crate::suggest::suggestion;
use crate::{pointer, redact};

/// The fault as a diagnostic; its pointer counts from `base`.
pub(crate) fn diagnose(document: &Document, base: &str, code: &'static str, fault: &ArgsError) -> Diagnostic {
    let place = format!("{base}{}", fault.pointer);
    // serde's words for the two most common slips; whatever says neither stands as it is.
    if let Some(rest) = fault.message.strip_prefix("unknown field `") {
        let mut names = rest.split('`').step_by(2);
        let key = names.next().unwrap_or_default();
        let known: Vec<&str> = names.collect();
        let known: Vec<&str> = known.into_iter().filter(|name| !name.is_empty()).collect();
        let place = below(document, &place, key);
        let message = format!("unknown key {}", pointer::subject(&place));
        let fault = Diagnostic::error(code, message, document.key_origin(&place));
        return fault.with_help(suggestion(key, "known keys", &known));
    }
    if let Some(key) = fault.message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        let message = format!("{} is missing", pointer::subject(&pointer::child(&place, key)));
        return Diagnostic::error(code, message, document.origin(&place)).with_help(format!("write `{key}`"));
    }
    let tree = document.value("").unwrap_or(&Value::Null);
    let message = match fault
        .message
        .strip_prefix("invalid type: ")
        .and_then(|rest| rest.rsplit_once(", expected "))
    {
        // serde would repeat the value, which may be a secret under a key that nobody takes for one.
        Some((_, expected)) if document.value(&place).is_some_and(Value::is_string) => {
            format!("{} is a string, expected {expected}", pointer::subject(&place))
        }
        _ => format!("{}: {}", pointer::subject(&place), redact::mask_message(&fault.message, tree, &place)),
    };
    Diagnostic { help: fault.help.clone(), ..Diagnostic::error(code, message, document.origin(&place)) }
}

/// The place of a key, whether the pointer leads to it or to the table that holds it.
fn below(document: &Document, place: &str, key: &str) -> String {
    let child = pointer::child(place, key);
    if document.value(&child).is_some() { child } else { place.to_owned() }
}
