//! What this process can run and where: jobs and backends by name, and how each came in.
//!
//! Three ways lead here: explicitly, by macro, and by Cargo feature of the binary. A macro in a crate that
//! nothing refers to registers nothing, because the linker drops it; so an unknown name is answered with what
//! is known and with the line that is missing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::{ArgsError, Backend, Error, JobDescriptor, Name, Result, Tier};

/// Jobs and kinds of backends by name.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    jobs: BTreeMap<Name, Registered<JobDescriptor>>,
    backends: BTreeMap<Name, Registered<BackendKind>>,
}

/// Something registered, and where it came from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Registered<T> {
    /// The thing itself.
    pub item: T,
    /// The crate that brought it.
    pub source: Source,
    /// How it came in.
    pub way: Way,
}

/// A crate and its version; [`source!`](crate::source) makes the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The crate's name.
    pub crate_name: &'static str,
    /// Its version.
    pub version: &'static str,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.crate_name, self.version)
    }
}

/// How something was registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a Cargo feature of the binary.
    Feature,
    /// By a call.
    Explicit,
    /// By [`register_job!`](crate::register_job) or [`register_backend!`](crate::register_backend).
    Macro,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Feature => "feature",
            Self::Explicit => "explicit",
            Self::Macro => "macro",
        })
    }
}

/// A kind of backend: how to make one from its section of a config.
#[derive(Clone)]
pub struct BackendKind {
    kind: Name,
    tier: Tier,
    summary: String,
    config_schema: Value,
    build: Arc<BuildBackend>,
}

type BuildBackend = dyn Fn(&BackendSettings) -> Result<Arc<dyn Backend>, Vec<ArgsError>> + Send + Sync;

/// What a backend is made from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BackendSettings {
    /// Its name in this process.
    pub name: Name,
    /// Its section of the config, without the keys that the host reads itself.
    pub config: Value,
    /// A folder for files, if the process has one.
    pub data_dir: Option<PathBuf>,
    /// The file that the section stands in, if it stands in one: what another process is to read that runs tasks
    /// of the same configuration.
    pub config_file: Option<PathBuf>,
}

impl BackendSettings {
    /// Settings for a backend of this name.
    pub fn new(name: Name, config: Value, data_dir: Option<PathBuf>) -> Self {
        Self { name, config, data_dir, config_file: None }
    }

    /// The same settings from this configuration.
    #[must_use]
    pub fn with_config_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.config_file = Some(file.into());
        self
    }
}

impl BackendKind {
    /// A kind that `build` makes from its settings.
    ///
    /// # Panics
    /// When `kind` is no [`Name`]: it is written in the source, so that is a fault of the program.
    pub fn new(
        kind: &str,
        tier: Tier,
        summary: impl Into<String>,
        build: impl Fn(&BackendSettings) -> Result<Arc<dyn Backend>, Vec<ArgsError>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            kind: Name::new(kind).unwrap_or_else(|error| panic!("{error}")),
            tier,
            summary: summary.into(),
            config_schema: Value::Bool(true),
            build: Arc::new(build),
        }
    }

    /// Adds the JSON Schema of its section.
    #[must_use]
    pub fn with_schema(mut self, config_schema: Value) -> Self {
        self.config_schema = config_schema;
        self
    }

    /// The word a config uses for it.
    pub fn kind(&self) -> &Name {
        &self.kind
    }

    /// The tier it serves.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// One line on what it is.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// The JSON Schema of its section; `true` when it did not give one.
    pub fn config_schema(&self) -> &Value {
        &self.config_schema
    }

    /// Makes a backend.
    ///
    /// # Errors
    /// Every fault of its section that could be found, each with its place.
    pub fn build(&self, settings: &BackendSettings) -> Result<Arc<dyn Backend>, Vec<ArgsError>> {
        (self.build)(settings)
    }
}

