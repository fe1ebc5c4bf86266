//! The words, the traits and the classifier of the hybrid scheduler.
mod accepting;
mod adhoc;
mod attempt;
mod backend;
mod builder;
mod cancel;
mod characteristics;
mod classify;
mod clock;
mod clock_watch;
#[cfg(feature = "conformance")]
pub mod conformance;
mod context;
#[cfg_attr(not(feature = "cron"), path = "cron_off.rs")]
pub mod cron;
mod dead_letters;
mod draining;
mod driven;
mod driver;
#[cfg(feature = "cron")]
pub mod dst;
mod duration;
mod error;
mod events;
mod fire;
#[cfg(feature = "cron")]
pub mod hints;
mod job;
mod letters;
mod lifecycle;
mod name;
mod orders;
mod outage;
mod placement;
mod plan;
mod planning;
mod printed;
mod queues;
mod registry;
mod replaying;
mod retention;
mod retry;
mod routing;
mod run;
mod run_id;
mod run_logs;
mod scheduler;
mod schedules;
mod secret;
mod shapes;
mod signal;
mod state;
mod tally;
mod task;
mod task_book;
#[cfg(feature = "test-util")]
mod test_clock;
mod timestamp;
mod trigger;
mod unique;
mod workload;
mod zone_watch;

pub use async_trait::async_trait;

pub use attempt::{AttemptEnd, attempt};
pub use backend::{
    Backend, BackendContext, BackendInfo, CONTRACT, Cancelled, Capability, Drained, Enqueued, Health,
    HealthStatus, Page, PageToken, RunFilter, RunRequest,
};
pub use builder::{BackendRole, SchedulerBuilder};
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
pub use clock_watch::{ClockStep, ClockWatch, MAX_SLEEP};
pub use context::{Progress, RunContext, RunHost, RunIdentity};
pub use dead_letters::{DeadLetter, DeadLetterFilter, DeadLetterPage, DeadLetters, HeldLetters, Replayed};
pub use draining::QueueDrained;
pub use duration::{DURATION_FORMS, Spelled, parse_duration};
pub use error::{Error, ErrorKind, Result};
pub use events::{Event, Events};
pub use job::{ArgsError, Job, JobDescriptor, JobError, OrAbort, Output};
pub use name::Name;
pub use orders::Order;
pub use outage::Outage;
pub use placement::{Placement, Site, place};
pub use plan::{Cursor, Entry, Live, MAX_QUEUED, Pace, Schedule, SkipReason, Step, plan};
pub use planning::{BackendPlan, PlannedAction, PlannedChange, Planning};
pub use printed::{Printed, Stream};
pub use queues::{BackendQueue, QueueStatus, Queues};
pub use registry::{BackendKind, BackendSettings, Registered, Registry, Source, Way};
pub use replaying::{CanaryVerdict, ReplayFate, ReplayPlan, ReplayRate, ReplayReport};
pub use retention::{EndedRun, HistoryBounds, Retention};
pub use retry::{Backoff, MIN_SNOOZE, RetryPolicy, Verdict, verdict};
pub use run::{Adhoc, FailedAttempt, Run, RunOrigin, RunState};
pub use run_id::RunId;
pub use run_logs::{RunLogLine, RunLogs};
pub use scheduler::{Scheduler, TriggerRequest, WeakScheduler};
pub use schedules::{Partial, Pause, ScheduleStatus, Schedules};
pub use secret::{Secret, SecretValue};
pub use state::{FileStateStore, MemoryStateStore, StateStore, StoredState, TaskState};
pub use tally::{Tally, TaskTally};
pub use task::{
    FiredBy, Misfire, MisfirePolicy, OnUnavailable, Overlap, Priority, StatedCharacteristics, Task,
    TaskSettings,
};
pub use task_book::{Placed, TaskBook};
#[cfg(feature = "test-util")]
pub use test_clock::TestClock;
pub use timestamp::Timestamp;
pub use trigger::{Bounds, Rule, Trigger};
pub use unique::{Unique, UniqueKey, UniqueUntil};
pub use workload::{Load, Workload};
pub use zone_watch::ZoneWatch;

#[doc(hidden)]
pub mod __private {
    pub use crate::registry::{BackendRegistration, JobRegistration};
    pub use inventory;
}
