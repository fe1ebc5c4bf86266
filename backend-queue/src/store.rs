//! What a durable store must do. Each call is atomic: it happened as a whole, or not at all.
//!
//! A store knows runs by id, state, priority, due time, attempt, fence and lease; the rest of a run is an
//! envelope that it keeps as it is. It alone judges whether a run is due and whether a lease has expired, by
//! its own clock, so that no daemon's clock can start a run early or take a living one away.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use scheduler_core::{
    Cursor, DeadLetterFilter, DeadLetterPage, EndedRun, Entry, HeldLetters, HistoryBounds, Live, Load, Name,
    Page, Pause, Replayed, Result, Run, RunFilter, RunId, Timestamp,
};
use serde_json::{Map, Value};

use crate::adopt_task::Adoption;
use crate::limits::Limits;

/// The queue of what names none.
pub(crate) const DEFAULT_QUEUE: &str = "default";

/// How a queue is called.
pub(crate) fn called(queue: Option<&Name>) -> &str {
    queue.map_or(DEFAULT_QUEUE, Name::as_str)
}

/// A queue as a store knows it.
pub(crate) fn kept_queue(name: &Name) -> Option<Name> {
    Some(name.clone()).filter(|name| name.as_str() != DEFAULT_QUEUE)
}

/// A place where runs are kept, for one namespace.
#[async_trait]
pub(crate) trait Store: Debug + Send + Sync {
    /// Adds runs; says of each whether it is new. A run that is there already, ended or not, stays as it is. That
    /// there are none changes nothing about whether they are refused.
    async fn push(&self, runs: Vec<Pushed>) -> Result<Vec<bool>>;

    /// As [`push`](Self::push), for runs of which some keep others of their kind out: of each it says which run is there
    /// instead, where it is not new. Looking whether one is and adding it are one step.
    async fn push_unique(&self, runs: Vec<Pushed>) -> Result<Vec<Option<RunId>>>;

    /// Writes how far runs have come, whose deliveries are still held.
    async fn tell_progress(&self, runs: &[(Run, u64)]) -> Result<()>;

    /// Writes how attempts ended and takes due runs, in one step. No run gets another attempt that shall be
    /// cancelled: such an end is not written, and the run stays with whoever has it until it is told how it ends.
    async fn step(&self, acks: &[Ack], claim: &Claim) -> Result<Stepped>;

    /// Prolongs leases; answers those that were lost, and those whose run shall be cancelled.
    async fn renew(&self, held: &[Held], lease: Duration) -> Result<Renewed>;

    /// Takes runs away from whoever let their lease expire: back into the queue, or failed when no attempt is
    /// left. Answers the runs as they are then, at most `limit` of them.
    async fn reap(&self, limit: u32) -> Result<Vec<Run>>;

    /// Ends a run that waits, or marks one that is under way, wherever that is.
    async fn cancel(&self, run: RunId, reason: &str) -> Result<Cancel>;

    /// A page of runs.
    async fn runs(&self, filter: &RunFilter) -> Result<Page>;

    /// How many runs wait.
    async fn waiting(&self) -> Result<usize>;

    /// What there is to do now, counted in indexes and not run by run.
    async fn load(&self) -> Result<Load>;

    /// Accepts the definition of a task; a different one raises its revision. Begins a schedule that is new, and
    /// notes that its fires are served again if nobody served them.
    async fn register(&self, task: &Name, definition: &str, lease: Duration) -> Result<u64>;

    /// Notes that somebody serves the fires of these tasks, for so long; not any more when that is nothing.
    async fn serve(&self, tasks: &[Name], lease: Duration) -> Result<()>;

