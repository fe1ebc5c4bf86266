//! The exit codes of the command line, which scripts rely on.

use std::process::ExitCode;

use scheduler_core::ErrorKind;

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what it was asked to; `run` drained completely.
    Done = 0,
    /// A run that it waited for did not succeed, there are findings, or `run` abandoned runs.
    Findings = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// The daemon or a backend cannot be reached.
    Unreachable = 3,
    /// The named thing does not exist.
    NotFound = 4,
    /// Something else holds what the command needs, or the state of things forbids it.
    Conflict = 5,
    /// Of several things that were to be done, some were not.
    PartOfBulk = 6,
    /// What was waited for did not happen in time.
    TimedOut = 124,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Invalid | ErrorKind::Unsupported => Self::Usage,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::Conflict => Self::Conflict,
            ErrorKind::Unavailable | ErrorKind::Unauthorized => Self::Unreachable,
            // The kinds may grow; what nobody foresaw is a finding.
            _ => Self::Findings,
        }
    }
}
