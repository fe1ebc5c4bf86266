//! Stops requests to a server that does not answer, so that nothing waits for it.
//!
//! After so many failures in a row it is open: every request is refused at once. When its pause is over one request
//! may try; its success closes the breaker, its failure opens it for another pause.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use scheduler_core::Error;
use tokio::time::Instant;

/// How much is put up with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// After how many failures in a row it opens; it never does at 0.
    pub(crate) failures: u32,
    /// How long it stays open before one request may try.
    pub(crate) pause: Duration,
}

/// Lets requests pass, or not.
#[derive(Debug)]
pub(crate) struct Breaker {
    patience: Patience,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    opened: Option<Instant>,
    is_probing: bool,
    last: String,
}

/// Leave for one request. Dropped without a word, as when its caller gave up, it says nothing about the server.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
}

impl Breaker {
    pub(crate) fn new(patience: Patience) -> Self {
        Self { patience, state: Mutex::default() }
    }

    /// Asks whether a request may be sent.
    ///
    /// # Errors
    /// `engine/circuit_open`, of kind `Unavailable`.
    pub(crate) fn admit(&self, now: Instant) -> Result<Permit<'_>, Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(opened) = state.opened else { return Ok(Permit { breaker: self, is_probe: false }) };
        let left = self.patience.pause.saturating_sub(now.saturating_duration_since(opened));
        if left.is_zero() && !state.is_probing {
            state.is_probing = true;
            return Ok(Permit { breaker: self, is_probe: true });
        }
        let message = format!(
            "the engine was not asked, as {} requests in a row failed; the next is tried in {left:.0?}; the last: {}",
            state.failures, state.last
        );
        Err(Error::unavailable("engine/circuit_open", message))
    }
}

impl Permit<'_> {
    /// The server answered, whatever it said.
    pub(crate) fn answered(self) {
        let mut state = self.breaker.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { is_probing: state.is_probing && !self.is_probe, ..State::default() };
    }

    /// The server did not answer, or what stands before it answered.
    pub(crate) fn failed(self, why: &Error, now: Instant) {
        let mut state = self.breaker.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = state.failures.saturating_add(1);
        state.last = why.to_string();
        let limit = self.breaker.patience.failures;
        if self.is_probe || (limit > 0 && state.failures >= limit && state.opened.is_none()) {
            state.opened = Some(now);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            self.breaker.state.lock().unwrap_or_else(PoisonError::into_inner).is_probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(Patience { failures: 3, pause: Duration::from_secs(10) })
    }

    fn fail(breaker: &Breaker, now: Instant) {
        breaker.admit(now).unwrap().failed(&Error::unavailable("engine/timed_out", "no answer"), now);
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let (breaker, now) = (breaker(), Instant::now());

        for _ in 0..5 {
            fail(&breaker, now);
            fail(&breaker, now);
            breaker.admit(now).unwrap().answered();
        }
        assert!(breaker.admit(now).is_ok());

        (0..3).for_each(|_| fail(&breaker, now));
        let refused = breaker.admit(now + Duration::from_secs(9)).unwrap_err();
        assert_eq!(refused.code(), "engine/circuit_open");
        assert!(refused.is_transient());
        assert!(refused.to_string().contains("no answer"), "{refused}");
    }

    #[test]
    fn after_its_pause_one_request_tries_and_decides() {
        let (breaker, now) = (breaker(), Instant::now());
        (0..3).for_each(|_| fail(&breaker, now));

        let later = now + Duration::from_secs(10);
        let probe = breaker.admit(later).unwrap();
        assert!(breaker.admit(later).is_err(), "a second one beside the probe");
        probe.failed(&Error::unavailable("engine/timed_out", "no answer"), later);
        assert!(breaker.admit(later).is_err(), "it opened again");

        let latest = later + Duration::from_secs(10);
        drop(breaker.admit(latest).unwrap());
        breaker.admit(latest).unwrap().answered();
        assert!(breaker.admit(latest).is_ok() && breaker.admit(latest).is_ok(), "it is closed");
    }
}
