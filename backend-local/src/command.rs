//! What the loop is told, by callers and by the threads that run jobs.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{
    AttemptEnd, Busy, Cancelled, Drained, EndedRun, Enqueued, HistoryBounds, Load, Name, Output, Page,
    Partial, Pause, Placed, Result, RunFilter, RunId, RunRequest, ScheduleStatus,
};
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
    /// Accept many.
    UpsertAll(Vec<Arc<Placed>>, Reply<()>),
    /// Forget many tasks; answers in their order.
    RemoveAll(Vec<Name>, Reply<Vec<bool>>),
    /// Keep many tasks from firing, up to the first that is not known.
    PauseAll(Vec<Name>, Pause, Reply<Result<(), Partial>>),
    /// Let many tasks fire again, up to the first that is not known.
    ResumeAll(Vec<Name>, Reply<Result<(), Partial>>),
    /// Forget a task.
    Remove(Name, Reply<Result<bool>>),
    /// Keep a task from firing.
    Pause(Name, Pause, Reply<Result<()>>),
    /// Let a task fire again.
    Resume(Name, Reply<Result<()>>),
    /// Say when each task fires next.
    Statuses(Reply<Vec<ScheduleStatus>>),
    /// Say how much there is to do.
    Load(Reply<Load>),
    /// Say that the loop turns.
    Ping(Reply<()>),
    /// Take a run.
    Enqueue(Box<RunRequest>, Reply<Result<Enqueued>>),
    /// End a run.
    Cancel(RunId, Reply<Result<Cancelled>>),
    /// Show runs.
    Runs(Box<RunFilter>, Reply<Page>),
    /// Say which ended runs lie beyond bounds.
    Beyond { bounds: HistoryBounds, skip: usize, limit: usize, reply: Reply<Vec<EndedRun>> },
    /// Forget the first of them.
    Forget { bounds: HistoryBounds, limit: usize, reply: Reply<Result<Vec<EndedRun>>> },
    /// An attempt has kept its thread for so long.
    Blocked { run: RunKey, fence: u64, since: Duration },
    /// Stop: drain within the grace, or end now.
    Stop { grace: Option<Duration>, reply: Reply<Drained> },
}

/// An attempt that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) run: RunKey,
    pub(crate) fence: u64,
    pub(crate) id: RunId,
    /// The definition it ran under, which the attempt had with it.
    pub(crate) placed: Arc<Placed>,
    /// Nothing for the usual end: it succeeded and has nothing to show.
    pub(crate) end: Option<Box<AttemptEnd>>,
    /// Whether it did not end at its first poll, so that others were told where to find it.
    pub(crate) went_on: bool,
    /// Keeps a test clock still until the loop has taken note.
    pub(crate) held: Busy,
}

impl Ended {
    /// An end in its short form.
    pub(crate) fn shortened(end: AttemptEnd) -> Option<Box<AttemptEnd>> {
        if matches!(end, AttemptEnd::Succeeded(Output::Null)) { None } else { Some(Box::new(end)) }
    }
}
