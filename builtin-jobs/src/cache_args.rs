//! The args of the job `cache_cleanup` and their defaults, read into targets.
//!
//! Every kind of target takes some of the keys: what it lacks and what it has no use for are faults with a place.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use scheduler_core::ArgsError;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::cache_cleanup::{CacheCleanup, CacheTarget, Named};
use crate::cache_directory::Directory;
use crate::cache_history::History;
use crate::cache_kind::Kind;
use crate::cache_purge::Purge;
use crate::cache_unit::Unit;
use crate::duration;
use crate::http_status::Expected;
use crate::text_or_secret::TextOrSecret;

/// The most that `max_listed` may be: the output stands in the history of runs.
const MOST_LISTED: usize = 10_000;

/// Removes from caches what is old, unused or too much.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CacheArgs {
    /// What is cleaned, one after the other.
    targets: Vec<TargetArgs>,
    /// Removes nothing, and lists what would be removed. Off by default.
    #[serde(default)]
    dry_run: bool,
    /// The limit for each target that has none of its own; the next run goes on. 10 minutes by default.
    #[serde(default = "timeout", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    timeout: Duration,
    /// How many removed items of each target are listed, at most 10000. 100 by default.
    #[serde(default = "max_listed")]
    max_listed: usize,
}

/// One cache.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TargetArgs {
    /// What kind of cache it is.
    pub(crate) kind: Kind,
    /// What it is called in the output. Its path or URL by default.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// Its own limit.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    #[schemars(schema_with = "duration::schema")]
    pub(crate) timeout: Option<Duration>,
    /// The folder, for `directory`; the file, for `sqlite`.
    #[serde(default)]
    pub(crate) path: Option<PathBuf>,
    /// The same path once more, for a `directory` that is `/`, a home or a mount point.
    #[serde(default)]
    pub(crate) confirm_path: Option<PathBuf>,
    /// What was not used for longer goes; of `history`, what ended longer ago.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    #[schemars(schema_with = "duration::schema")]
    pub(crate) max_age: Option<Duration>,
    /// How many bytes of files may stay, for `directory`.
    #[serde(default)]
    pub(crate) max_bytes: Option<u64>,
    /// How many files may stay, for `directory`.
    #[serde(default)]
    pub(crate) max_files: Option<u64>,
    /// The backend whose ended runs go, for `history`.
    #[serde(default)]
    pub(crate) backend: Option<String>,
    /// How many ended runs may stay, for `history`.
    #[serde(default)]
    pub(crate) max_runs: Option<usize>,
    /// Patterns of names of files that neither count nor go, for `directory`. None by default.
    #[serde(default)]
    pub(crate) keep: Option<Vec<String>>,
    /// Whether folders that are emptied go as well, for `directory`. Off by default.
    #[serde(default)]
    pub(crate) remove_empty: Option<bool>,
    /// The table, for `sqlite`.
    #[serde(default)]
    pub(crate) table: Option<String>,
    /// The column with the timestamp of a row, for `sqlite`.
    #[serde(default)]
    pub(crate) column: Option<String>,
    /// How that column writes instants, for `sqlite`: `seconds` or `milliseconds` since the Unix epoch, or `text` in
    /// UTC. `seconds` by default.
    #[serde(default)]
    pub(crate) unit: Option<Unit>,
    /// How many rows go at once, for `sqlite`. 1000 by default.
    #[serde(default)]
    pub(crate) chunk: Option<NonZeroU32>,
    /// The URL that is called, for `http`; that of the server, a text or a secret, for `redis`.
    #[serde(default)]
    pub(crate) url: Option<TextOrSecret>,
    /// Which keys count, as `SCAN` takes it, for `redis`.
    #[serde(default)]
    pub(crate) pattern: Option<String>,
    /// Whether only keys go that never expire, for `redis`. Off by default.
    #[serde(default)]
    pub(crate) without_ttl: Option<bool>,
    /// The method, for `http`. `PURGE` by default.
    #[serde(default)]
    pub(crate) method: Option<String>,
    /// Headers as in the job `http`.
    #[serde(default)]
    pub(crate) headers: Option<BTreeMap<String, TextOrSecret>>,
    /// Statuses that mean success, for `http`. `["2xx"]` by default.
    #[serde(default)]
    pub(crate) expect_status: Option<Vec<Expected>>,
    /// Addresses besides public ones, for `http`, as in the job of that name. By default `loopback`, `private` and
    /// `shared`: one's own network.
    #[serde(default)]
    pub(crate) allow: Option<Vec<String>>,
}

fn timeout() -> Duration {
    Duration::from_secs(600)
}

fn max_listed() -> usize {
    100
}

