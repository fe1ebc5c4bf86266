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
use crate::cache_cutoff::Bounds;
use crate::cache_directory::Directory;
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
    kind: Kind,
    /// What it is called in the output. Its path or URL by default.
    #[serde(default)]
    name: Option<String>,
    /// Its own limit.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    #[schemars(schema_with = "duration::schema")]
    timeout: Option<Duration>,
    /// The folder, for `directory`; the file, for `sqlite`.
    #[serde(default)]
    path: Option<PathBuf>,
    /// The same path once more, for a `directory` that is `/`, a home or a mount point.
    #[serde(default)]
    confirm_path: Option<PathBuf>,
    /// What was not used for longer goes.
    #[serde(default, deserialize_with = "duration::deserialize_some")]
    #[schemars(schema_with = "duration::schema")]
    max_age: Option<Duration>,
    /// How many bytes of files may stay, for `directory`.
    #[serde(default)]
    max_bytes: Option<u64>,
    /// How many files may stay, for `directory`.
    #[serde(default)]
    max_files: Option<u64>,
    /// Patterns of names of files that neither count nor go, for `directory`. None by default.
    #[serde(default)]
    keep: Option<Vec<String>>,
    /// Whether folders that are emptied go as well, for `directory`. Off by default.
    #[serde(default)]
    remove_empty: Option<bool>,
    /// The table, for `sqlite`.
    #[serde(default)]
    table: Option<String>,
    /// The column with the timestamp of a row, for `sqlite`.
    #[serde(default)]
    column: Option<String>,
    /// How that column writes instants, for `sqlite`: `seconds` or `milliseconds` since the Unix epoch, or `text` in
    /// UTC. `seconds` by default.
    #[serde(default)]
    unit: Option<Unit>,
    /// How many rows go at once, for `sqlite`. 1000 by default.
    #[serde(default)]
    chunk: Option<NonZeroU32>,
    /// The URL that is called, for `http`; that of the server, a text or a secret, for `redis`.
    #[serde(default)]
    url: Option<TextOrSecret>,
    /// Which keys count, as `SCAN` takes it, for `redis`.
    #[serde(default)]
    pattern: Option<String>,
    /// Whether only keys go that never expire, for `redis`. Off by default.
    #[serde(default)]
    without_ttl: Option<bool>,
    /// The method, for `http`. `PURGE` by default.
    #[serde(default)]
    method: Option<String>,
    /// Headers as in the job `http`.
    #[serde(default)]
    headers: Option<BTreeMap<String, TextOrSecret>>,
    /// Statuses that mean success, for `http`. `["2xx"]` by default.
    #[serde(default)]
    expect_status: Option<Vec<Expected>>,
    /// Addresses besides public ones, for `http`, as in the job of that name. By default `loopback`, `private` and
    /// `shared`: one's own network.
    #[serde(default)]
    allow: Option<Vec<String>>,
}