    /// Takes one step of a schedule: `decide` is given where it stands, and what it answers is done in the same
    /// transaction. A fire that another run of its kind keeps out is skipped, and its run is among those that ended. It may be called again when somebody else was faster.
    async fn decide(&self, task: &Name, revision: u64, decide: &Decide<'_>) -> Result<Decided>;

    /// Pauses a task, or resumes it.
    async fn pause(&self, task: &Name, pause: Option<&Pause>) -> Result<()>;

    /// Keeps runs of a queue from being taken, or lets them be taken again; says whether it was paused before.
    async fn pause_queue(&self, queue: Option<&Name>, pause: Option<&Pause>) -> Result<bool>;

    /// The time by the clock by which the store judges what is due and which pauses hold.
    async fn now(&self) -> Result<Timestamp> {
        Ok(Timestamp::from(SystemTime::now()))
    }

    /// The queues in which there is a run that is due or under way, and those that are paused, in the order of their
    /// names.
    async fn queues(&self) -> Result<Vec<QueueState>>;

    /// Where a schedule stands and what lives of it.
    async fn standing(&self, task: &Name) -> Result<Option<Standing>>;

    /// A page of dead letters, the newest fire first. Every run that fails is one, from the step on that ends it.
    async fn letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage>;

    /// Adds a run for each dead letter, and takes the letter away in the same step: same task, fire time, priority and
    /// most attempts, its parameters unless it shall have others, due now, naming its origin.
    async fn replay(&self, letters: &[Replay]) -> Result<Vec<Replayed>>;

    /// Keeps a dead letter from replay and retention, or lets it go; says whether there is one.
    async fn hold(&self, run: RunId, reason: Option<&str>) -> Result<bool>;

    /// Takes dead letters away, and those that are held as `held` says; says of each whether it left. The run stays
    /// in history.
    async fn discard(&self, runs: &[RunId], held: HeldLetters) -> Result<Vec<bool>>;

    /// Forgets what retention does not keep, at most `limit` runs at once; answers how many. A dead letter's run
    /// is kept while it is one.
    async fn forget(&self, retention: &Retention, limit: u32) -> Result<usize>;

    /// The ended runs beyond these bounds that are no dead letters, the one that ended first first: at most `limit` of
    /// them behind `skip` others. None at all means that there are no more.
    async fn beyond(&self, bounds: &HistoryBounds, skip: usize, limit: u32) -> Result<Vec<EndedRun>>;

    /// Forgets the first of those, at most `limit`; answers which.
    async fn prune(&self, bounds: &HistoryBounds, limit: u32) -> Result<Vec<EndedRun>>;

    /// Takes over some of what waits in a queue of a neighbour, if this store has neighbours. Each job leaves it in the
    /// same step in which its run is there.
    async fn adopt(&self, _: &Arc<Adoption>) -> Result<TakenOver> {
        Ok(TakenOver::default())
    }

    /// Resolves when somebody, maybe another process, may have added work. It may resolve for nothing, and who
    /// waits looks from time to time all the same.
    async fn changed(&self);
}

/// The answer to [`Store::adopt`].
#[derive(Debug, Default)]
pub(crate) struct TakenOver {
    /// How many runs there are more.
    pub(crate) runs: usize,
    /// The dead letters that were made of what could not be run.
    pub(crate) dead: Vec<Run>,
    /// Whether there may be more to take.
    pub(crate) has_more: bool,
}

/// What is kept of what has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retention {
    /// The newest so many ended runs.
    pub(crate) runs: usize,
    /// For so long.
    pub(crate) age: Duration,
    /// The newest so many dead letters, besides those that are held.
    pub(crate) letters: usize,
    /// For so long.
    pub(crate) letter_age: Duration,
}

/// A run to be added.
#[derive(Clone, Debug)]
pub(crate) struct Pushed {
    pub(crate) run: Run,
    pub(crate) due: Timestamp,
    pub(crate) priority: u8,
    pub(crate) max_attempts: u32,
    /// Whether it waits until the runs of its task before it have ended.
    pub(crate) alone: bool,
}

/// A dead letter that is to run again.
#[derive(Clone, Debug)]
pub(crate) struct Replay {
    pub(crate) letter: RunId,
    /// The run that it becomes.
    pub(crate) run: RunId,
    /// What that gets in place of the letter's parameters.
    pub(crate) params: Option<Map<String, Value>>,
}

impl Replay {
    /// With the parameters that it had.
    pub(crate) fn new(letter: RunId, run: RunId) -> Self {
        Self { letter, run, params: None }
    }
}

/// What to take.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// At most so many.
    pub(crate) limit: u32,
    pub(crate) lease: Duration,
    /// From which queues; from the one called `default` alone when there are none.
    pub(crate) from: Vec<Share>,
}

impl Claim {
    /// From the queue called `default` alone.
    #[cfg(test)]
    pub(crate) const fn new(limit: u32, lease: Duration) -> Self {
        Self { limit, lease, from: Vec::new() }
    }

