//! `scheduler run`: the daemon. Nothing starts before the whole configuration was found sound.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use scheduler_core::{Drained, Error, RunFilter, RunId, RunState, Scheduler, SystemClock, Timestamp};
use tracing::{error, info, warn};

use crate::checked::Checked;
use crate::command_line::duration;
use crate::data_dir::{DataDirLock, Holder};
use crate::diagnostic::{Diagnostic, Severity};
use crate::drain_wish::{Answer, Wish};
use crate::exit::Exit;
use crate::failure::{Failure, counted};
use crate::log::{self, LogFormat};
use crate::members::Member;
use crate::origin::Origin;
use crate::orphans;
use crate::relative::rough;
use crate::session::Session;
use crate::signals::StopSignals;
use crate::tally::Tally;
use crate::verb_check::{print_warnings, summary};

/// More abandoned runs than this are counted, not named.
const NAMED: usize = 10;

/// As good as for ever.
const LONGEST_GRACE: Duration = Duration::from_secs(365 * 86_400);

/// How long to run, and how to tell of it.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Stops by itself after this time, such as 10s.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    run_for: Option<Duration>,
    /// How to write the log: text on a terminal, else JSON, unless given.
    #[arg(long, value_enum, value_name = "FORMAT")]
    log: Option<LogFormat>,
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    let format = flags.log.unwrap_or_else(LogFormat::of_stderr);
    match run(session, flags, format) {
        Err(failure) if format == LogFormat::Json => {
            // Whoever reads JSON lines gets nothing else.
            log::start(format, "info", "UTC", 0)?;
            failure.diagnostics.iter().chain([&*failure.summary]).for_each(log_fault);
            Ok(failure.exit)
        }
        answer => answer,
    }
}

fn run(session: &Session, flags: &Flags, format: LogFormat) -> Result<Exit, Failure> {
    let checked = session.load()?;
    let width = checked.tasks.iter().map(|task| task.task.name.as_str().len()).max().unwrap_or(0);
    log::start(format, "info", &checked.settings.timezone, width)?;
    match format {
        LogFormat::Text => print_warnings(&checked.diagnostics),
        LogFormat::Json => checked.diagnostics.iter().for_each(log_fault),
    }
    let lock = DataDirLock::take(&checked.settings.data_dir)?;
    Wish::forget(&checked.settings.data_dir, &lock.holder)?;
    orphans::sweep();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        Failure::new(Exit::Findings, "process/no_runtime", format!("cannot start a runtime: {error}"))
    })?;
    let ended = runtime.block_on(serve(&checked, &lock.holder, flags.run_for));
    // A job that blocks its thread was reported as abandoned; nobody waits for it here.
    runtime.shutdown_background();
    ended
}

async fn serve(checked: &Checked, holder: &Holder, run_for: Option<Duration>) -> Result<Exit, Failure> {
    let mut signals = StopSignals::listen()?;
    let scheduler = build(checked, &served(checked).await?)?;
    let tally = Tally::listen(scheduler.events());
    submit(&scheduler, checked).await?;
    let began = tokio::time::Instant::now();
    tokio::select! {
        started = scheduler.start() => started.map_err(not_started)?,
        signal = signals.next() => {
            info!("{signal} before everything had started");
            scheduler.abort().await?;
            return Ok(Exit::Done);
        }
    }
    info!("{}", summary(checked, Timestamp::from(std::time::SystemTime::now())));
    let folder = &checked.settings.data_dir;
    let mut wish = None;
    tokio::select! {
        signal = signals.next() => info!("{signal}: stopping"),
        () = end_of(run_for) => info!("the time given by --for is over: stopping"),
        heard = Wish::heard(folder, holder) => {
            info!("{}: stopping", heard.said());
            wish = Some(heard);
        }
    }
    let shutdown_grace = checked.settings.shutdown_grace;
    let (grace, at_signal) = match &wish {
        Some(wish) => (grace_of(wish), Some(shutdown_grace)),
        None => (shutdown_grace, None),
    };
    let mut stopping = Stopping { folder, holder, grace, at_signal, is_wanted: wish.is_some() };
    let drained = drain(&scheduler, &tally, &mut signals, &mut stopping).await?;
    let exit = report(&drained);
    // Who asks while it ends gets an answer too; that it cannot be left changes nothing of how it ended.
    if (stopping.is_wanted || Wish::take(folder, holder).is_some())
        && let Err(failure) = Answer::new(holder, &drained).leave(folder)
    {
        warn!("{}", failure.summary.message);
    }
    info!("stopped after {}, {tally}", rough(began.elapsed()));
    Ok(exit)
}

/// How long what runs may take when somebody wants the daemon to drain.
fn grace_of(wish: &Wish) -> Duration {
    wish.timeout_ms.map_or(LONGEST_GRACE, |timeout| Duration::from_millis(timeout).min(LONGEST_GRACE))
}

/// The backends that a daemon has: those that something is placed on, and those on which runs of the past still
/// wait.
async fn served(checked: &Checked) -> Result<Vec<Member>, Failure> {
    let (mut served, unused): (Vec<Member>, Vec<Member>) =
        checked.members.iter().cloned().partition(|member| member.is_used);
    for member in unused {
        let alone = build(checked, std::slice::from_ref(&member))?;
        match has_live_runs(&alone).await {
            Ok(false) => {}
            Ok(true) => served.push(member),
            // Nobody asked for it, so it keeps nothing from starting.
            Err(error) => {
                let backend = &member.backend.info().name;
                warn!("what backend `{backend}` keeps is not served: {error}");
            }
        }
    }
    Ok(served)
}

