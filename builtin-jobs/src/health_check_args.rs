//! The args of one check, read into what it looks at.

use std::path::PathBuf;
use std::time::Duration;

use scheduler_core::{ArgsError, Name};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::address::Allowed;
use crate::duration;
use crate::exec::Exec;
use crate::health_kind::{Kind, Role};
use crate::health_probe::{Check, Target};
use crate::health_process::Processes;
use crate::health_threshold::{Threshold, Thresholds};
use crate::http::Http;
use crate::http_args::HttpArgs;
use crate::http_status::Expected;
use crate::place::Place;
use crate::text_or_secret::TextOrSecret;

/// What an HTTP check reads at most: its status counts, and a page may be large.
const LARGEST_PAGE: u64 = 16 * 1024 * 1024;

/// One target.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckArgs {
    /// What it is called, once in a task.
    pub(crate) name: String,
    /// What kind of target it is.
    pub(crate) kind: Kind,
    /// Its limit. That of the task by default.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    #[schemars(schema_with = "duration::schema")]
    pub(crate) timeout: Option<Duration>,
    /// `HOST:PORT`, for `tcp` and `certificate`.
    #[serde(default)]
    pub(crate) address: Option<String>,
    /// For `http`; for `redis` that of the server, a text or a secret.
    #[serde(default)]
    pub(crate) url: Option<TextOrSecret>,
    /// Statuses that are healthy, for `http`. `["2xx"]` by default.
    #[serde(default)]
    pub(crate) expect_status: Option<Vec<Expected>>,
    /// The program, for `command`; exit code 0 is healthy.
    #[serde(default)]
    pub(crate) program: Option<String>,
    /// The program's arguments, for `command`. None by default.
    #[serde(default)]
    pub(crate) args: Option<Vec<String>>,
    /// The name of a program, for `process`, as `ps -o comm` shows it.
    #[serde(default)]
    pub(crate) process: Option<String>,
    /// All words of a process, for `process`, with a space between each two; `*` stands for any part of it, and
    /// `?` for a character.
    #[serde(default)]
    pub(crate) command_line: Option<String>,
    /// A file with the number of a process, for `process`.
    #[serde(default)]
    pub(crate) pid_file: Option<PathBuf>,
    /// How many processes there are at least, for `process`. One by default.
    #[serde(default)]
    pub(crate) min: Option<usize>,
    /// How many processes there are at most, for `process`. Any number by default.
    #[serde(default)]
    pub(crate) max: Option<usize>,
    /// Any path on the disk, for `disk`; the file, for `sqlite`.
    #[serde(default)]
    pub(crate) path: Option<PathBuf>,
    /// A PEM file, for `certificate`, instead of `address`.
    #[serde(default)]
    pub(crate) file: Option<PathBuf>,
    /// A PEM file with root certificates that are trusted besides those of the system, for `http` and
    /// `certificate`. None by default.
    #[serde(default)]
    pub(crate) ca_file: Option<PathBuf>,
    /// What the server has to be, for `redis`: `master` or `replica`. Either by default.
    #[serde(default)]
    pub(crate) role: Option<Role>,
    /// Whether the file is read throughout and its structure checked, for `sqlite`. Off by default.
    #[serde(default)]
    pub(crate) quick_check: Option<bool>,
    /// The name of one backend, for `backend`. All of them by default.
    #[serde(default)]
    pub(crate) backend: Option<String>,
    /// Where degraded begins. For `disk` and `memory`, free bytes or a share below which it is, `"10%"` by
    /// default; for `redis` the same of its memory, which is only looked at when one of the two is given; for
    /// `load`, the load per core above which it is, 1.5 by default; for `certificate`, the days left below which
    /// it is, 21 by default.
    #[serde(default)]
    pub(crate) degraded: Option<Threshold>,
    /// Where failed begins, as `degraded`. By default `"5%"`, 4 and 7.
    #[serde(default)]
    pub(crate) failed: Option<Threshold>,
}

impl CheckArgs {
    /// The check, with this limit unless it has one of its own.
    ///
    /// # Errors
    /// Every fault that can be told without looking at the target.
    pub(crate) fn read(
        self,
        allowed: &Allowed,
        allow: &[String],
        limit: Duration,
    ) -> Result<Check, Vec<ArgsError>> {
        let faults = self.faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        let limit = self.timeout.unwrap_or(limit);
        let (name, kind) = (self.name.clone(), self.kind.as_str());
        Ok(Check::new(name, kind, limit, self.target(allowed, allow, limit)?))
    }

