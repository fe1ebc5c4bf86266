//! What came of a request: an answer with a meaning, or a fault, and whether the same request may fare better.

use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, LOCATION, RETRY_AFTER};
use scheduler_core::{Error, Timestamp};
use serde_json::Value;

use crate::prefect_answer::{Reply, told};
use crate::prefect_exchange::{Answer, Exchange};
use crate::prefect_http::Call;

/// The longest wait that a server may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(3_600);

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The API has answered it.
    Meant(Reply),
    /// The token against forged requests is missing or too old.
    StaleToken(Error),
    /// It was not answered.
    Fault(Fault),
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) error: Error,
    /// Whether the server was not heard, so that others need not ask it either.
    pub(crate) is_silence: bool,
    /// Whether the same request may be answered later.
    pub(crate) is_passing: bool,
    /// Whether the server may have acted on it.
    pub(crate) may_have_arrived: bool,
    /// How long to wait, if the server said so.
    pub(crate) after: Option<Duration>,
    /// Whether it may be answered in a moment.
    pub(crate) is_brief: bool,
}

impl Fault {
    /// The server was not heard.
    pub(crate) fn silence(error: Error, may_have_arrived: bool) -> Self {
        Self { error, is_silence: true, is_passing: true, may_have_arrived, after: None, is_brief: false }
    }

    /// Asking again would bring the same.
    pub(crate) fn lasting(error: Error) -> Self {
        Self {
            error,
            is_silence: false,
            is_passing: false,
            may_have_arrived: true,
            after: None,
            is_brief: false,
        }
    }
}

/// Judges an answer, or why there is none.
pub(crate) fn judge(outcome: Result<Answer, Fault>, exchange: &Exchange, call: &Call) -> Verdict {
    let answer = match outcome {
        Ok(answer) => answer,
        Err(fault) => return Verdict::Fault(fault),
    };
    let place = exchange.place(call);
    let said = || exchange.hide(&told(&answer.body));
    let status = answer.status;
    match status.as_u16() {
        401 => {
            let message = format!("{place} refuses the credentials: {}; {}", said(), exchange.remedy());
            Verdict::Fault(Fault::lasting(Error::unauthorized("engine/unauthorized", message)))
        }
        403 => {
            let words = said();
            let error =
                Error::unauthorized("engine/forbidden", format!("{place} does not permit this: {words}"));
            let is_stale = words.contains("CSRF") || words.contains("client identifier");
            if is_stale { Verdict::StaleToken(error) } else { Verdict::Fault(Fault::lasting(error)) }
        }
        423 | 429 => {
            let after = wait_asked_for(&answer.headers);
            let asked = after.map(|wait| format!(" and asks to wait {wait:.1?}")).unwrap_or_default();
            let message = format!("{place} answered {status}{asked}: {}", said());
            let error = Error::unavailable("engine/overloaded", message);
            let fault = Fault { is_silence: false, after, ..Fault::silence(error, false) };
            Verdict::Fault(fault)
        }
        502..=504 => {
            let error =
                Error::unavailable("engine/overloaded", format!("{place} answered {status}: {}", said()));
            let after = wait_asked_for(&answer.headers);
            // Prefect answers so while its database is locked: it is there, and able again in a moment.
            let is_brief = status == 503 && is_said_by_prefect(&answer.body);
            Verdict::Fault(Fault { after, is_brief, is_silence: !is_brief, ..Fault::silence(error, true) })
        }
        500 => {
            let message = format!("{place} answered {status}: {}; its own log says more", said());
            Verdict::Fault(Fault::lasting(Error::unavailable("engine/failed", message)))
        }
        300..=399 => {
            let to = answer.headers.get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
            // What follows may hold a key of somebody's session.
            let to = to.split(['?', '#']).next().unwrap_or_default().escape_debug();
            let message = format!(
                "{place} answered {status} and sends to `{to}`, which is not followed; correct the URL"
            );
            Verdict::Fault(Fault::lasting(bad_answer(message)))
        }
        200..=299 | 400 | 404 | 409 | 422 if !is_page(&answer) => {
            Verdict::Meant(Reply::new(answer.status.as_u16(), answer.body, place, exchange.hidden()))
        }
        _ => Verdict::Fault(Fault::lasting(bad_answer(no_answer_of_prefect(&place, status, &said())))),
    }
}

/// Whether the words of an error are Prefect's and not those of a gateway before it.
fn is_said_by_prefect(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|body| body.get("exception_message").is_some())
}

fn bad_answer(message: String) -> Error {
    Error::unavailable("engine/bad_answer", message)
}

fn no_answer_of_prefect(place: &str, status: StatusCode, said: &str) -> String {
    format!(
        "{place} answered {status}, which is no answer of Prefect's API: {said}; the URL of one ends in `/api`"
    )
}

/// Whether somebody else answered, for people to read.
fn is_page(answer: &Answer) -> bool {
    // Written in two parts, as it is no code of an error.
    let kind = answer.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.starts_with(concat!("text", "/html")) || answer.body.trim_ascii_start().starts_with(b"<")
}

/// `Retry-After`: seconds, which Prefect writes with a fraction, or a date.
fn wait_asked_for(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        let seconds = seconds.clamp(0.0, LONGEST_ASKED.as_secs_f64());
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let until = instant(text)?;
    // By the server's own clock, if it shows one: ours may differ.
    let now = headers.get(DATE).and_then(|date| instant(date.to_str().ok()?));
    Some(until.since(now.unwrap_or_else(|| Timestamp::from(SystemTime::now()))).min(LONGEST_ASKED))
}

fn instant(date: &str) -> Option<Timestamp> {
    httpdate::parse_http_date(date).ok().map(Timestamp::from)
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn retry_after_is_read_in_each_of_its_forms() {
        let cases = [
            ("2", Some(2_000)),
            ("1.179", Some(1_179)),
            ("0", Some(0)),
            ("-5", Some(0)),
            ("1e300", Some(3_600_000)),
            ("NaN", None),
            ("soon", None),
            ("Thu, 01 Jan 2026 00:00:07 GMT", Some(7_000)),
            ("Wed, 31 Dec 2025 23:00:00 GMT", Some(0)),
        ];
        for (text, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            headers.insert(DATE, HeaderValue::from_static("Thu, 01 Jan 2026 00:00:00 GMT"));

            let wait = wait_asked_for(&headers);

            assert_eq!(wait.map(|wait| wait.as_millis()), expected, "{text}");
        }
    }
}