async fn has_live_runs(scheduler: &Scheduler) -> Result<bool, Error> {
    scheduler.connect().await?;
    let live: Vec<RunState> = RunState::ALL.iter().copied().filter(|state| !state.is_end()).collect();
    let page = scheduler.history(&RunFilter::all().in_states(&live).limited(1)).await?;
    Ok(!page.runs.is_empty())
}

/// The scheduler of a configuration over these backends; nothing runs yet.
pub(crate) fn build(checked: &Checked, members: &[Member]) -> Result<Scheduler, Failure> {
    let builder = Scheduler::builder(Arc::new(SystemClock::new()))
        .namespace(checked.settings.namespace.clone())
        .data_dir(&checked.settings.data_dir)
        .registry(checked.registry.clone());
    let members = members.iter().cloned();
    Ok(members.fold(builder, |builder, member| builder.backend_as(member.backend, member.role)).build()?)
}

/// Which backend it was stands in the log.
fn not_started(error: Error) -> Failure {
    let mut failure = Failure { exit: Exit::Unreachable, ..error.into() };
    failure.summary.message = format!("a required backend did not start: {}", failure.summary.message);
    failure.with_help("`required = false` in its section lets the daemon run without it")
}

/// Hands over every task before anything starts, so that a refusal leaves nothing behind.
async fn submit(scheduler: &Scheduler, checked: &Checked) -> Result<(), Failure> {
    // One that never fires again was warned of; it can still be triggered.
    scheduler.define_all(checked.tasks.iter().map(|task| task.task.clone())).await?;
    Ok(())
}

async fn end_of(run_for: Option<Duration>) {
    match run_for {
        Some(length) => tokio::time::sleep(length).await,
        None => std::future::pending().await,
    }
}

/// How a daemon ends.
struct Stopping<'a> {
    /// Where others say what they want, and of whom.
    folder: &'a Path,
    holder: &'a Holder,
    /// How long what runs may take.
    grace: Duration,
    /// How long it may take from the first signal on, where it was no signal that ended the daemon.
    at_signal: Option<Duration>,
    /// Whether somebody waits for an answer.
    is_wanted: bool,
}

/// Lets what is under way end; another signal cuts it off, and so does the time of somebody who asks meanwhile.
async fn drain(
    scheduler: &Scheduler,
    tally: &Tally,
    signals: &mut StopSignals,
    stopping: &mut Stopping<'_>,
) -> Result<Drained, Failure> {
    let (under_way, grace) = (counted(tally.running(), "run"), stopping.grace);
    match grace < LONGEST_GRACE {
        true => info!("draining: {under_way} under way, at most {}", scheduler_core::Spelled(grace)),
        false => info!("draining: {under_way} under way"),
    }
    let mut stop = std::pin::pin!(scheduler.stop(grace));
    let mut cut_off = std::pin::pin!(tokio::time::sleep(LONGEST_GRACE));
    let cause = loop {
        let left = tokio::select! {
            drained = &mut stop => return Ok(drained?),
            signal = signals.next() => match stopping.at_signal.take() {
                Some(grace) => {
                    info!("{signal}: at most {} more", scheduler_core::Spelled(grace));
                    grace
                }
                None => break format!("{signal} again"),
            },
            wish = Wish::heard(stopping.folder, stopping.holder) => {
                info!("{}", wish.said());
                stopping.is_wanted = true;
                grace_of(&wish)
            }
            () = &mut cut_off => break "the time is over".to_owned(),
        };
        let until = tokio::time::Instant::now() + left;
        if until < cut_off.deadline() {
            cut_off.as_mut().reset(until);
        }
    };
    warn!("{cause}: not waiting for {} under way", counted(tally.running(), "run"));
    // The stop goes on beside it and tells of what was cut off; a backend may tell both callers.
    let (stopped, aborted) = tokio::join!(stop, scheduler.abort());
    let (mut drained, aborted) = (stopped?, aborted?);
    let told: HashSet<RunId> = drained.abandoned.iter().copied().collect();
    drained.abandoned.extend(aborted.abandoned.into_iter().filter(|run| !told.contains(run)));
    Ok(drained)
}

fn report(drained: &Drained) -> Exit {
    let Drained { finished, given_back, abandoned } = drained;
    if abandoned.is_empty() {
        info!("drained: {finished} finished, {given_back} given back, 0 abandoned");
        return Exit::Done;
    }
    // Each of them has a line of its own as well.
    let mut runs: Vec<String> = abandoned.iter().take(NAMED).map(ToString::to_string).collect();
    if abandoned.len() > NAMED {
        runs.push(format!("and {} more", abandoned.len() - NAMED));
    }
    let runs = runs.join(" ");
    warn!("drained: {finished} finished, {given_back} given back, {} abandoned: {runs}", abandoned.len());
    Exit::Findings
}

fn log_fault(fault: &Diagnostic) {
    let Diagnostic { code, message, .. } = fault;
    let place = (fault.origin != Origin::None).then(|| fault.origin.place());
    let help = fault.help.as_deref();
    match fault.severity {
        Severity::Error => error!(code, place, help, "{message}"),
        Severity::Warning => warn!(code, place, help, "{message}"),
    }
}
