//! What a durable store must do. Each call is atomic: it happened as a whole, or not at all.
//!
//! A store knows runs by id, state, priority, due time, attempt, fence and lease; the rest of a run is an
//! envelope that it keeps as it is. It alone judges whether a run is due and whether a lease has expired, by
//! its own clock, so that no daemon's clock can start a run early or take a living one away.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::{Page, Result, Run, RunFilter, RunId};

/// A place where runs are kept, for one namespace.
#[async_trait]
pub(crate) trait Store: Debug + Send + Sync {
    /// Adds runs; says of each whether it is new. A run that is there already, ended or not, stays as it is.
    async fn push(&self, runs: Vec<Pushed>) -> Result<Vec<bool>>;

    /// Writes how attempts ended and takes due runs, in one step.
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

    /// Forgets ended runs beyond `keep`, and those that ended longer than `age` ago; at most `limit` at once.
    /// Answers how many.
    async fn forget(&self, keep: usize, age: Duration, limit: u32) -> Result<usize>;
}

/// A run to be added.
#[derive(Clone, Debug)]
pub(crate) struct Pushed {
    pub(crate) run: Run,
    pub(crate) due: scheduler_core::Timestamp,
    pub(crate) priority: u8,
    pub(crate) max_attempts: u32,
}

/// What to take.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// At most so many.
    pub(crate) limit: u32,
    pub(crate) lease: Duration,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub(crate) struct Ack {
    /// The run as it is now.
    pub(crate) run: Run,
    /// The delivery that ended; a later one makes the store refuse this.
    pub(crate) fence: u64,
    pub(crate) next: Next,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing: the run has ended.
    End,
    /// Another attempt after this wait.
    Again(Duration),
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
    pub(crate) claimed: Vec<Delivery>,
    /// Runs that could not be read; they have failed.
    pub(crate) undecodable: Vec<Run>,
    /// How long until the next run is due, if one waits for its time.
    pub(crate) next_due: Option<Duration>,
    /// Whether more runs were due than were asked for.
    pub(crate) has_more: bool,
}

/// The answer to [`Store::renew`].
#[derive(Debug, Default)]
pub(crate) struct Renewed {
    pub(crate) lost: Vec<RunId>,
    pub(crate) cancelled: Vec<RunId>,
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
