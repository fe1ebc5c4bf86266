//! The facade: one way to submit, trigger, follow and stop tasks, whatever tier they run on.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use serde_json::{Map, Value};

use crate::driver::Driver;
use crate::lifecycle::{Lifecycle, Standing};
use crate::shapes::{Placing, Shapes};
use crate::tally::Counting;
use crate::{
    Backend, BackendInfo, Cancelled, Clock, Drained, Enqueued, Events, Health, Name, Page, PageToken, Pause,
    Placed, Placement, Priority, Registry, Result, RunFilter, RunId, ScheduleStatus, SchedulerBuilder,
    StateStore, Task, TaskBook, Timestamp, Unique,
};

/// One scheduler over all tiers. Clones share it.
///
/// # Guarantees
/// - [`start`](Self::start) and [`stop`](Self::stop) are idempotent and may be called from anywhere.
/// - A task that cannot run is refused when it is submitted, with every fault that could be found, and the
///   tasks accepted before stay as they were.
/// - A run that was triggered with a key exists once on its backend, however often the trigger is repeated. A
///   task that may fall back gives that up: the backend that takes over does not know what its own one took.
#[derive(Clone)]
pub struct Scheduler(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) namespace: Name,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) state: Arc<dyn StateStore>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) backends: Vec<Member>,
    pub(crate) tasks: TaskBook,
    pub(crate) shapes: Shapes,
    pub(crate) events: Events,
    pub(crate) counting: Counting,
    pub(crate) lifecycle: Lifecycle,
    /// Makes changes of the book take turns, so it is held while a backend is told of one.
    pub(crate) accepting: futures_util::lock::Mutex<()>,
    pub(crate) driver: Driver,
}

/// A backend in a scheduler.
pub(crate) struct Member {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) info: BackendInfo,
    pub(crate) is_default: bool,
    pub(crate) required: bool,
    pub(crate) standing: Mutex<Standing>,
}

/// A handle that does not keep the scheduler alive.
#[derive(Clone, Default)]
pub struct WeakScheduler(Weak<Inner>);

/// A request to run a task now or later, outside of its schedule.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TriggerRequest {
    /// When; at once when left out.
    pub at: Option<Timestamp>,
    /// A key: the same task and key is the same run.
    pub key: Option<String>,
    /// Parameters for the run.
    pub params: Map<String, Value>,
    /// Its own priority, in place of its task's.
    pub priority: Option<Priority>,
    /// Its own queue, in place of its task's.
    pub queue: Option<Name>,
    /// How it keeps others of its kind out, in place of its task's way.
    pub unique: Option<Unique>,
}

impl TriggerRequest {
    /// A run at once.
    pub fn now() -> Self {
        Self::default()
    }

    /// A run at `at`.
    pub fn at(at: Timestamp) -> Self {
        Self { at: Some(at), ..Self::default() }
    }

    /// The same request with a key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same request with one more parameter.
    #[must_use]
    pub fn with_param(mut self, name: impl Into<String>, value: Value) -> Self {
        self.params.insert(name.into(), value);
        self
    }

    /// The same request with a priority of its own.
    #[must_use]
    pub fn with_priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// The same request with a queue of its own.
    #[must_use]
    pub fn in_queue(mut self, queue: Name) -> Self {
        self.queue = Some(queue);
        self
    }

    /// The same request with a way of its own to keep others of its kind out.
    #[must_use]
    pub fn uniquely(mut self, unique: Unique) -> Self {
        self.unique = Some(unique);
        self
    }
}

impl Scheduler {
    /// Begins to build a scheduler that goes by `clock`.
    pub fn builder(clock: Arc<dyn Clock>) -> SchedulerBuilder {
        SchedulerBuilder::new(clock)
    }

    /// Starts every backend, all at once, and hands them their tasks. Does nothing while it runs.
    ///
    /// # Errors
    /// Those of the first required backend that did not start; the others have been stopped again then, and
    /// the next start begins anew.
    pub async fn start(&self) -> Result<()> {
        self.0.start().await
    }

    /// Opens what the backends keep outside of this process, all at once, and starts nothing; answers which of
    /// them keep anything there. Then runs can be triggered, followed and cancelled, and dead letters looked after,
    /// beside whoever runs them. One that is not required and does not answer is down, which is told as an event.
    ///
    /// # Errors
    /// Those of the first required backend that does not answer.
    pub async fn connect(&self) -> Result<Vec<Name>> {
        self.0.connect().await
    }

