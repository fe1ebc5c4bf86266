//! `scheduler dlq`: looks after dead letters, the runs that failed for good and are kept.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use scheduler_core::{RunId, RunState};
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::outside::{self, Outside};
use crate::session::Session;
use crate::verb_show::Whole;
use crate::{dlq_list, dlq_replay, dlq_settle};

/// What to do with them.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists them, or groups them by what they say.
    List(dlq_list::Flags),
    /// Shows one with everything that is known about its run.
    Show(One),
    /// Runs them again, each as a new run that names its origin.
    Replay(dlq_replay::Flags),
    /// Removes them; their runs stay in history as long as others.
    Discard(dlq_settle::Flags),
    /// Keeps one from replay and from being forgotten.
    Hold(Hold),
    /// Lets one go again that was held.
    Release(One),
}

/// Which one.
#[derive(Debug, Args)]
struct One {
    /// The run that failed.
    run: RunId,
    #[command(flatten)]
    output: OutputFlag,
}

/// Which one, and why.
#[derive(Debug, Args)]
struct Hold {
    /// The run that failed.
    run: RunId,
    /// Why; it is shown with the letter.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    reason: String,
    #[command(flatten)]
    output: OutputFlag,
}

#[derive(Serialize)]
struct Held<'a> {
    run_id: RunId,
    held: Option<&'a str>,
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    outside::open(session, async |outside| match &flags.action {
        Action::List(flags) => dlq_list::list(outside, flags).await,
        Action::Show(flags) => show(outside, flags).await,
        Action::Replay(flags) => dlq_replay::replay(outside, flags).await,
        Action::Discard(flags) => dlq_settle::discard(outside, flags).await,
        Action::Hold(flags) => hold(outside, flags.run, Some(&flags.reason), flags.output).await,
        Action::Release(flags) => hold(outside, flags.run, None, flags.output).await,
    })
}

async fn show(outside: &Outside, flags: &One) -> Result<Exit, Failure> {
    let Some(letter) = outside.letter(flags.run).await? else {
        return Err(no_letter(outside, flags.run).await);
    };
    let lineage = outside.lineage(&letter.run).await?;
    let whole = Whole::new(letter.run.clone(), Some(&letter), &lineage);
    output::one(flags.output.format, &whole, || whole.text())?;
    Ok(Exit::Done)
}

async fn hold(
    outside: &Outside,
    run: RunId,
    reason: Option<&str>,
    output: OutputFlag,
) -> Result<Exit, Failure> {
    if !outside.scheduler.hold(&run, reason).await? {
        return Err(no_letter(outside, run).await);
    }
    output::one(output.format, &Held { run_id: run, held: reason }, || match reason {
        Some(reason) => format!("{run} is held: {reason}\n"),
        None => format!("{run} is held no more\n"),
    })?;
    Ok(Exit::Done)
}

/// What is answered about a run that is no dead letter.
pub(crate) async fn no_letter(outside: &Outside, run: RunId) -> Failure {
    let known = outside.run(run).await;
    let message = match &known {
        Ok(known) => {
            let lineage = outside.lineage(known).await.unwrap_or_default();
            let replay = lineage.iter().find(|other| other.replay_of == Some(run));
            let why = match replay {
                Some(replay) => format!("it was replayed as {}, which is {}", replay.id, replay.state),
                None if known.state == RunState::Failed => "it failed, and none is kept of it".to_owned(),
                None => format!("it is {}", known.state),
            };
            format!("run {run} of {} is no dead letter: {why}", known.task)
        }
        Err(_) => format!("there is no dead letter of a run {run}"),
    };
    Failure::new(Exit::NotFound, "dlq/unknown", message)
        .with_help("`scheduler dlq list` shows those there are")
}
