//! What is left of cron without the feature `cron`: a type with no values, and an error that names the feature.

#[path = "cron/dialect.rs"]
mod dialect;

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use crate::{Error, Result, Timestamp};

pub use dialect::Dialect;

/// A cron expression; without the feature `cron` there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Cron(Infallible);

impl Cron {
    /// Refuses every expression.
    ///
    /// # Errors
    /// `cron/not_compiled_in`, always.
    pub fn parse(expression: &str, zone: &str, hash_key: &str) -> Result<Self> {
        Self::parse_in(Dialect::Ocps, expression, zone, hash_key)
    }

    /// Refuses every expression.
    ///
    /// # Errors
    /// `cron/not_compiled_in`, always.
    pub fn parse_in(_dialect: Dialect, expression: &str, _zone: &str, _hash_key: &str) -> Result<Self> {
        let message = format!("`{}` needs the feature `cron` of scheduler-core", expression.escape_debug());
        Err(Error::unsupported("cron/not_compiled_in", message))
    }

    /// The expression as it was written.
    pub fn expression(&self) -> &str {
        match self.0 {}
    }

    /// The expression with the value of each `H` in its place.
    pub fn plain(&self) -> &str {
        match self.0 {}
    }

    /// The name of the zone.
    pub fn zone(&self) -> &str {
        match self.0 {}
    }

    /// The first instant after `after` that the expression names.
    pub fn next_after(&self, _after: Timestamp) -> Option<Timestamp> {
        match self.0 {}
    }

    /// The mean time between fires.
    pub fn mean_period(&self) -> Duration {
        match self.0 {}
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {}
    }
}
