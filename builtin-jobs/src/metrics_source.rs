//! One look at one source: at most for as long as it may take, and whatever goes wrong is its alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use scheduler_core::{ArgsError, Error, Job, JobError, RunContext};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::exec::Exec;
use crate::http::Http;
use crate::http_secrets::Secrets;
use crate::metrics_sample::Sample;
use crate::metrics_scheduler::Counted;
use crate::metrics_source_args::LARGEST;
use crate::metrics_system::System;
use crate::text_or_secret::TextOrSecret;
use crate::{metrics_scheduler, metrics_text, wildcard};

/// What kind a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// This machine, and this process.
    System,
    /// The scheduler's tasks and backends.
    Scheduler,
    /// An endpoint that answers in the text format of Prometheus.
    Scrape,
    /// A program that prints numbers.
    Command,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Scheduler => "scheduler",
            Self::Scrape => "scrape",
            Self::Command => "command",
        }
    }

    /// The keys that it needs, and those that it takes besides.
    pub(crate) fn keys(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::System | Self::Scheduler => (&[], &[]),
            Self::Scrape => (&["url"], &["headers", "ca_file"]),
            Self::Command => (&["program"], &["args", "env"]),
        }
    }
}

/// A source in a task.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) limit: Duration,
    pub(crate) max_series: usize,
    /// Patterns of the metrics that are wanted.
    pub(crate) only: Option<Vec<String>>,
    pub(crate) source: Source,
}

/// Where numbers come from.
#[derive(Debug)]
pub(crate) enum Source {
    System(Arc<System>),
    Scheduler,
    Scrape(Box<Http>),
    /// With the values of its variables, of which some are secrets.
    Command(Box<Exec>, Vec<TextOrSecret>),
}

/// What a look brought.
#[derive(Debug, Default)]
pub(crate) struct Look {
    pub(crate) samples: Vec<Sample>,
    /// What of it is missing, if not all of it.
    pub(crate) missing: Vec<String>,
    pub(crate) fault: Option<Fault>,
    /// Runs that the scheduler counted.
    pub(crate) counted: Option<Counted>,
    pub(crate) took: Duration,
}

/// Why a look brought nothing.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) message: String,
    /// Whether another attempt may bring more.
    pub(crate) is_transient: bool,
}

impl Named {
    /// Looks once, for at most the limit.
    pub(crate) async fn look(&self, ctx: &RunContext) -> Look {
        let began = Instant::now();
        let looked = tokio::time::timeout(self.limit, self.source.look(ctx)).await;
        let mut look = looked.unwrap_or_else(|_| {
            let message = format!("no answer within {:?}", self.limit);
            Look { fault: Some(Fault { message, is_transient: true }), ..Look::default() }
        });
        if matches!(self.source, Source::Scrape(_) | Source::Command(..)) {
            look.samples = look.samples.into_iter().map(|sample| sample.labelled(&self.name)).collect();
        }
        look.samples.retain(|sample| self.wants(&sample.name));
        look.took = began.elapsed();
        look
    }

    pub(crate) fn wants(&self, metric: &str) -> bool {
        let is_like = |pattern: &String| wildcard::is_like(pattern.as_bytes(), metric.as_bytes());
        self.only.as_ref().is_none_or(|patterns| patterns.iter().any(is_like))
    }

    pub(crate) fn check(&self) -> Vec<ArgsError> {
        match &self.source {
            Source::System(_) | Source::Scheduler => Vec::new(),
            Source::Scrape(http) => http.check(),
            Source::Command(exec, _) => exec.check(),
        }
    }
}

impl Source {
    async fn look(&self, ctx: &RunContext) -> Look {
        match self {
            Self::System(system) => {
                let system = Arc::clone(system);
                // What hangs on a disk that does not answer outlives the limit, on a thread of its own.
                match tokio::task::spawn_blocking(move || system.look()).await {
                    Ok(Some((samples, missing))) => Look { samples, missing, ..Look::default() },
                    Ok(None) => Look::at_fault("an earlier look at it has not ended".to_owned(), true),
                    Err(error) => Look::at_fault(format!("it could not be looked at: {error}"), false),
                }
            }
            Self::Scheduler => metrics_scheduler::look(ctx).await,
            Self::Scrape(http) => match http.exchange(ctx).await {
                Ok(answer) => {
                    if let Some(fault) = http.fault_in(&answer) {
                        return Look::at_fault(fault.to_string(), is_passing(answer.status.as_u16()));
                    }
                    match answer.body.text() {
                        Some(text) => {
                            let read = metrics_text::read(&answer.given.hide(text));
                            Look::of(read.map_err(|fault| answer.secrets.hide(&fault)))
                        }
                        None => Look::at_fault("the answer is no text".to_owned(), false),
                    }
                }
                Err(error) => Look::failed(&error, &Secrets::default()),
            },
            Self::Command(exec, env) => match secrets(env) {
                Ok(secrets) => command(exec, &secrets, ctx).await,
                Err(error) => Look::at_fault(error.to_string(), error.is_transient()),
            },
        }
    }
}

async fn command(exec: &Exec, secrets: &Secrets, ctx: &RunContext) -> Look {
    match exec.run(ctx).await {
        Ok(output) => {
            let printed = output["stdout"].as_str().unwrap_or_default();
            if printed.len() > LARGEST {
                return Look::at_fault(format!("it printed more than {LARGEST} bytes"), false);
            }
            Look::of(metrics_text::read_printed(&secrets.hide(printed)))
        }
        Err(error) => Look::failed(&error, secrets),
    }
}

/// The secrets among the values of variables, which a program may print.
fn secrets(env: &[TextOrSecret]) -> Result<Secrets, Error> {
    let mut secrets = Secrets::default();
    for value in env.iter().filter(|value| value.is_secret()) {
        secrets.add(&value.read()?);
    }
    Ok(secrets)
}

/// Whether a server that answers so may answer otherwise soon.
fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..)
}

impl Look {
    fn of(read: Result<Vec<Sample>, String>) -> Self {
        match read {
            Ok(samples) => Self { samples, ..Self::default() },
            Err(fault) => Self::at_fault(fault, false),
        }
    }

    pub(crate) fn at_fault(message: String, is_transient: bool) -> Self {
        Self { fault: Some(Fault { message, is_transient }), ..Self::default() }
    }

    fn failed(error: &JobError, secrets: &Secrets) -> Self {
        Self::at_fault(secrets.hide(&error.to_string()), error.is_transient())
    }
}