    /// The queues that are taken from.
    #[cfg(feature = "redis")]
    pub(crate) fn queues(&self) -> impl Iterator<Item = Option<Name>> {
        let default = self.from.is_empty().then_some(None);
        default.into_iter().chain(self.from.iter().map(|share| share.queue.clone()))
    }
}

/// How many runs are taken from a queue before others have had their share. What one leaves the others get, in their
/// order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Nothing for the one called `default`.
    pub(crate) queue: Option<Name>,
    pub(crate) count: u32,
    pub(crate) limits: Option<Arc<Limits>>,
}

/// How a queue stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct QueueState {
    /// Nothing for the one called `default`.
    pub(crate) queue: Option<Name>,
    /// Its runs that are due and wait for a worker, also those that wait in the line of a value of a parameter.
    pub(crate) waiting: usize,
    pub(crate) running: usize,
    /// Since when the run that has waited longest is due.
    pub(crate) oldest: Option<Timestamp>,
    pub(crate) paused: Option<Pause>,
}

impl QueueState {
    /// A queue in which there is nothing.
    #[cfg(feature = "sqlite")]
    pub(crate) fn new(queue: Option<Name>) -> Self {
        Self { queue, waiting: 0, running: 0, oldest: None, paused: None }
    }
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub(crate) struct Ack {
    /// The run as it is now.
    pub(crate) run: Run,
    /// The delivery that ended; a later one makes the store refuse this.
    pub(crate) fence: u64,
    pub(crate) next: Next,
    /// Whether its task's next fire follows from when it finished.
    pub(crate) is_followed: bool,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing: the run has ended.
    End,
    /// Another attempt after this wait.
    Again(Duration),
    /// Another attempt: it is given back, and is as old as it was.
    Back,
}

/// A delivery that somebody holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) run: RunId,
    pub(crate) fence: u64,
}

/// A run that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// Running, with this attempt counted.
    pub(crate) run: Run,
    pub(crate) fence: u64,
    pub(crate) max_attempts: u32,
}

/// The answer to [`Store::step`].
#[derive(Debug, Default)]
pub(crate) struct Stepped {
    /// The acknowledgements that came too late, by their place in the list.
    pub(crate) refused: Vec<usize>,
    /// Those that ask for another attempt of a run that shall be cancelled, by their place, with the reason.
    pub(crate) marked: Vec<(usize, String)>,
    pub(crate) claimed: Vec<Delivery>,
    /// Runs that could not be read; they have failed.
    pub(crate) undecodable: Vec<Run>,
    /// How long until the next run is due, if one waits for its time.
    pub(crate) next_due: Option<Duration>,
    /// Whether more runs were due than were asked for.
    pub(crate) has_more: bool,
    /// Which of the queues that were to be taken from are paused; not known where nothing was to be taken.
    pub(crate) paused: Option<Vec<Option<Name>>>,
}

/// The answer to [`Store::renew`].
#[derive(Debug, Default)]
pub(crate) struct Renewed {
    pub(crate) lost: Vec<RunId>,
    /// With the reason.
    pub(crate) cancelled: Vec<(RunId, String)>,
}

/// The answer to [`Store::cancel`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cancel {
    /// It waited; this is how it ended.
    Ended(Box<Run>),
    /// It is under way and its owner will hear of it.
    Marked,
    /// It had ended.
    TooLate,
    /// There is no such run.
    Unknown,
}

/// Decides the next step of a schedule, at the store's time.
pub(crate) type Decide<'a> = dyn Fn(Standing, Timestamp) -> Decision + Send + Sync + 'a;

/// Where a schedule stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Standing {
    pub(crate) cursor: Cursor,
    pub(crate) paused: Option<Pause>,
    pub(crate) live: Live,
}

/// What becomes of a schedule.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) cursor: Cursor,
    pub(crate) paused: Option<Pause>,
    pub(crate) effect: Effect,
}

/// What a step does besides.
#[derive(Debug)]
pub(crate) enum Effect {
    Fire(Box<Pushed>, Entry),
    /// The run that says why there is none.
    Skip(Box<Run>),
    Nothing,
}

/// The answer to [`Store::decide`].
#[derive(Debug)]
pub(crate) enum Decided {
    /// It was done. Runs that were replaced and waited have ended; those under way are marked.
    Done { ended: Vec<Run>, marked: Vec<RunId> },
    /// Somebody registered a newer definition.
    Stale,
    /// The schedule is gone, or older than the definition: the store has lost what it knew.
    Unknown,
}
