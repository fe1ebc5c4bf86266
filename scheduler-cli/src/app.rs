//! Composes a binary: which jobs and kinds of backends it knows, then the command line.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use scheduler_core::{BackendKind, Error, JobDescriptor, Registry, Source, Way};

use crate::command_line;
use crate::diagnostic::Diagnostic;
use crate::failure::Failure;
use crate::session;

/// A scheduler binary in the making.
///
/// What the macros of linked crates registered always belongs to it. Two jobs or two kinds of one name are
/// refused when it runs, and both crates are named.
///
/// ```no_run
/// use scheduler_cli::App;
/// use scheduler_cli::scheduler_core::{JobDescriptor, source};
///
/// fn main() -> std::process::ExitCode {
///     let hello = JobDescriptor::function("hello", "says hello", |_| async { Ok("hello".into()) });
///     App::new().with_builtins().job(hello, source!()).run()
/// }
/// ```
#[derive(Debug, Default)]
#[must_use = "it does nothing until it runs"]
pub struct App {
    registry: Registry,
    refused: Option<Error>,
}

impl App {
    /// An application that knows nothing but what macros registered.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what this crate's Cargo features brought in.
    pub fn with_builtins(self) -> Self {
        let app = self;
        // One statement a feature, so that the linker cannot lose any.
        #[cfg(feature = "local")]
        let app = app.add_backend(backend_local::kind(), ours("backend-local"), Way::Feature);
        #[cfg(any(feature = "queue-sqlite", feature = "queue-redis"))]
        let app = app.add_backend(backend_queue::kind(), ours("backend-queue"), Way::Feature);
        #[cfg(feature = "workflow-prefect")]
        let app = app.add_backend(backend_workflow::kind(), ours("backend-workflow"), Way::Feature).add_job(
            backend_workflow::job(),
            ours("backend-workflow"),
            Way::Feature,
        );
        #[cfg(feature = "builtin-jobs")]
        let app = builtin_jobs::all()
            .into_iter()
            .fold(app, |app, job| app.add_job(job, ours("builtin-jobs"), Way::Feature));
        app
    }

    /// Adds a job; `source!()` says that it is the caller's. One that its crate registers by macro as well is
    /// added with that crate's own [`Source`].
    pub fn job(self, job: JobDescriptor, source: Source) -> Self {
        self.add_job(job, source, Way::Explicit)
    }

    /// Adds a kind of backend; `source!()` says that it is the caller's. One that its crate registers by macro
    /// as well is added with that crate's own [`Source`].
    pub fn backend_kind(self, kind: BackendKind, source: Source) -> Self {
        self.add_backend(kind, source, Way::Explicit)
    }

    /// What the application knows, with what the macros registered.
    ///
    /// # Errors
    /// `registry/duplicate_job` and `registry/duplicate_backend`, naming both crates.
    pub fn into_registry(mut self) -> Result<Registry, Error> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        self.registry.add_registered()?;
        Ok(self.registry)
    }

    /// What is wrong with a configuration, as `check` would tell it: a file named `path`, TOML or YAML by its
    /// ending, that holds `content`, with the files it includes, before environment and flags.
    ///
    /// Nothing is started or written. Faults and warnings come in the order of the file.
    ///
    /// # Errors
    /// As [`into_registry`](Self::into_registry).
    pub fn diagnose(self, path: &Path, content: Vec<u8>) -> Result<Vec<Diagnostic>, Error> {
        let registry = self.into_registry()?;
        Ok(session::diagnose(&registry, path, content))
    }

    /// Does what the command line asks for.
    #[must_use]
    pub fn run(self) -> ExitCode {
        self.run_with(std::env::args_os())
    }

    /// Does what `arguments` ask for, the first of which is the program's name.
    #[must_use]
    pub fn run_with(self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> ExitCode {
        let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        match self.into_registry() {
            Ok(registry) => command_line::execute(registry, arguments),
            Err(error) => {
                let failure = Failure::from(error);
                failure.print(command_line::asked_format(&arguments));
                failure.exit.into()
            }
        }
    }

    fn add_job(mut self, job: JobDescriptor, source: Source, way: Way) -> Self {
        let added = self.registry.add_job(job, source, way);
        Self { refused: self.refused.or(added.err()), ..self }
    }

    fn add_backend(mut self, kind: BackendKind, source: Source, way: Way) -> Self {
        let added = self.registry.add_backend(kind, source, way);
        Self { refused: self.refused.or(added.err()), ..self }
    }
}

/// A crate of this workspace, all of which share one version.
#[cfg(any(
    feature = "local",
    feature = "queue-sqlite",
    feature = "queue-redis",
    feature = "workflow-prefect",
    feature = "builtin-jobs"
))]
fn ours(crate_name: &'static str) -> Source {
    Source { crate_name, version: env!("CARGO_PKG_VERSION") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_at_hand_is_diagnosed_without_a_file() {
        let hello = JobDescriptor::function("hello", "says hello", |_| async { Ok("hello".into()) });
        let app = App::new().job(hello, scheduler_core::source!());

        let found = app.diagnose(Path::new("x.yaml"), b"tasks:\n  a:\n    job: helo\n".to_vec()).unwrap();

        let codes: Vec<_> = found.iter().map(|fault| (fault.code, fault.origin.place())).collect();
        assert!(codes.contains(&("job/unknown", "x.yaml:3:10".to_owned())), "{codes:?}");
    }
}
