//! The loop that owns the timers, the tasks and the runs.
//!
//! It handles what it is told, then what is due, then hands ready runs to the workers, and sleeps until the
//! next timer. Nothing else touches its state, and nothing in it waits for anything but time and messages.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_lite::future::or;
use scheduler_core::{
    BackendContext, Busy, CancelReason, Error, Event, Name, Pause, Placed, Result, Rule, Run, RunFilter,
    ScheduleStatus, Timestamp, Trigger,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::LocalConfig;
use crate::command::{Command, Message};
use crate::drain::Drain;
use crate::history::History;
use crate::history_file::{self, Writer};
use crate::live::{LiveRuns, ReadyQueue, RunKey};
use crate::tasks::{LocalTask, TaskKey, Tasks};
use crate::watch::{self, Activity};
use crate::wheel::Wheel;
use crate::workers::Workers;

/// The longest sleep, after which a wall clock that stepped is noticed at the latest.
const MAX_SLEEP: Duration = Duration::from_secs(30);
/// A difference between the clocks' pace that is a step, not drift.
const STEP: i64 = 1_000;
/// A step back that is a correction, after which schedules begin anew (after Vixie cron: 3 hours).
const CORRECTION: i64 = 3 * 3_600_000;
/// Messages handled before the timers are looked at again.
const BATCH: usize = 4_096;

/// History that outlives the loop.
pub(crate) type SharedHistory = Arc<Mutex<History>>;

/// What a timer is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Timer {
    /// The next step of a task, if the number still is its timer's.
    Task(TaskKey, u32),
    /// A run may be queued: its time has come, or its wait for the next attempt is over.
    Due(RunKey),
    /// An attempt, named by its fence, should have ended by now, whatever its job does.
    Overdue(RunKey, u64),
    /// The grace of a drain is over, or its patience.
    Drain,
}

/// The loop's state.
pub(crate) struct Engine {
    pub(crate) name: Name,
    pub(crate) config: LocalConfig,
    pub(crate) ctx: BackendContext,
    pub(crate) tasks: Tasks,
    pub(crate) live: LiveRuns,
    pub(crate) ready: ReadyQueue,
    pub(crate) wheel: Wheel<Timer>,
    pub(crate) workers: Workers,
    pub(crate) activity: Arc<Activity>,
    /// Attempts under way that count against the concurrency.
    pub(crate) attempts: usize,
    pub(crate) next_fence: u64,
    pub(crate) drain: Option<Drain>,
    pub(crate) ended: bool,
    history: SharedHistory,
    writer: Option<Writer>,
    unwritten: Vec<Arc<Run>>,
    /// The wall clock less the monotonic one, in milliseconds.
    offset: i64,
    /// How far intervals are ahead of a wall clock that was set back: they go on as if it had not been.
    lag: Duration,
}

/// Starts the loop on a thread of its own.
pub(crate) fn spawn(
    name: Name,
    config: LocalConfig,
    data_dir: Option<PathBuf>,
    before: Option<SharedHistory>,
    ctx: BackendContext,
    runtime: Handle,
) -> Result<(UnboundedSender<Message>, SharedHistory)> {
    let no_thread = |error| Error::unavailable("local/no_thread", "cannot start a thread").with_source(error);
    let (history, writer) = match data_dir {
        Some(folder) => {
            let path = history_file::path(&folder, &name);
            let history = history_file::load(&path, &config, ctx.clock.now())?;
            let writer = Writer::start(path, config.clone(), &history)?;
            (Arc::new(Mutex::new(history)), Some(writer))
        }
        None => {
            let empty = || Arc::new(Mutex::new(History::new(config.history_runs, config.history_age)));
            (before.unwrap_or_else(empty), None)
        }
    };
    let (sender, receiver) = unbounded_channel();
    let workers = Workers::start(runtime, sender.clone()).map_err(no_thread)?;
    let activity = Arc::new(Activity::default());
    watch::spawn(Arc::clone(workers.shared()), Arc::clone(&activity)).map_err(no_thread)?;
    let timers = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(no_thread)?;
    let (wall, monotonic) = (ctx.clock.now().as_millis(), ticks(ctx.clock.monotonic()));
    let shared = Arc::clone(&history);
    let engine = Engine {
        name,
        config,
        tasks: Tasks::default(),
        live: LiveRuns::default(),
        ready: ReadyQueue::default(),
        wheel: Wheel::new(monotonic),
        workers,
        activity,
        attempts: 0,
        // Above every fence of an earlier life, as long as that began at an earlier time of the wall clock.
        // A thousand deliveries a millisecond fit between, and JSON readers keep the number exact.
        next_fence: u64::try_from(wall).unwrap_or(0) << 10,
        drain: None,
        ended: false,
        history,
        writer,
        unwritten: Vec::new(),
        offset: wall - monotonic as i64,
        lag: Duration::ZERO,
        ctx,
    };
    // The loop begins held, so that a test clock does not move before it has found its first timer.
    let busy = engine.ctx.clock.busy();
    let builder = std::thread::Builder::new().name("scheduler-local".into());
    builder.spawn(move || timers.block_on(engine.run(receiver, busy))).map_err(no_thread)?;
    Ok((sender, shared))
}

