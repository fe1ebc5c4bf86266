//! `scheduler exec`: runs a task once, here and now, beside a daemon or without one.
//!
//! It leaves nothing in history. Its exit code is 0 only when the attempt succeeded; one that failed, was
//! cancelled or wants to run later is 1.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::Args;
use scheduler_core::{
    CancelReason, FileStateStore, Output, Printed, RunContext, RunHost, RunId, RunIdentity, Spelled,
    Timestamp, Verdict, attempt, verdict,
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::asked::param;
use crate::checked::{Checked, CheckedTask};
use crate::echo::Echo;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::log::{self, LogFormat};
use crate::origin::printable;
use crate::orphans;
use crate::output::{self, Format, OutputFlag};
use crate::session::Session;
use crate::signals::StopSignals;
use crate::verb_run::build;

/// How often the process that started this one is looked for.
#[cfg(unix)]
const GLANCE: Duration = Duration::from_secs(1);

/// Which task, and which of its runs.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The task.
    task: String,
    /// The run; by default that of --fire-time, or a new one.
    #[arg(long, value_name = "ID")]
    run_id: Option<RunId>,
    /// The instant that the schedule named, in RFC 3339; now unless given.
    #[arg(long, value_name = "TIME")]
    fire_time: Option<Timestamp>,
    /// Which attempt of the run it is.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    attempt: u32,
    /// The process that started this one: when it is gone, the attempt is cancelled.
    #[arg(long, value_name = "PID")]
    parent: Option<u32>,
    /// A parameter of the run; may be given several times.
    #[arg(long = "param", value_name = "KEY=VALUE", value_parser = param)]
    params: Vec<(String, Value)>,
    #[command(flatten)]
    output: OutputFlag,
}

/// What became of the attempt.
#[derive(Debug, Serialize)]
struct Report {
    task: String,
    run_id: RunId,
    attempt: u32,
    fire_time: Timestamp,
    outcome: &'static str,
    reason: Option<String>,
    took_ms: u64,
    output: Output,
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    let checked = session.load()?;
    let task = checked.task(&flags.task)?;
    log::start(LogFormat::of_stderr(), "warn", &checked.settings.timezone, 0)?;
    orphans::sweep();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        Failure::new(Exit::Findings, "process/no_runtime", format!("cannot start a runtime: {error}"))
    })?;
    let is_text = flags.output.format == Format::Table;
    let (echo, printed) = is_text.then(Echo::begin).unzip();
    let ended = runtime.block_on(run(&checked, task, flags, printed.unwrap_or_default()));
    runtime.shutdown_background();
    let was_heard = echo.is_some_and(Echo::end);
    let report = ended?;
    if is_text && !was_heard {
        report.pass_output_on()?;
    }
    output::one(flags.output.format, &report, || report.text())?;
    Ok(if report.outcome == "succeeded" { Exit::Done } else { Exit::Findings })
}

async fn run(
    checked: &Checked,
    task: &CheckedTask,
    flags: &Flags,
    printed: Printed,
) -> Result<Report, Failure> {
    let mut signals = StopSignals::listen()?;
    // It is not started: a job reads history and settings through it, and what backends keep where it says so.
    let scheduler = build(checked, &checked.members)?;
    if checked.registry.job(task.task.job.as_str())?.needs_backends() {
        scheduler.connect().await?;
    }
    let identity = identity(checked, task, flags)?;
    let (run_id, fire_time) = (identity.run_id, identity.fire_time);
    let host = RunHost {
        clock: std::sync::Arc::new(scheduler_core::SystemClock::new()),
        state: std::sync::Arc::new(FileStateStore::new(checked.settings.data_dir.join("state"))),
        scheduler: scheduler.downgrade(),
        printed,
    };
    let context = RunContext::new(identity, host);
    let began = Instant::now();
    let mut work = std::pin::pin!(attempt(&*task.job, &context, task.task.timeout));
    let end = tokio::select! {
        end = &mut work => end,
        () = told_to_end(&mut signals, flags.parent) => {
            context.cancel(CancelReason::Requested);
            tokio::select! {
                end = &mut work => end,
                _ = signals.next() => scheduler_core::AttemptEnd::Cancelled {
                    reason: CancelReason::Requested,
                    output: Value::Null,
                },
            }
        }
    };
    let took = began.elapsed();
    // The last attempt there is: what another one would do is up to whoever counts them.
    let output = end.output().clone();
    let verdict = verdict(end, &task.task.retry, flags.attempt, flags.attempt, run_id.seed());
    let (outcome, reason) = outcome(verdict);
    Ok(Report {
        task: flags.task.clone(),
        run_id,
        attempt: flags.attempt,
        fire_time,
        outcome,
        reason,
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        output,
    })
}