impl fmt::Debug for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BackendKind({}, {})", self.kind, self.tier)
    }
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a job.
    ///
    /// # Errors
    /// `registry/duplicate_job`, naming both crates.
    pub fn add_job(&mut self, job: JobDescriptor, source: Source, way: Way) -> Result<()> {
        let name = job.name().clone();
        add(&mut self.jobs, name, Registered { item: job, source, way }, "registry/duplicate_job", "job")
    }

    /// Adds a kind of backend.
    ///
    /// # Errors
    /// `registry/duplicate_backend`, naming both crates.
    pub fn add_backend(&mut self, backend: BackendKind, source: Source, way: Way) -> Result<()> {
        let name = backend.kind().clone();
        let registered = Registered { item: backend, source, way };
        add(&mut self.backends, name, registered, "registry/duplicate_backend", "backend")
    }

    /// Adds everything that the macros registered in crates linked into this program. What the same crate
    /// ([`Source`]) registered otherwise before stays as it is: a program that registers a crate by a call
    /// refers to it, and so links its macros too.
    ///
    /// # Errors
    /// As [`add_job`](Self::add_job) and [`add_backend`](Self::add_backend), for the first duplicate.
    pub fn add_registered(&mut self) -> Result<()> {
        for entry in inventory::iter::<JobRegistration> {
            let job = (entry.make)();
            if !is_there(&self.jobs, job.name(), entry.source) {
                self.add_job(job, entry.source, Way::Macro)?;
            }
        }
        for entry in inventory::iter::<BackendRegistration> {
            let backend = (entry.make)();
            if !is_there(&self.backends, backend.kind(), entry.source) {
                self.add_backend(backend, entry.source, Way::Macro)?;
            }
        }
        Ok(())
    }

    /// Says whether a job may run without a task, in place of what its descriptor says, and within which time limit.
    ///
    /// # Errors
    /// `job/unknown`.
    pub fn allow_adhoc(&mut self, job: &str, is_allowed: bool, limit: Option<Duration>) -> Result<()> {
        self.job(job)?;
        if let Some(found) = self.jobs.get_mut(job) {
            found.item.set_adhoc(is_allowed, limit);
        }
        Ok(())
    }

    /// The jobs, by name.
    pub fn jobs(&self) -> impl Iterator<Item = &Registered<JobDescriptor>> {
        self.jobs.values()
    }

    /// The kinds of backends, by name.
    pub fn backends(&self) -> impl Iterator<Item = &Registered<BackendKind>> {
        self.backends.values()
    }

    /// The job of this name.
    ///
    /// # Errors
    /// `job/unknown` lists the registered ones and the line that may be missing.
    pub fn job(&self, name: &str) -> Result<&JobDescriptor> {
        self.jobs
            .get(name)
            .map(|found| &found.item)
            .ok_or_else(|| unknown("job/unknown", "job", name, &self.jobs))
    }

    /// The kind of backend of this name.
    ///
    /// # Errors
    /// `backend/unknown` lists the registered ones and the line that may be missing.
    pub fn backend(&self, kind: &str) -> Result<&BackendKind> {
        let found = self.backends.get(kind).map(|found| &found.item);
        found.ok_or_else(|| unknown("backend/unknown", "backend", kind, &self.backends))
    }
}

/// Whether this crate has registered the name already, otherwise than by macro.
fn is_there<T>(map: &BTreeMap<Name, Registered<T>>, name: &Name, source: Source) -> bool {
    map.get(name).is_some_and(|known| known.source == source && known.way != Way::Macro)
}

fn add<T>(
    map: &mut BTreeMap<Name, Registered<T>>,
    name: Name,
    new: Registered<T>,
    code: &'static str,
    what: &str,
) -> Result<()> {
    if let Some(old) = map.get(&name) {
        let message = format!(
            "{what} `{name}` is registered twice: by {} ({}) and by {} ({})",
            old.source, old.way, new.source, new.way
        );
        return Err(Error::conflict(code, message));
    }
    map.insert(name, new);
    Ok(())
}

fn unknown<T>(code: &'static str, what: &str, name: &str, known: &BTreeMap<Name, Registered<T>>) -> Error {
    let names: Vec<&str> = known.keys().map(Name::as_str).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Error::not_found(
        code,
        format!(
            "no {what} `{}` is registered (registered: {names}); if a crate in Cargo.toml brings it, \
             the program must refer to it: `use that_crate as _;`",
            name.escape_debug()
        ),
    )
}

