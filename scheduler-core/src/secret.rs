//! Values that are stored and printed nowhere.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Where a secret lies: written `{ env = "NAME" }` or `{ file = "/path" }` in any job's args.
///
/// Only the place is stored and printed; the value is read when an attempt starts, so a rotated secret is
/// seen by the next attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Place", into = "Place")]
pub struct Secret(Source);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Env(String),
    File(PathBuf),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    env: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
}

/// A resolved secret. `Debug` does not show it, and it cannot be serialised.
#[derive(Clone)]
pub struct SecretValue(String);

impl Secret {
    /// A secret in an environment variable.
    pub fn env(variable: impl Into<String>) -> Self {
        Self(Source::Env(variable.into()))
    }

    /// A secret in a file; one line break at its end is not part of it.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    /// Reads the value.
    ///
    /// # Errors
    /// `secret/missing` when the variable is not set or the file cannot be read; the message names the place.
    pub fn resolve(&self) -> Result<SecretValue> {
        match &self.0 {
            // The source is not kept: it would print a value that is no Unicode.
            Source::Env(variable) => std::env::var(variable).map(SecretValue).map_err(|_| {
                Error::not_found("secret/missing", format!("no secret in environment variable `{variable}`"))
            }),
            Source::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|source| {
                    Error::not_found("secret/missing", format!("no secret in file {}", path.display()))
                        .with_source(source)
                })?;
                let line = text.strip_suffix('\n').unwrap_or(&text);
                Ok(SecretValue(line.strip_suffix('\r').unwrap_or(line).to_owned()))
            }
        }
    }
}

impl SecretValue {
    /// The value itself; what calls this must not print or store it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl TryFrom<Place> for Secret {
    type Error = &'static str;
    fn try_from(place: Place) -> Result<Self, Self::Error> {
        match (place.env, place.file) {
            (Some(variable), None) => Ok(Self::env(variable)),
            (None, Some(path)) => Ok(Self::file(path)),
            _ => Err("a secret is written { env = \"NAME\" } or { file = \"/path\" }, one of the two"),
        }
    }
}

impl From<Secret> for Place {
    fn from(secret: Secret) -> Self {
        match secret.0 {
            Source::Env(variable) => Self { env: Some(variable), file: None },
            Source::File(path) => Self { env: None, file: Some(path) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_a_file_is_read_without_its_line_break_and_never_printed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "canary\r\n").unwrap();

        let value = Secret::file(file.path()).resolve().unwrap();

        assert_eq!(value.expose(), "canary");
        assert!(!format!("{value:?}").contains("canary"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_secret_in_a_pipe_is_read_to_its_end() {
        use std::io::Write as _;
        use std::os::fd::AsRawFd as _;
        let (read, mut write) = std::io::pipe().unwrap();
        write.write_all(b"canary\n").unwrap();
        drop(write);

        let secret = Secret::file(format!("/proc/self/fd/{}", read.as_raw_fd()));

        assert_eq!(secret.resolve().unwrap().expose(), "canary");
    }

    #[test]
    fn a_secret_names_exactly_one_place() {
        for text in ["{}", r#"{"env":"A","file":"b"}"#, r#"{"value":"x"}"#, r#""plain""#] {
            assert!(serde_json::from_str::<Secret>(text).is_err(), "{text}");
        }
        let secret: Secret = serde_json::from_str(r#"{"env":"A"}"#).unwrap();
        assert_eq!(serde_json::to_string(&secret).unwrap(), r#"{"env":"A"}"#);
    }

    #[test]
    fn a_missing_secret_names_its_place() {
        let error = Secret::env("SURELY_NOT_SET_ANYWHERE").resolve().unwrap_err();
        assert_eq!(error.code(), "secret/missing");
        assert!(error.to_string().contains("SURELY_NOT_SET_ANYWHERE"));
    }
}
