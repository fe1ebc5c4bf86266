//! The job `http`: sends a request and judges its answer.
//!
//! A request goes to public addresses unless the task allows others, and exactly the addresses that were judged
//! are connected to, on every redirect anew. TLS is always verified. Proxies of the environment are not used:
//! they would choose the address themselves. What is read is bounded however much a server sends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, StatusCode, Url};
use scheduler_core::{
    ArgsError, Error, ErrorKind, Job, JobDescriptor, JobError, OrAbort, Output, RunContext, async_trait,
};

use crate::address::Allowed;
use crate::http_answer::Answer;
use crate::http_args::HttpArgs;
use crate::http_body::{self, Body, Bounds};
use crate::http_fault::Failure;
use crate::http_redirect::Hop;
use crate::http_request::{Prepared, Request};
use crate::http_status::{self, Expected, Meaning};
use crate::http_target::{self, Fault, shown};
use crate::resolve::{Guarded, Lookup, System};
use crate::text_or_secret::TextOrSecret;
use crate::{pointer, tls};

/// Describes the job.
pub fn descriptor() -> JobDescriptor {
    let schema = schemars::schema_for!(HttpArgs).to_value();
    JobDescriptor::typed("http", "sends an HTTP request", Http::new).with_schema(schema).with_own_limit()
}

/// A request that can be sent.
#[derive(Debug)]
pub(crate) struct Http {
    url: Url,
    request: Request,
    expect_status: Vec<Expected>,
    redirects: u8,
    allowed: Allowed,
    timeout: Duration,
    connect_timeout: Duration,
    bounds: Bounds,
    ca_file: Option<PathBuf>,
    /// Where values stand that may be secrets.
    values: Vec<(String, TextOrSecret)>,
    /// Tests put another one here.
    pub(crate) lookup: Arc<dyn Lookup>,
}

impl Http {
    /// Reads the args.
    ///
    /// # Errors
    /// Every fault that can be told without resolving a name.
    pub(crate) fn new(args: HttpArgs) -> Result<Self, Vec<ArgsError>> {
        let mut faults = args.faults();
        let allowed = Allowed::parse(&args.allow, "/allow").map_err(|found| faults.extend(found));
        // What is not allowed is no fault of its own where `allow` cannot be read.
        let url = allowed.as_ref().ok().map(|allowed| read_url(&args.url, allowed));
        let url = url.and_then(|url| url.map_err(|fault| faults.push(fault)).ok());
        let headers =
            args.headers.iter().map(|(name, value)| (pointer::below("/headers", name), value.clone()));
        let values = headers.chain(args.body.clone().map(|body| ("/body".to_owned(), body))).collect();
        let request = Request::new(&args.method, args.headers, args.body, args.json);
        let request = request.map_err(|found| faults.extend(found));
        let (Some(url), Ok(allowed), Ok(request), true) = (url, allowed, request, faults.is_empty()) else {
            return Err(faults);
        };
        Ok(Self {
            url,
            request,
            expect_status: args.expect_status,
            redirects: args.redirects,
            allowed,
            timeout: args.timeout,
            connect_timeout: args.connect_timeout,
            bounds: Bounds {
                max_response: args.max_response,
                max_output: args.max_output,
                idle: args.idle_timeout,
            },
            ca_file: args.ca_file,
            values,
            lookup: Arc::new(System),
        })
    }

    /// Sends the request and returns what came back, whatever its status.
    ///
    /// # Errors
    /// When nothing came back, or something that was not read to its end.
    pub(crate) async fn exchange(&self, ctx: &RunContext) -> Result<Answer, JobError> {
        let prepared = self.request.prepare(ctx, &self.url).or_abort()?;
        let exchange = tokio::time::timeout(self.timeout, self.follow(&prepared));
        let ended = exchange.await.unwrap_or_else(|_| {
            let (place, limit) = (shown(&self.url), self.timeout);
            let message = format!("no whole answer from {place} within {limit:?} (`timeout`)");
            Err(Failure::timed_out(message))
        });
        ended.map_err(|failure| failure.without(&prepared.secrets))
    }

    async fn follow(&self, prepared: &Prepared) -> Result<Answer, Failure> {
        let began = Instant::now();
        let client = self.client().await?;
        let mut hop = Hop {
            url: self.url.clone(),
            method: self.request.method.clone(),
            with_body: prepared.body.is_some(),
            is_foreign: false,
        };
        let mut visited: Vec<Hop> = Vec::new();
        loop {
            let response = self.send(&client, &hop, prepared).await?;
            let (status, redirects) = (response.status(), visited.len());
            let is_followed = self.redirects > 0 && !self.is_expected(status);
            let next = if is_followed { hop.next(status, response.headers(), &self.allowed)? } else { None };
            let Some(next) = next else {
                let headers = response.headers().clone();
                let body = self.read(response, &hop).await?;
                let redirects = u8::try_from(redirects).unwrap_or(u8::MAX);
                let (secrets, given) = (prepared.secrets.clone(), prepared.given.clone());
                let took = began.elapsed();
                return Ok(Answer { status, headers, body, hop, redirects, took, secrets, given });
            };
            if redirects >= usize::from(self.redirects) {
                return Err(hop.refused(&format!("more often than {} times (`redirects`)", self.redirects)));
            }
            if next == hop || visited.contains(&next) {
                return Err(hop.refused("in a circle"));
            }
            visited.push(std::mem::replace(&mut hop, next));
        }
    }

