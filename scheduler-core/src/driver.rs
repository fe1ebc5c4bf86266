//! Fires the tasks of backends that have no schedules of their own: plans them and enqueues each fire.
//!
//! One thread, which exists only while such a backend (or one that is down) does. The cursor lives in memory:
//! a backend that must not miss fires over a restart brings schedules of its own.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{join, select};

use crate::scheduler::Inner;
use crate::{
    Busy, CancelToken, Clock, Cursor, Entry, Error, Event, Live, Name, Pause, Placed, Result, Run, RunFilter,
    RunId, RunRequest, RunState, Schedule, ScheduleStatus, Schedules, Step, Timestamp, plan,
};

/// The longest sleep: a wall clock that stepped is noticed after it at the latest.
const MAX_SLEEP: Duration = Duration::from_secs(30);
/// How often a task is looked at whose next step depends on a run that lives, or on a backend that is away.
const LIVE_POLL: Duration = Duration::from_secs(1);
/// How many skipped fires are kept for history.
const MAX_SKIPPED: usize = 1_000;

const LIVE_STATES: [RunState; 4] =
    [RunState::Scheduled, RunState::Queued, RunState::Running, RunState::Retrying];

#[derive(Debug)]
pub(crate) struct Driver {
    clock: Arc<dyn Clock>,
    tasks: Mutex<BTreeMap<Name, Driven>>,
    skipped: Mutex<VecDeque<Run>>,
    signal: Arc<Signal>,
    listening: std::sync::Once,
}

/// A task that the driver fires.
#[derive(Clone, Debug)]
struct Driven {
    placed: Arc<Placed>,
    cursor: Cursor,
    paused: Option<Pause>,
    /// Fires that are decided and wait for their turn or for the backend.
    pending: VecDeque<Timestamp>,
    next: Option<Timestamp>,
}

impl Driver {
    pub(crate) fn new(clock: &Arc<dyn Clock>) -> Self {
        Self {
            clock: Arc::clone(clock),
            tasks: Mutex::default(),
            skipped: Mutex::default(),
            signal: Arc::default(),
            listening: std::sync::Once::new(),
        }
    }

    /// Starts the thread; it ends when `stopping` is cancelled or the scheduler is dropped.
    pub(crate) fn spawn(&self, scheduler: Weak<Inner>, stopping: CancelToken) {
        self.listening.call_once(|| {
            let Some(inner) = scheduler.upgrade() else { return };
            let (signal, clock) = (Arc::clone(&self.signal), Arc::clone(&self.clock));
            inner.events.listen(move |event| {
                if matches!(event, Event::RunEnded { .. }) {
                    signal.notify(clock.busy());
                }
            });
        });
        #[cfg(feature = "tokio")]
        let runtime = tokio::runtime::Handle::try_current().ok();
        let work = async move {
            let both = join(drive(scheduler.clone()), crate::lifecycle::revive(scheduler));
            select(pin!(both), pin!(stopping.cancelled())).await;
        };
        let thread = std::thread::Builder::new().name("scheduler-fires".into()).spawn(move || {
            // Backends expect to be called inside the runtime they were started in.
            #[cfg(feature = "tokio")]
            let _entered = runtime.as_ref().map(tokio::runtime::Handle::enter);
            block_on(work);
        });
        if let Err(error) = thread {
            tracing::error!(
                "no thread for schedules: {error}; tasks of backends without their own do not fire"
            );
        }
    }

    /// The skipped fires that match a filter.
    pub(crate) fn skipped(&self, filter: &RunFilter) -> Vec<Run> {
        lock(&self.skipped).iter().filter(|run| filter.matches(run)).cloned().collect()
    }

    fn change(&self, task: &Name, change: impl FnOnce(&mut Driven)) -> Result<()> {
        match lock(&self.tasks).get_mut(task) {
            Some(driven) => change(driven),
            None => return Err(Error::not_found("task/unknown", format!("no task `{task}` is scheduled"))),
        }
        self.signal.notify(self.clock.busy());
        Ok(())
    }

    /// Takes every step that is due for one task, and says when to look at it again.
    async fn step_task(&self, inner: &Inner, task: &Name) -> Option<Timestamp> {
        let mut driven = lock(&self.tasks).get(task).cloned()?;
        let before = driven.clone();
        let again = self.advance(inner, &mut driven).await;
        if let Some(stored) = lock(&self.tasks).get_mut(task) {
            // A definition or a pause that changed meanwhile stays; what was decided is kept.
            stored.cursor = driven.cursor;
            stored.pending = driven.pending;
            stored.next = driven.next;
            if stored.paused == before.paused {
                stored.paused = driven.paused;
            }
        }
        again
    }

