//! The args of the job `http` and their defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use scheduler_core::ArgsError;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::duration;
use crate::http_status::Expected;
use crate::text_or_secret::TextOrSecret;

/// The most that `max_output` may be: the output stands in the history of runs.
const LARGEST_OUTPUT: usize = 16 * 1024 * 1024;

/// The most redirects that may be followed.
const MOST_REDIRECTS: u8 = 20;

/// Sends an HTTP request.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpArgs {
    /// Where to: `https://` or `http://`. Its query appears in no message and no output.
    pub(crate) url: String,
    /// The method, in capitals. `GET` by default.
    #[serde(default = "method")]
    pub(crate) method: String,
    /// Headers: texts, or secrets such as `{ env = "NAME" }` and `{ file = "/path" }`. `User-Agent`,
    /// `Idempotency-Key` and `traceparent` are sent unless they stand here.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, TextOrSecret>,
    /// The body: a text or a secret. None by default.
    #[serde(default)]
    pub(crate) body: Option<TextOrSecret>,
    /// The body as any value, sent as JSON; instead of `body`. None by default.
    #[serde(default)]
    pub(crate) json: Option<Value>,
    /// Statuses that mean success: codes, and classes such as `"2xx"`, which is the default.
    #[serde(default = "expect_status")]
    pub(crate) expect_status: Vec<Expected>,
    /// How many redirects are followed, at most 20. 0 by default.
    #[serde(default)]
    pub(crate) redirects: u8,
    /// Addresses besides public ones that may be connected to: networks such as `10.1.0.0/16`, and the words
    /// `loopback`, `private`, `shared`, `link_local`, `metadata`, `unspecified`, `broadcast`, `multicast`,
    /// `documentation`, `reserved`. None by default.
    #[serde(default)]
    pub(crate) allow: Vec<String>,
    /// The limit for everything, redirects included. 30 seconds by default.
    #[serde(default = "timeout", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub(crate) timeout: Duration,
    /// The longest wait for the beginning of an answer, and then for its next byte. 10 seconds by default.
    #[serde(default = "idle_timeout", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub(crate) idle_timeout: Duration,
    /// The limit for a connection: name, TCP and TLS. 5 seconds by default.
    #[serde(default = "connect_timeout", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub(crate) connect_timeout: Duration,
    /// The most bytes of a body, both as received and decompressed; more is an error. 1048576 by default.
    #[serde(default = "max_response")]
    pub(crate) max_response: u64,
    /// Bytes of the body that are kept in the output, from its beginning. 65536 by default.
    #[serde(default = "max_output")]
    pub(crate) max_output: usize,
    /// A PEM file with root certificates that are trusted besides those of the system. None by default.
    #[serde(default)]
    pub(crate) ca_file: Option<PathBuf>,
}

fn method() -> String {
    "GET".to_owned()
}

pub(crate) fn expect_status() -> Vec<Expected> {
    vec![Expected::Class(2)]
}

fn timeout() -> Duration {
    Duration::from_secs(30)
}

fn idle_timeout() -> Duration {
    Duration::from_secs(10)
}

fn connect_timeout() -> Duration {
    Duration::from_secs(5)
}

fn max_response() -> u64 {
    1024 * 1024
}

fn max_output() -> usize {
    64 * 1024
}

impl HttpArgs {
    /// What is wrong with single values.
    pub(crate) fn faults(&self) -> Vec<ArgsError> {
        let mut faults = Vec::new();
        if self.expect_status.is_empty() {
            let fault = ArgsError::new("/expect_status", "no status would mean success");
            faults.push(fault.with_help("leave it out to expect any of \"2xx\""));
        }
        if self.redirects > MOST_REDIRECTS {
            let fault = format!("{} redirects are more than {MOST_REDIRECTS}", self.redirects);
            faults.push(ArgsError::new("/redirects", fault));
        }
        let limits = [
            ("timeout", self.timeout),
            ("idle_timeout", self.idle_timeout),
            ("connect_timeout", self.connect_timeout),
        ];
        for (name, limit) in limits {
            if limit.is_zero() {
                let fault = ArgsError::new(format!("/{name}"), "a limit of nothing lets nothing succeed");
                faults.push(fault.with_help("write `10s`"));
            }
        }
        if self.max_output > LARGEST_OUTPUT {
            let fault = format!("{} bytes are more than history takes, {LARGEST_OUTPUT}", self.max_output);
            faults.push(ArgsError::new("/max_output", fault).with_help("keep less of the body"));
        }
        faults
    }
}
