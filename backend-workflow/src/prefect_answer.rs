//! What an answer of the API says, and what of it may be repeated to people.
//!
//! Prefect words its errors in three ways, and one of them holds the whole request, which may carry secrets of a
//! task: only the words about it are taken.

use scheduler_core::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// How many characters of an answer's words are shown.
const SHOWN: usize = 300;

/// An answer with a meaning.
#[derive(Debug)]
pub(crate) struct Reply {
    /// 2xx, 400, 404, 409 or 422.
    pub(crate) status: u16,
    /// Whether the request was sent before, so that this may be the answer to a repetition.
    pub(crate) is_repeated: bool,
    body: Vec<u8>,
    place: String,
    hidden: Vec<String>,
}

impl Reply {
    pub(crate) fn new(status: u16, body: Vec<u8>, place: String, hidden: Vec<String>) -> Self {
        Self { status, is_repeated: false, body, place, hidden }
    }

    pub(crate) fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn is_missing(&self) -> bool {
        self.status == 404
    }

    /// What was asked for.
    ///
    /// # Errors
    /// [`refused`](Self::refused) when the answer is another one; `engine/bad_answer` when it cannot be read.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T> {
        if !self.is_good() {
            return Err(self.refused());
        }
        let mut reader = serde_json::Deserializer::from_slice(&self.body);
        serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            // The library's words may quote a value; its place and the fault's place in the text do not.
            let (path, inner) = (error.path().to_string(), error.inner());
            let message = format!(
                "{} answered what is not understood at `{}`, line {} column {}",
                self.place,
                shortened(&path),
                inner.line(),
                inner.column()
            );
            Error::unavailable("engine/bad_answer", message)
        })
    }

    /// That it was done.
    ///
    /// # Errors
    /// [`refused`](Self::refused) otherwise.
    pub(crate) fn done(&self) -> Result<()> {
        if self.is_good() { Ok(()) } else { Err(self.refused()) }
    }

    /// The words of the answer.
    pub(crate) fn told(&self) -> String {
        hide(&told(&self.body), &self.hidden)
    }

    /// The error that a refusal is.
    pub(crate) fn refused(&self) -> Error {
        let message = format!("{} answered {}: {}", self.place, self.status, self.told());
        match self.status {
            404 => Error::not_found("engine/not_found", message),
            409 => Error::conflict("engine/conflict", message),
            _ => Error::invalid("engine/refused", message),
        }
    }
}

/// The text without what must not be shown.
pub(crate) fn hide(text: &str, hidden: &[String]) -> String {
    hidden.iter().filter(|secret| !secret.is_empty()).fold(text.to_owned(), |text, secret| {
        if text.contains(secret.as_str()) { text.replace(secret.as_str(), "[secret]") } else { text }
    })
}

/// What a body says about what went wrong.
pub(crate) fn told(body: &[u8]) -> String {
    let words = match serde_json::from_slice::<Value>(body) {
        Ok(value) => words(&value),
        Err(_) => page(body),
    };
    if words.is_empty() { "it gives no reason".to_owned() } else { shortened(&words) }
}

fn words(value: &Value) -> String {
    let mut parts: Vec<String> = Vec::new();
    for key in ["exception_message", "detail"] {
        parts.extend(value.get(key).and_then(Value::as_str).map(str::to_owned));
    }
    let listed = ["exception_detail", "detail"].iter().filter_map(|key| value.get(key)?.as_array());
    let listed: Vec<&Value> = listed.flatten().collect();
    // A rule of a schedule is tried in three forms, and two of them only say that it is not theirs.
    let is_telling = |entry: &&Value| {
        !matches!(entry.get("type").and_then(Value::as_str), Some("missing" | "extra_forbidden"))
    };
    let telling: Vec<&Value> = listed.iter().copied().filter(|entry| is_telling(entry)).collect();
    let shown = if telling.is_empty() { listed } else { telling };
    parts.extend(shown.iter().take(3).filter_map(|entry| {
        let place: Vec<String> = entry.get("loc")?.as_array()?.iter().map(spelled).collect();
        Some(format!("{}: {}", place.join("."), entry.get("msg")?.as_str()?))
    }));
    parts.join("; ")
}

fn spelled(part: &Value) -> String {
    part.as_str().map_or_else(|| part.to_string(), str::to_owned)
}

/// What is no JSON: the title of a page, or nothing that should be quoted.
fn page(body: &[u8]) -> String {
    let beginning = String::from_utf8_lossy(&body[..body.len().min(4_096)]);
    let text = beginning.trim();
    if !text.starts_with('<') {
        let is_plain = !text.starts_with(['{', '[', '"']);
        return if is_plain { text.to_owned() } else { "it is damaged JSON".to_owned() };
    }
    let lower = text.to_ascii_lowercase();
    let title = lower.find("<title>").map(|at| at + 7);
    let title = title.and_then(|from| text.get(from..from + lower.get(from..)?.find('<')?));
    title.map_or_else(|| "an HTML page".to_owned(), |title| format!("an HTML page titled `{}`", title.trim()))
}

/// Bounded, on one line, and without what a terminal would obey.
fn shortened(text: &str) -> String {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown: String = one_line.chars().filter(|one| !one.is_control()).take(SHOWN).collect();
    if one_line.chars().count() > SHOWN {
        shown.push_str(" …");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_every_shape_are_told_and_never_the_request() {
        let union = r#"{"exception_message":"Invalid request received.","exception_detail":[
            {"type":"missing","loc":["body","schedules",0,"schedule","IntervalSchedule","interval"],"msg":"Field required","input":{"cron":"canary"}},
            {"type":"value_error","loc":["body","schedules",0,"schedule","CronSchedule","cron"],"msg":"Value error, Invalid cron string","input":"canary"}],
            "request_body":{"parameters":{"password":"canary"}}}"#;
        let cases = [
            (r#"{"exception_message":"Unauthorized"}"#, "Unauthorized"),
            (r#"{"detail":"Deployment not found"}"#, "Deployment not found"),
            (r#"{"detail":[{"loc":["path","id"],"msg":"no uuid"}]}"#, "path.id: no uuid"),
            (union, "schedules.0.schedule.CronSchedule.cron: Value error, Invalid cron string"),
            ("<html><head><TITLE>Bad\n gateway</TITLE>", "an HTML page titled `Bad gateway`"),
            ("<!doctype html>", "an HTML page"),
            ("Service Unavailable", "Service Unavailable"),
            (r#"{"detail": "canary"#, "it is damaged JSON"),
            ("", "it gives no reason"),
            ("null", "it gives no reason"),
        ];
        for (body, expected) in cases {
            let said = told(body.as_bytes());
            assert!(said.contains(expected), "{body}: {said}");
            assert!(!said.contains("canary") && !said.contains("interval"), "{said}");
        }
    }

    #[test]
    fn what_a_server_says_is_bounded_and_moves_no_cursor() {
        let said = told(format!(r#"{{"detail":"\u001b[2J{}"}}"#, "x".repeat(100_000)).as_bytes());
        assert!(said.len() < 400 && !said.contains('\u{1b}'), "{said:?}");
    }

    #[test]
    fn a_secret_that_comes_back_is_not_shown() {
        let hidden = ["hunter2".to_owned(), String::new()];
        assert_eq!(hide("bad key hunter2", &hidden), "bad key [secret]");
    }
}
