//! The one error of every library here: a kind to act on, a permanent code, a message, a source.
//!
//! A job that fails is an outcome, not an `Error`; see [`JobError`](crate::JobError).

use std::error::Error as StdError;
use std::fmt;

/// What every fallible call of this workspace returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed call: whose fault it is, what happened to which thing, and why.
///
/// `Display` prints the message alone; whoever prints also walks [`source`](StdError::source).
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    code: &'static str,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Whose fault a failure is, and so what the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input is wrong; the same call fails again.
    Invalid,
    /// The named thing does not exist.
    NotFound,
    /// The thing exists already, or changed in between.
    Conflict,
    /// The backend does not have this ability.
    Unsupported,
    /// The other side does not answer now; the same call may succeed later.
    Unavailable,
    /// The credentials are missing or refused.
    Unauthorized,
    /// A broken invariant, or an answer nobody foresaw.
    Unexpected,
}

impl Error {
    /// Builds an error from its kind, its permanent code (a slug such as `task/unknown`) and a message.
    pub fn new(kind: ErrorKind, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into(), source: None }
    }

    /// Adds what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error with more said behind its message.
    pub(crate) fn followed_by(mut self, more: &str) -> Self {
        self.message.push_str(more);
        self
    }

    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The permanent slug that documentation and scripts rely on.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// Whether the same call may succeed later without a change.
    pub fn is_transient(&self) -> bool {
        self.kind == ErrorKind::Unavailable
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

macro_rules! constructors {
    ($($name:ident => $kind:ident),* $(,)?) => {
        impl Error {
            $(
                #[doc = concat!("An error of kind [`ErrorKind::", stringify!($kind), "`].")]
                pub fn $name(code: &'static str, message: impl Into<String>) -> Self {
                    Self::new(ErrorKind::$kind, code, message)
                }
            )*
        }
    };
}

constructors! {
    invalid => Invalid,
    not_found => NotFound,
    conflict => Conflict,
    unsupported => Unsupported,
    unavailable => Unavailable,
    unauthorized => Unauthorized,
    unexpected => Unexpected,
}
