//! What the status of an answer means for its run.

use std::fmt;
use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use scheduler_core::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// The longest wait that a server can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// One status, or a class of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Code(u16),
    /// By its first digit.
    Class(u16),
}

/// What follows an answer that was not expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Retry,
    Snooze(Duration),
    Abort,
}

impl Expected {
    pub(crate) fn fits(self, status: StatusCode) -> bool {
        match self {
            Self::Code(code) => status.as_u16() == code,
            Self::Class(class) => status.as_u16() / 100 == class,
        }
    }
}

/// The meaning of a status that was not expected; `headers` may ask for patience.
pub(crate) fn meaning(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Meaning {
    match status.as_u16() {
        429 | 503 => wait_asked_for(headers, now).map_or(Meaning::Retry, Meaning::Snooze),
        408 | 425 | 500..=599 => Meaning::Retry,
        _ => Meaning::Abort,
    }
}

/// `Retry-After`, in seconds or as a date.
fn wait_asked_for(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // What is too large to be read is too long in any case.
        text.parse().map_or(LONGEST_WAIT, Duration::from_secs)
    } else {
        let until: SystemTime = httpdate::parse_http_date(text).ok()?;
        Timestamp::from(until).since(now)
    };
    (!wait.is_zero()).then(|| wait.min(LONGEST_WAIT))
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "{code}"),
            Self::Class(class) => write!(f, "{class}xx"),
        }
    }
}

impl<'de> Deserialize<'de> for Expected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ExpectedVisitor)
    }
}

struct ExpectedVisitor;

impl Visitor<'_> for ExpectedVisitor {
    type Value = Expected;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a status from 200 to 599, or a class such as \"2xx\"")
    }

    fn visit_u64<E: de::Error>(self, code: u64) -> Result<Expected, E> {
        let code_read = u16::try_from(code).ok().filter(|code| (200..600).contains(code));
        code_read.map(Expected::Code).ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(code), &self))
    }

    fn visit_i64<E: de::Error>(self, code: i64) -> Result<Expected, E> {
        match u64::try_from(code) {
            Ok(code) => self.visit_u64(code),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(code), &self)),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Expected, E> {
        let class = match text {
            "2xx" => 2,
            "3xx" => 3,
            "4xx" => 4,
            "5xx" => 5,
            _ => return Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        };
        Ok(Expected::Class(class))
    }
}

impl JsonSchema for Expected {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Expected".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A status, or a class of them.",
            "oneOf": [
                { "type": "integer", "minimum": 200, "maximum": 599 },
                { "type": "string", "enum": ["2xx", "3xx", "4xx", "5xx"] },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_expected_status_is_a_code_or_a_class() {
        let cases = [
            (json!(204), Some("204")),
            (json!("2xx"), Some("2xx")),
            (json!("5xx"), Some("5xx")),
            (json!(199), None),
            (json!(600), None),
            (json!(65_736), None),
            (json!(-200), None),
            (json!("200"), None),
            (json!("6xx"), None),
            (json!("1xx"), None),
        ];
        for (value, expected) in cases {
            let read = serde_json::from_value::<Expected>(value.clone());
            assert_eq!(read.ok().map(|read| read.to_string()).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn a_status_says_what_follows() {
        let now: Timestamp = "2015-10-21T07:28:00Z".parse().unwrap();
        let wait = |seconds| Meaning::Snooze(Duration::from_secs(seconds));
        let cases = [
            (404, None, Meaning::Abort),
            (302, None, Meaning::Abort),
            (200, Some("9"), Meaning::Abort),
            (408, Some("9"), Meaning::Retry),
            (425, None, Meaning::Retry),
            (500, None, Meaning::Retry),
            (599, None, Meaning::Retry),
            (429, None, Meaning::Retry),
            (429, Some("9"), wait(9)),
            (429, Some("0"), Meaning::Retry),
            (429, Some("-9"), Meaning::Retry),
            (429, Some("soon"), Meaning::Retry),
            (503, Some(" 9 "), wait(9)),
            (503, Some("99999"), wait(3600)),
            (503, Some("99999999999999999999999"), wait(3600)),
            (503, Some("Wed, 21 Oct 2015 07:28:30 GMT"), wait(30)),
            (503, Some("Wed, 21 Oct 2015 07:27:30 GMT"), Meaning::Retry),
            (503, Some("Fri, 31 Dec 9999 23:59:59 GMT"), wait(3600)),
        ];
        for (status, asked, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.extend(asked.map(|asked| (RETRY_AFTER, asked.parse().unwrap())));
            let found = meaning(StatusCode::from_u16(status).unwrap(), &headers, now);
            assert_eq!(found, expected, "{status} {asked:?}");
        }
    }
}
