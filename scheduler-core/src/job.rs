//! Code that does work: the [`Job`] trait, how a job fails, and how it is described.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, Name, Result, RunContext, Tier};

/// What a successful attempt leaves in history; `null` for nothing. An object may have a text `summary`, a line that is
/// shown wherever the end of the run is told, see [`Run::summary`](crate::Run::summary).
pub type Output = Value;

/// A unit of work, made from a task's args.
///
/// One instance may run several attempts at once; what differs between them is in the [`RunContext`].
#[async_trait]
pub trait Job: Send + Sync + 'static {
    /// Does the work once.
    ///
    /// It should end soon after `ctx.cancelled()` resolves; after [`wind_down`](Self::wind_down) its future is
    /// dropped.
    ///
    /// # Errors
    /// Any standard error means "try again"; see [`JobError`] for the other verdicts.
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError>;

    /// How long it may take to end after it was told to stop. Five seconds unless the job says otherwise.
    fn wind_down(&self) -> Duration {
        Duration::from_secs(5)
    }

    /// Whether it reads [`Scheduler::tally`](crate::Scheduler::tally): then runs are counted from when its task is
    /// accepted.
    fn reads_tally(&self) -> bool {
        false
    }

    /// Looks, without side effects, whether this job could run on this machine: a program that must exist, a
    /// folder that must be readable. Asked when a task is checked or submitted, not before each attempt.
    fn check(&self) -> Vec<ArgsError> {
        Vec::new()
    }
}

/// Why an attempt failed, and what should happen next.
///
/// `?` on any standard error makes a *retry*. The type is opaque and no `std::error::Error` itself, which is
/// what lets `?` work; the cause is at [`source`](Self::source).
pub struct JobError {
    wish: Wish,
    source: Box<dyn StdError + Send + Sync>,
    output: Output,
}

/// What the job wishes to happen next; the retry verdict decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Retry,
    Abort,
    Snooze(Duration),
}

impl JobError {
    /// The attempt failed; another one may succeed.
    pub fn retry(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::from_boxed(cause.into())
    }

    /// The attempt failed, and so would every other one.
    pub fn abort(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { wish: Wish::Abort, ..Self::from_boxed(cause.into()) }
    }

    /// Not now: run again after `delay`, without spending an attempt.
    pub fn snooze(delay: Duration) -> Self {
        Self { wish: Wish::Snooze(delay), ..Self::retry(format!("snoozed for {delay:?}")) }
    }

    /// The same as [`retry`](Self::retry), for an error that is boxed already.
    pub fn from_boxed(cause: Box<dyn StdError + Send + Sync>) -> Self {
        Self { wish: Wish::Retry, source: cause, output: Value::Null }
    }

    /// The same error with what the job had to show for it; history keeps that of the last attempt.
    #[must_use]
    pub fn with_output(mut self, output: Output) -> Self {
        self.output = output;
        self
    }

    /// What the job had to show; `null` for nothing.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// Whether another attempt may succeed, by what the job says and by the kind of the cause.
    pub fn is_transient(&self) -> bool {
        self.wish != Wish::Abort && self.own_cause().is_none_or(Error::is_transient)
    }

    /// What caused it.
    pub fn source(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.source
    }

    pub(crate) fn wish(&self) -> Wish {
        self.wish
    }

    /// Our own error in the chain of causes, if there is one.
    pub(crate) fn own_cause(&self) -> Option<&Error> {
        let mut cause: Option<&(dyn StdError + 'static)> = Some(&*self.source);
        while let Some(error) = cause {
            if let Some(own) = error.downcast_ref::<Error>() {
                return Some(own);
            }
            cause = error.source();
        }
        None
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for JobError {
    fn from(cause: E) -> Self {
        Self::retry(cause)
    }
}

impl fmt::Display for JobError {
    /// The cause and its causes, joined by colons.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        let mut cause = self.source.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.wish)
    }
}

/// Turns an error into one that is not tried again: `parse(text).or_abort()?`.
pub trait OrAbort<T> {
    /// Makes the error an abort.
    ///
    /// # Errors
    /// The same error, as [`JobError::abort`].
    fn or_abort(self) -> Result<T, JobError>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> OrAbort<T> for Result<T, E> {
    fn or_abort(self) -> Result<T, JobError> {
        self.map_err(JobError::abort)
    }
}

/// One fault in a task's args.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgsError {
    /// Where: a JSON pointer (RFC 6901) into the args, empty for the whole.
    pub pointer: String,
    /// What is wrong, naming the value.
    pub message: String,
    /// The next step, if there is an obvious one.
    pub help: Option<String>,
}

impl ArgsError {
    /// A fault at `pointer`.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into(), help: None }
    }

    /// Adds the next step.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for ArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pointer.as_str() {
            "" => write!(f, "{}", self.message)?,
            pointer => write!(f, "args{}: {}", pointer.replace('/', "."), self.message)?,
        }
        self.help.iter().try_for_each(|help| write!(f, " ({help})"))
    }
}

