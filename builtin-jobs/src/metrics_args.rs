//! The args of the job `metrics_collection` and their defaults, read into sources.

use std::path::PathBuf;
use std::time::Duration;

use scheduler_core::ArgsError;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::duration;
use crate::metrics_source::{Kind, Named};
use crate::metrics_source_args::SourceArgs;

/// The file, in the data folder.
pub(crate) const FILE: &str = "metrics.db";

/// The least that the file may grow to.
const LEAST_BYTES: u64 = 256 * 1024;

/// The most series that a source may have.
const MOST_SERIES: usize = 100_000;

/// Collects numbers about the machine, the scheduler and others, and keeps them over time.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetricsArgs {
    /// Where numbers come from. This machine and the scheduler by default.
    #[serde(default = "sources")]
    sources: Vec<SourceArgs>,
    /// The limit for each source that has none of its own. 10 seconds by default.
    #[serde(default = "timeout", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    timeout: Duration,
    /// Addresses besides public ones that may be asked, as in the job `http`. By default `loopback`, `private` and
    /// `shared`: one's own network.
    #[serde(default = "allow")]
    allow: Vec<String>,
    /// How many series a source may have that says nothing else, a series being a name with its labels. What is new
    /// beyond is dropped. 1000 by default.
    #[serde(default = "max_series")]
    max_series: usize,
    /// The file in which the numbers are kept. A relative one counts from the data folder. `metrics.db` by default.
    #[serde(default)]
    pub(crate) file: Option<PathBuf>,
    /// How long numbers are kept. 30 days by default.
    #[serde(default = "max_age", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub(crate) max_age: Duration,
    /// How long each number is kept by itself; what is older is summed up by ten minutes. 6 hours by default.
    #[serde(default = "full_for", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub(crate) full_for: Duration,
    /// How large the file gets, in bytes; the oldest numbers go first. 67108864 by default.
    #[serde(default = "max_bytes")]
    pub(crate) max_bytes: u64,
}

fn sources() -> Vec<SourceArgs> {
    [Kind::System, Kind::Scheduler].map(SourceArgs::of).to_vec()
}

fn timeout() -> Duration {
    Duration::from_secs(10)
}

fn allow() -> Vec<String> {
    ["loopback", "private", "shared"].map(str::to_owned).to_vec()
}

fn max_series() -> usize {
    1_000
}

fn max_age() -> Duration {
    Duration::from_secs(30 * 24 * 3600)
}

fn full_for() -> Duration {
    Duration::from_secs(6 * 3600)
}

fn max_bytes() -> u64 {
    64 * 1024 * 1024
}

impl MetricsArgs {
    /// The sources.
    ///
    /// # Errors
    /// Every fault that can be told without asking a source.
    pub(crate) fn read(&self) -> Result<Vec<Named>, Vec<ArgsError>> {
        let mut faults = self.faults();
        faults.extend(bad_names(&self.sources));
        let mut named = Vec::new();
        for (index, source) in self.sources.iter().enumerate() {
            let limit = source.timeout.unwrap_or(self.timeout);
            match source.read(&self.allow, limit) {
                Ok(read) => named.push(Named {
                    name: source.called().to_owned(),
                    kind: source.kind,
                    limit,
                    max_series: source.max_series.unwrap_or(self.max_series),
                    only: source.only.clone(),
                    source: read,
                }),
                Err(found) => faults.extend(found.into_iter().map(|fault| below(index, fault))),
            }
        }
        if faults.is_empty() { Ok(named) } else { Err(faults) }
    }

    fn faults(&self) -> Vec<ArgsError> {
        let mut faults = Vec::new();
        if self.sources.is_empty() {
            let fault = ArgsError::new("/sources", "there is nothing to collect from");
            faults.push(fault.with_help("leave it out for this machine and the scheduler"));
        }
        let sources = self.sources.iter().enumerate();
        let limits =
            sources.clone().map(|(index, source)| (format!("/sources/{index}/timeout"), source.timeout));
        for (pointer, limit) in limits.chain([("/timeout".to_owned(), Some(self.timeout))]) {
            if limit.is_some_and(|limit| limit.is_zero()) {
                let fault = ArgsError::new(pointer, "a limit of nothing lets nothing succeed");
                faults.push(fault.with_help("write `10s`"));
            }
        }
        let counts =
            sources.map(|(index, source)| (format!("/sources/{index}/max_series"), source.max_series));
        for (pointer, count) in counts.chain([("/max_series".to_owned(), Some(self.max_series))]) {
            if count.is_some_and(|count| count == 0 || count > MOST_SERIES) {
                faults.push(ArgsError::new(pointer, format!("this is not from 1 to {MOST_SERIES}")));
            }
        }
        if self.max_age.is_zero() {
            faults.push(ArgsError::new("/max_age", "nothing would be kept").with_help("write `30d`"));
        }
        if self.full_for > self.max_age {
            let fault = ArgsError::new("/full_for", "this is longer than anything is kept");
            faults.push(fault.with_help("keep it below `max_age`"));
        }
        if self.max_bytes < LEAST_BYTES {
            faults.push(ArgsError::new("/max_bytes", format!("the file needs {LEAST_BYTES} bytes at least")));
        }
        if self.file.as_ref().is_some_and(|file| file.as_os_str().is_empty()) {
            let help = format!("leave it out for {FILE} in the data folder");
            faults.push(ArgsError::new("/file", "the path is empty").with_help(help));
        }
        if cfg!(not(feature = "sqlite")) && self.file.is_some() {
            let fault = "this program was built without the means to keep numbers over time";
            faults.push(ArgsError::new("/file", fault).with_help("build it with the feature `sqlite`"));
        }
        faults
    }
}

fn bad_names(sources: &[SourceArgs]) -> Vec<ArgsError> {
    let mut faults = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let name = source.called();
        let fault = |text: String| ArgsError::new(format!("/sources/{index}/name"), text);
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_plain) {
            let text = format!("`{}` is no name of a source", name.escape_debug());
            faults.push(fault(text).with_help("use at most 64 letters, digits, `_`, `-` and `.`"));
        }
        if sources[..index].iter().any(|other| other.called() == name) {
            let text = format!("`{}` is the name of an earlier source", name.escape_debug());
            faults.push(fault(text).with_help("give it a `name` of its own"));
        }
    }
    faults
}

/// The same fault, below its source.
pub(crate) fn below(index: usize, fault: ArgsError) -> ArgsError {
    ArgsError { pointer: format!("/sources/{index}{}", fault.pointer), ..fault }
}