    async fn advance(&self, inner: &Inner, driven: &mut Driven) -> Option<Timestamp> {
        let now = self.clock.now();
        if let Some(pause) = &driven.paused {
            match pause.until {
                Some(until) if until <= now => {
                    driven.paused = None;
                    driven.cursor.resume(now);
                }
                until => return until,
            }
        }
        let placed = Arc::clone(&driven.placed);
        let schedule = Schedule::of(&inner.namespace, &placed.task)?;
        let idle = plan(&schedule, &mut driven.cursor.clone(), Live::default(), now);
        driven.next = match idle {
            Step::Wait(at) => Some(at),
            _ => None,
        };
        if let (Step::Wait(at), true, false) =
            (&idle, driven.pending.is_empty(), schedule.trigger.follows_finish())
        {
            return Some(*at);
        }
        let soon = Some(now + LIVE_POLL);
        let Ok(mut live) = self.look_at_runs(inner, driven).await else { return soon };
        loop {
            if live.running == 0
                && let Some(fire_time) = driven.pending.pop_front()
            {
                if !self.fire(inner, driven, fire_time).await {
                    driven.pending.push_front(fire_time);
                    return soon;
                }
                live.running = 1;
            }
            live.queued = driven.pending.len();
            match plan(&schedule, &mut driven.cursor, live, now) {
                Step::Fire { fire_time, entry } => {
                    if entry == Entry::CancelOthers {
                        self.cancel_live(inner, driven).await;
                        driven.pending.clear();
                    }
                    if entry != Entry::Start || !self.fire(inner, driven, fire_time).await {
                        driven.pending.push_back(fire_time);
                    } else {
                        live.running += 1;
                    }
                }
                Step::Skip { fire_time, reason } => {
                    self.skip(inner, driven, fire_time, now, reason.to_string());
                }
                Step::Wait(at) => {
                    driven.next = Some(at);
                    return if driven.pending.is_empty() { Some(at) } else { soon.min(Some(at)) };
                }
                Step::AwaitFinish => return soon,
                Step::Done => return if driven.pending.is_empty() { None } else { soon },
            }
        }
    }

    /// How many runs of the task live, by its backend's account; notes when the last one finished.
    async fn look_at_runs(&self, inner: &Inner, driven: &mut Driven) -> Result<Live> {
        let task = &driven.placed.task;
        let backend = &inner.member(&driven.placed.placement.backend)?.backend;
        let filter = RunFilter::of_task(task.name.clone()).in_states(&LIVE_STATES).limited(crate::MAX_QUEUED);
        let live = backend.runs(&filter).await?.runs.len();
        if task.trigger.as_ref().is_some_and(crate::Trigger::follows_finish) {
            let newest = backend.runs(&RunFilter::of_task(task.name.clone()).limited(1)).await?;
            let finished = newest.runs.first().and_then(|run| run.finished_at);
            driven.cursor.finished = driven.cursor.finished.max(finished);
        }
        Ok(Live { running: live, queued: driven.pending.len() })
    }

    /// Enqueues one fire; says whether it is settled, one way or the other.
    async fn fire(&self, inner: &Inner, driven: &Driven, fire_time: Timestamp) -> bool {
        let task = &driven.placed.task.name;
        let run_id = RunId::scheduled(&inner.namespace, task, fire_time);
        match inner.enqueue(&driven.placed, RunRequest::scheduled(run_id, task.clone(), fire_time)).await {
            Ok(_) => true,
            Err(error) if error.is_transient() => {
                tracing::warn!(%task, %fire_time, "not enqueued yet: {error}");
                false
            }
            Err(error) => {
                self.skip(inner, driven, fire_time, self.clock.now(), format!("not enqueued: {error}"));
                true
            }
        }
    }

    async fn cancel_live(&self, inner: &Inner, driven: &Driven) {
        let Ok(member) = inner.member(&driven.placed.placement.backend) else { return };
        let filter = RunFilter::of_task(driven.placed.task.name.clone()).in_states(&LIVE_STATES);
        let Ok(page) = member.backend.runs(&filter).await else { return };
        for run in page.runs {
            if let Err(error) = member.backend.cancel(&run.id).await {
                tracing::warn!(task = %run.task, run_id = %run.id, "not cancelled: {error}");
            }
        }
    }

