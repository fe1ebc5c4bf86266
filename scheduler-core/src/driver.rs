//! Fires the tasks of backends that have no schedules of their own: plans them and enqueues each fire.
//!
//! One thread, which exists only while such a backend (or one that is down) does, with a loop for each
//! backend, so that one that hangs keeps no other waiting. The cursor lives in memory: a backend that must
//! not miss fires over a restart brings schedules of its own.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::{join, join_all, select};

use crate::driven::{Driven, LIVE_POLL};
use crate::scheduler::{Inner, Member};
use crate::signal::Signal;
use crate::{
    Busy, CancelReason, CancelToken, Clock, ClockWatch, Error, Event, Events, MAX_SLEEP, Name, Pause, Placed,
    Result, Run, ScheduleStatus, Schedules, Timestamp,
};

/// The shortest sleep.
const MIN_SLEEP: Duration = Duration::from_millis(1);

/// Keeps the tasks that it fires; the steps of each are in `fire.rs`.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) namespace: Name,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) events: Events,
    pub(crate) tasks: Mutex<BTreeMap<Name, Driven>>,
    /// Fires that never became runs, for history.
    pub(crate) skipped: Mutex<VecDeque<Run>>,
    pub(crate) watch: Mutex<ClockWatch>,
    /// One for each backend whose tasks it fires.
    signals: Arc<BTreeMap<Name, Signal>>,
}

impl Driver {
    /// A driver for these backends.
    pub(crate) fn new(
        namespace: &Name,
        clock: &Arc<dyn Clock>,
        events: &Events,
        backends: impl IntoIterator<Item = Name>,
    ) -> Self {
        let signals: BTreeMap<Name, Signal> =
            backends.into_iter().map(|backend| (backend, Signal::default())).collect();
        let signals = Arc::new(signals);
        if !signals.is_empty() {
            let (signals, clock) = (Arc::clone(&signals), Arc::clone(clock));
            events.listen(move |event| {
                if let Event::RunEnded { run, .. } = event
                    && let Some(signal) = signals.get(&run.backend)
                {
                    signal.notify(clock.busy());
                }
            });
        }
        Self {
            namespace: namespace.clone(),
            clock: Arc::clone(clock),
            events: events.clone(),
            tasks: Mutex::default(),
            skipped: Mutex::default(),
            watch: Mutex::new(ClockWatch::of(&**clock)),
            signals,
        }
    }

    /// Whether there is a backend whose tasks it fires.
    pub(crate) fn is_needed(&self) -> bool {
        !self.signals.is_empty()
    }

    /// Starts the thread. It ends when `stopping` is cancelled, and cancels `ended` last of all.
    ///
    /// # Errors
    /// `scheduler/no_thread`.
    pub(crate) fn spawn(
        &self,
        scheduler: &Weak<Inner>,
        stopping: CancelToken,
        ended: CancelToken,
    ) -> Result<()> {
        *lock(&self.watch) = ClockWatch::of(&*self.clock);
        self.signals.values().for_each(Signal::attend);
        let attendance = Attendance { signals: Arc::clone(&self.signals), ended };
        // Held from here on, so that a test clock does not move before the thread has looked.
        let loops: Vec<_> = self
            .signals
            .keys()
            .map(|backend| drive(scheduler.clone(), backend.clone(), self.clock.busy()))
            .collect();
        let work = join(join_all(loops), crate::lifecycle::revive(scheduler.clone(), self.clock.busy()));
        #[cfg(feature = "tokio")]
        let runtime = tokio::runtime::Handle::try_current().ok();
        let thread = std::thread::Builder::new().name("scheduler-fires".into()).spawn(move || {
            // Dropped after the work, and also when that panics.
            let attendance = attendance;
            // Backends expect to be called inside the runtime they were started in.
            #[cfg(feature = "tokio")]
            let _entered = runtime.as_ref().map(tokio::runtime::Handle::enter);
            block_on(select(pin!(work), pin!(stopping.cancelled())));
            drop(attendance);
        });
        let no_thread = |error| {
            Error::unavailable("scheduler/no_thread", "cannot start the thread that fires tasks")
                .with_source(error)
        };
        thread.map(|_| ()).map_err(no_thread)
    }

    /// Its tasks, with the fires that wait as all that lives.
    pub(crate) fn all_statuses(&self) -> Vec<ScheduleStatus> {
        lock(&self.tasks).values().map(Driven::status).collect()
    }

    /// Takes a task whose backend has just started; what it missed before follows its misfire policy. `last` is its
    /// last fire before this process, where that is known.
    pub(crate) fn begin(&self, placed: Arc<Placed>, last: Option<Timestamp>) {
        let now = self.clock.now();
        if let Some(driven) = lock(&self.tasks).get_mut(&placed.task.name) {
            driven.resume(now);
            driven.is_under_way = false;
        }
        self.put(placed, now, last);
    }

    fn put(&self, placed: Arc<Placed>, now: Timestamp, last: Option<Timestamp>) {
        let backend = placed.placement.backend.clone();
        let lag = lock(&self.watch).lag_of(placed.task.trigger.as_ref());
        lock(&self.tasks)
            .entry(placed.task.name.clone())
            .and_modify(|driven| driven.edit(Arc::clone(&placed), now, lag))
            .or_insert_with(|| Driven::new(placed, now, last, lag));
        self.notify(&backend);
    }