    /// Stops every backend, all at once, letting runs end within `grace`. Does nothing while it is stopped.
    ///
    /// # Errors
    /// Those of the first backend that could not stop cleanly; the others have been stopped.
    pub async fn stop(&self, grace: Duration) -> Result<Drained> {
        self.0.stop(grace).await
    }

    /// Stops every backend without waiting for runs.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    pub async fn abort(&self) -> Result<Drained> {
        self.0.abort().await
    }

    /// Accepts a task, or its new definition, and says where it runs and why.
    ///
    /// # Errors
    /// `job/unknown`, `task/bad_args` (all faults in one message), `trigger/passed` for a trigger whose last
    /// fire time has passed, and those of placing it (codes `placement/…`).
    pub async fn submit(&self, task: Task) -> Result<Arc<Placement>> {
        self.0.accept_one(self.0.placing().place_ahead(task)?).await
    }

    /// Accepts many tasks as [`submit`](Self::submit) does each, all or none of them, and answers in their order.
    /// Each backend hears of all its tasks at once. Tasks that are clones of one but for name, args and trigger cost
    /// the least.
    ///
    /// # Errors
    /// As [`submit`](Self::submit): the code of the first task that is refused, and in the message every task that
    /// is. `task/duplicate` when two of them have one name. Nothing is accepted then; only a backend that refuses
    /// part of the tasks and does not answer after that keeps what it took.
    pub async fn submit_all(&self, tasks: impl IntoIterator<Item = Task>) -> Result<Vec<Arc<Placement>>> {
        let placed = self.0.placing().all(tasks, Placing::place_ahead)?;
        self.0.accept_many(placed).await
    }

    /// Accepts a task as [`submit`](Self::submit) does, also one that never fires again: it can be triggered, and
    /// where its schedule outlived the process, a fire that nobody served follows its misfire policy.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), except `trigger/passed`.
    pub async fn define(&self, task: Task) -> Result<Arc<Placement>> {
        self.0.accept_one(self.0.placing().place(task)?).await
    }

    /// Accepts many tasks as [`define`](Self::define) does each, all or none of them, and answers in their order.
    ///
    /// # Errors
    /// As [`submit_all`](Self::submit_all), except `trigger/passed`.
    pub async fn define_all(&self, tasks: impl IntoIterator<Item = Task>) -> Result<Vec<Arc<Placement>>> {
        let placed = self.0.placing().all(tasks, Placing::place)?;
        self.0.accept_many(placed).await
    }

    /// Says where a task would run and why, without accepting it.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), except `trigger/passed`.
    pub fn placement(&self, task: &Task) -> Result<Arc<Placement>> {
        self.0.placing().place(task.clone()).map(|placed| placed.placement)
    }

    /// Forgets a task; says whether it was known. Its runs under way end.
    ///
    /// # Errors
    /// Those of its backend.
    pub async fn remove(&self, task: &Name) -> Result<bool> {
        self.remove_all(std::slice::from_ref(task)).await.map(|known| known == [true])
    }

    /// Forgets many tasks as [`remove`](Self::remove) does each, and answers in their order.
    ///
    /// # Errors
    /// Those of the first backend that refuses one. The tasks before it are forgotten then.
    pub async fn remove_all(&self, tasks: &[Name]) -> Result<Vec<bool>> {
        self.0.remove(tasks).await
    }

    /// Runs a task outside of its schedule, which stays as it is.
    ///
    /// # Errors
    /// `task/unknown`, and those of its backend. When that is down and the task allows it, the next tier takes
    /// the run.
    pub async fn trigger(&self, task: &Name, request: TriggerRequest) -> Result<Enqueued> {
        let placed = self.0.known(task)?;
        self.0.enqueue(&placed, self.0.requested(task.clone(), request)).await
    }

    /// Keeps a task from firing.
    ///
    /// # Errors
    /// `task/unknown`, and those of its backend.
    pub async fn pause(&self, task: &Name, pause: Pause) -> Result<()> {
        self.0.schedules_of_task(task)?.pause(task, pause).await
    }

    /// Keeps many tasks from firing.
    ///
    /// # Errors
    /// `task/unknown`, before any of them is paused; those of the first backend that refuses one, and the tasks
    /// before it are paused then.
    pub async fn pause_all(&self, tasks: &[Name], pause: &Pause) -> Result<()> {
        self.0.pause(tasks, pause).await
    }

    /// Lets a paused task fire again; what it missed follows its misfire policy.
    ///
    /// # Errors
    /// `task/unknown`, and those of its backend.
    pub async fn resume(&self, task: &Name) -> Result<()> {
        self.0.schedules_of_task(task)?.resume(task).await
    }

    /// Lets many paused tasks fire again.
    ///
    /// # Errors
    /// As [`pause_all`](Self::pause_all).
    pub async fn resume_all(&self, tasks: &[Name]) -> Result<()> {
        self.0.resume(tasks).await
    }

    /// Ends a run, wherever it is.
    ///
    /// # Errors
    /// `run/unknown` when no backend owns it; those of the first that did not answer, or `backend/down`, when no other
    /// owns it.
    pub async fn cancel(&self, run: &RunId) -> Result<Cancelled> {
        let mut unanswered = None;
        for member in &self.0.backends {
            match member.backend.cancel(run).await {
                Ok(cancelled) => return Ok(cancelled),
                Err(error) if error.code() == "run/unknown" => {}
                Err(error) => unanswered = unanswered.or(Some(error)),
            }
        }
        Err(unanswered.unwrap_or_else(|| self.0.nobody_has(run)))
    }

    /// The runs of every tier as one history, newest fire first. A backend that is known to be down and does not
    /// answer is left out.
    ///
    /// # Errors
    /// Those of the first other backend that does not answer.
    pub async fn history(&self, filter: &RunFilter) -> Result<Page> {
        let mut runs = Vec::new();
        // Behind the end of a page that has a next one, its backend may own more: nothing there is shown yet.
        let mut horizon: Option<PageToken> = None;
        for member in &self.0.backends {
            let page = match member.backend.runs(filter).await {
                Err(_) if member.down().is_some() => continue,
                answer => answer?,
            };
            horizon = horizon.max(page.next);
            runs.extend(page.runs);
        }
        // A fire that its backend took all the same, just when its task was removed, is no skipped one.
        let skipped = self.0.driver.skipped(filter).into_iter();
        let skipped: Vec<_> = skipped.filter(|skip| runs.iter().all(|run| run.id != skip.id)).collect();
        runs.extend(skipped);
        runs.retain(|run| horizon.is_none_or(|horizon| PageToken::of(run) >= horizon));
        let mut page = filter.page(runs);
        page.next = page.next.or(horizon);
        Ok(page)
    }

    /// The accepted tasks, by name.
    pub fn tasks(&self) -> Vec<Arc<Placed>> {
        self.0.tasks.all()
    }

    /// When each task fires next, by name.
    ///
    /// # Errors
    /// Those of the first backend that does not answer.
    pub async fn statuses(&self) -> Result<Vec<ScheduleStatus>> {
        let mut all = self.0.driven_statuses().await;
        for schedules in self.0.backends.iter().filter_map(|member| member.backend.schedules()) {
            all.extend(schedules.statuses().await?);
        }
        all.sort_unstable_by(|a, b| a.task.cmp(&b.task));
        Ok(all)
    }

    /// The health of every backend, by name.
    pub async fn health(&self) -> Vec<(Name, Health)> {
        let asked =
            self.0.backends.iter().map(|member| async { (member.info.name.clone(), member.health().await) });
        futures_util::future::join_all(asked).await
    }

    /// How one backend is, if there is one of this name.
    pub async fn health_of(&self, backend: &Name) -> Option<Health> {
        let member = self.0.backends.iter().find(|member| member.info.name == *backend)?;
        Some(member.health().await)
    }

    /// The backends.
    pub fn backends(&self) -> Vec<Arc<dyn Backend>> {
        self.0.backends.iter().map(|member| Arc::clone(&member.backend)).collect()
    }

    /// What the program has registered.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Where to listen for what happens.
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// The folder for files, if this process has one.
    pub fn data_dir(&self) -> Option<&Path> {
        self.0.data_dir.as_deref()
    }

    /// The namespace.
    pub fn namespace(&self) -> &Name {
        &self.0.namespace
    }

    /// A handle that does not keep the scheduler alive.
    pub fn downgrade(&self) -> WeakScheduler {
        WeakScheduler(Arc::downgrade(&self.0))
    }
}

impl WeakScheduler {
    /// The scheduler, while somebody keeps it.
    pub fn upgrade(&self) -> Option<Scheduler> {
        self.0.upgrade().map(Scheduler)
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backends: Vec<Name> = self.0.backends.iter().map(|member| member.info.name.clone()).collect();
        f.debug_struct("Scheduler")
            .field("namespace", &self.0.namespace)
            .field("backends", &backends)
            .finish()
    }
}

impl fmt::Debug for WeakScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakScheduler")
    }
}
