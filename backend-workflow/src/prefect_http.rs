//! Calls of Prefect's API: each is one request, or a few when the server cannot answer for a moment.
//!
//! A request is repeated only where its repetition does no harm; what may not be done twice says so with
//! [`Call::once`]. What an answer with a meaning says is left to the caller.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Method;
use scheduler_core::{Error, Result};
use serde_json::Value;
use tokio::time::Instant;

use crate::prefect::PrefectSettings;
use crate::prefect_answer::Reply;
use crate::prefect_breaker::{Breaker, Patience};
use crate::prefect_exchange::{Answer, Exchange};
use crate::prefect_look::LookLimit;
use crate::prefect_verdict::{Fault, Verdict, judge};

/// The longest wait between two requests of one call, unless the server asks for more.
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// The longest one for what is over in a moment: who waits longer finds others served.
const BRIEF_WAIT: Duration = Duration::from_secs(1);

/// What is asked of the API.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// The parts of the path; an empty last one is the slash at its end.
    pub(crate) path: Vec<String>,
    pub(crate) body: Option<Value>,
    is_once: bool,
    is_look: bool,
}

impl Call {
    pub(crate) fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path, None)
    }

    pub(crate) fn post(path: &[&str], body: Value) -> Self {
        Self::new(Method::POST, path, Some(body))
    }

    pub(crate) fn patch(path: &[&str], body: Value) -> Self {
        Self::new(Method::PATCH, path, Some(body))
    }

    pub(crate) fn delete(path: &[&str]) -> Self {
        Self::new(Method::DELETE, path, None)
    }

    fn new(method: Method, path: &[&str], body: Option<Value>) -> Self {
        let path = path.iter().map(|part| (*part).to_owned()).collect();
        Self { method, path, body, is_once: false, is_look: false }
    }

    /// One of many that ask how things stand: given up early and sent again, as [`LookLimit`] says.
    pub(crate) fn look(mut self) -> Self {
        self.is_look = true;
        self
    }

    /// Not to be sent again once it may have arrived.
    pub(crate) fn once(mut self) -> Self {
        self.is_once = true;
        self
    }
}

/// Makes calls.
#[derive(Debug)]
pub(crate) struct Client {
    exchange: Exchange,
    breaker: Breaker,
    attempts: u32,
    patience: Duration,
    backoff: Duration,
    repeated: AtomicU64,
    timeout: Duration,
    look_limit: LookLimit,
}

impl Client {
    pub(crate) fn new(settings: PrefectSettings, breaker: Patience) -> Result<Self> {
        let (attempts, patience, backoff) = (settings.attempts, settings.patience, settings.backoff);
        let timeout = settings.timeout;
        let exchange = Exchange::new(settings)?;
        Ok(Self {
            exchange,
            breaker: Breaker::new(breaker),
            attempts,
            patience,
            backoff,
            repeated: AtomicU64::new(0),
            timeout,
            look_limit: LookLimit::new(timeout),
        })
    }

    pub(crate) fn base(&self) -> &reqwest::Url {
        self.exchange.base()
    }

    pub(crate) fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    pub(crate) fn is_bearer(&self) -> bool {
        self.exchange.is_bearer()
    }

    pub(crate) fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// Sends the request until there is an answer with a meaning: what was asked for, or that the request is
    /// wrong, names nothing, or is in conflict with what there is.
    ///
    /// # Errors
    /// Those of kind `Unavailable` and `Unauthorized`.
    pub(crate) async fn call(&self, call: &Call) -> Result<Reply> {
        let began = Instant::now();
        let mut last: Option<Error> = None;
        let mut sent = 0;
        let mut renewed_token = false;
        loop {
            let permit = match self.breaker.admit(Instant::now()) {
                Ok(permit) => permit,
                Err(open) => return Err(last.unwrap_or(open)),
            };
            sent += 1;
            let verdict = judge(self.send(call).await, &self.exchange, call);
            let (error, after, longest) = match verdict {
                Verdict::Meant(mut reply) => {
                    permit.answered();
                    reply.is_repeated = sent > 1;
                    return Ok(reply);
                }
                Verdict::StaleToken(error) => {
                    permit.answered();
                    if renewed_token {
                        return Err(error);
                    }
                    renewed_token = true;
                    sent -= 1;
                    self.exchange.forget_token();
                    continue;
                }
                Verdict::Fault(fault) => {
                    if fault.is_silence {
                        permit.failed(&fault.error, Instant::now());
                    } else {
                        permit.answered();
                    }
                    let may_repeat = fault.is_passing && !(call.is_once && fault.may_have_arrived);
                    if !may_repeat || sent >= self.attempts {
                        return Err(fault.error);
                    }
                    (fault.error, fault.after, if fault.is_brief { BRIEF_WAIT } else { LONGEST_WAIT })
                }
            };
            let wait = after.unwrap_or_default().max(self.pause(sent, longest));
            if began.elapsed() + wait >= self.patience {
                return Err(error);
            }
            tracing::debug!(path = call.path.join("/"), sent, ?wait, %error, "the request is sent again");
            last = Some(error);
            self.repeated.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(wait).await;
        }
    }

    async fn send(&self, call: &Call) -> Result<Answer, Fault> {
        if !call.is_look {
            return self.exchange.run(call, self.timeout).await;
        }
        let (limit, began) = (self.look_limit.get(), Instant::now());
        let answer = self.exchange.run(call, limit).await;
        match &answer {
            Ok(_) => self.look_limit.answered(began.elapsed()),
            Err(fault) if fault.is_silence && began.elapsed() >= limit => self.look_limit.passed(limit),
            Err(_) => {}
        }
        answer
    }

    /// Twice as long with each request, less up to a half, so that many that failed together part.
    fn pause(&self, sent: u32, longest: Duration) -> Duration {
        let whole = self.backoff.saturating_mul(1 << (sent - 1).min(16)).min(longest);
        whole.mul_f64(1.0 - 0.5 * chance())
    }
}

/// A number from 0 up to 1.
fn chance() -> f64 {
    f64::from(u32::try_from(fresh() >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

/// A number that nobody else has drawn: the keys of the standard library's maps are random enough for that.
pub(crate) fn fresh() -> u64 {
    RandomState::new().build_hasher().finish()
}
