//! The seam: what an implementation that accepts tasks and runs them must do, and what it may do besides.

use std::fmt::Debug;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::characteristics::words;
use crate::{
    Adhoc, Clock, DeadLetters, Error, Events, Name, Planning, Printed, Priority, Queues, Registry, Result,
    Retention, Run, RunHost, RunId, RunLogs, RunOrigin, RunState, Schedules, StateStore, Task, TaskBook,
    Tier, Timestamp, Unique, Warning, WeakScheduler, Workload,
};

/// The version of this contract; a backend built against another one is refused when it is registered.
pub const CONTRACT: u32 = 1;

/// An implementation that accepts tasks and runs them.
///
/// Seven duties; everything else is an optional ability behind an accessor that answers `None` by default. A
/// backend without [`schedules`](Self::schedules) gets its fires from the [`Scheduler`](crate::Scheduler),
/// which plans them and calls [`enqueue`](Self::enqueue), so it needs no timer of its own.
#[async_trait]
pub trait Backend: Debug + Send + Sync + 'static {
    /// What it is and what it can do; always the same answer.
    fn info(&self) -> BackendInfo;

    /// Begins to take and run work. Calling it again while it runs changes nothing.
    ///
    /// # Errors
    /// Of kind `Unavailable` when what it needs does not answer; nothing runs then.
    async fn start(&self, ctx: BackendContext) -> Result<()>;

    /// Takes a run, which may lie in the future, and runs it once due. The same run id again is a
    /// [`Enqueued::Duplicate`] and changes nothing.
    ///
    /// # Errors
    /// `task/unknown` when [`BackendContext::tasks`] has no such task; `backend/stopped` while it does not run.
    async fn enqueue(&self, request: RunRequest) -> Result<Enqueued>;

    /// Takes many runs, and answers in their order: as one step where it can, so that a failure leaves none of
    /// them; else one after the other.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    async fn enqueue_all(&self, requests: Vec<RunRequest>) -> Result<Vec<Enqueued>> {
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            answers.push(self.enqueue(request).await?);
        }
        Ok(answers)
    }

    /// What it would refuse about a run whatever state it is in, such as a payload that is too large. Takes
    /// nothing.
    fn refusal(&self, _: &RunRequest) -> Option<Error> {
        None
    }

    /// The runs it owns, live and ended, newest fire first. Works before `start` and after `stop` as far as
    /// it keeps history outside of the process.
    async fn runs(&self, filter: &RunFilter) -> Result<Page>;

    /// Ends a run: one that waits never starts, one that is under way hears it through its context.
    ///
    /// # Errors
    /// `run/unknown` when it owns no such run.
    async fn cancel(&self, run: &RunId) -> Result<Cancelled>;

    /// Whether it works, and what is wrong if not.
    async fn health(&self) -> Health;

    /// Stops taking work, lets running work end within `grace`, gives back what did not begin, and cancels the
    /// rest. Calling it again changes nothing and reports nothing.
    async fn stop(&self, grace: Duration) -> Result<Drained>;

    /// Ends now: nothing is waited for. What was running is reported as abandoned.
    async fn abort(&self) -> Result<Drained> {
        self.stop(Duration::ZERO).await
    }

    /// Opens what it keeps outside of the process without taking work from it: then [`enqueue`](Self::enqueue),
    /// [`runs`](Self::runs), [`cancel`](Self::cancel) and the dead letters act on that, beside whoever runs it.
    /// Does nothing while it runs.
    ///
    /// # Errors
    /// `backend/not_kept_outside`, of kind `Unsupported`, when nothing is kept outside of the process; of kind
    /// `Unavailable` when what keeps it does not answer.
    async fn connect(&self, _: BackendContext) -> Result<()> {
        let message =
            format!("backend `{}` keeps nothing outside of the process that runs it", self.info().name);
        Err(Error::unsupported("backend/not_kept_outside", message))
    }

    /// The ability to fire tasks by itself.
    fn schedules(&self) -> Option<&dyn Schedules> {
        None
    }

    /// The ability to keep what failed for good.
    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        None
    }

    /// The ability to show what a run logged.
    fn run_logs(&self) -> Option<&dyn RunLogs> {
        None
    }

    /// The ability to say what it would change outside of the process before it does.
    fn planning(&self) -> Option<&dyn Planning> {
        None
    }

    /// The ability to forget ended runs on demand.
    fn retention(&self) -> Option<&dyn Retention> {
        None
    }

    /// The ability to say how much there is to do.
    fn workload(&self) -> Option<&dyn Workload> {
        None
    }

    /// The ability to keep several queues and to pause each of them.
    fn queues(&self) -> Option<&dyn Queues> {
        None
    }

    /// The jobs that its settings run without a task, each with the place of its name: a JSON pointer into the
    /// backend's section of a config. Whoever reads the config refuses one that is unknown or may not run so.
    fn adhoc_jobs(&self) -> Vec<(String, Name)> {
        Vec::new()
    }

    /// What it costs to place a task here, beyond what is said of its tier. Pure: it asks nobody, and is asked
    /// whenever a task is placed.
    ///
    /// # Errors
    /// Of kind `Invalid` when it cannot keep what the task states; the message holds every fault and what to write
    /// instead.
    fn judge(&self, _: &Task) -> Result<Vec<Warning>> {
        Ok(Vec::new())
    }
}