impl Engine {
    async fn run(mut self, mut messages: UnboundedReceiver<Message>, busy: Busy) {
        let mut batch = Vec::new();
        while !self.ended {
            let clock = Arc::clone(&self.ctx.clock);
            let until = self.wheel.next_tick().map_or(Duration::MAX, Duration::from_millis);
            let until = until.min(clock.monotonic() + MAX_SLEEP);
            // The sleep outlives the wait: on a test clock it holds the time until the loop itself does.
            let mut sleep = clock.sleep_until(until);
            let told = {
                let receive = async { Some(messages.recv_many(&mut batch, BATCH).await) };
                let wait = async {
                    (&mut sleep).await;
                    None
                };
                busy.parked(or(receive, wait)).await
            };
            drop(sleep);
            if told == Some(0) {
                // Every handle is gone, and with them everybody who could wait for a drain.
                return;
            }
            self.note_time();
            let held: Vec<Busy> = batch.drain(..).map(|message| self.handle(message)).collect();
            self.run_timers();
            self.dispatch();
            self.check_drain();
            self.write_history();
            drop(held);
        }
    }

    fn handle(&mut self, message: Message) -> Busy {
        match message.command {
            // A caller that no longer waits for its answer does not matter.
            Command::Upsert(placed, reply) => drop(reply.send(self.upsert(placed))),
            Command::Remove(task, reply) => drop(reply.send(Ok(self.remove(&task)))),
            Command::Pause(task, pause, reply) => drop(reply.send(self.pause(&task, pause))),
            Command::Resume(task, reply) => drop(reply.send(self.resume(&task))),
            Command::Statuses(reply) => drop(reply.send(self.statuses())),
            Command::Enqueue(request, reply) => drop(reply.send(self.enqueue(*request))),
            Command::Cancel(run, reply) => drop(reply.send(self.cancel(&run))),
            Command::Runs(filter, reply) => drop(reply.send(self.page(&filter))),
            Command::Finished { run, fence, end, ctx } => self.finished(run, fence, end, &ctx),
            Command::Blocked { run, fence, since } => self.blocked(run, fence, since),
            Command::Stop { grace, reply } => self.stop(grace, reply),
        }
        message.held
    }

    fn run_timers(&mut self) {
        let now = ticks(self.ctx.clock.monotonic());
        let mut due = Vec::new();
        self.wheel.advance(now, |timer| due.push(timer));
        for timer in due {
            match timer {
                Timer::Task(task, number) => {
                    if self.tasks.get(task).is_some_and(|task| task.timer == number) {
                        self.step(task);
                    }
                }
                Timer::Due(run) => self.make_ready(run),
                Timer::Overdue(run, fence) => self.overdue(run, fence),
                Timer::Drain => {}
            }
        }
    }

    /// Sets a timer for an instant of the wall clock.
    pub(crate) fn set_timer(&mut self, at: Timestamp, timer: Timer) {
        let tick = u64::try_from(at.as_millis() - self.offset).unwrap_or(0);
        self.wheel.insert(tick, timer);
    }

    /// Sets a timer for so long from now.
    pub(crate) fn set_timer_in(&mut self, wait: Duration, timer: Timer) {
        self.wheel.insert(ticks(self.ctx.clock.monotonic().saturating_add(wait)), timer);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.ctx.clock.now()
    }

    /// How far the fire times of a task are ahead of the wall clock.
    pub(crate) fn lag_of(&self, placed: &Placed) -> Duration {
        match placed.task.trigger.as_ref().map(Trigger::rule) {
            Some(Rule::Every(_) | Rule::AfterFinish(_)) => self.lag,
            // These name times of the wall clock; what it shows again has fired already.
            Some(Rule::At(_) | Rule::Cron(_)) | None => Duration::ZERO,
        }
    }

