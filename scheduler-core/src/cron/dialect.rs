//! The dialects of cron: what fields there are, how weekdays are counted, and what two restricted day fields mean.
//!
//! A dialect is chosen by name and never guessed: `0 0 * * 1` is a Monday in one and a Sunday in another.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// How a cron expression is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The Open Cron Pattern Specification 1.4 with `H`: five to seven fields, Sunday is 0 or 7, either day field.
    #[default]
    Ocps,
    /// Vixie's cron and cronie: five fields; two restricted day fields mean either, or both where one begins with `*`.
    Vixie,
    /// Quartz: six or seven fields, Sunday is 1, ranges may wrap, both day fields, one of which is mostly `?`.
    Quartz,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 3] = [Self::Ocps, Self::Vixie, Self::Quartz];

    /// The name by which a configuration chooses it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ocps => "ocps",
            Self::Vixie => "vixie",
            Self::Quartz => "quartz",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dialect {
    type Err = Error;

    /// Reads a name.
    ///
    /// # Errors
    /// `cron/unknown_dialect`, with the names that there are.
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == text).ok_or_else(|| {
            let message =
                format!("`{}` is no dialect of cron; there are ocps, vixie and quartz", text.escape_debug());
            Error::invalid("cron/unknown_dialect", message)
        })
    }
}