/// What a backend is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BackendInfo {
    /// Its name in this process.
    pub name: Name,
    /// What it is an instance of.
    pub kind: String,
    /// The tier it serves.
    pub tier: Tier,
    /// What it promises beyond the duties.
    pub capabilities: Vec<Capability>,
    /// The contract it was built against.
    pub contract: u32,
}

impl BackendInfo {
    /// A backend of the present contract.
    pub fn new(name: Name, kind: impl Into<String>, tier: Tier, capabilities: &[Capability]) -> Self {
        Self { name, kind: kind.into(), tier, capabilities: capabilities.to_vec(), contract: CONTRACT }
    }
}

words! {
    /// Something a backend promises beyond its duties.
    Capability {
        /// It fires tasks by itself.
        Schedules = "schedules",
        /// Runs survive the process.
        Durable = "durable",
        /// Among due runs the higher priority starts first.
        Priorities = "priorities",
        /// A running attempt can be cancelled.
        CancelRunning = "cancel_running",
        /// It runs a job and args without a task.
        Adhoc = "adhoc",
        /// It keeps what failed for good.
        DeadLetters = "dead_letters",
    }
}

/// What a backend is given when it starts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BackendContext {
    /// The namespace, part of each run's identity.
    pub namespace: Name,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The tasks of this process, by name.
    pub tasks: TaskBook,
    /// The jobs of this process; see [`work_of`](Self::work_of).
    pub registry: Arc<Registry>,
    /// Where tasks keep state.
    pub state: Arc<dyn StateStore>,
    /// Where to tell what happened to runs.
    pub events: Events,
    /// The scheduler around it.
    pub scheduler: WeakScheduler,
    /// A folder for files, if the process has one.
    pub data_dir: Option<PathBuf>,
}

impl BackendContext {
    /// A context without a scheduler around it, for a backend that is used or tested on its own.
    pub fn standalone(namespace: Name, clock: Arc<dyn Clock>) -> Self {
        Self {
            namespace,
            clock,
            tasks: TaskBook::default(),
            registry: Arc::default(),
            state: Arc::new(crate::MemoryStateStore::default()),
            events: Events::default(),
            scheduler: WeakScheduler::default(),
            data_dir: None,
        }
    }

    /// What a run's context needs of it.
    pub fn run_host(&self) -> RunHost {
        RunHost {
            clock: Arc::clone(&self.clock),
            state: Arc::clone(&self.state),
            scheduler: self.scheduler.clone(),
            printed: Printed::default(),
        }
    }
}

/// A run that a backend is asked to take.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RunRequest {
    /// Its identity.
    pub run_id: RunId,
    /// The task it belongs to.
    pub task: Name,
    /// The instant the trigger named; of a manual run, when it was asked for.
    pub fire_time: Timestamp,
    /// Not to be started before this instant.
    pub due: Timestamp,
    /// What made it.
    pub origin: RunOrigin,
    /// Parameters given when it was triggered.
    pub params: Map<String, Value>,
    /// The job and args of a run without a configured task.
    pub adhoc: Option<Adhoc>,
    /// Its own priority, in place of its task's.
    pub priority: Option<Priority>,
    /// Its own queue, in place of its task's.
    pub queue: Option<Name>,
    /// How it keeps others of its kind out, in place of its task's way.
    pub unique: Option<Unique>,
}

impl RunRequest {
    /// The run that a schedule fires.
    pub fn scheduled(run_id: RunId, task: Name, fire_time: Timestamp) -> Self {
        Self {
            run_id,
            task,
            fire_time,
            due: fire_time,
            origin: RunOrigin::Schedule,
            params: Map::new(),
            adhoc: None,
            priority: None,
            queue: None,
            unique: None,
        }
    }

    /// A run that somebody asked for.
    pub fn manual(run_id: RunId, task: Name, fire_time: Timestamp) -> Self {
        Self { origin: RunOrigin::Manual, ..Self::scheduled(run_id, task, fire_time) }
    }
}

/// The answer to [`Backend::enqueue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Enqueued {
    /// The run is new.
    Inserted(RunId),
    /// A run of this id was there already, or this other one keeps it out; nothing changed.
    Duplicate(RunId),
}

impl Enqueued {
    /// The run.
    pub fn run_id(self) -> RunId {
        match self {
            Self::Inserted(id) | Self::Duplicate(id) => id,
        }
    }
}

