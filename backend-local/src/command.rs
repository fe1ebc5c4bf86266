//! What the loop is told, by callers and by the threads that run jobs.

use scheduler_core::{
    AttemptEnd, Busy, Cancelled, Drained, Enqueued, Name, Page, Pause, Result, RunContext, RunFilter, RunId,
    RunRequest, ScheduleStatus,
};
use std::sync::Arc;
use std::time::Duration;

use scheduler_core::Placed;
use tokio::sync::oneshot;

use crate::live::RunKey;

/// A message and the hold that keeps a test clock still until it has been handled.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) command: Command,
    pub(crate) held: Busy,
}

/// Where an answer goes; a caller that has gone away does not matter.
pub(crate) type Reply<T> = oneshot::Sender<T>;

#[derive(Debug)]
pub(crate) enum Command {
    /// Accept a task or its new definition.
    Upsert(Arc<Placed>, Reply<Result<()>>),
    /// Forget a task.
    Remove(Name, Reply<Result<bool>>),
    /// Keep a task from firing.
    Pause(Name, Pause, Reply<Result<()>>),
    /// Let a task fire again.
    Resume(Name, Reply<Result<()>>),
    /// Say when each task fires next.
    Statuses(Reply<Vec<ScheduleStatus>>),
    /// Take a run.
    Enqueue(Box<RunRequest>, Reply<Result<Enqueued>>),
    /// End a run.
    Cancel(RunId, Reply<Result<Cancelled>>),
    /// Show runs.
    Runs(Box<RunFilter>, Reply<Page>),
    /// An attempt ended.
    Finished { run: RunKey, fence: u64, end: AttemptEnd, ctx: RunContext },
    /// An attempt has kept its thread for so long.
    Blocked { run: RunKey, fence: u64, since: Duration },
    /// Stop: drain within the grace, or end now.
    Stop { grace: Option<Duration>, reply: Reply<Drained> },
}
