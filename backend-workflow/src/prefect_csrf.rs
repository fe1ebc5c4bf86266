//! The token that a server may ask for with everything that is not a `GET`, against forged requests.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;

use crate::prefect_http::fresh;
use tokio::time::Instant;

/// A token is good for an hour unless the server is told otherwise; one that ends earlier is refused, and renewed.
const GOOD_FOR: Duration = Duration::from_secs(50 * 60);

/// What is known about the token.
#[derive(Debug, Default)]
pub(crate) struct Csrf(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Unknown,
    Off,
    Token(Token, Instant),
}

/// A token, and the name it was given to. A name of its own for each keeps one from ending another.
#[derive(Clone, Deserialize)]
pub(crate) struct Token {
    pub(crate) token: String,
    pub(crate) client: String,
}

/// What a request needs.
#[derive(Debug)]
pub(crate) enum Need {
    Nothing,
    Token(Token),
    /// To ask for a token first.
    Asking,
}

impl Csrf {
    pub(crate) fn need(&self) -> Need {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Off => Need::Nothing,
            State::Token(token, since) if since.elapsed() < GOOD_FOR => Need::Token(token.clone()),
            State::Token(..) | State::Unknown => Need::Asking,
        }
    }

    /// Keeps a token; none when the server wants none.
    pub(crate) fn learn(&self, token: Option<Token>) {
        let state = token.map_or(State::Off, |token| State::Token(token, Instant::now()));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    pub(crate) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::Unknown;
    }

    /// A name that nobody else has.
    pub(crate) fn fresh_client() -> String {
        format!("hybrid-scheduler-{:016x}{:016x}", fresh(), fresh())
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("client", &self.client).finish_non_exhaustive()
    }
}