/// The time limit of an attempt without a task, which has nobody who set one.
const ADHOC_LIMIT: Duration = Duration::from_secs(3_600);

/// What is known about a job without running it: its name, its args, and where it may run.
#[derive(Clone)]
pub struct JobDescriptor {
    name: Name,
    summary: String,
    tiers: Vec<Tier>,
    adhoc: bool,
    adhoc_limit: Duration,
    has_own_limit: bool,
    needs_backends: bool,
    args_schema: Value,
    build: Arc<BuildJob>,
}

type BuildJob = dyn Fn(&Value) -> Result<Arc<dyn Job>, Vec<ArgsError>> + Send + Sync;

impl JobDescriptor {
    /// Describes a job that `build` makes from its args. It may run on every tier, but not ad hoc.
    ///
    /// # Panics
    /// When `name` is no [`Name`]: it is written in the source, so that is a fault of the program.
    pub fn new(
        name: &str,
        summary: impl Into<String>,
        build: impl Fn(&Value) -> Result<Arc<dyn Job>, Vec<ArgsError>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: Name::new(name).unwrap_or_else(|error| panic!("{error}")),
            summary: summary.into(),
            tiers: Tier::ALL.to_vec(),
            adhoc: false,
            adhoc_limit: ADHOC_LIMIT,
            has_own_limit: false,
            needs_backends: false,
            args_schema: Value::Bool(true),
            build: Arc::new(build),
        }
    }

    /// Describes a job whose args are read into `A` and turned into a job by `make`.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn typed<A, J>(
        name: &str,
        summary: impl Into<String>,
        make: impl Fn(A) -> Result<J, Vec<ArgsError>> + Send + Sync + 'static,
    ) -> Self
    where
        A: DeserializeOwned,
        J: Job,
    {
        Self::new(name, summary, move |args| {
            let args = serde_path_to_error::deserialize(args).map_err(|error| vec![bad_args(&error)])?;
            Ok(Arc::new(make(args)?))
        })
    }

    /// Describes a job without args that calls `run` for each attempt.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn function<F, R>(name: &str, summary: impl Into<String>, run: F) -> Self
    where
        F: Fn(RunContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Output, JobError>> + Send + 'static,
    {
        let job: Arc<dyn Job> = Arc::new(FunctionJob(run));
        let schema = serde_json::json!({"type": "object", "additionalProperties": false});
        Self::new(name, summary, move |args| match args {
            Value::Null => Ok(Arc::clone(&job)),
            Value::Object(map) if map.is_empty() => Ok(Arc::clone(&job)),
            Value::Object(map) => Err(map
                .keys()
                .map(|key| {
                    ArgsError::new(format!("/{key}"), format!("unknown key `{key}`; this job takes no args"))
                })
                .collect()),
            _ => Err(vec![ArgsError::new("", "this job takes no args")]),
        })
        .with_schema(schema)
    }

    /// Restricts the tiers it can run on.
    #[must_use]
    pub fn on(mut self, tiers: &[Tier]) -> Self {
        self.tiers = tiers.to_vec();
        self
    }

    /// Lets it run from a job name and args alone, without a task that somebody configured.
    #[must_use]
    pub fn adhoc(mut self) -> Self {
        self.adhoc = true;
        self
    }

    /// Sets the time limit of an attempt without a task. One hour unless set.
    #[must_use]
    pub fn with_adhoc_limit(mut self, limit: Duration) -> Self {
        self.adhoc_limit = limit;
        self
    }

    /// Adds the JSON Schema of its args.
    #[must_use]
    pub fn with_schema(mut self, args_schema: Value) -> Self {
        self.args_schema = args_schema;
        self
    }

    /// The name under which tasks refer to it.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// One line on what it does.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// The tiers it can run on.
    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    /// Says that every attempt ends by itself within limits of its own, so that a task needs no `timeout`.
    #[must_use]
    pub fn with_own_limit(mut self) -> Self {
        self.has_own_limit = true;
        self
    }

    /// Whether every attempt ends by itself within limits of its own.
    pub fn has_own_limit(&self) -> bool {
        self.has_own_limit
    }

    /// Says that it acts, through [`RunContext::scheduler`], on what backends keep outside of a process: where it
    /// runs without a scheduler that was started, the backends are connected for it.
    #[must_use]
    pub fn with_backends(mut self) -> Self {
        self.needs_backends = true;
        self
    }

    /// Whether it acts on what backends keep.
    pub fn needs_backends(&self) -> bool {
        self.needs_backends
    }

    /// Whether it may run without a task.
    pub fn is_adhoc(&self) -> bool {
        self.adhoc
    }

    pub(crate) fn set_adhoc(&mut self, is_allowed: bool, limit: Option<Duration>) {
        self.adhoc = is_allowed;
        self.adhoc_limit = limit.unwrap_or(self.adhoc_limit);
    }

    /// The time limit of an attempt without a task.
    pub fn adhoc_limit(&self) -> Duration {
        self.adhoc_limit
    }

    /// The JSON Schema of its args; `true` when it did not give one.
    pub fn args_schema(&self) -> &Value {
        &self.args_schema
    }

    /// Makes the job from its args.
    ///
    /// # Errors
    /// Every fault that could be found, each with its place.
    pub fn build(&self, args: &Value) -> Result<Arc<dyn Job>, Vec<ArgsError>> {
        (self.build)(args)
    }
}

