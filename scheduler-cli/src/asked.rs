//! A run that is asked for from outside: how it is to be made, what was answered, and the wait for its end.

use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use scheduler_core::{
    Adhoc, Clock, Enqueued, Name, Order, Outage, Priority, Run, RunId, RunState, Spelled, SystemClock, Tier,
    Timestamp, TriggerRequest, Unique, UniqueUntil,
};
use serde::Serialize;
use serde_json::Value;

use crate::command_line::{duration, word};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format, OutputFlag};
use crate::outside::{self, Outside};
use crate::relative::relative;
use crate::toml_file;

/// How often a run that is waited for is looked at.
const GLANCE: Duration = Duration::from_millis(100);
/// How often one of an engine's, which is asked over the network and begins no run sooner than that.
const ENGINE_GLANCE: Duration = Duration::from_secs(1);

/// How a run is to be made.
#[derive(Debug, Args)]
pub(crate) struct RequestFlags {
    /// A parameter of the run; may be given several times.
    #[arg(long = "param", value_name = "KEY=VALUE", value_parser = param)]
    pub(crate) params: Vec<(String, Value)>,
    /// A key: the same task and key is the same run, however often it is asked for.
    #[arg(long, value_name = "TEXT", value_parser = key)]
    key: Option<String>,
    /// When, in RFC 3339; at once unless given.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// How long from now, such as 10m.
    #[arg(long = "in", value_name = "DURATION", value_parser = duration, conflicts_with = "at")]
    after: Option<Duration>,
    /// From 0 to 9, the highest first; that of the task unless given.
    #[arg(long, value_name = "LEVEL", value_parser = priority)]
    priority: Option<Priority>,
    /// The queue; that of the task unless given.
    #[arg(long, value_name = "QUEUE")]
    queue: Option<Name>,
    #[command(flatten)]
    unique: UniqueFlags,
}

/// How the run keeps others of its kind out, in place of its task's way.
#[derive(Debug, Args)]
struct UniqueFlags {
    /// One at a time of the runs of the task that are asked for like this: while another one has not ended, the answer is
    /// that one.
    #[arg(long)]
    unique: bool,
    /// The same of the runs with the same value of this parameter.
    #[arg(long, value_name = "PARAM", value_parser = NonEmptyStringValueParser::new())]
    unique_by: Option<String>,
    /// How long this run keeps later ones out from now on, such as 10m, also when it has succeeded meanwhile.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    unique_for: Option<Duration>,
    /// Until when this run keeps later ones out.
    #[arg(long, value_name = "WHEN", value_parser = word::<UniqueUntil>(UniqueUntil::ALL.iter().map(|until| until.as_str())))]
    unique_until: Option<UniqueUntil>,
}

impl UniqueFlags {
    fn unique(&self) -> Option<Unique> {
        let Self { unique: is_asked_for, unique_by, unique_for, unique_until } = self;
        let is_any = *is_asked_for || unique_by.is_some() || unique_for.is_some() || unique_until.is_some();
        is_any.then(|| {
            let mut unique = Unique::default();
            (unique.param, unique.until, unique.window) = (unique_by.clone(), *unique_until, *unique_for);
            unique
        })
    }
}

/// Whether to wait for the run, and for how long.
#[derive(Debug, Args)]
pub(crate) struct WaitFlags {
    /// Waits until the run has ended; the exit code is 0 only if it succeeded.
    #[arg(long)]
    wait: bool,
    /// Gives up waiting after this time, with exit code 124; the run goes on.
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "wait")]
    timeout: Option<Duration>,
}

/// What became of the wish.
#[derive(Debug, Serialize)]
struct Report<'a> {
    /// The task, or the job that runs without one.
    task: &'a Name,
    adhoc: bool,
    run_id: RunId,
    /// Whether the run is new.
    enqueued: &'static str,
    backend: &'a Name,
    tier: Option<Tier>,
    due: Timestamp,
    /// The run as it is when it is no longer waited for.
    run: Option<&'a Run>,
}

/// Asks for one run, waits for it on request, and tells what became of it.
pub(crate) async fn ask(
    outside: &Outside,
    order: Order,
    wait: &WaitFlags,
    output: OutputFlag,
) -> Result<Exit, Failure> {
    let backend = taken_by(outside, &order)?;
    outside.prepare()?;
    let now = Timestamp::from(std::time::SystemTime::now());
    let (task, request, adhoc) = match &order {
        Order::Task(task, request) => (task, request, false),
        Order::Job(Adhoc { job, .. }, request) => (job, request, true),
    };
    let enqueued = match &order {
        // Another tier may take over, if the task allows that.
        Order::Task(task, request) => outside.scheduler.trigger(task, request.clone()).await?,
        Order::Job(job, request) => outside.scheduler.run_job(job.clone(), request.clone()).await?,
    };
    let tier = outside.tier(&backend);
    let run_id = enqueued.run_id();
    let due = match enqueued {
        Enqueued::Inserted(_) => request.at.unwrap_or(now),
        // It may have been forgotten, and keeps others out all the same.
        Enqueued::Duplicate(_) => outside.run(run_id).await.map_or(now, |run| run.fire_time),
    };
    let ended = wait.ended(outside, run_id).await.map_err(|failure| match enqueued {
        Enqueued::Duplicate(_) if failure.exit == Exit::NotFound => forgotten(failure, run_id),
        Enqueued::Duplicate(_) | Enqueued::Inserted(_) => failure,
    })?;
    let run = ended.as_ref();
    let report = Report { task, adhoc, run_id, enqueued: told(enqueued), backend: &backend, tier, due, run };
    output::one(output.format, &report, || report.text(now))?;
    Ok(wait.exit(run, output.format))
}

