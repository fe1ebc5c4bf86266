//! Names of tasks, jobs, backends and namespaces.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, Result};

/// A name that matches `[a-z0-9_]+` and has at most 64 characters.
///
/// The narrow alphabet lets a name stand in an environment variable, a file name and a key of a store alike.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The longest name, in characters.
    pub const MAX_LEN: usize = 64;

    /// Checks a text and makes it a name.
    ///
    /// # Errors
    /// `name/invalid` says which character is wrong, or that the name is empty or too long.
    pub fn new(text: &str) -> Result<Self> {
        let fault = if text.is_empty() {
            "it is empty".to_owned()
        } else if let Some(bad) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '_')) {
            format!("{bad:?} is not one of a-z, 0-9 and _")
        } else if text.len() > Self::MAX_LEN {
            format!("it has {} characters, at most {} are allowed", text.len(), Self::MAX_LEN)
        } else {
            return Ok(Self(text.into()));
        };
        Err(Error::invalid("name/invalid", format!("`{}` is no name: {fault}", text.escape_debug())))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_name_says_what_is_wrong() {
        let long = "a".repeat(65);
        let cases = [
            ("", "empty"),
            ("nightly-backup", "'-'"),
            ("Backup", "'B'"),
            ("é", "'é'"),
            (long.as_str(), "65 characters"),
        ];
        for (text, part) in cases {
            let error = Name::new(text).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
        assert_eq!(Name::new("nightly_backup_2").unwrap(), "nightly_backup_2");
    }
}
