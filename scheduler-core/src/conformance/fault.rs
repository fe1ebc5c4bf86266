//! How a promise ends that is not kept, or that does not apply.

use std::fmt::Debug;

/// Why a promise is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is broken, and this was seen.
    Broken(String),
    /// It does not apply to this backend, for this reason.
    NotApplicable(String),
}

pub(super) type Outcome<T = ()> = Result<T, Fault>;

pub(super) fn broken<T>(what: impl Into<String>) -> Outcome<T> {
    Err(Fault::Broken(what.into()))
}

pub(super) fn not_applicable<T>(why: impl Into<String>) -> Outcome<T> {
    Err(Fault::NotApplicable(why.into()))
}

/// The promise is broken unless `holds`.
pub(super) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { broken(otherwise()) }
}

/// The promise is broken unless what was seen is what was expected.
#[expect(clippy::needless_pass_by_value, reason = "what is compared is mostly made for it")]
pub(super) fn ensure_eq<A: PartialEq<B> + Debug, B: Debug>(what: &str, seen: A, expected: B) -> Outcome {
    ensure(seen == expected, || format!("{what}: expected {expected:?}, saw {seen:?}"))
}
