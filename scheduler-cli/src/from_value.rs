//! Turns a value of the configuration into the type of a setting.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::pointer;
use scheduler_core::{DURATION_FORMS, parse_duration};

/// A type that a setting can have.
pub trait FromValue: Sized {
    /// What messages call it, such as "a whole number".
    const EXPECTED: &'static str;

    /// Converts the value.
    ///
    /// # Errors
    /// Each reason why it cannot be one.
    fn from_value(value: &Value) -> Result<Self, Vec<Mismatch>>;

    /// Takes the text of an environment variable or a flag as it is, although it looks like another
    /// type; by default no.
    fn from_text(_text: &str) -> Option<Self> {
        None
    }
}

/// Why a value, or one below it, does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The JSON pointer from the value down to the offending one, mostly empty.
    pub pointer: String,
    /// The permanent code.
    pub code: &'static str,
    /// What the value is, to be read after its name: "is a string, expected a list".
    pub problem: String,
    /// The next step.
    pub help: Option<String>,
}

impl Mismatch {
    /// A fault of the value itself.
    pub fn new(code: &'static str, problem: impl Into<String>) -> Self {
        Self { pointer: String::new(), code, problem: problem.into(), help: None }
    }

    /// Adds the next step.
    #[must_use]
    pub fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// The fault of a value that has another type.
    pub fn wrong_type(value: &Value, expected: &str) -> Self {
        let kind = match value {
            Value::Null => "empty",
            Value::Bool(_) => "a boolean",
            Value::Number(number) if number.is_f64() => "a fraction",
            Value::Number(_) => "a whole number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "a table",
        };
        Self::new("config/wrong_type", format!("is {kind}, expected {expected}"))
    }
}

fn typed<T: FromValue>(value: &Value, converted: Option<T>) -> Result<T, Vec<Mismatch>> {
    converted.ok_or_else(|| vec![Mismatch::wrong_type(value, T::EXPECTED)])
}

impl FromValue for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_value(value: &Value) -> Result<Self, Vec<Mismatch>> {
        typed(value, value.as_bool())
    }
}

impl FromValue for f64 {
    const EXPECTED: &'static str = "a number";

    fn from_value(value: &Value) -> Result<Self, Vec<Mismatch>> {
        typed(value, value.as_f64())
    }
}

impl FromValue for String {
    const EXPECTED: &'static str = "a string";

    fn from_value(value: &Value) -> Result<Self, Vec<Mismatch>> {
        typed(value, value.as_str().map(str::to_owned))
    }

    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl FromValue for PathBuf {
    const EXPECTED: &'static str = "a path";

    fn from_value(value: &Value) -> Result<Self, Vec<Mismatch>> {
        typed(value, value.as_str().map(Self::from))
    }

    fn from_text(text: &str) -> Option<Self> {
        Some(text.into())
    }
}

impl FromValue for Value {
    const EXPECTED: &'static str = "a value";

    fn from_value(value: &Value) -> Result<Self, Vec<Mismatch>> {
        Ok(value.clone())
    }
}

impl FromValue for Duration {
    const EXPECTED: &'static str = "a duration";

    fn from_value(value: &Value) -> Result<Self, Vec<Mismatch>> {
        let Value::String(text) = value else {
            let mismatch = Mismatch::wrong_type(value, Self::EXPECTED);
            return Err(vec![match value.as_i64() {
                Some(number) => mismatch.with_help(format!("write the unit, for seconds \"{number}s\"")),
                None => mismatch.with_help(DURATION_FORMS),
            }]);
        };
        parse_duration(text).map_err(|error| {
            vec![
                Mismatch::new("config/bad_duration", format!("is no duration: {error}"))
                    .with_help(DURATION_FORMS),
            ]
        })
    }
}

impl<T: FromValue> FromValue for Vec<T> {
    const EXPECTED: &'static str = "a list";

    fn from_value(value: &Value) -> Result<Self, Vec<Mismatch>> {
        let Value::Array(values) = value else {
            return Err(vec![Mismatch::wrong_type(value, Self::EXPECTED)]);
        };
        let mut list = Self::with_capacity(values.len());
        let mut mismatches = Vec::new();
        for (index, value) in values.iter().enumerate() {
            match T::from_value(value) {
                Ok(value) => list.push(value),
                Err(faults) => mismatches.extend(faults.into_iter().map(|fault| {
                    let above = pointer::child("", &index.to_string());
                    Mismatch { pointer: above + &fault.pointer, ..fault }
                })),
            }
        }
        if mismatches.is_empty() { Ok(list) } else { Err(mismatches) }
    }
}

macro_rules! integers {
    ($($integer:ty),+) => {$(
        impl FromValue for $integer {
            const EXPECTED: &'static str = "a whole number";

            fn from_value(value: &Value) -> Result<Self, Vec<Mismatch>> {
                let Some(number) = value.as_i64() else {
                    return Err(vec![Mismatch::wrong_type(value, Self::EXPECTED)]);
                };
                Self::try_from(number).map_err(|_| {
                    let allowed = format!("write a number from {} to {}", Self::MIN, Self::MAX);
                    vec![Mismatch::new("config/out_of_range", format!("is {number}")).with_help(allowed)]
                })
            }
        }
    )+};
}

integers!(u8, u16, u32, u64, usize, i32, i64);

macro_rules! counts {
    ($($count:ty: $integer:ty),+) => {$(
        impl FromValue for $count {
            const EXPECTED: &'static str = <$integer>::EXPECTED;

            fn from_value(value: &Value) -> Result<Self, Vec<Mismatch>> {
                Self::new(<$integer>::from_value(value)?).ok_or_else(|| {
                    let allowed = "write a number from 1";
                    vec![Mismatch::new("config/out_of_range", "is 0").with_help(allowed)]
                })
            }
        }
    )+};
}

counts!(NonZeroU32: u32, NonZeroU64: u64);
