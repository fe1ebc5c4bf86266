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
    /// A disk has room.
    Disk,
    /// The machine has memory.
    Memory,
    /// The machine's processors have time.
    Load,
    /// Certificates are valid for a while.
    Certificate,
    /// The scheduler's own backends are up.
    Backends,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Command => "command",
            Self::Disk => "disk",
            Self::Memory => "memory",
            Self::Load => "load",
            Self::Certificate => "certificate",
            Self::Backends => "backends",
        }
    }

    /// The keys that it needs, and those that it takes besides.
    pub(crate) fn keys(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Tcp => (&["address"], &[]),
            Self::Http => (&["url"], &["expect_status", "ca_file"]),
            Self::Command => (&["program"], &["args"]),
            Self::Disk => (&["path"], &["degraded", "failed"]),
            Self::Memory | Self::Load => (&[], &["degraded", "failed"]),
            Self::Certificate => (&[], &["address", "file", "ca_file", "degraded", "failed"]),
            Self::Backends => (&[], &[]),
        }
    }
}
