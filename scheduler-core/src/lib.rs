//! The words, the traits and the classifier of the hybrid scheduler.
mod attempt;
mod cancel;
mod characteristics;
mod classify;
mod clock;
mod context;
#[cfg_attr(not(feature = "cron"), path = "cron_off.rs")]
pub mod cron;
mod error;
mod job;
mod name;
mod plan;
mod retry;
mod run;
mod run_id;
mod secret;
mod state;
mod task;
#[cfg(feature = "test-util")]
mod test_clock;
mod timestamp;
mod trigger;

pub use async_trait::async_trait;

pub use attempt::{AttemptEnd, attempt};
pub use cancel::{CancelReason, CancelToken};
pub use characteristics::{
    Complexity, Durability, Frequency, Infrastructure, TaskCharacteristics, Tier, Visibility,
};
pub use classify::{
    Classification, Fact, Flip, RULES, Rejected, Rule as ClassifierRule, Warning, classify_task,
    placement_warnings,
};
#[cfg(feature = "tokio")]
pub use clock::SystemClock;
pub use clock::{BoxFuture, Busy, Clock};
pub use context::{Progress, RunContext, RunHost, RunIdentity};
pub use error::{Error, ErrorKind, Result};
pub use job::{ArgsError, Job, JobDescriptor, JobError, OrAbort, Output};
pub use name::Name;
pub use plan::{Cursor, Entry, Live, MAX_QUEUED, Schedule, SkipReason, Step, plan};
pub use retry::{Backoff, MIN_SNOOZE, RetryPolicy, Verdict, verdict};
pub use run::{FailedAttempt, Run, RunOrigin, RunState};
pub use run_id::RunId;
pub use secret::{Secret, SecretValue};
pub use state::{FileStateStore, MemoryStateStore, StateStore, StoredState, TaskState};
pub use task::{Misfire, MisfirePolicy, OnUnavailable, Overlap, Priority, StatedCharacteristics, Task};
#[cfg(feature = "test-util")]
pub use test_clock::TestClock;
pub use timestamp::Timestamp;
pub use trigger::{Bounds, Rule, Spelled, Trigger};

/// x
#[derive(Clone, Debug, Default)]
pub struct WeakScheduler;
/// x
#[derive(Clone, Debug)]
pub struct Scheduler;
impl WeakScheduler {
    /// x
    pub fn upgrade(&self) -> Option<Scheduler> {
        None
    }
}
