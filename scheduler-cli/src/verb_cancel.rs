//! `scheduler cancel`: ends a run that its backend keeps, whether a daemon runs or not.

use clap::Args;
use scheduler_core::{Cancelled, Name, RunId, RunState, Timestamp};
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::outside;
use crate::relative::relative;
use crate::session::Session;

/// Which run.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The run.
    run: RunId,
    #[command(flatten)]
    output: OutputFlag,
}

#[derive(Serialize)]
struct Report<'a> {
    run_id: RunId,
    task: &'a Name,
    cancelled: Cancelled,
    /// How it stands after that.
    state: RunState,
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    outside::open(session, async |outside| {
        let before = outside.run(flags.run).await?;
        let cancelled = if before.state.is_end() {
            Cancelled::AlreadyFinished
        } else if outside.keeps(&before.backend) {
            outside.scheduler.cancel(&flags.run).await?
        } else {
            let help = "stop the daemon, or wait until the run has ended".to_owned();
            return Err(outside::not_outside(&format!("run {}", flags.run), &before.backend, help));
        };
        let run = outside.run(flags.run).await.unwrap_or(before);
        let report = Report { run_id: run.id, task: &run.task, cancelled, state: run.state };
        output::one(flags.output.format, &report, || {
            let (id, task) = (run.id, &run.task);
            match cancelled {
                Cancelled::Prevented => format!("run {id} of {task} waited and never starts\n"),
                Cancelled::Requested => format!("run {id} of {task} is under way and is told to stop\n"),
                Cancelled::AlreadyFinished => {
                    let now = Timestamp::from(std::time::SystemTime::now());
                    let when = run.finished_at.map(|end| format!(" ({})", relative(end, now)));
                    let (ended, when) = (ended(run.state), when.unwrap_or_default());
                    format!("run {id} of {task} had {ended}{when}: nothing is changed\n")
                }
            }
        })?;
        Ok(match cancelled {
            // What was wished for holds.
            Cancelled::AlreadyFinished if run.state != RunState::Cancelled => Exit::Conflict,
            Cancelled::AlreadyFinished | Cancelled::Prevented | Cancelled::Requested => Exit::Done,
        })
    })
}

fn ended(state: RunState) -> &'static str {
    match state {
        RunState::Cancelled => "been cancelled",
        RunState::Skipped => "been skipped",
        _ => state.as_str(),
    }
}
