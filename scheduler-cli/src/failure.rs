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
            message.push_str(&format!(": {source}"));
            cause = source.source();
        }
        Self::new(error.kind().into(), error.code(), message)
    }
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
