//! The job of the kit: it plays a part, and everything it sees and does is noted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};

use crate::{
    CancelReason, Job, JobError, Name, Output, RunContext, RunId, RunIdentity, Timestamp, async_trait,
};

/// What a job does.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// Returns this.
    Return(Value),
    /// Returns the parameters of its run.
    Echo,
    /// Fails, naming the attempt.
    Fail,
    /// Fails and asks for no other attempt.
    Abort,
    /// Panics.
    Panic,
    /// Snoozes so often for so long, then succeeds.
    Snooze(u32, Duration),
    /// Works that long, and stops when it is told to.
    Work(Duration),
    /// Works until the ledger's doors open, and stops when it is told to.
    Hold,
    /// Works that long, whatever it is told.
    Deaf(Duration),
}

/// One attempt, as its job saw it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) run: RunId,
    pub(super) task: Name,
    pub(super) attempt: u32,
    pub(super) fence: u64,
    pub(super) at: Timestamp,
    pub(super) params: Map<String, Value>,
    pub(super) identity: RunIdentity,
    /// Why it was told to stop, if it heard that.
    pub(super) told: Option<CancelReason>,
    /// Whether its future is gone.
    pub(super) is_over: bool,
}

/// What every job of a stage saw, in the order they began. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger(Arc<LedgerState>);

#[derive(Debug, Default)]
struct LedgerState {
    seen: Mutex<Vec<Seen>>,
    is_open: AtomicBool,
}

impl Ledger {
    pub(super) fn all(&self) -> Vec<Seen> {
        self.lock().clone()
    }

    pub(super) fn of(&self, run: RunId) -> Vec<Seen> {
        self.lock().iter().filter(|seen| seen.run == run).cloned().collect()
    }

    /// The attempts that have begun and not ended.
    pub(super) fn under_way(&self) -> usize {
        self.lock().iter().filter(|seen| !seen.is_over).count()
    }

    /// Lets every job that holds go on.
    pub(super) fn open_doors(&self) {
        self.0.is_open.store(true, Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, ctx: &RunContext) -> Noted {
        let mut seen = self.lock();
        seen.push(Seen {
            run: ctx.run_id(),
            task: ctx.task().clone(),
            attempt: ctx.attempt(),
            fence: ctx.fence(),
            at: ctx.clock().now(),
            params: ctx.params().clone(),
            identity: ctx.identity().clone(),
            told: None,
            is_over: false,
        });
        Noted { ledger: self.clone(), index: seen.len() - 1 }
    }
}

/// Notes the end of an attempt, however it ends.
struct Noted {
    ledger: Ledger,
    index: usize,
}

impl Noted {
    fn told(&self, reason: CancelReason) {
        self.ledger.lock()[self.index].told = Some(reason);
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.ledger.lock()[self.index].is_over = true;
    }
}

/// A job that plays a part.
#[derive(Debug)]
pub(super) struct Act {
    pub(super) part: Part,
    pub(super) ledger: Ledger,
    /// How often a job that holds looks whether the doors are open.
    pub(super) glance: Duration,
}

impl Act {
    /// Waits for `work` unless it is told to stop.
    async fn heedful(
        &self,
        ctx: &RunContext,
        noted: &Noted,
        work: impl Future<Output = ()>,
    ) -> Result<Output, JobError> {
        match ctx.unless_cancelled(work).await {
            Ok(()) => Ok(Value::Null),
            Err(reason) => {
                noted.told(reason);
                Err(JobError::retry(reason.as_str()))
            }
        }
    }
}

#[async_trait]
impl Job for Act {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        let noted = self.ledger.begin(ctx);
        match &self.part {
            Part::Return(value) => Ok(value.clone()),
            Part::Echo => Ok(Value::Object(ctx.params().clone())),
            Part::Fail => Err(JobError::retry(format!("attempt {} fails", ctx.attempt()))),
            Part::Abort => Err(JobError::abort("it asks for no other attempt")),
            Part::Panic => panic!("the job of the kit panics"),
            Part::Snooze(times, delay) => {
                let before = self.ledger.of(ctx.run_id()).len();
                if before > *times as usize { Ok(Value::Null) } else { Err(JobError::snooze(*delay)) }
            }
            Part::Work(duration) => self.heedful(ctx, &noted, ctx.sleep(*duration)).await,
            Part::Hold => {
                let hold = async {
                    while !self.ledger.0.is_open.load(Ordering::SeqCst) {
                        ctx.sleep(self.glance).await;
                    }
                };
                self.heedful(ctx, &noted, hold).await
            }
            Part::Deaf(duration) => {
                ctx.sleep(*duration).await;
                Ok(Value::Null)
            }
        }
    }

    fn wind_down(&self) -> Duration {
        match self.part {
            Part::Deaf(_) => Duration::from_secs(3_600),
            _ => Duration::from_secs(5),
        }
    }
}
