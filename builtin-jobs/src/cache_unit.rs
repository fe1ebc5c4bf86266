//! How a column of a table writes instants.

use schemars::JsonSchema;
use serde::Deserialize;

/// What a timestamp counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// Seconds since the Unix epoch.
    #[default]
    Seconds,
    /// Milliseconds since the Unix epoch.
    Milliseconds,
    /// A text such as `2026-01-31 12:00:00`, in UTC, as SQLite's own functions write it.
    Text,
}