/// What [`register_job!`](crate::register_job) collects.
#[doc(hidden)]
#[derive(Debug)]
pub struct JobRegistration {
    pub make: fn() -> JobDescriptor,
    pub source: Source,
}

/// What [`register_backend!`](crate::register_backend) collects.
#[doc(hidden)]
#[derive(Debug)]
pub struct BackendRegistration {
    pub make: fn() -> BackendKind,
    pub source: Source,
}

inventory::collect!(JobRegistration);
inventory::collect!(BackendRegistration);

/// The [`Source`] of the crate that calls it.
#[macro_export]
macro_rules! source {
    () => {
        $crate::Source { crate_name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") }
    };
}

/// Registers a job from a function that describes it: `register_job!(describe);` with
/// `fn describe() -> JobDescriptor`. The program must refer to the crate: `use that_crate as _;`. It may also
/// register the job by a call, under the crate's own [`Source`]; the macro adds nothing then.
#[macro_export]
macro_rules! register_job {
    ($make:path) => {
        $crate::__private::inventory::submit! {
            $crate::__private::JobRegistration { make: $make, source: $crate::source!() }
        }
    };
}

/// Registers a kind of backend from a function that describes it: `register_backend!(describe);` with
/// `fn describe() -> BackendKind`. The program must refer to the crate: `use that_crate as _;`. It may also
/// register the kind by a call, under the crate's own [`Source`]; the macro adds nothing then.
#[macro_export]
macro_rules! register_backend {
    ($make:path) => {
        $crate::__private::inventory::submit! {
            $crate::__private::BackendRegistration { make: $make, source: $crate::source!() }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick() -> JobDescriptor {
        JobDescriptor::function("tick", "ticks", |_| async { Ok(Value::Null) })
    }

    crate::register_job!(tick);

    #[test]
    fn a_job_registered_by_macro_is_found_and_says_how_it_came_in() {
        let mut registry = Registry::new();
        registry.add_registered().unwrap();
        let found = registry.jobs().find(|job| *job.item.name() == "tick").unwrap();
        assert_eq!((found.way, found.source.crate_name), (Way::Macro, "scheduler-core"));
    }

    #[test]
    fn what_a_crate_registered_by_a_call_its_macro_does_not_register_again() {
        let mut registry = Registry::new();
        registry.add_job(tick(), crate::source!(), Way::Explicit).unwrap();
        registry.add_registered().unwrap();
        assert_eq!(registry.jobs().find(|job| *job.item.name() == "tick").unwrap().way, Way::Explicit);

        let mut taken = Registry::new();
        let other = Source { crate_name: "other", version: "1" };
        taken.add_job(tick(), other, Way::Explicit).unwrap();
        let error = taken.add_registered().unwrap_err();
        assert!(error.to_string().contains("other 1 (explicit) and by scheduler-core"), "{error}");

        let mut twice = Registry::new();
        twice.add_registered().unwrap();
        assert_eq!(twice.add_registered().unwrap_err().code(), "registry/duplicate_job", "macro and macro");
    }

    #[test]
    fn two_of_one_name_are_both_named() {
        let mut registry = Registry::new();
        let (a, b) = (Source { crate_name: "a", version: "1" }, Source { crate_name: "b", version: "2" });
        registry.add_job(tick(), a, Way::Explicit).unwrap();
        let error = registry.add_job(tick(), b, Way::Macro).unwrap_err();
        assert_eq!(error.code(), "registry/duplicate_job");
        assert!(error.to_string().contains("a 1 (explicit) and by b 2 (macro)"), "{error}");
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones_and_the_missing_line() {
        let mut registry = Registry::new();
        registry.add_job(tick(), crate::source!(), Way::Explicit).unwrap();
        let error = registry.job("tock").unwrap_err().to_string();
        assert!(error.contains("registered: tick") && error.contains("use that_crate as _;"), "{error}");
    }
}
