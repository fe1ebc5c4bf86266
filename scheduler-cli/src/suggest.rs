//! The words a person may have meant.

use crate::diagnostic::Diagnostic;

/// Longer words are never suggested for: comparing costs their product.
const LONGEST: usize = 64;
/// More names than this are not listed.
const LISTED: usize = 20;

/// "did you mean `retry`? known keys: `job`, `retry`", the first part only if something is close.
pub(crate) fn suggestion(word: &str, listed: &str, known: &[&str]) -> String {
    let list = list(known);
    match closest(word, known) {
        Some(close) => format!("did you mean `{close}`? {listed}: {list}"),
        None => format!("{listed}: {list}"),
    }
}

/// The names as "`a`, `b`", or "none".
pub(crate) fn list(names: &[&str]) -> String {
    let mut listed: Vec<String> = names.iter().take(LISTED).map(|name| format!("`{name}`")).collect();
    if names.len() > LISTED {
        listed.push(format!("and {} more", names.len() - LISTED));
    }
    if listed.is_empty() { "none".to_owned() } else { listed.join(", ") }
}

/// Adds "did you mean `Europe/Berlin`?" if a zone of the database is close to `zone`, whatever its case.
pub(crate) fn with_zone_suggestion(fault: Diagnostic, zone: &str) -> Diagnostic {
    let zones = scheduler_core::cron::zones();
    let same = zones.iter().find(|known| known.eq_ignore_ascii_case(zone)).map(String::as_str);
    let known: Vec<&str> = zones.iter().map(String::as_str).collect();
    match same.or_else(|| closest(zone, &known)) {
        Some(close) => fault.with_help(format!("did you mean `{close}`?")),
        None => fault,
    }
}

fn closest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    if word.len() > LONGEST {
        return None;
    }
    let bound = (word.chars().count() / 2).max(1);
    known
        .iter()
        .filter(|name| name.len() <= LONGEST)
        .map(|name| (strsim::damerau_levenshtein(word, name), *name))
        // Of a single letter every other is one change away.
        .filter(|(distance, _)| *distance <= bound && *distance < word.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_recognised_and_a_different_word_is_not() {
        let known = ["a", "job", "args", "retry", "timeout", "timezone"];
        let cases = [
            ("retires", Some("retry")),
            ("tiemout", Some("timeout")),
            ("jbo", Some("job")),
            ("zzz", None),
            ("x", None),
            ("", None),
        ];

        for (word, expected) in cases {
            assert_eq!(closest(word, &known), expected, "{word}");
        }
    }

    #[test]
    fn a_long_list_of_names_is_cut() {
        let names = vec!["x"; 30];

        assert!(list(&names).ends_with("and 10 more"));
    }
}
