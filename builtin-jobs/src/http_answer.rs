//! What a server answered, and what of it history keeps.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, ETAG, HeaderMap, LOCATION};
use scheduler_core::Output;
use serde_json::{Map, json};

use crate::http_body::Body;
use crate::http_redirect::Hop;
use crate::http_secrets::Secrets;
use crate::http_target::shown;

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    pub(crate) hop: Hop,
    pub(crate) redirects: u8,
    pub(crate) took: Duration,
    pub(crate) secrets: Secrets,
    /// Those of headers and body alone, without the query.
    pub(crate) given: Secrets,
}

impl Answer {
    /// What history keeps.
    pub(crate) fn output(&self) -> Output {
        let mut headers = Map::new();
        for name in [CONTENT_TYPE, ETAG, LOCATION] {
            let value = self.headers.get(&name).and_then(|value| value.to_str().ok());
            // A place that a server names may hold a key of its own.
            let value = value.map(|value| value.split(['?', '#']).next().unwrap_or_default());
            headers.extend(value.map(|value| (name.to_string(), self.secrets.hide(value).into())));
        }
        json!({
            "status": self.status.as_u16(),
            "headers": headers,
            "body": self.body.text(),
            "body_bytes": self.body.length,
            "truncated": self.body.is_truncated(),
            "duration_ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            "url": self.secrets.hide(&shown(&self.hop.url)),
            "redirects": self.redirects,
        })
    }
}
