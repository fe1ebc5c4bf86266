//! `scheduler trigger`: asks for a run of a task, now or later, whether a daemon runs or not.

use clap::Args;
use scheduler_core::{Order, Timestamp};

use crate::asked::{RequestFlags, WaitFlags, ask};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::OutputFlag;
use crate::outside;
use crate::session::Session;

/// Which task, and how it is to run.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The task.
    task: String,
    #[command(flatten)]
    request: RequestFlags,
    #[command(flatten)]
    wait: WaitFlags,
    #[command(flatten)]
    output: OutputFlag,
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    outside::open(session, async |outside| {
        let task = &outside.checked.task(&flags.task)?.task;
        outside.scheduler.define(task.clone()).await?;
        let now = Timestamp::from(std::time::SystemTime::now());
        let order = Order::Task(task.name.clone(), flags.request.request(now));
        ask(outside, order, &flags.wait, flags.output).await
    })
}