    async fn send(&self, client: &Client, hop: &Hop, prepared: &Prepared) -> Result<Response, Failure> {
        let headers = if hop.is_foreign { &prepared.foreign_headers } else { &prepared.headers };
        let mut headers = headers.clone();
        let mut request = client.request(hop.method.clone(), hop.url.clone());
        match &prepared.body {
            Some(body) if hop.with_body => request = request.body(body.clone()),
            Some(_) => drop(headers.remove(CONTENT_TYPE)),
            None => {}
        }
        let sent = tokio::time::timeout(self.bounds.idle, request.headers(headers).send()).await;
        sent.map_err(|_| self.idle(hop))?.map_err(|error| Failure::of(&error, &shown(&hop.url)))
    }

    async fn read(&self, response: Response, hop: &Hop) -> Result<Body, Failure> {
        let place = shown(&hop.url);
        let is_empty = hop.method == Method::HEAD;
        http_body::read(response, self.bounds, is_empty).await.map_err(|fault| match fault {
            http_body::Fault::Idle => self.idle(hop),
            http_body::Fault::Transport(error) => Failure::of(&error, &place),
            http_body::Fault::TooLarge => {
                let limit = self.bounds.max_response;
                let message = format!("the answer of {place} has more than {limit} bytes (`max_response`)");
                Failure::new(ErrorKind::Invalid, "http/too_large", message)
            }
            http_body::Fault::Encoding(fault) => {
                let message = format!("the answer of {place} cannot be read: {fault}");
                Failure::new(ErrorKind::Unavailable, "http/bad_encoding", message)
            }
        })
    }

    async fn client(&self) -> Result<Client, Failure> {
        let may_encrypt = self.url.scheme() == "https" || self.redirects > 0;
        let ca_file = self.ca_file.clone();
        let tls = if may_encrypt {
            let reading = tokio::task::spawn_blocking(move || tls::client(ca_file.as_deref()));
            let read = reading.await.map_err(|error| Failure::unstarted(&error))?;
            read.map_err(|error| Failure::new(error.kind(), error.code(), error.to_string()))?
        } else {
            tls::client_without_roots()
        };
        let guarded = Guarded { lookup: Arc::clone(&self.lookup), allowed: self.allowed.clone() };
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(guarded)
            .connect_timeout(self.connect_timeout)
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .pool_max_idle_per_host(0)
            .referer(false)
            .no_proxy()
            .build();
        client.map_err(|error| Failure::unstarted(&error.without_url()))
    }

    fn idle(&self, hop: &Hop) -> Failure {
        let (place, limit) = (shown(&hop.url), self.bounds.idle);
        Failure::timed_out(format!("{place} sent nothing for {limit:?} (`idle_timeout`)"))
    }

    fn is_expected(&self, status: StatusCode) -> bool {
        self.expect_status.iter().any(|expected| expected.fits(status))
    }

    fn conclude(&self, answer: &Answer, ctx: &RunContext) -> Result<Output, JobError> {
        let Some(fault) = self.fault_in(answer) else { return Ok(answer.output()) };
        let error = match http_status::meaning(answer.status, &answer.headers, ctx.clock().now()) {
            Meaning::Snooze(wait) => JobError::snooze(wait),
            Meaning::Retry => JobError::retry(fault),
            Meaning::Abort => JobError::abort(fault),
        };
        Err(error.with_output(answer.output()))
    }

    /// What is wrong with the status of an answer.
    pub(crate) fn fault_in(&self, answer: &Answer) -> Option<Error> {
        if self.is_expected(answer.status) {
            return None;
        }
        let expected: Vec<String> = self.expect_status.iter().map(ToString::to_string).collect();
        let (place, status) = (shown(&answer.hop.url), answer.status);
        let mut message =
            format!("{} {place} answered {status}, expected {}", answer.hop.method, expected.join(", "));
        if status.is_redirection() && self.redirects == 0 {
            message.push_str("; `redirects` says how many are followed");
        }
        Some(Error::unavailable("http/unexpected_status", answer.secrets.hide(&message)))
    }
}

#[async_trait]
impl Job for Http {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        match ctx.unless_cancelled(self.exchange(ctx)).await {
            Ok(answer) => self.conclude(&answer?, ctx),
            Err(reason) => Err(JobError::retry(format!("ended by the scheduler: {}", reason.as_str()))),
        }
    }

    fn check(&self) -> Vec<ArgsError> {
        let ca_file = self.ca_file.as_deref().and_then(tls::bad_ca_file);
        let missing = self.values.iter().filter_map(|(place, value)| value.missing(place.clone()));
        ca_file.into_iter().chain(missing).collect()
    }
}

fn read_url(text: &str, allowed: &Allowed) -> Result<Url, ArgsError> {
    http_target::parse(text, allowed).map_err(|fault| match fault {
        Fault::Bad(fault, help) => ArgsError::new("/url", fault).with_help(help),
        Fault::Refused(refused) => ArgsError::new("/url", refused.to_string()).with_help(refused.help()),
    })
}
