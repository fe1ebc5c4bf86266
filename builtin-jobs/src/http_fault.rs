//! Why a request brought no answer, as an error with a code, and what follows: another attempt unless that one
//! would fail as well.

use std::error::Error as StdError;
use std::io;

use scheduler_core::{Error, ErrorKind, JobError};

use crate::address::Refused;
use crate::http_secrets::Secrets;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: ErrorKind,
    code: &'static str,
    message: String,
}

impl Failure {
    /// A failure; another attempt may succeed when the other side is merely unavailable.
    pub(crate) fn new(kind: ErrorKind, code: &'static str, message: String) -> Self {
        Self { kind, code, message }
    }

    /// What a failed exchange means. `place` is the URL as messages show it.
    pub(crate) fn of(error: &reqwest::Error, place: &str) -> Self {
        if let Some(refused) = cause::<Refused>(error) {
            return Self::refusal(refused, place);
        }
        if let Some(rustls::Error::InvalidCertificate(fault)) = cause::<rustls::Error>(error) {
            let message = format!("the certificate of {place} is not trusted: {fault}");
            return Self::new(ErrorKind::Unauthorized, "http/untrusted", message);
        }
        if error.is_timeout() {
            return Self::timed_out(format!("no connection to {place} within `connect_timeout`"));
        }
        if error.is_body() || error.is_decode() {
            let message = format!("the answer of {place} ended early: {}", told(error));
            return Self::new(ErrorKind::Unavailable, "http/cut_short", message);
        }
        let message = format!("no answer from {place}: {}", told(error));
        Self::new(ErrorKind::Unavailable, "http/no_answer", message)
    }

    /// An address may not be connected to.
    pub(crate) fn refusal(refused: &Refused, place: &str) -> Self {
        let message = format!("{place}: {refused}; {}", refused.help());
        Self::new(ErrorKind::Invalid, "http/address_refused", message)
    }

    /// A limit has passed.
    pub(crate) fn timed_out(message: String) -> Self {
        Self::new(ErrorKind::Unavailable, "http/timed_out", message)
    }

    /// This machine could not do its part.
    pub(crate) fn unstarted(error: &dyn StdError) -> Self {
        Self::new(ErrorKind::Unavailable, "http/no_answer", format!("no request could be sent: {error}"))
    }

    /// The same as an error, without the secrets that a server may have put into its message.
    pub(crate) fn without(self, secrets: &Secrets) -> JobError {
        let error = Error::new(self.kind, self.code, secrets.hide(&self.message));
        if error.is_transient() { JobError::retry(error) } else { JobError::abort(error) }
    }
}

/// The causes below reqwest's own words, which hold the URL.
fn told(error: &reqwest::Error) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(error) = next {
        let text = error.to_string();
        // Many a wrapper repeats what it wraps, and the client's own says nothing.
        if !text.starts_with("client error") && !words.iter().any(|said| said.contains(&text)) {
            words.push(text);
        }
        next = error.source();
    }
    if words.is_empty() { "the connection broke".to_owned() } else { words.join(": ") }
}

/// The first cause of this type. An I/O error counts what it wraps as a part of itself and not as its source.
fn cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    if let Some(found) = error.downcast_ref::<T>() {
        return Some(found);
    }
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match wrapped {
        Some(wrapped) => cause(wrapped),
        None => cause(error.source()?),
    }
}
