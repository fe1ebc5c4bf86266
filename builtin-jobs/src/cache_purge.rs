//! A cache that empties itself when a URL is called, as proxies and content networks do.

use scheduler_core::{ArgsError, Error, Job, Result, RunContext, async_trait};
use serde_json::json;

use crate::cache_args::TargetArgs;
use crate::cache_cleanup::CacheTarget;
use crate::cache_sweep::Sweep;
use crate::http::Http;
use crate::http_args::HttpArgs;
use crate::text_or_secret::TextOrSecret;

/// A call that empties a cache.
#[derive(Debug)]
pub(crate) struct Purge {
    http: Http,
    /// The method and the URL, without its query.
    shown: String,
}

impl Purge {
    /// Reads a target.
    ///
    /// # Errors
    /// Those of the job `http`.
    pub(crate) fn read(args: TargetArgs) -> Result<Self, Vec<ArgsError>> {
        let url = match args.url {
            Some(TextOrSecret::Text(url)) => url,
            Some(TextOrSecret::Secret(_)) | None => {
                let fault = ArgsError::new("/url", "the URL of a call is a text");
                return Err(vec![fault.with_help("send the secret in a header")]);
            }
        };
        let method = args.method.unwrap_or_else(|| "PURGE".to_owned());
        let allow =
            args.allow.unwrap_or_else(|| ["loopback", "private", "shared"].map(str::to_owned).to_vec());
        let call = json!({"url": url, "method": method, "allow": allow});
        let read = serde_json::from_value::<HttpArgs>(call);
        let mut call = read.map_err(|error| vec![ArgsError::new("", error.to_string())])?;
        call.headers = args.headers.unwrap_or_default();
        call.expect_status = args.expect_status.unwrap_or(call.expect_status);
        let place = call.url.split(['?', '#']).next().unwrap_or_default();
        let shown = format!("{} {place}", call.method);
        Ok(Self { http: Http::new(call)?, shown })
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
