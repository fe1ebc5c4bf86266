//! Names of tasks, jobs, backends and namespaces.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

use crate::{Error, Result};

/// A name that matches `[a-z0-9_]+` and has at most 64 characters.
///
/// The narrow alphabet lets a name stand in an environment variable, a file name and a key of a store alike.
/// A short name is held in place, and a longer one is shared between its clones.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(SmolStr);

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
            return Ok(Self(SmolStr::new(text)));
        };
        Err(Error::invalid("name/invalid", format!("`{}` is no name: {fault}", text.escape_debug())))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
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
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.as_str())
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
    use proptest::prelude::*;
    use std::collections::HashSet;

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

    #[test]
    fn a_name_takes_no_more_room_than_its_text_in_place() {
        assert_eq!((size_of::<Name>(), size_of::<Option<Name>>()), (24, 24));
        let texts = [22, 23, 64].map(|len| "n".repeat(len));
        for text in texts {
            assert_eq!(Name::new(&text).unwrap().as_str(), text);
        }
    }

    proptest! {
        #[test]
        fn names_are_equal_ordered_and_found_as_their_texts(a in "[a-z0-9_]{1,64}", b in "[a-z0-9_]{1,64}", cut in 1..64_usize) {
            for b in [b, a.clone(), a[..cut.min(a.len())].to_owned()] {
                let (first, second) = (Name::new(&a).unwrap(), Name::new(&b).unwrap());
                prop_assert_eq!(first == second, a == b);
                prop_assert_eq!(first.cmp(&second), a.cmp(&b));
                prop_assert_eq!(HashSet::from([first]).contains(b.as_str()), a == b);
            }
        }
    }
}