    /// Compares the clocks: where the wall clock stepped, every schedule is looked at again.
    fn note_time(&mut self) {
        let (wall, monotonic) = (self.now(), self.ctx.clock.monotonic());
        let offset = wall.as_millis() - ticks(monotonic) as i64;
        let moved = offset - self.offset;
        self.offset = offset;
        if moved.abs() < STEP {
            return;
        }
        let from = Timestamp::from_millis(wall.as_millis() - moved);
        self.ctx.events.emit(&Event::ClockStepped { from, to: wall });
        let lag = i64::try_from(self.lag.as_millis()).unwrap_or(i64::MAX).saturating_sub(moved).max(0);
        let corrected = lag > CORRECTION;
        self.lag = if corrected { Duration::ZERO } else { Duration::from_millis(lag.unsigned_abs()) };
        for key in self.tasks.keys() {
            if corrected && let Some(task) = self.tasks.get_mut(key) {
                task.cursor.decided = wall - Duration::from_millis(1);
                task.cursor.finished = task.cursor.finished.map(|_| wall);
                task.cursor.resume(wall);
            }
            self.step(key);
        }
    }

    fn upsert(&mut self, placed: Arc<Placed>) -> Result<()> {
        let now = self.now();
        let key = match self.tasks.find(&placed.task.name) {
            Some(key) => {
                let task = self.tasks.get_mut(key).expect("a name leads to a task");
                task.placed = placed;
                key
            }
            None => {
                let now = now + self.lag_of(&placed);
                self.tasks.insert(LocalTask::new(placed, now))
            }
        };
        self.step(key);
        Ok(())
    }

    /// Forgets a task; its runs that wait for their turn would wait for ever, so they end.
    fn remove(&mut self, name: &Name) -> bool {
        let Some(task) = self.tasks.remove(name) else { return false };
        for run in task.waiting {
            self.cancel_run(run, CancelReason::Requested);
        }
        true
    }

    fn task(&mut self, name: &Name) -> Result<(TaskKey, &mut LocalTask)> {
        let unknown = || Error::not_found("task/unknown", format!("no task `{name}` on this backend"));
        let key = self.tasks.find(name).ok_or_else(unknown)?;
        let task = self.tasks.get_mut(key).ok_or_else(unknown)?;
        Ok((key, task))
    }

    fn pause(&mut self, name: &Name, pause: Pause) -> Result<()> {
        let (key, task) = self.task(name)?;
        task.paused = Some(pause);
        self.step(key);
        Ok(())
    }

    fn resume(&mut self, name: &Name) -> Result<()> {
        let (key, task) = self.task(name)?;
        let placed = Arc::clone(&task.placed);
        let now = self.now() + self.lag_of(&placed);
        if let Some(task) = self.tasks.get_mut(key).filter(|task| task.paused.is_some()) {
            task.paused = None;
            task.cursor.resume(now);
            self.step(key);
        }
        Ok(())
    }

    fn statuses(&self) -> Vec<ScheduleStatus> {
        let status = |task: &LocalTask| {
            let mut status = ScheduleStatus::new(task.placed.task.name.clone(), task.next);
            status.paused = task.paused.clone();
            status.live = task.running.len() + task.waiting.len();
            status
        };
        self.tasks.iter().map(status).collect()
    }

    fn page(&self, filter: &RunFilter) -> scheduler_core::Page {
        let live = self.live.iter().map(|live| &live.run).filter(|run| filter.matches(run)).cloned();
        let history = self.history();
        let ended = history.matching(filter).map(|run| (**run).clone());
        filter.page(live.chain(ended))
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an ended run into history and tells the listeners.
    pub(crate) fn record(&mut self, run: Run, fence: u64) {
        self.ctx.events.emit(&Event::RunEnded { run: &run, fence });
        let now = run.finished_at.unwrap_or_else(|| self.now());
        let run = Arc::new(run);
        self.history().push(Arc::clone(&run), now);
        if self.writer.is_some() {
            self.unwritten.push(run);
        }
    }

    fn write_history(&mut self) {
        if let Some(writer) = self.writer.as_mut().filter(|_| !self.unwritten.is_empty()) {
            writer.append(std::mem::take(&mut self.unwritten));
        }
    }

    /// Writes what is left and waits for the disk; the last thing before the loop ends.
    pub(crate) fn close_history(&mut self) {
        self.write_history();
        self.writer = None;
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.workers.shared().ending.cancel(CancelReason::Shutdown);
        self.activity.set(true);
    }
}

fn ticks(monotonic: Duration) -> u64 {
    u64::try_from(monotonic.as_millis()).unwrap_or(u64::MAX)
}
