//! The args of the job `health_check` and their defaults, read into checks.
//!
//! Every kind of check takes some of the keys: what it lacks and what it has no use for are faults with a place.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use scheduler_core::ArgsError;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::address::Allowed;
use crate::exec::Exec;
use crate::health_kind::Kind;
use crate::health_probe::{Check, Place, Target};
use crate::health_standing::Damping;
use crate::health_threshold::{Threshold, Thresholds};
use crate::http::Http;
use crate::http_args::HttpArgs;
use crate::http_status::Expected;
use crate::resolve::{Guarded, System};
use crate::{duration, http_target};

/// What an HTTP check reads at most: its status counts, and a page may be large.
const LARGEST_PAGE: u64 = 16 * 1024 * 1024;

/// Looks at targets side by side and fails when one of them has failed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HealthArgs {
    /// What is looked at.
    pub(crate) checks: Vec<CheckArgs>,
    /// The limit for each check that has none of its own. 5 seconds by default.
    #[serde(default = "timeout", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    timeout: Duration,
    /// How many results in a row, or out of the latest ones, change a status. Two in a row by default.
    #[serde(default)]
    pub(crate) damping: Damping,
    /// Addresses besides public ones that may be connected to, as in the job `http`. By default `loopback`,
    /// `private` and `shared`: one's own network.
    #[serde(default = "allow")]
    allow: Vec<String>,
}

/// One target.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckArgs {
    /// What it is called, once in a task.
    name: String,
    /// What kind of target it is.
    kind: Kind,
    /// Its limit. That of the task by default.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    #[schemars(schema_with = "duration::schema")]
    timeout: Option<Duration>,
    /// `HOST:PORT`, for `tcp` and `certificate`.
    #[serde(default)]
    address: Option<String>,
    /// For `http`.
    #[serde(default)]
    url: Option<String>,
    /// Statuses that are healthy, for `http`. `["2xx"]` by default.
    #[serde(default)]
    expect_status: Option<Vec<Expected>>,
    /// The program, for `command`; exit code 0 is healthy.
    #[serde(default)]
    program: Option<String>,
    /// The program's arguments, for `command`. None by default.
    #[serde(default)]
    args: Option<Vec<String>>,
    /// Any path on the disk, for `disk`.
    #[serde(default)]
    path: Option<PathBuf>,
    /// A PEM file, for `certificate`, instead of `address`.
    #[serde(default)]
    file: Option<PathBuf>,
    /// A PEM file with root certificates that are trusted besides those of the system, for `http` and
    /// `certificate`. None by default.
    #[serde(default)]
    ca_file: Option<PathBuf>,
    /// Where degraded begins. For `disk` and `memory`, free bytes or a share below which it is, `"10%"` by
    /// default; for `load`, the load per core above which it is, 1.5 by default; for `certificate`, the days left
    /// below which it is, 21 by default.
    #[serde(default)]
    degraded: Option<Threshold>,
    /// Where failed begins, as `degraded`. By default `"5%"`, 4 and 7.
    #[serde(default)]
    failed: Option<Threshold>,
}

fn timeout() -> Duration {
    Duration::from_secs(5)
}

fn allow() -> Vec<String> {
    ["loopback", "private", "shared"].map(str::to_owned).to_vec()
}