/// Waits for a signal, or for the end of the process that waits for this one.
async fn told_to_end(signals: &mut StopSignals, parent: Option<u32>) {
    tokio::select! {
        _ = signals.next() => {}
        () = parent_gone(parent) => {}
    }
}

/// Who starts this by a program of its own in between, which ends when it likes, is not watched.
#[cfg(unix)]
async fn parent_gone(parent: Option<u32>) {
    let is_there = || std::os::unix::process::parent_id();
    let Some(parent) = parent.filter(|parent| *parent == is_there()) else {
        return std::future::pending().await;
    };
    while is_there() == parent {
        tokio::time::sleep(GLANCE).await;
    }
}

#[cfg(not(unix))]
async fn parent_gone(_: Option<u32>) {
    std::future::pending().await
}

fn identity(checked: &Checked, task: &CheckedTask, flags: &Flags) -> Result<RunIdentity, Failure> {
    let now = Timestamp::from(std::time::SystemTime::now());
    let (namespace, name) = (&checked.settings.namespace, &task.task.name);
    let scheduled = flags.fire_time.map(|fire_time| RunId::scheduled(namespace, name, fire_time));
    let Some(placement) = &task.placement else {
        return Err(Failure::new(Exit::Usage, "placement/no_backend", format!("no backend runs `{name}`")));
    };
    Ok(RunIdentity {
        namespace: namespace.clone(),
        task: name.clone(),
        tier: placement.tier,
        backend: placement.backend.clone(),
        run_id: flags.run_id.or(scheduled).unwrap_or_else(|| RunId::manual(now)),
        fire_time: flags.fire_time.unwrap_or(now),
        attempt: flags.attempt,
        // It rises from call to call, as a fencing token must.
        fence: now.as_millis().unsigned_abs(),
        params: flags.params.iter().cloned().collect::<Map<_, _>>(),
    })
}

fn outcome(verdict: Verdict) -> (&'static str, Option<String>) {
    match verdict {
        Verdict::Succeed(_) => ("succeeded", None),
        Verdict::Fail { error } | Verdict::Retry { error, .. } => ("failed", Some(error)),
        Verdict::Snooze { after } => ("snoozed", Some(format!("asks to run again in {}", Spelled(after)))),
        Verdict::Cancel(reason) => ("cancelled", Some(reason.as_str().to_owned())),
    }
}

impl Report {
    /// Passes on what a program printed, each stream to its own.
    fn pass_output_on(&self) -> Result<(), Failure> {
        let stream = |name| self.output.get(name).and_then(Value::as_str);
        if let (Some(stdout), Some(stderr)) = (stream("stdout"), stream("stderr")) {
            // Nobody is left to complain to about a stderr that is closed.
            let _ = std::io::stderr().write_all(stderr.as_bytes());
            return output::print(stdout);
        }
        match &self.output {
            Value::Null => Ok(()),
            Value::String(text) => output::print(&format!("{text}\n")),
            other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                output::print(&format!("{other:#}\n"))
            }
        }
    }

    fn text(&self) -> String {
        let took = Spelled(Duration::from_millis(self.took_ms));
        let reason =
            self.reason.as_ref().map(|reason| format!(": {}", printable(reason))).unwrap_or_default();
        let Self { task, run_id, attempt, outcome, .. } = self;
        format!("{task} {outcome} after {took}{reason}  (run {run_id}, attempt {attempt})\n")
    }
}