impl CacheArgs {
    /// The job.
    ///
    /// # Errors
    /// Every fault that can be told without looking at a cache.
    pub(crate) fn read(self) -> Result<CacheCleanup, Vec<ArgsError>> {
        let mut faults = Vec::new();
        if self.targets.is_empty() {
            faults.push(ArgsError::new("/targets", "there is nothing to clean").with_help("add a target"));
        }
        if self.max_listed > MOST_LISTED {
            let fault = format!("{} items are more than history takes, {MOST_LISTED}", self.max_listed);
            faults.push(ArgsError::new("/max_listed", fault));
        }
        faults.extend(bad_limit(self.timeout));
        let mut targets = Vec::new();
        for (index, args) in self.targets.into_iter().enumerate() {
            match args.read(self.timeout) {
                Ok(target) => targets.push(target),
                Err(found) => {
                    let below = |fault: ArgsError| ArgsError {
                        pointer: format!("/targets/{index}{}", fault.pointer),
                        ..fault
                    };
                    faults.extend(found.into_iter().map(below));
                }
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(CacheCleanup { targets, is_dry: self.dry_run, most_listed: self.max_listed })
    }
}

impl TargetArgs {
    fn read(self, timeout: Duration) -> Result<Named, Vec<ArgsError>> {
        let mut faults = self.bad_keys();
        faults.extend(self.timeout.and_then(bad_limit));
        if self.name.as_ref().is_some_and(|name| name.trim().is_empty() || name.chars().any(char::is_control))
        {
            faults.push(ArgsError::new("/name", "this is no name that can be told"));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let (kind, limit, name) = (self.kind, self.timeout.unwrap_or(timeout), self.name.clone());
        let (default, target): (String, Box<dyn CacheTarget>) = match kind {
            Kind::Directory => {
                let directory = Directory::read(self)?;
                (directory.path.display().to_string(), Box::new(directory))
            }
            Kind::History => {
                let history = History::read(self)?;
                (format!("history of {}", history.backend), Box::new(history))
            }
            Kind::Http => {
                let purge = Purge::read(self)?;
                (purge.shown(), Box::new(purge))
            }
            #[cfg(feature = "redis")]
            Kind::Redis => {
                let keys = crate::cache_redis::Keys::read(self)?;
                (format!("redis {}", keys.pattern), Box::new(keys))
            }
            #[cfg(feature = "sqlite")]
            Kind::Sqlite => {
                let table = crate::cache_table::Table::read(self)?;
                (format!("{} {}", table.path.display(), table.table), Box::new(table))
            }
            #[cfg(not(all(feature = "redis", feature = "sqlite")))]
            other => return Err(vec![other.not_built()]),
        };
        Ok(Named { name: name.unwrap_or(default), kind: kind.as_str(), limit, target })
    }

    fn bad_keys(&self) -> Vec<ArgsError> {
        let kind = self.kind.as_str();
        let (needed, known) = self.kind.keys();
        let given = self.given();
        let unknown = given.iter().filter(|key| !needed.contains(key) && !known.contains(key)).map(|key| {
            let help = format!("`{kind}` takes `{}`", [needed, known].concat().join("`, `"));
            ArgsError::new(format!("/{key}"), format!("`{key}` is of no use for `{kind}`")).with_help(help)
        });
        let missing = needed.iter().filter(|key| !given.contains(key));
        let missing =
            missing.map(|key| ArgsError::new("", format!("a target of kind `{kind}` needs `{key}`")));
        unknown.chain(missing).collect()
    }

    /// The keys that are given and that not every kind takes.
    fn given(&self) -> Vec<&'static str> {
        let keys = [
            ("path", self.path.is_some()),
            ("confirm_path", self.confirm_path.is_some()),
            ("max_age", self.max_age.is_some()),
            ("max_bytes", self.max_bytes.is_some()),
            ("max_files", self.max_files.is_some()),
            ("backend", self.backend.is_some()),
            ("max_runs", self.max_runs.is_some()),
            ("keep", self.keep.is_some()),
            ("remove_empty", self.remove_empty.is_some()),
            ("table", self.table.is_some()),
            ("column", self.column.is_some()),
            ("unit", self.unit.is_some()),
            ("chunk", self.chunk.is_some()),
            ("url", self.url.is_some()),
            ("pattern", self.pattern.is_some()),
            ("without_ttl", self.without_ttl.is_some()),
            ("method", self.method.is_some()),
            ("headers", self.headers.is_some()),
            ("expect_status", self.expect_status.is_some()),
            ("allow", self.allow.is_some()),
        ];
        keys.into_iter().filter(|(_, is_given)| *is_given).map(|(key, _)| key).collect()
    }
}

fn bad_limit(limit: Duration) -> Option<ArgsError> {
    let fault =
        || ArgsError::new("/timeout", "a limit of nothing lets nothing be done").with_help("write `10m`");
    limit.is_zero().then(fault)
}
