//! The kinds of secrets, and which keys each takes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What kind of place a secret lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A file that holds nothing else.
    File,
    /// Every file of a folder.
    Directory,
    /// A file of lines `NAME=value`.
    EnvFile,
    /// A PEM file with a certificate or a chain.
    Certificate,
    /// The certificates that a server shows.
    Tls,
    /// A JSON Web Token, in a file or in a variable of the daemon.
    Jwt,
    /// Whatever a program says of one.
    Command,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::EnvFile => "env_file",
            Self::Certificate => "certificate",
            Self::Tls => "tls",
            Self::Jwt => "jwt",
            Self::Command => "command",
        }
    }

    /// The keys it needs, and those it takes besides.
    pub(crate) fn keys(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::File | Self::Certificate => (&["path"], &["mode", "rotation"]),
            Self::Directory => (&["path"], &["mode"]),
            Self::EnvFile => (&["path"], &["keys", "mode", "rotation"]),
            Self::Tls => (&["address"], &["ca_file"]),
            Self::Jwt => (&[], &["path", "env", "mode", "rotation"]),
            Self::Command => (&["program"], &["args"]),
        }
    }
}