    fn skip(&self, inner: &Inner, driven: &Driven, fire_time: Timestamp, now: Timestamp, reason: String) {
        let task = &driven.placed.task.name;
        let placement = &driven.placed.placement;
        let id = RunId::scheduled(&inner.namespace, task, fire_time);
        let run = Run::queued(id, task.clone(), placement.backend.clone(), placement.tier, fire_time)
            .into_skipped(now, reason);
        inner.events.emit(&Event::RunEnded { run: &run, fence: 0 });
        let mut skipped = lock(&self.skipped);
        if skipped.len() == MAX_SKIPPED {
            skipped.pop_front();
        }
        skipped.push_back(run);
    }
}

#[async_trait]
impl Schedules for Driver {
    async fn upsert(&self, placed: Arc<Placed>) -> Result<()> {
        let now = self.clock.now();
        let name = placed.task.name.clone();
        lock(&self.tasks)
            .entry(name)
            .and_modify(|driven| driven.placed = Arc::clone(&placed))
            .or_insert_with(|| Driven {
                placed: Arc::clone(&placed),
                cursor: Cursor::starting(now),
                paused: None,
                pending: VecDeque::new(),
                next: None,
            });
        self.signal.notify(self.clock.busy());
        Ok(())
    }

    async fn remove(&self, task: &Name) -> Result<bool> {
        Ok(lock(&self.tasks).remove(task).is_some())
    }

    async fn statuses(&self) -> Result<Vec<ScheduleStatus>> {
        let status = |(task, driven): (&Name, &Driven)| ScheduleStatus {
            paused: driven.paused.clone(),
            live: driven.pending.len(),
            ..ScheduleStatus::new(task.clone(), driven.next.filter(|_| driven.paused.is_none()))
        };
        Ok(lock(&self.tasks).iter().map(status).collect())
    }

    async fn pause(&self, task: &Name, pause: Pause) -> Result<()> {
        self.change(task, |driven| driven.paused = Some(pause))
    }

    async fn resume(&self, task: &Name) -> Result<()> {
        let now = self.clock.now();
        self.change(task, |driven| {
            if driven.paused.take().is_some() {
                driven.cursor.resume(now);
            }
        })
    }
}

async fn drive(scheduler: Weak<Inner>) {
    let Some(busy) = scheduler.upgrade().map(|inner| inner.clock.busy()) else { return };
    loop {
        let Some(inner) = scheduler.upgrade() else { return };
        let signal = Arc::clone(&inner.driver.signal);
        let held = signal.take();
        let tasks: Vec<Name> = lock(&inner.driver.tasks).keys().cloned().collect();
        let mut wake: Option<Timestamp> = None;
        for task in &tasks {
            let again = inner.driver.step_task(&inner, task).await;
            wake = wake.into_iter().chain(again).min();
        }
        drop(held);
        let now = inner.clock.now();
        let pause = wake.map_or(MAX_SLEEP, |at| at.since(now).min(MAX_SLEEP));
        let mut sleep = inner.clock.sleep_until(inner.clock.monotonic() + pause);
        // While it sleeps, the driver does not keep the scheduler alive.
        drop(inner);
        // The sleep outlives the wait: on a test clock it holds the time until the driver itself does.
        busy.parked(select(&mut sleep, pin!(signal.notified()))).await;
        drop(sleep);
    }
}

/// Wakes the driver, and holds a test clock until the driver has looked.
#[derive(Debug, Default)]
struct Signal(Mutex<SignalState>);

#[derive(Debug, Default)]
struct SignalState {
    held: Option<Busy>,
    waker: Option<Waker>,
}

impl Signal {
    fn notify(&self, held: Busy) {
        let waker = {
            let mut state = lock(&self.0);
            state.held.get_or_insert(held);
            state.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    fn take(&self) -> Option<Busy> {
        lock(&self.0).held.take()
    }

    fn notified(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|cx: &mut Context<'_>| {
            let mut state = lock(&self.0);
            if state.held.is_some() {
                return Poll::Ready(());
            }
            state.waker = Some(cx.waker().clone());
            Poll::Pending
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
