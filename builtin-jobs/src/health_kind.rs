//! The kinds of checks, and which keys each one takes.

use schemars::JsonSchema;
use serde::Deserialize;

/// What a check looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A port accepts connections.
    Tcp,
    /// A URL answers as expected.
    Http,
    /// A program ends with exit code 0.
    Command,
    /// As many processes run as should.
    Process,
    /// A disk has room.
    Disk,
    /// The machine has memory.
    Memory,
    /// The machine's processors have time.
    Load,
    /// Certificates are valid for a while.
    Certificate,
    /// A Redis server answers.
    Redis,
    /// A SQLite file can be read.
    Sqlite,
    /// The scheduler's own backends are up, or one of them.
    Backend,
}

/// What a Redis server is among its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Takes writes.
    Master,
    /// Follows a master.
    Replica,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Command => "command",
            Self::Process => "process",
            Self::Disk => "disk",
            Self::Memory => "memory",
            Self::Load => "load",
            Self::Certificate => "certificate",
            Self::Redis => "redis",
            Self::Sqlite => "sqlite",
            Self::Backend => "backend",
        }
    }

    /// The keys that it needs, and those that it takes besides.
    pub(crate) fn keys(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Tcp => (&["address"], &[]),
            Self::Http => (&["url"], &["expect_status", "ca_file"]),
            Self::Command => (&["program"], &["args"]),
            Self::Process => (&[], &["process", "command_line", "pid_file", "min", "max"]),
            Self::Disk => (&["path"], &["degraded", "failed"]),
            Self::Memory | Self::Load => (&[], &["degraded", "failed"]),
            Self::Certificate => (&[], &["address", "file", "ca_file", "degraded", "failed"]),
            Self::Redis => (&["url"], &["role", "degraded", "failed"]),
            Self::Sqlite => (&["path"], &["quick_check"]),
            Self::Backend => (&[], &["backend"]),
        }
    }

    /// Whether it is told what this machine has left in bytes, so that a share of the whole means something.
    pub(crate) fn has_whole(self) -> bool {
        matches!(self, Self::Disk | Self::Memory | Self::Redis)
    }

    /// Whether only Linux says what it looks at.
    pub(crate) fn is_of_linux(self) -> bool {
        matches!(self, Self::Memory | Self::Load | Self::Process)
    }
}