/// Which runs to show.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RunFilter {
    /// Only this one.
    pub run: Option<RunId>,
    /// Only those of this task.
    pub task: Option<Name>,
    /// Only those in one of these states; all when empty.
    pub states: Vec<RunState>,
    /// Only those behind this place in the order.
    pub after: Option<PageToken>,
    /// How many at most; 100 unless set.
    pub limit: Option<NonZeroUsize>,
}

impl RunFilter {
    /// Every run, a page at a time.
    pub fn all() -> Self {
        Self::default()
    }

    /// One run.
    pub fn of_run(run: RunId) -> Self {
        Self { run: Some(run), ..Self::default() }
    }

    /// The runs of one task.
    pub fn of_task(task: Name) -> Self {
        Self { task: Some(task), ..Self::default() }
    }

    /// At most `limit` runs a page. One of large runs may hold fewer; [`Page::next`] says whether there are more.
    #[must_use]
    pub fn limited(mut self, limit: usize) -> Self {
        self.limit = NonZeroUsize::new(limit);
        self
    }

    /// Only those whose fire time is `at` or earlier.
    #[must_use]
    pub fn fired_up_to(mut self, at: Timestamp) -> Self {
        self.after = Some(PageToken::before_all_up_to(at));
        self
    }

    /// Only those in one of these states.
    #[must_use]
    pub fn in_states(mut self, states: &[RunState]) -> Self {
        self.states = states.to_vec();
        self
    }

    /// How many runs a page holds at most.
    pub fn page_size(&self) -> usize {
        self.limit.map_or(100, NonZeroUsize::get)
    }

    /// Whether a run belongs on the pages of this filter.
    pub fn matches(&self, run: &Run) -> bool {
        self.run.is_none_or(|id| id == run.id)
            && self.task.as_ref().is_none_or(|task| *task == run.task)
            && (self.states.is_empty() || self.states.contains(&run.state))
            && self.after.is_none_or(|after| PageToken::of(run) < after)
    }

    /// One page of `runs`: those that match, newest fire first.
    pub fn page(&self, runs: impl IntoIterator<Item = Run>) -> Page {
        let mut runs: Vec<Run> = runs.into_iter().filter(|run| self.matches(run)).collect();
        runs.sort_unstable_by_key(|run| std::cmp::Reverse(PageToken::of(run)));
        let more = runs.len() > self.page_size();
        runs.truncate(self.page_size());
        let next = runs.last().filter(|_| more).map(PageToken::of);
        Page { runs, next }
    }
}

/// A place in the order of runs: by fire time, then by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PageToken {
    fire_time: Timestamp,
    run: RunId,
}

impl PageToken {
    /// The place of a run.
    pub fn of(run: &Run) -> Self {
        Self { fire_time: run.fire_time, run: run.id }
    }

    /// The fire time of the run at this place.
    pub fn fire_time(&self) -> Timestamp {
        self.fire_time
    }

    /// The run at this place.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// The place before every run whose fire time is `now` or earlier.
    pub(crate) fn before_all_up_to(now: Timestamp) -> Self {
        Self { fire_time: now, run: RunId::LAST }
    }
}

/// Some runs, and where the next page begins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Newest fire first.
    pub runs: Vec<Run>,
    /// The filter's `after` for the next page, if there is one.
    pub next: Option<PageToken>,
}

/// The answer to [`Backend::cancel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cancelled {
    /// It waited and never starts.
    Prevented,
    /// It is under way and has been told.
    Requested,
    /// It had ended already.
    AlreadyFinished,
}

/// Whether a backend works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// The verdict.
    pub status: HealthStatus,
    /// What is wrong; empty when nothing is.
    pub findings: Vec<String>,
}

words! {
    /// The verdict on a backend.
    HealthStatus {
        /// It works.
        Up = "up",
        /// It works, and something is wrong.
        Degraded = "degraded",
        /// It does not work.
        Down = "down",
    }
}

impl Health {
    /// It works.
    pub fn up() -> Self {
        Self { status: HealthStatus::Up, findings: Vec::new() }
    }

    /// It works, with these findings.
    pub fn degraded(findings: Vec<String>) -> Self {
        Self { status: HealthStatus::Degraded, findings }
    }

    /// It does not work.
    pub fn down(finding: impl Into<String>) -> Self {
        Self { status: HealthStatus::Down, findings: vec![finding.into()] }
    }
}

/// What became of the work of a backend that stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Drained {
    /// Runs that were under way and ended by themselves.
    pub finished: usize,
    /// Runs that had not begun and are kept for the next start, or cancelled where nothing is kept.
    pub given_back: usize,
    /// Runs that were under way and were cut off.
    pub abandoned: Vec<RunId>,
}

impl Drained {
    /// Adds another backend's report.
    pub fn add(&mut self, other: Self) {
        self.finished += other.finished;
        self.given_back += other.given_back;
        self.abandoned.extend(other.abandoned);
    }
}
