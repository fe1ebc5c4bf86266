//! What a job is given for one attempt.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    Busy, CancelReason, CancelToken, Clock, Error, MemoryStateStore, Name, Printed, Result, RunId, Scheduler,
    StateStore, TaskState, Tier, Timestamp, WeakScheduler,
};

/// Everything a job may ask for during one attempt. Clones are cheap and share it.
#[derive(Clone)]
pub struct RunContext(Arc<Inner>);

struct Inner {
    identity: RunIdentity,
    host: Arc<RunHost>,
    /// Made when somebody asks for it: most runs end before anybody does.
    cancel: OnceLock<CancelToken>,
    busy: Busy,
    /// Holds a test clock from the moment the run is told to stop until its attempt has heard it.
    told: Mutex<Option<Busy>>,
    progress: Mutex<Option<Progress>>,
}

/// Which attempt of which run this is.
#[derive(Clone, Debug)]
pub struct RunIdentity {
    /// The namespace that the run belongs to.
    pub namespace: Name,
    /// The task it runs for.
    pub task: Name,
    /// The tier it runs on.
    pub tier: Tier,
    /// The backend that runs it.
    pub backend: Name,
    /// The run.
    pub run_id: RunId,
    /// The instant the trigger named.
    pub fire_time: Timestamp,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The fencing token: rises with every delivery and is never used twice.
    pub fence: u64,
    /// Parameters given when the run was triggered.
    pub params: Map<String, Value>,
}

/// What stands behind every run of a process.
#[derive(Clone, Debug)]
pub struct RunHost {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where tasks keep state.
    pub state: Arc<dyn StateStore>,
    /// The scheduler that the run belongs to.
    pub scheduler: WeakScheduler,
    /// Where to tell what the run prints while it runs.
    pub printed: Printed,
}

impl RunHost {
    /// A host without a scheduler, whose state lives in memory: enough to call a job by hand.
    pub fn standalone(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            state: Arc::new(MemoryStateStore::default()),
            scheduler: WeakScheduler::default(),
            printed: Printed::default(),
        }
    }
}

/// How far a run has come, by its own account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Progress {
    /// From 0 to 1.
    pub done: f64,
    /// What it is doing.
    pub note: String,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded down, so that only what is done says so; 0.29 has no exact binary form.
        let percent = (self.done * 100.0 + 1e-9).floor();
        match self.note.as_str() {
            "" => write!(f, "{percent}%"),
            note => write!(f, "{percent}%, {note}"),
        }
    }
}

impl RunContext {
    /// A context for one attempt; the attempts of a backend may share their host.
    pub fn new(identity: RunIdentity, host: impl Into<Arc<RunHost>>) -> Self {
        let host = host.into();
        let busy = host.clock.busy();
        Self(Arc::new(Inner {
            identity,
            host,
            cancel: OnceLock::new(),
            busy,
            told: Mutex::default(),
            progress: Mutex::default(),
        }))
    }

    /// Which attempt of which run this is.
    pub fn identity(&self) -> &RunIdentity {
        &self.0.identity
    }

    /// The task it runs for.
    pub fn task(&self) -> &Name {
        &self.0.identity.task
    }

    /// The run.
    pub fn run_id(&self) -> RunId {
        self.0.identity.run_id
    }

    /// The instant the trigger named.
    pub fn fire_time(&self) -> Timestamp {
        self.0.identity.fire_time
    }

    /// The attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.0.identity.attempt
    }

    /// The fencing token of this delivery.
    pub fn fence(&self) -> u64 {
        self.0.identity.fence
    }

    /// Parameters given when the run was triggered.
    pub fn params(&self) -> &Map<String, Value> {
        &self.0.identity.params
    }

    /// A key that is the same for every attempt of this run and differs between runs: what an idempotent
    /// receiver recognises a repetition by.
    pub fn idempotency_key(&self) -> String {
        self.run_id().to_string()
    }

    /// The W3C trace context of this attempt (version 00, sampled): the run's id is the trace's.
    pub fn traceparent(&self) -> String {
        let span = self.run_id().seed() ^ (u64::from(self.attempt()) << 32 | self.fence() & 0xffff_ffff);
        format!("00-{:032x}-{:016x}-01", self.run_id().as_u128().max(1), span.max(1))
    }

    /// The clock that this run goes by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.host.clock
    }

    /// Waits on the run's clock; a test clock may move meanwhile.
    pub async fn sleep(&self, duration: Duration) {
        let until = self.clock().monotonic().saturating_add(duration);
        self.0.busy.parked(self.clock().sleep_until(until)).await;
    }

    /// Waits until the run is told to stop. A test clock may move meanwhile.
    pub async fn cancelled(&self) -> CancelReason {
        self.0.busy.parked(self.cancel_token().cancelled()).await
    }

    /// Awaits `future` unless the run is told to stop first.
    ///
    /// # Errors
    /// The reason, when it was told to stop.
    pub async fn unless_cancelled<F: Future>(&self, future: F) -> Result<F::Output, CancelReason> {
        let future = std::pin::pin!(future);
        let cancelled = std::pin::pin!(self.cancel_token().cancelled());
        match futures_util::future::select(future, cancelled).await {
            futures_util::future::Either::Left((output, _)) => Ok(output),
            futures_util::future::Either::Right((reason, _)) => Err(reason),
        }
    }

    /// The token through which the run is told to stop.
    pub fn cancel_token(&self) -> &CancelToken {
        self.0.cancel.get_or_init(CancelToken::new)
    }

    /// Why the run was told to stop, if it was.
    pub fn told_to_stop(&self) -> Option<CancelReason> {
        self.0.cancel.get()?.reason()
    }

    /// Tells the run to stop. A test clock does not move before its attempt has heard it.
    pub fn cancel(&self, reason: CancelReason) {
        let token = self.cancel_token();
        if token.reason().is_none() {
            *self.0.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.clock().busy());
        }
        token.cancel(reason);
    }

    /// Lets a test clock move again: the attempt has heard that it should stop.
    pub(crate) fn heard(&self) {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Says how far the run has come: `done` from 0 to 1, and what it is doing. It costs next to nothing, so it may be
    /// called as often as there is something to say; where runs are kept outside of the process, that hears of it about
    /// once a second, and shows it with the run.
    pub fn set_progress(&self, done: f64, note: impl Into<String>) {
        // What is no number would stay none, and could not be written as JSON.
        let done = if done.is_nan() { 0.0 } else { done.clamp(0.0, 1.0) };
        let progress = Progress { done, note: note.into() };
        *self.0.progress.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
    }

    /// How far the run has come, if it said so.
    pub fn progress(&self) -> Option<Progress> {
        self.0.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where to tell what the run prints while it runs.
    pub fn printed(&self) -> &Printed {
        &self.0.host.printed
    }

    /// What the task keeps between its runs.
    pub fn state(&self) -> TaskState {
        TaskState::new(Arc::clone(&self.0.host.state), self.task().clone())
    }

    /// The scheduler that this run belongs to, for submitting other work and reading history.
    ///
    /// # Errors
    /// `scheduler/gone` when there is none, or it has been dropped.
    pub fn scheduler(&self) -> Result<Scheduler> {
        self.0.host.scheduler.upgrade().ok_or_else(|| {
            Error::unavailable("scheduler/gone", format!("run {} has no scheduler around it", self.run_id()))
        })
    }
}

impl fmt::Debug for RunContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RunIdentity { task, run_id, attempt, .. } = &self.0.identity;
        write!(f, "RunContext({task}, {run_id}, attempt {attempt})")
    }
}
