//! A cache that empties itself when a URL is called, as proxies and content networks do.

use std::collections::BTreeMap;

use scheduler_core::{ArgsError, Error, Job, Result, RunContext, async_trait};
use serde_json::json;

use crate::cache_cleanup::CacheTarget;
use crate::cache_sweep::Sweep;
use crate::http::Http;
use crate::http_args::HttpArgs;
use crate::http_status::Expected;
use crate::text_or_secret::TextOrSecret;

/// What is sent.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) url: String,
    pub(crate) method: String,
    pub(crate) headers: BTreeMap<String, TextOrSecret>,
    pub(crate) expect_status: Option<Vec<Expected>>,
    pub(crate) allow: Vec<String>,
}

/// A call that empties a cache.
#[derive(Debug)]
pub(crate) struct Purge {
    http: Http,
    /// The method and the URL, without its query.
    shown: String,
}

impl Purge {
    /// Reads the call.
    ///
    /// # Errors
    /// Those of the job `http`.
    pub(crate) fn new(call: Call) -> Result<Self, Vec<ArgsError>> {
        let args = json!({"url": call.url, "method": call.method, "allow": call.allow});
        let read = serde_json::from_value::<HttpArgs>(args);
        let mut args = read.map_err(|error| vec![ArgsError::new("", error.to_string())])?;
        args.headers = call.headers;
        args.expect_status = call.expect_status.unwrap_or(args.expect_status);
        let place = args.url.split(['?', '#']).next().unwrap_or_default();
        let shown = format!("{} {place}", args.method);
        Ok(Self { http: Http::new(args)?, shown })
    }

    pub(crate) fn shown(&self) -> String {
        self.shown.clone()
    }
}

#[async_trait]
impl CacheTarget for Purge {
    async fn clean(&self, ctx: &RunContext, sweep: &Sweep) -> Result<()> {
        if !sweep.is_dry() {
            let unanswered = |error: scheduler_core::JobError| {
                Error::unavailable("cache_cleanup/unusable", format!("{}: {error}", self.shown))
            };
            let answer = self.http.exchange(ctx).await.map_err(unanswered)?;
            if let Some(fault) = self.http.fault_in(&answer) {
                return Err(fault);
            }
        }
        sweep.removed(0, 0, || self.shown.clone());
        Ok(())
    }

    fn check(&self) -> Vec<ArgsError> {
        self.http.check()
    }
}