    fn notify(&self, backend: &Name) {
        if let Some(signal) = self.signals.get(backend) {
            signal.notify(self.clock.busy());
        }
    }

    fn change(&self, task: &Name, change: impl FnOnce(&mut Driven)) -> Result<()> {
        let backend = {
            let mut tasks = lock(&self.tasks);
            let driven = tasks.get_mut(task).ok_or_else(|| {
                let message = format!("task `{task}` has no schedule yet: its backend does not run");
                Error::unavailable("backend/stopped", message)
            })?;
            change(driven);
            driven.placed.placement.backend.clone()
        };
        self.notify(&backend);
        Ok(())
    }

    /// Looks at or changes a task, while it is placed on `backend`.
    pub(crate) fn with<T>(
        &self,
        task: &Name,
        backend: &Name,
        look: impl FnOnce(&mut Driven) -> T,
    ) -> Option<T> {
        let mut tasks = lock(&self.tasks);
        tasks.get_mut(task).filter(|driven| driven.placed.placement.backend == *backend).map(look)
    }

    fn tasks_on(&self, backend: &Name) -> Vec<Name> {
        let tasks = lock(&self.tasks);
        let here = tasks.iter().filter(|(_, driven)| driven.placed.placement.backend == *backend);
        here.map(|(task, _)| task.clone()).collect()
    }

    /// Compares the clocks: where the wall clock was set, every task goes on as [`ClockWatch`] says.
    fn note_time(&self) {
        let now = self.clock.now();
        let mut watch = lock(&self.watch);
        let Some(step) = watch.look(now, self.clock.monotonic()) else { return };
        let watch = *watch;
        for driven in lock(&self.tasks).values_mut() {
            driven.lag = watch.lag_of(driven.placed.task.trigger.as_ref());
            driven.follow(&step);
        }
        self.events.emit(&Event::ClockStepped { from: step.from, to: step.to });
    }
}

#[async_trait]
impl Schedules for Driver {
    async fn upsert(&self, placed: Arc<Placed>) -> Result<()> {
        self.put(placed, self.clock.now(), None);
        Ok(())
    }

    async fn remove(&self, task: &Name) -> Result<bool> {
        let Some(driven) = lock(&self.tasks).remove(task) else { return Ok(false) };
        for fire_time in driven.pending {
            self.skip(&driven.placed, fire_time, "its task was removed".to_owned());
        }
        Ok(true)
    }

    async fn statuses(&self) -> Result<Vec<ScheduleStatus>> {
        Ok(self.all_statuses())
    }

    async fn pause(&self, task: &Name, pause: Pause) -> Result<()> {
        self.change(task, |driven| driven.paused = Some(pause))
    }

    async fn resume(&self, task: &Name) -> Result<()> {
        let now = self.clock.now();
        self.change(task, |driven| {
            if driven.paused.take().is_some() {
                driven.resume(now);
            }
        })
    }
}

/// Fires the tasks of one backend until the scheduler is gone.
async fn drive(scheduler: Weak<Inner>, backend: Name, busy: Busy) {
    loop {
        let Some(inner) = scheduler.upgrade() else { return };
        let driver = &inner.driver;
        let signals = Arc::clone(&driver.signals);
        let Some(signal) = signals.get(&backend) else { return };
        let held = signal.take();
        driver.note_time();
        let mut wake: Option<Timestamp> = None;
        let is_up = inner.member(&backend).is_ok_and(Member::is_up);
        for task in driver.tasks_on(&backend).iter().filter(|_| is_up) {
            // A panic of the backend's costs this task a step, not every task its fires.
            let step = AssertUnwindSafe(driver.step(&inner, task, &backend)).catch_unwind().await;
            let again = step.unwrap_or_else(|_| {
                tracing::error!(%task, %backend, "the backend panicked; the task is tried again");
                Some(driver.clock.now() + LIVE_POLL)
            });
            wake = wake.into_iter().chain(again).min();
        }
        drop(held);
        let now = inner.clock.now();
        // At the end of time nothing lies ahead of now; it is not to spin then.
        let pause = wake.map_or(MAX_SLEEP, |at| at.since(now).clamp(MIN_SLEEP, MAX_SLEEP));
        let mut sleep = inner.clock.sleep_until(inner.clock.monotonic().saturating_add(pause));
        // While it sleeps, the driver does not keep the scheduler alive.
        drop(inner);
        // The sleep outlives the wait: on a test clock it holds the time until the driver itself does.
        busy.parked(select(&mut sleep, pin!(signal.notified()))).await;
        drop(sleep);
    }
}

/// Ends with the thread, however that ends.
struct Attendance {
    signals: Arc<BTreeMap<Name, Signal>>,
    ended: CancelToken,
}

impl Drop for Attendance {
    fn drop(&mut self) {
        self.signals.values().for_each(Signal::leave);
        self.ended.cancel(CancelReason::Shutdown);
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a future on this thread to its end.
fn block_on(future: impl Future) {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    while future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        std::thread::park();
    }
}