impl HealthArgs {
    /// The checks.
    ///
    /// # Errors
    /// Every fault that can be told without looking at a target.
    pub(crate) fn read(self) -> Result<Vec<Check>, Vec<ArgsError>> {
        let mut faults: Vec<ArgsError> = self.damping.faults().into_iter().collect();
        if self.checks.is_empty() {
            faults.push(ArgsError::new("/checks", "there is nothing to check").with_help("add a check"));
        }
        let limits = self
            .checks
            .iter()
            .enumerate()
            .map(|(index, check)| (format!("/checks/{index}/timeout"), check.timeout));
        for (pointer, limit) in limits.chain([("/timeout".to_owned(), Some(self.timeout))]) {
            if limit.is_some_and(|limit| limit.is_zero()) {
                let fault = ArgsError::new(pointer, "a limit of nothing lets nothing succeed");
                faults.push(fault.with_help("write `5s`"));
            }
        }
        faults.extend(bad_names(&self.checks));
        let allowed = Allowed::parse(&self.allow, "/allow").map_err(|found| faults.extend(found));
        let mut checks = Vec::new();
        // What may be connected to is not known where `allow` cannot be read.
        let Ok(allowed) = allowed else { return Err(faults) };
        for (index, check) in self.checks.into_iter().enumerate() {
            let limit = check.timeout.unwrap_or(self.timeout);
            let (name, kind) = (check.name.clone(), check.kind.as_str());
            match check.target(&allowed, &self.allow, limit) {
                Ok(target) => checks.push(Check { name, kind, limit, target }),
                Err(found) => faults.extend(found.into_iter().map(|fault| below(index, fault))),
            }
        }
        if faults.is_empty() { Ok(checks) } else { Err(faults) }
    }
}

impl CheckArgs {
    fn target(self, allowed: &Allowed, allow: &[String], limit: Duration) -> Result<Target, Vec<ArgsError>> {
        let faults = self.faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        let thresholds = self.thresholds();
        let place = |address: &str| place(address, allowed.clone());
        Ok(match self.kind {
            Kind::Tcp => Target::Tcp(place(&self.address.unwrap_or_default())?),
            Kind::Http => Target::Http(Box::new(self.http(allow, limit)?)),
            Kind::Command => {
                let meaning = json!({"retry": [75]});
                let args = json!({"program": self.program, "args": self.args.unwrap_or_default(), "exit_codes": meaning});
                Target::Command(Box::new(Exec::new(read(args)?)?.among_others()))
            }
            Kind::Disk => Target::Disk(self.path.unwrap_or_default(), thresholds),
            Kind::Memory => Target::Memory(thresholds),
            Kind::Load => Target::Load(thresholds),
            Kind::Certificate => match (self.address, self.file) {
                (Some(address), _) => Target::Server(place(&address)?, self.ca_file, thresholds),
                (None, file) => Target::File(file.unwrap_or_default(), thresholds),
            },
            Kind::Backends => Target::Backends,
        })
    }

    fn http(self, allow: &[String], limit: Duration) -> Result<Http, Vec<ArgsError>> {
        let mut args: HttpArgs = read(json!({"url": self.url, "allow": allow}))?;
        args.expect_status = self.expect_status.unwrap_or(args.expect_status);
        args.ca_file = self.ca_file;
        args.max_response = LARGEST_PAGE;
        args.max_output = 0;
        // The check has one limit, which is kept around all of it and passes first.
        let later = limit.saturating_add(Duration::from_secs(1));
        (args.timeout, args.idle_timeout, args.connect_timeout) = (later, later, later);
        Http::new(args)
    }

    fn thresholds(&self) -> Thresholds {
        let (degraded, failed) = match self.kind {
            Kind::Load => (Threshold::Number(1.5), Threshold::Number(4.0)),
            Kind::Certificate => (Threshold::Number(21.0), Threshold::Number(7.0)),
            _ => (Threshold::Percent(10.0), Threshold::Percent(5.0)),
        };
        Thresholds { degraded: self.degraded.unwrap_or(degraded), failed: self.failed.unwrap_or(failed) }
    }

    fn faults(&self) -> Vec<ArgsError> {
        let kind = self.kind.as_str();
        let (needed, known) = self.kind.keys();
        let given = self.given();
        let mut faults: Vec<ArgsError> = given
            .iter()
            .filter(|key| !needed.contains(key) && !known.contains(key))
            .map(|key| {
                let help = match [needed, known].concat().as_slice() {
                    [] => format!("`{kind}` takes none"),
                    keys => format!("`{kind}` takes `{}`", keys.join("`, `")),
                };
                ArgsError::new(format!("/{key}"), format!("`{key}` is of no use for `{kind}`"))
                    .with_help(help)
            })
            .collect();
        faults.extend(
            needed
                .iter()
                .filter(|key| !given.contains(key))
                .map(|key| ArgsError::new("", format!("a check of kind `{kind}` needs `{key}`"))),
        );
        if self.kind == Kind::Certificate && self.address.is_some() == self.file.is_some() {
            let fault = "a check of kind `certificate` needs one of `address` and `file`";
            faults.push(ArgsError::new("", fault));
        }
        if cfg!(not(target_os = "linux")) && matches!(self.kind, Kind::Memory | Kind::Load) {
            faults.push(ArgsError::new("/kind", format!("`{kind}` is known on Linux only")));
        }
        if known.contains(&"degraded") {
            faults.extend(self.bad_thresholds());
        }
        faults
    }