impl fmt::Debug for JobDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobDescriptor")
            .field("name", &self.name)
            .field("tiers", &self.tiers)
            .finish_non_exhaustive()
    }
}

fn bad_args(error: &serde_path_to_error::Error<serde_json::Error>) -> ArgsError {
    let mut pointer = String::new();
    for segment in error.path() {
        match segment {
            serde_path_to_error::Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            serde_path_to_error::Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => {}
        }
    }
    ArgsError::new(pointer, error.inner().to_string())
}

struct FunctionJob<F>(F);

#[async_trait]
impl<F, R> Job for FunctionJob<F>
where
    F: Fn(RunContext) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Output, JobError>> + Send + 'static,
{
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        (self.0)(ctx.clone()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_question_mark_means_retry_and_keeps_the_cause() {
        let attempt = || -> Result<u32, JobError> { Ok("x".parse::<u32>()?) };
        let error = attempt().unwrap_err();
        assert_eq!(error.wish(), Wish::Retry);
        assert_eq!(error.to_string(), "invalid digit found in string");
        assert_eq!("x".parse::<u32>().or_abort().unwrap_err().wish(), Wish::Abort);
    }

    #[test]
    fn wrong_args_are_named_by_pointer() {
        #[derive(serde::Deserialize)]
        struct Args {
            #[serde(rename = "list")]
            _list: Vec<u8>,
        }
        let job = JobDescriptor::typed("count", "counts", |_: Args| -> Result<FunctionJob<_>, _> {
            Ok(FunctionJob(|_| async { Ok(Value::Null) }))
        });

        let faults = job.build(&json!({"list": [1, 2, 900]})).err().unwrap();

        assert_eq!(faults[0].pointer, "/list/2");
        assert!(faults[0].message.contains("900"), "{}", faults[0]);
        assert!(job.build(&json!({"list": []})).is_ok());
    }

    #[test]
    fn a_function_job_refuses_args() {
        let job = JobDescriptor::function("tick", "ticks", |_| async { Ok(Value::Null) });
        assert!(job.build(&Value::Null).is_ok());
        assert_eq!(job.build(&json!({"every": 1})).err().unwrap()[0].pointer, "/every");
    }
}