/// What a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// Files in a folder.
    Directory,
    /// A cache that empties itself when a URL is called.
    Http,
    /// Keys of a Redis server.
    Redis,
    /// Rows of a table of SQLite.
    Sqlite,
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
                let directory = self.directory()?;
                (directory.path.display().to_string(), Box::new(directory))
            }
            Kind::Http => {
                let purge = self.purge()?;
                (purge.shown(), Box::new(purge))
            }
            #[cfg(feature = "redis")]
            Kind::Redis => {
                let keys = self.keys()?;
                (format!("redis {}", keys.pattern), Box::new(keys))
            }
            #[cfg(feature = "sqlite")]
            Kind::Sqlite => {
                let table = self.table()?;
                (format!("{} {}", table.path.display(), table.table), Box::new(table))
            }
            #[cfg(not(all(feature = "redis", feature = "sqlite")))]
            other => return Err(vec![not_built(other)]),
        };
        Ok(Named { name: name.unwrap_or(default), kind: kind.as_str(), limit, target })
    }

    fn directory(self) -> Result<Directory, Vec<ArgsError>> {
        let mut faults = Vec::new();
        let path = self.path.unwrap_or_default();
        let is_odd =
            |path: &PathBuf| path.as_os_str().is_empty() || path.as_os_str().as_encoded_bytes().contains(&0);
        if is_odd(&path) {
            faults.push(ArgsError::new("/path", "this is no path"));
        }
        if self.confirm_path.as_ref().is_some_and(|confirmed| *confirmed != path) {
            let fault = "this is another path than `path`";
            faults.push(ArgsError::new("/confirm_path", fault).with_help("leave it out, or repeat `path`"));
        }
        let bounds = Bounds { count: self.max_files, bytes: self.max_bytes };
        if self.max_age.is_none() && bounds.count.is_none() && bounds.bytes.is_none() {
            let help = "set `max_age`, `max_bytes` or `max_files`";
            faults.push(ArgsError::new("", "nothing says what goes").with_help(help));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Directory {
            path,
            is_confirmed: self.confirm_path.is_some(),
            max_age: self.max_age,
            bounds,
            keep: self.keep.unwrap_or_default(),
            remove_empty: self.remove_empty.unwrap_or_default(),
        })
    }

    #[cfg(feature = "redis")]
    fn keys(self) -> Result<crate::cache_redis::Keys, Vec<ArgsError>> {
        let url = self.url.unwrap_or_else(|| TextOrSecret::Text(String::new()));
        let mut faults: Vec<ArgsError> = crate::cache_redis::url_fault(&url).into_iter().collect();
        let pattern = self.pattern.unwrap_or_default();
        if pattern.is_empty() {
            faults.push(ArgsError::new("/pattern", "no key is like an empty pattern"));
        }
        let without_ttl = self.without_ttl.unwrap_or_default();
        if self.max_age.is_none() && !without_ttl {
            let help = "set `max_age` or `without_ttl`";
            faults.push(ArgsError::new("", "nothing says what goes").with_help(help));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(crate::cache_redis::Keys { url, pattern, max_age: self.max_age, without_ttl })
    }

    #[cfg(feature = "sqlite")]
    fn table(self) -> Result<crate::cache_table::Table, Vec<ArgsError>> {
        let (table, column) = (self.table.unwrap_or_default(), self.column.unwrap_or_default());
        let names = [("/table", &table), ("/column", &column)].into_iter();
        let bad = names.filter(|(_, name)| name.trim().is_empty() || name.contains('\0'));
        let faults: Vec<ArgsError> = bad.map(|(place, _)| ArgsError::new(place, "this is no name")).collect();
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(crate::cache_table::Table {
            path: self.path.unwrap_or_default(),
            table,
            column,
            unit: self.unit.unwrap_or_default(),
            max_age: self.max_age.unwrap_or_default(),
            chunk: self.chunk.map_or(1_000, NonZeroU32::get),
        })
    }

    fn purge(self) -> Result<Purge, Vec<ArgsError>> {
        let url = match self.url {
            Some(TextOrSecret::Text(url)) => url,
            Some(TextOrSecret::Secret(_)) | None => {
                let fault = ArgsError::new("/url", "the URL of a call is a text");
                return Err(vec![fault.with_help("send the secret in a header")]);
            }
        };
        let allow = ["loopback", "private", "shared"].map(str::to_owned).to_vec();
        Purge::new(crate::cache_purge::Call {
            url,
            method: self.method.unwrap_or_else(|| "PURGE".to_owned()),
            headers: self.headers.unwrap_or_default(),
            expect_status: self.expect_status,
            allow: self.allow.unwrap_or(allow),
        })
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

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Http => "http",
            Self::Redis => "redis",
            Self::Sqlite => "sqlite",
        }
    }

    /// The keys that it needs, and those that it takes besides.
    fn keys(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Directory => {
                (&["path"], &["confirm_path", "max_age", "max_bytes", "max_files", "keep", "remove_empty"])
            }
            Self::Http => (&["url"], &["method", "headers", "expect_status", "allow"]),
            Self::Redis => (&["url", "pattern"], &["max_age", "without_ttl"]),
            Self::Sqlite => (&["path", "table", "column", "max_age"], &["unit", "chunk"]),
        }
    }
}

#[cfg(not(all(feature = "redis", feature = "sqlite")))]
fn not_built(kind: Kind) -> ArgsError {
    let fault = format!("this program was built without targets of kind `{}`", kind.as_str());
    ArgsError::new("/kind", fault).with_help("build it with the features of the durable tier")
}

fn bad_limit(limit: Duration) -> Option<ArgsError> {
    let fault =
        || ArgsError::new("/timeout", "a limit of nothing lets nothing be done").with_help("write `10m`");
    limit.is_zero().then(fault)
}