    fn bad_thresholds(&self) -> Vec<ArgsError> {
        let has_whole = matches!(self.kind, Kind::Disk | Kind::Memory);
        let shares = [("degraded", self.degraded), ("failed", self.failed)].into_iter();
        let shares = shares.filter(|(_, given)| !has_whole && matches!(given, Some(Threshold::Percent(_))));
        let mut faults: Vec<ArgsError> = shares
            .map(|(key, _)| {
                ArgsError::new(format!("/{key}"), "this is a share of nothing").with_help("write a number")
            })
            .collect();
        if faults.is_empty() && !self.thresholds().are_in_order(self.kind != Kind::Load) {
            let fault = ArgsError::new("/degraded", "failed would begin before degraded");
            faults.push(fault.with_help("set both `degraded` and `failed`"));
        }
        faults
    }

    /// The keys that are given and that not every kind takes.
    fn given(&self) -> Vec<&'static str> {
        let keys = [
            ("address", self.address.is_some()),
            ("url", self.url.is_some()),
            ("expect_status", self.expect_status.is_some()),
            ("program", self.program.is_some()),
            ("args", self.args.is_some()),
            ("path", self.path.is_some()),
            ("file", self.file.is_some()),
            ("ca_file", self.ca_file.is_some()),
            ("degraded", self.degraded.is_some()),
            ("failed", self.failed.is_some()),
        ];
        keys.into_iter().filter(|(_, is_given)| *is_given).map(|(key, _)| key).collect()
    }
}

fn bad_names(checks: &[CheckArgs]) -> Vec<ArgsError> {
    let mut faults = Vec::new();
    for (index, check) in checks.iter().enumerate() {
        let fault = |text: String| ArgsError::new(format!("/checks/{index}/name"), text);
        let name = check.name.escape_debug();
        if check.name.trim().is_empty() || check.name.chars().any(char::is_control) {
            faults.push(fault(format!("`{name}` is no name that can be told")));
        }
        if checks[..index].iter().any(|other| other.name == check.name) {
            faults.push(fault(format!("`{name}` is the name of an earlier check")).with_help("rename it"));
        }
    }
    faults
}

/// Reads `HOST:PORT`.
pub(crate) fn place(address: &str, allowed: Allowed) -> Result<Place, Vec<ArgsError>> {
    let fault = |text: String| vec![ArgsError::new("/address", text).with_help("write `HOST:PORT`")];
    let split = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let Some((host, port)) = split.filter(|(host, port)| !host.is_empty() && *port > 0) else {
        return Err(fault(format!("`{}` is no host with a port", address.escape_debug())));
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = bare.unwrap_or(host);
    if bare.is_none() && host.contains(':') {
        return Err(fault(format!("`{address}` is no host with a port; an IPv6 address stands in brackets")));
    }
    http_target::judge_host(host, &allowed)
        .map_err(|refused| vec![ArgsError::new("/address", refused.to_string()).with_help(refused.help())])?;
    Ok(Place { host: host.to_owned(), port, resolver: Guarded { lookup: Arc::new(System), allowed } })
}

/// Reads the args of another job.
fn read<T: serde::de::DeserializeOwned>(args: serde_json::Value) -> Result<T, Vec<ArgsError>> {
    serde_json::from_value(args).map_err(|error| vec![ArgsError::new("", error.to_string())])
}

/// The same fault, below its check.
pub(crate) fn below(index: usize, fault: ArgsError) -> ArgsError {
    ArgsError { pointer: format!("/checks/{index}{}", fault.pointer), ..fault }
}
