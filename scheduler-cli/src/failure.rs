//! Why a command ends badly: what it prints, and the code it exits with.

use std::error::Error as _;
use std::io::{IsTerminal, Write};

use scheduler_core::Error;
use serde::Serialize;

use crate::diagnostic::{Diagnostic, Severity};
use crate::exit::Exit;
use crate::origin::Origin;
use crate::output::{self, Format};

/// A command that could not do what it was asked to.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// The whole in one message.
    pub(crate) summary: Box<Diagnostic>,
    /// The faults of a configuration, if that is what is wrong.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, code: &'static str, message: impl Into<String>) -> Self {
        let summary = Box::new(Diagnostic::error(code, message, Origin::None));
        Self { exit, summary, diagnostics: Vec::new() }
    }

    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.summary.help = Some(help.into());
        self
    }

    /// A configuration that cannot be used; `file` names it.
    pub(crate) fn of_config(file: &str, diagnostics: Vec<Diagnostic>) -> Self {
        let message = format!("{file} has {}", count(&diagnostics));
        Self { diagnostics, ..Self::new(Exit::Usage, "config/invalid", message) }
    }

    /// Prints it: as text on stderr, or as JSON on stdout, where a script waits for the answer.
    pub(crate) fn print(&self, format: Format) {
        match format {
            Format::Table => self.print_text(),
            Format::Json | Format::Jsonl => {
                let Diagnostic { code, message, help, .. } = &*self.summary;
                let help = help.as_deref();
                let report = Report { code, message, help, diagnostics: &self.diagnostics };
                // There is nothing left to do for a command whose failure nobody can read.
                let _ = output::print_object(&Envelope { error: report });
            }
        }
    }

    fn print_text(&self) {
        let colour = output::has_colour(std::io::stderr().is_terminal());
        let all = self.diagnostics.iter().chain([&*self.summary]);
        let text: Vec<String> = all.map(|diagnostic| diagnostic.render(colour)).collect();
        let _ = std::io::stderr().write_all(text.join("\n").as_bytes());
    }
}

/// "2 errors and 1 warning".
pub(crate) fn count(diagnostics: &[Diagnostic]) -> String {
    let errors = diagnostics.iter().filter(|found| found.severity == Severity::Error).count();
    let warnings = diagnostics.len() - errors;
    match (errors, warnings) {
        (errors, 0) => counted(errors, "error"),
        (0, warnings) => counted(warnings, "warning"),
        (errors, warnings) => format!("{} and {}", counted(errors, "error"), counted(warnings, "warning")),
    }
}

/// "1 task", "2 tasks".
pub(crate) fn counted(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(source) = cause {
            let told = source.to_string();
            // Some tell their cause themselves.
            if !message.ends_with(&told) {
                message.push_str(&format!(": {told}"));
            }
            cause = source.source();
        }
        let exit = match error.code() {
            // What is missing is no run, task or queue, but a part of the configuration.
            "secret/missing" => Exit::Usage,
            _ => error.kind().into(),
        };
        let failure = Self::new(exit, error.code(), message);
        match next_step(error.code()) {
            Some(help) => failure.with_help(help),
            None => failure,
        }
    }
}

/// What cannot be followed any more because what tells of it does not answer. Where the time to wait is over as well, it
/// was waited for in vain.
pub(crate) fn waited_in_vain(error: Error, is_over: bool) -> Failure {
    let is_away = error.is_transient();
    let mut failure = Failure::from(error);
    if is_away && is_over {
        failure.exit = Exit::TimedOut;
    }
    failure
}

/// What to do about a store that cannot be used, or what it needs: its errors say what is wrong and where.
fn next_step(code: &str) -> Option<&'static str> {
    Some(match code {
        "queue/unreachable" => "start it, or correct `url` in the backend's section",
        "queue/refused" => "correct `url` or `password` in the backend's section, or what that user may do",
        "queue/wrong_type" => "move that key away, or name another database in `url`",
        "queue/old_redis" => "use a newer Redis",
        "queue/newer_store" => "use the version of this program that wrote it",
        "queue/corrupt" => "move the file away, or restore it, or correct `url` in the backend's section",
        "queue/unreadable" => "look at the path, at what is there, and at its permissions",
        "queue/full" => "make room on its disk",
        "queue/drain_unknown" => {
            "it stays paused; the same command waits on, `scheduler resume --queue` opens it"
        }
        "dead_letters/canary_unknown" => {
            "the others were left alone; `scheduler show` tells of a canary, and replay the others when it has succeeded"
        }
        "dead_letters/broken_off" => {
            "`scheduler dlq list` shows those that are left; the same command goes on with them"
        }
        "queue/resumed" => "agree with who resumed it, and drain it again",
        "queue/locked" => "try again; if it stays, find out which process holds the file",
        "queue/out_of_memory" => "raise its `maxmemory`, or keep less history",
        "secret/missing" => "set it where this program runs",
        _ => return None,
    })
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Report<'a>,
}

#[derive(Serialize)]
struct Report<'a> {
    code: &'a str,
    message: &'a str,
    help: Option<&'a str>,
    diagnostics: &'a [Diagnostic],
}

#[cfg(test)]
mod tests {
    use scheduler_core::ErrorKind;

    use super::*;

    /// It tells its cause itself, as those of databases do.
    #[derive(Debug)]
    struct Telling(std::io::Error);

    impl std::fmt::Display for Telling {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "of the database: {}", self.0)
        }
    }

    impl std::error::Error for Telling {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_cause_that_was_told_is_not_told_again() {
        let io = || std::io::Error::other("no such file");
        let error =
            |source| Error::new(ErrorKind::Invalid, "queue/unreadable", "q.db is shut").with_source(source);
        let told = Failure::from(error(Telling(io()))).summary.message;
        assert_eq!(told, "q.db is shut: of the database: no such file");
    }

    #[test]
    fn a_store_that_cannot_be_used_comes_with_the_next_step() {
        let failure = Failure::from(Error::new(ErrorKind::Unavailable, "queue/unreachable", "no answer"));
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.summary.help.is_some_and(|help| help.contains("start it")));

        let failure = Failure::from(Error::new(ErrorKind::NotFound, "secret/missing", "no secret"));
        assert_eq!(failure.exit, Exit::Usage, "what is missing was not asked for");
    }
}