/// The backend that would take a run from outside.
///
/// # Errors
/// What the scheduler refuses an order for; `backend/not_kept_outside` with what to do instead.
pub(crate) fn taken_by(outside: &Outside, order: &Order) -> Result<Name, Failure> {
    let backend = outside.scheduler.check_order(order)?;
    if outside.keeps(&backend) {
        return Ok(backend);
    }
    let (subject, help) = match order {
        Order::Task(task, _) => (
            format!("task `{task}`"),
            format!(
                "`scheduler exec {task}` runs it once, here and now; with tier = \"queue\" it can be asked for"
            ),
        ),
        Order::Job(Adhoc { job, .. }, _) => {
            (format!("job `{job}`"), "configure a backend of the queue tier".to_owned())
        }
    };
    Err(outside::not_outside(&subject, &backend, help))
}

impl RequestFlags {
    pub(crate) fn request(&self, now: Timestamp) -> TriggerRequest {
        let mut request = TriggerRequest::now();
        request.at = self.at.or_else(|| self.after.map(|after| now + after));
        request.key.clone_from(&self.key);
        request.params = self.params.iter().cloned().collect();
        request.priority = self.priority;
        request.queue.clone_from(&self.queue);
        request.unique = self.unique.unique();
        request
    }
}

impl WaitFlags {
    /// The run when it has ended, or as it is when that took too long; `None` when it is not waited for.
    async fn ended(&self, outside: &Outside, id: RunId) -> Result<Option<Run>, Failure> {
        if !self.wait {
            return Ok(None);
        }
        let clock = SystemClock::new();
        let until = self.timeout.map(|timeout| clock.monotonic().saturating_add(timeout));
        let is_over = || until.is_some_and(|until| until <= clock.monotonic());
        let mut outage = Outage::default();
        loop {
            let was_over = is_over();
            let run = match outside.run(id).await {
                Ok(run) => run,
                Err(failure) if failure.exit != Exit::Unreachable => return Err(failure),
                Err(_) if outage.is_borne(&clock, until).await => continue,
                Err(mut failure) => {
                    if is_over() {
                        failure.exit = Exit::TimedOut;
                    }
                    return Err(lost(failure, id));
                }
            };
            outage.ends();
            if run.state.is_end() || was_over {
                return Ok(Some(run));
            }
            let glance = if run.tier == Tier::Workflow { ENGINE_GLANCE } else { GLANCE };
            let next = clock.monotonic().saturating_add(glance);
            clock.sleep_until(until.map_or(next, |until| until.min(next))).await;
        }
    }

    fn exit(&self, run: Option<&Run>, format: Format) -> Exit {
        match run {
            None => Exit::Done,
            Some(run) if run.state == RunState::Succeeded => Exit::Done,
            Some(run) if run.state.is_end() => Exit::Findings,
            Some(run) => {
                if format == Format::Table {
                    let state = run.state;
                    eprintln!(
                        "run {} is {state} and goes on; `scheduler show {}` follows it",
                        run.id, run.id
                    );
                }
                Exit::TimedOut
            }
        }
    }
}

/// A run that was taken can no longer be followed, because what keeps it does not answer.
fn lost(mut failure: Failure, id: RunId) -> Failure {
    let summary = &mut failure.summary;
    summary.message = format!("run {id} was taken, and cannot be followed: {}", summary.message);
    failure.with_help(format!("it goes on; `scheduler show {id}` tells of it as soon as that can be asked"))
}

/// A run keeps another one out, and cannot be waited for, because nobody knows it any more.
fn forgotten(mut failure: Failure, id: RunId) -> Failure {
    failure.summary.message = format!("run {id} was there already, and history has forgotten how it ended");
    failure.with_help(
        "a run that succeeded keeps others out for the time that its `unique` says; nothing was added",
    )
}

/// Whether a run is new, as JSON says it.
pub(crate) fn told(enqueued: Enqueued) -> &'static str {
    match enqueued {
        Enqueued::Inserted(_) => "inserted",
        Enqueued::Duplicate(_) => "duplicate",
    }
}

impl Report<'_> {
    fn text(&self, now: Timestamp) -> String {
        let Self { task, run_id, backend, .. } = self;
        let when = if self.due > now { format!(", due {}", relative(self.due, now)) } else { String::new() };
        let taken = match self.enqueued {
            "duplicate" => format!("{task}: run {run_id} was there already on {backend}\n"),
            _ => format!("{task}: run {run_id} enqueued on {backend}{when}\n"),
        };
        let Some(run) = self.run.filter(|run| run.state.is_end()) else { return taken };
        let reason = run.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let took = run.started_at.zip(run.finished_at).map(|(start, end)| Spelled(end.since(start)));
        let took = took.map(|took| format!(" after {took}")).unwrap_or_default();
        format!("{taken}{task} {}{took}{reason}\n", run.state)
    }
}

/// Reads `KEY=VALUE`.
pub(crate) fn param(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    if key.is_empty() {
        return Err("the key is empty; write KEY=VALUE".to_owned());
    }
    // A value is read as in an environment variable: as TOML, or else it is the text itself.
    Ok((key.to_owned(), toml_file::parse_value(value).unwrap_or_else(|| value.into())))
}

/// Reads a key. An empty one is mostly a variable that is not set, and would make all runs of a task the same.
pub(crate) fn key(text: &str) -> Result<String, String> {
    match text.is_empty() {
        true => Err("the key is empty; leave it out, or name what makes the run the same".to_owned()),
        false => Ok(text.to_owned()),
    }
}

fn priority(text: &str) -> Result<Priority, String> {
    let level = text.parse().ok().and_then(Priority::new);
    level.ok_or_else(|| "write a number from 0 to 9, the highest first; 5 is the default".to_owned())
}