    fn target(self, allowed: &Allowed, allow: &[String], limit: Duration) -> Result<Target, Vec<ArgsError>> {
        let thresholds = self.thresholds();
        let place = |address: &str| Place::parse(address, allowed.clone());
        Ok(match self.kind {
            Kind::Tcp => Target::Tcp(place(&self.address.unwrap_or_default())?),
            Kind::Http => Target::Http(Box::new(self.http(allow, limit)?)),
            Kind::Command => {
                let meaning = json!({"retry": [75]});
                let args = json!({"program": self.program, "args": self.args.unwrap_or_default(), "exit_codes": meaning});
                Target::Command(Box::new(Exec::new(read(args)?)?.among_others()))
            }
            Kind::Process => Target::Process(self.processes()),
            Kind::Disk => Target::Disk(self.path.unwrap_or_default(), thresholds),
            Kind::Memory => Target::Memory(thresholds),
            Kind::Load => Target::Load(thresholds),
            Kind::Certificate => match (self.address, self.file) {
                (Some(address), _) => Target::Server(place(&address)?, self.ca_file, thresholds),
                (None, file) => Target::File(file.unwrap_or_default(), thresholds),
            },
            Kind::Backend => Target::Backend(self.backend.as_deref().map(of_name).transpose()?),
            #[cfg(feature = "redis")]
            Kind::Redis => {
                let is_bounded = self.degraded.is_some() || self.failed.is_some();
                let url = self.url.unwrap_or_else(|| TextOrSecret::Text(String::new()));
                let memory = is_bounded.then_some(thresholds);
                let redis = crate::health_redis::Redis::new(url, allowed.clone(), self.role, memory)?;
                Target::Redis(Box::new(redis))
            }
            #[cfg(feature = "sqlite")]
            Kind::Sqlite => {
                Target::Sqlite(self.path.unwrap_or_default(), self.quick_check.unwrap_or_default())
            }
            #[cfg(not(all(feature = "redis", feature = "sqlite")))]
            other => return Err(vec![not_built(other)]),
        })
    }

    fn http(self, allow: &[String], limit: Duration) -> Result<Http, Vec<ArgsError>> {
        let Some(TextOrSecret::Text(url)) = self.url else {
            return Err(vec![ArgsError::new("/url", "the URL of a check of kind `http` is a text")]);
        };
        let mut args: HttpArgs = read(json!({"url": url, "allow": allow}))?;
        args.expect_status = self.expect_status.unwrap_or(args.expect_status);
        args.ca_file = self.ca_file;
        args.max_response = LARGEST_PAGE;
        args.max_output = 0;
        // The check has one limit, which is kept around all of it and passes first.
        let later = limit.saturating_add(Duration::from_secs(1));
        (args.timeout, args.idle_timeout, args.connect_timeout) = (later, later, later);
        Http::new(args)
    }

    fn processes(self) -> Processes {
        let least = self.min.unwrap_or_else(|| self.max.unwrap_or(1).min(1));
        let (program, command_line) = (self.process, self.command_line);
        Processes { pid_file: self.pid_file, program, command_line, least, most: self.max }
    }

    pub(crate) fn thresholds(&self) -> Thresholds {
        let (degraded, failed) = match self.kind {
            Kind::Load => (Threshold::Number(1.5), Threshold::Number(4.0)),
            Kind::Certificate => (Threshold::Number(21.0), Threshold::Number(7.0)),
            _ => (Threshold::Percent(10.0), Threshold::Percent(5.0)),
        };
        Thresholds { degraded: self.degraded.unwrap_or(degraded), failed: self.failed.unwrap_or(failed) }
    }
}

fn of_name(backend: &str) -> Result<Name, Vec<ArgsError>> {
    Name::new(backend).map_err(|error| vec![ArgsError::new("/backend", error.to_string())])
}

#[cfg(not(all(feature = "redis", feature = "sqlite")))]
fn not_built(kind: Kind) -> ArgsError {
    let kind = kind.as_str();
    let fault = format!("this program was built without checks of kind `{kind}`");
    let help = format!("build it with the feature `queue-{kind}`, or `builtin-jobs` with `{kind}`");
    ArgsError::new("/kind", fault).with_help(help)
}

/// Reads the args of another job.
fn read<T: serde::de::DeserializeOwned>(args: serde_json::Value) -> Result<T, Vec<ArgsError>> {
    serde_json::from_value(args).map_err(|error| vec![ArgsError::new("", error.to_string())])
}
