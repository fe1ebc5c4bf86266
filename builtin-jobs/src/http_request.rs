//! What is sent: the headers and the body of a task, secrets read when an attempt starts, and what the job adds.
//!
//! A redirect to another origin gets none of it but a few headers that say nothing about who asks.

use std::collections::BTreeMap;

use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use reqwest::{Method, Url};
use scheduler_core::{ArgsError, Error, Result, RunContext};
use serde_json::Value;

use crate::http_secrets::Secrets;
use crate::pointer;
use crate::text_or_secret::TextOrSecret;

/// Headers that belong to the connection and not to a task.
const OWN: [&str; 11] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers of a task that another origin may see.
const HARMLESS: [HeaderName; 3] = [ACCEPT, ACCEPT_LANGUAGE, USER_AGENT];

/// Written in two parts, as it is no code of an error.
const JSON: &str = concat!("application", "/json");

/// What a task sends.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    headers: Vec<(HeaderName, TextOrSecret)>,
    body: Option<Content>,
}

#[derive(Clone, Debug)]
enum Content {
    Text(TextOrSecret),
    Json(Value),
}

/// What one attempt sends.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// To the origin of the task's URL.
    pub(crate) headers: HeaderMap,
    /// To every other origin.
    pub(crate) foreign_headers: HeaderMap,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) secrets: Secrets,
    /// Those of headers and body alone, without the query.
    pub(crate) given: Secrets,
}

impl Request {
    /// Reads what a task sends.
    ///
    /// # Errors
    /// Every method, header or value that cannot be sent.
    pub(crate) fn new(
        method: &str,
        headers: BTreeMap<String, TextOrSecret>,
        body: Option<TextOrSecret>,
        json: Option<Value>,
    ) -> Result<Self, Vec<ArgsError>> {
        let mut faults = Vec::new();
        let method = read_method(method).map_err(|fault| faults.push(fault)).unwrap_or_default();
        let mut read: Vec<(HeaderName, TextOrSecret)> = Vec::new();
        for (name, value) in headers {
            match read_header(&name, &value) {
                Ok(header) if read.iter().all(|(other, _)| *other != header) => read.push((header, value)),
                Ok(header) => {
                    let fault = format!("header `{header}` stands there twice");
                    faults.push(ArgsError::new(pointer::below("/headers", &name), fault));
                }
                Err(fault) => faults.push(fault),
            }
        }
        if body.is_some() && json.is_some() {
            let fault = "`body` and `json` exclude each other";
            faults.push(ArgsError::new("/json", fault).with_help("keep one of them"));
        }
        let body = body.map(Content::Text).or(json.map(Content::Json));
        if faults.is_empty() { Ok(Self { method, headers: read, body }) } else { Err(faults) }
    }

    /// Everything for one attempt, secrets read now.
    ///
    /// # Errors
    /// A secret that cannot be read, or that no header can hold; the message names its place.
    pub(crate) fn prepare(&self, ctx: &RunContext, url: &Url) -> Result<Prepared> {
        let mut given = Secrets::default();
        let mut headers = added_headers(ctx);
        let mut foreign_headers = headers.clone();
        let body = match &self.body {
            None => None,
            Some(Content::Json(value)) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
                Some(value.to_string().into_bytes())
            }
            Some(Content::Text(text)) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
                let value = text.read()?;
                if text.is_secret() {
                    given.add(&value);
                }
                Some(value.into_bytes())
            }
        };
        for (name, value) in &self.headers {
            let text = value.read()?;
            let mut header = HeaderValue::from_str(&text).map_err(|_| {
                let message = format!("the secret for header `{name}` holds what no header can");
                Error::invalid("http/bad_secret", message)
            })?;
            if value.is_secret() {
                given.add(&text);
                header.set_sensitive(true);
            } else if HARMLESS.contains(name) {
                foreign_headers.insert(name, header.clone());
            }
            headers.insert(name, header);
        }
        let mut secrets = given.clone();
        secrets.add_query(url.query().unwrap_or_default());
        Ok(Prepared { headers, foreign_headers, body, secrets, given })
    }
}

/// What every request carries unless its task says otherwise.
fn added_headers(ctx: &RunContext) -> HeaderMap {
    let version = concat!("hybrid-scheduler/", env!("CARGO_PKG_VERSION"));
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(USER_AGENT, HeaderValue::from_static(version));
    for (name, value) in [("idempotency-key", ctx.idempotency_key()), ("traceparent", ctx.traceparent())] {
        headers.extend(value.parse().map(|value| (HeaderName::from_static(name), value)));
    }
    headers
}

fn read_method(text: &str) -> Result<Method, ArgsError> {
    let fault = |message: String| ArgsError::new("/method", message);
    let method = Method::from_bytes(text.as_bytes())
        .map_err(|_| fault(format!("`{}` is no method", text.escape_debug())).with_help("write `POST`"))?;
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        let help = format!("write `{}`", text.to_ascii_uppercase());
        return Err(fault(format!("method `{text}` is not in capitals")).with_help(help));
    }
    if method == Method::CONNECT {
        return Err(fault("`CONNECT` opens a tunnel, which this job has no use for".to_owned()));
    }
    Ok(method)
}

fn read_header(name: &str, value: &TextOrSecret) -> Result<HeaderName, ArgsError> {
    let fault = |message: String| ArgsError::new(pointer::below("/headers", name), message);
    let header = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| fault(format!("`{}` is no name of a header", name.escape_debug())))?;
    if OWN.contains(&header.as_str()) {
        return Err(fault(format!("header `{header}` is set by the job itself")));
    }
    let TextOrSecret::Text(text) = value else { return Ok(header) };
    if text.contains(['\r', '\n']) {
        return Err(fault(format!("the value of header `{header}` holds a line break")));
    }
    if HeaderValue::from_str(text).is_err() {
        return Err(fault(format!("the value of header `{header}` holds a character that no header can")));
    }
    Ok(header)
}
