//! Redis's errors as ours. None of them ever names a password: what Redis is called is its place.

use redis::{ErrorKind as RedisKind, RedisError, ServerErrorKind};
use scheduler_core::{Error, ErrorKind};

/// What went wrong with the Redis at `place`.
pub(crate) fn failed(error: &RedisError, place: &str) -> Error {
    let (kind, slug, what) = meaning(error);
    Error::new(kind, slug, format!("Redis at {place} {what}")).with_source(error.to_string())
}

/// Whether Redis has no memory left for what was asked of it.
pub(crate) fn is_out_of_memory(error: &Error) -> bool {
    error.code() == "queue/out_of_memory"
}

/// Whether nobody knows if Redis did what was asked of it.
pub(crate) fn is_unanswered(error: &Error) -> bool {
    matches!(error.code(), "queue/unreachable" | "queue/unexpected_answer")
}

/// Whether a connection is of no use after this.
pub(crate) fn ends_connection(error: &RedisError) -> bool {
    match error.kind() {
        RedisKind::Io | RedisKind::Parse | RedisKind::AuthenticationFailed => true,
        // A server that was demoted, or is about to load its data, may be another one by the next call.
        RedisKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading) => true,
        _ => error.is_unrecoverable_error(),
    }
}

fn meaning(error: &RedisError) -> (ErrorKind, &'static str, &'static str) {
    use ErrorKind::{Invalid, Unauthorized, Unavailable, Unexpected};
    let detail = error.detail().unwrap_or_default();
    if error.kind() == RedisKind::AuthenticationFailed {
        return (Unauthorized, "queue/refused", "refuses the user or the password");
    }
    if error.is_io_error() {
        return match error.is_timeout() {
            true => (Unavailable, "queue/unreachable", "does not answer in time"),
            false => (Unavailable, "queue/unreachable", "cannot be reached"),
        };
    }
    match error.code().unwrap_or_default() {
        "OOM" => (
            Unavailable,
            "queue/out_of_memory",
            "has no memory left: it takes nothing new until there is some",
        ),
        "NOAUTH" | "WRONGPASS" => (Unauthorized, "queue/refused", "refuses the user or the password"),
        "NOPERM" => (Unauthorized, "queue/refused", "does not permit this user what a queue needs"),
        // What a script may not do is told by the text alone.
        "ERR" if detail.contains("user executing the script") => {
            (Unauthorized, "queue/refused", "does not permit this user what a queue needs")
        }
        "ERR" if detail.contains("Authentication required") => {
            (Unauthorized, "queue/refused", "refuses the user or the password")
        }
        "ERR" if detail.contains("DB index") => (Unauthorized, "queue/refused", "has no such database"),
        "LOADING" => (Unavailable, "queue/unavailable", "is still loading its data"),
        "READONLY" => (Unavailable, "queue/unavailable", "is a replica that nobody may write to"),
        "BUSY" => (Unavailable, "queue/unavailable", "is busy with somebody's script"),
        "MISCONF" => (Unavailable, "queue/unavailable", "cannot save its data and takes nothing new"),
        "MASTERDOWN" | "NOREPLICAS" | "CLUSTERDOWN" | "TRYAGAIN" => {
            (Unavailable, "queue/unavailable", "is not ready")
        }
        "WRONGTYPE" => (Invalid, "queue/wrong_type", "holds something else under a key of the queue"),
        _ => (Unexpected, "queue/unexpected_answer", "answered what nobody foresaw"),
    }
}
