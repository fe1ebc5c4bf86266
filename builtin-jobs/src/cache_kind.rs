//! What a target of `cache_cleanup` is, and which keys that takes.

#[cfg(not(all(feature = "redis", feature = "sqlite")))]
use scheduler_core::ArgsError;
use schemars::JsonSchema;
use serde::Deserialize;

/// What a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Files in a folder.
    Directory,
    /// Ended runs of a backend of ours.
    History,
    /// A cache that empties itself when a URL is called.
    Http,
    /// Keys of a Redis server.
    Redis,
    /// Rows of a table of SQLite.
    Sqlite,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::History => "history",
            Self::Http => "http",
            Self::Redis => "redis",
            Self::Sqlite => "sqlite",
        }
    }

    /// The keys that it needs, and those that it takes besides.
    pub(crate) fn keys(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Directory => {
                (&["path"], &["confirm_path", "max_age", "max_bytes", "max_files", "keep", "remove_empty"])
            }
            Self::History => (&["backend"], &["max_age", "max_runs"]),
            Self::Http => (&["url"], &["method", "headers", "expect_status", "allow"]),
            Self::Redis => (&["url", "pattern"], &["max_age", "without_ttl"]),
            Self::Sqlite => (&["path", "table", "column", "max_age"], &["unit", "chunk"]),
        }
    }

    #[cfg(not(all(feature = "redis", feature = "sqlite")))]
    pub(crate) fn not_built(self) -> ArgsError {
        let fault = format!("this program was built without targets of kind `{}`", self.as_str());
        ArgsError::new("/kind", fault).with_help("build it with the features of the durable tier")
    }
}
