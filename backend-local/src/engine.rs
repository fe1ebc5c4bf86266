//! The loop that owns the timers, the tasks and the runs.
//!
//! It notes what ended and what it is told, then takes what is due a piece at a time and hands it to the workers, and
//! sleeps until the next timer. Nothing else touches its state, and nothing in it waits for anything but time and
//! messages.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use scheduler_core::{
    BackendContext, Busy, CancelReason, Error, Event, Load, MAX_SLEEP, Name, Placed, Result, Run, RunFilter,
    RunState, Timestamp, ZoneWatch,
};
use tokio::runtime::Handle;

use crate::LocalConfig;
use crate::command::{Command, Ended, Message};
use crate::drain::Drain;
use crate::history::{Entry, History};
use crate::history_file::{self, Writer};
use crate::inbox::Inbox;
use crate::live::{LiveRuns, Owner, ReadyQueue, RunKey};
use crate::page::{Living, page};
use crate::pulse::Pulse;
use crate::tasks::{FETCHED, TaskKey, Tasks};
use crate::watch::{self, Activity};
use crate::wheel::Wheel;
use crate::workers::Workers;

/// Messages handled before the timers are looked at again.
const BATCH: usize = 4_096;
/// How long attempts may be under way before somebody watches whether they block: most have ended by then.
const CALM: Duration = Duration::from_millis(5);
/// Due tasks that are fired before what ended is noted; of those the higher priority starts first.
const PIECE: usize = 512;

/// History that outlives the loop; empty while one has it.
pub(crate) type SharedHistory = Arc<Mutex<Option<History>>>;

/// What a timer of a run, or of the loop, is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Timer {
    /// A run may be queued: its time has come, or its wait for the next attempt is over.
    Due(RunKey),
    /// An attempt, named by its fence, should have ended by now, whatever its job does.
    Overdue(RunKey, u64),
    /// The grace of a drain is over, or its patience.
    Drain,
}

/// The loop's state.
pub(crate) struct Engine {
    pub(crate) owner: Owner,
    pub(crate) config: LocalConfig,
    pub(crate) ctx: BackendContext,
    pub(crate) pulse: Pulse,
    pub(crate) zones: ZoneWatch,
    pub(crate) tasks: Tasks,
    pub(crate) live: LiveRuns,
    pub(crate) ready: ReadyQueue,
    /// The next step of each task, if the number still is its timer's.
    task_timers: Wheel<(TaskKey, u32)>,
    run_timers: Wheel<Timer>,
    pub(crate) workers: Workers,
    inbox: Arc<Inbox>,
    activity: Arc<Activity>,
    /// Since when attempts have been under way without a break, on the monotonic clock.
    busy_since: Option<Duration>,
    /// Attempts under way that count against the concurrency.
    pub(crate) attempts: usize,
    pub(crate) next_fence: u64,
    pub(crate) drain: Option<Drain>,
    pub(crate) ended: bool,
    /// Whether anybody hears of runs that go well.
    pub(crate) is_heard: bool,
    pub(crate) history: History,
    shared_history: SharedHistory,
    pub(crate) writer: Option<Writer>,
    unwritten: Vec<Arc<Run>>,
    /// Room that is used again.
    due: Vec<(TaskKey, u32)>,
    ends: Vec<Ended>,
}

/// Starts the loop on a thread of its own.
pub(crate) fn spawn(
    name: &Name,
    config: LocalConfig,
    data_dir: Option<PathBuf>,
    before: SharedHistory,
    ctx: BackendContext,
    runtime: Handle,
) -> Result<Arc<Inbox>> {
    let no_thread = |error| Error::unavailable("local/no_thread", "cannot start a thread").with_source(error);
    let owner = Owner { namespace: ctx.namespace.clone(), backend: name.clone() };
    let (history, writer) = match data_dir {
        Some(folder) => {
            let path = history_file::path(&folder, name);
            let history = history_file::load(&path, &config, ctx.clock.now())?;
            let writer = Writer::start(path, config.clone(), &history, owner.clone())?;
            (history, Some(writer))
        }
        None => {
            let before = before.lock().unwrap_or_else(PoisonError::into_inner).take();
            (before.unwrap_or_else(|| History::new(config.history_runs, config.history_age)), None)
        }
    };
    let inbox = Arc::new(Inbox::new(Arc::clone(&ctx.clock)).map_err(no_thread)?);
    let workers = Workers::start(runtime.clone(), Arc::clone(&inbox), owner.clone(), ctx.run_host())
        .map_err(no_thread)?;
    let activity = Arc::new(Activity::default());
    watch::spawn(Arc::clone(workers.shared()), Arc::clone(&activity)).map_err(no_thread)?;
    let pulse = Pulse::new(&*ctx.clock);
    let engine = Engine {
        owner,
        config,
        tasks: Tasks::default(),
        live: LiveRuns::default(),
        ready: ReadyQueue::default(),
        task_timers: Wheel::new(pulse.tick()),
        run_timers: Wheel::new(pulse.tick()),
        workers,
        inbox: Arc::clone(&inbox),
        activity,
        busy_since: None,
        attempts: 0,
        // Above every fence of an earlier life, as long as that began at an earlier time of the wall clock.
        // A thousand deliveries a millisecond fit between, and JSON readers keep the number exact.
        next_fence: u64::try_from(pulse.wall().as_millis()).unwrap_or(0) << 10,
        drain: None,
        ended: false,
        is_heard: true,
        history,
        shared_history: before,
        writer,
        unwritten: Vec::new(),
        pulse,
        zones: ZoneWatch::default(),
        due: Vec::new(),
        ends: Vec::new(),
        ctx,
    };
    // The loop begins held, so that a test clock does not move before it has found its first timer.
    let busy = engine.ctx.clock.busy();
    let builder = std::thread::Builder::new().name("scheduler-local".into());
    let run = move || {
        // For a clock that waits by the program's tokio.
        let _entered = runtime.enter();
        engine.run(&busy);
    };
    builder.spawn(run).map_err(no_thread)?;
    Ok(inbox)
}

impl Engine {
    fn run(mut self, busy: &Busy) {
        let clock = Arc::clone(&self.ctx.clock);
        let mut messages = Vec::new();
        while !self.ended {
            let timers = [self.task_timers.next_tick(), self.run_timers.next_tick()];
            let next = timers.into_iter().flatten().min();
            let until = next.map_or(Duration::MAX, |tick| self.pulse.begin_of(tick));
            let until = until.min(self.watch_over_attempts());
            self.inbox.wait(until.min(clock.monotonic() + MAX_SLEEP), busy);
            self.note_time();
            self.is_heard = self.ctx.events.is_heard();
            // What ended before somebody asked is noted before it is answered.
            self.inbox.take_messages(&mut messages, BATCH);
            self.note_ends();
            for message in messages.drain(..) {
                self.handle(message);
            }
            self.fire_due();
            self.check_drain();
            self.write_history();
        }
    }

    fn handle(&mut self, message: Message) {
        match message.command {
            // A caller that no longer waits for its answer does not matter.
            Command::Upsert(placed, reply) => {
                self.upsert(placed);
                drop(reply.send(Ok(())));
            }
            Command::UpsertAll(tasks, reply) => {
                self.upsert_all(tasks);
                let _ = reply.send(());
            }
            Command::RemoveAll(tasks, reply) => drop(reply.send(self.remove_all(&tasks))),
            Command::PauseAll(tasks, pause, reply) => drop(reply.send(self.pause_all(&tasks, &pause))),
            Command::ResumeAll(tasks, reply) => drop(reply.send(self.resume_all(&tasks))),
            Command::Remove(task, reply) => drop(reply.send(Ok(self.remove(&task)))),
            Command::Pause(task, pause, reply) => drop(reply.send(self.pause(&task, pause))),
            Command::Resume(task, reply) => drop(reply.send(self.resume(&task))),
            Command::Statuses(reply) => drop(reply.send(self.statuses())),
            Command::Load(reply) => drop(reply.send(self.load())),
            Command::Ping(reply) => drop(reply.send(())),
            Command::Enqueue(request, reply) => drop(reply.send(self.enqueue(*request))),
            Command::Cancel(run, reply) => drop(reply.send(self.cancel(&run))),
            Command::Runs(filter, reply) => drop(reply.send(self.page(&filter))),
            Command::Beyond { bounds, skip, limit, reply } => {
                drop(reply.send(self.beyond(&bounds, skip, limit)));
            }
            Command::Forget { bounds, limit, reply } => self.forget(&bounds, limit, reply),
            Command::Blocked { run, fence, since } => self.blocked(run, fence, since),
            Command::Stop { grace, reply } => self.stop(grace, reply),
        }
        // The loop itself holds a test clock until it waits again.
        drop(message.held);
    }

    /// Notes every end so far.
    fn note_ends(&mut self) {
        let mut ends = std::mem::take(&mut self.ends);
        self.inbox.take_ends(&mut ends);
        for ended in ends.drain(..) {
            self.finished(ended);
        }
        self.ends = ends;
    }

    /// Takes part in what goes on meanwhile, during a long piece of work.
    pub(crate) fn look_around(&mut self) {
        self.note_time();
        self.note_ends();
        self.fire_due();
    }

    /// Takes what is due, a piece at a time, so that the first jobs run while the rest is decided.
    fn fire_due(&mut self) {
        let tick = self.pulse.tick();
        let mut timers = Vec::new();
        self.run_timers.advance(tick, |timer| timers.push(timer));
        for timer in timers {
            match timer {
                Timer::Due(run) => self.make_ready(run),
                Timer::Overdue(run, fence) => self.overdue(run, fence),
                Timer::Drain => {}
            }
        }
        let mut due = std::mem::take(&mut self.due);
        self.task_timers.advance(tick, |timer| due.push(timer));
        self.dispatch();
        for (index, piece) in due.chunks(PIECE).enumerate() {
            if index > 0 {
                self.pulse.refresh(&*self.ctx.clock);
            }
            for few in piece.chunks(FETCHED) {
                std::hint::black_box(self.tasks.fetch(few.iter().map(|(task, _)| *task)));
                for (task, number) in few {
                    if self.tasks.get(*task).is_some_and(|task| task.timer == *number) {
                        self.step(*task);
                    }
                }
            }
            self.dispatch();
            self.note_ends();
        }
        due.clear();
        // A burst leaves no room behind that nobody needs.
        due.shrink_to(64 * PIECE);
        self.due = due;
        self.dispatch();
    }

    /// Has somebody watch attempts that are under way for a while; answers when to look at that again.
    fn watch_over_attempts(&mut self) -> Duration {
        if self.attempts == 0 {
            self.busy_since = None;
            self.activity.set(false);
            return Duration::MAX;
        }
        let clock = &self.ctx.clock;
        let watched_from = *self.busy_since.get_or_insert_with(|| clock.monotonic()) + CALM;
        // What blocks a thread takes real time, which only the machine's own clock shows.
        if clock.thread_sleep(watched_from).is_some_and(|left| !left.is_zero()) {
            return watched_from;
        }
        self.activity.set(true);
        Duration::MAX
    }

    /// Sets a task's timer for an instant of the wall clock.
    pub(crate) fn set_task_timer(&mut self, at: Timestamp, task: TaskKey, number: u32) {
        self.task_timers.insert(self.pulse.tick_at(at), (task, number));
    }

    /// Sets a timer for an instant of the wall clock.
    pub(crate) fn set_timer(&mut self, at: Timestamp, timer: Timer) {
        self.run_timers.insert(self.pulse.tick_at(at), timer);
    }

    /// Sets a timer for so long from now.
    pub(crate) fn set_timer_in(&mut self, wait: Duration, timer: Timer) {
        self.run_timers.insert(self.pulse.tick_in(wait), timer);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.pulse.wall()
    }

    /// How far the fire times of a task are ahead of the wall clock.
    pub(crate) fn lag_of(&self, placed: &Placed) -> Duration {
        self.pulse.watch().lag_of(placed.task.trigger.as_ref())
    }

    /// Compares the clocks: where the wall clock was set, every schedule is looked at again.
    fn note_time(&mut self) {
        let step = self.pulse.look(&*self.ctx.clock);
        self.note_zones();
        let Some(step) = step else { return };
        self.ctx.events.emit(&Event::ClockStepped { from: step.from, to: step.to });
        for key in self.tasks.keys() {
            if let Some(task) = self.tasks.get_mut(key) {
                task.follow(&step);
            }
            self.step(key);
        }
    }

    /// A time-zone database may have changed: the tasks in a zone that did are looked at again.
    fn note_zones(&mut self) {
        let tasks = &self.tasks;
        let zone_of = |key: TaskKey| tasks.get(key)?.placed.task.trigger.as_ref()?.zone();
        // Only gone through when it is time to look.
        let zones = (0..1).flat_map(|_| tasks.keys()).filter_map(zone_of);
        let changed = self.zones.look(zones, self.pulse.wall(), self.pulse.monotonic());
        if changed.is_empty() {
            return;
        }
        let is_in = |key: &TaskKey| zone_of(*key).is_some_and(|zone| changed.contains(zone));
        let moved: Vec<TaskKey> = tasks.keys().into_iter().filter(is_in).collect();
        moved.into_iter().for_each(|key| self.step(key));
    }

    fn page(&self, filter: &RunFilter) -> scheduler_core::Page {
        let live: Vec<Living<'_>> =
            self.live.iter().filter_map(|(_, run)| Some((run, self.name_of(run)?))).collect();
        page(filter, &self.history, &self.tasks, &live, &self.owner)
    }

    /// How much there is to do: one pass over the runs that live.
    fn load(&self) -> Load {
        let (mut load, now) = (Load::default(), self.now());
        for (_, run) in self.live.iter() {
            let state = run.state();
            let next = run.whole.as_ref().and_then(|run| run.next_attempt_at);
            if run.is_under_way {
                load.under_way += 1;
            } else if matches!(state, RunState::Scheduled | RunState::Retrying)
                || next.is_some_and(|at| at > now)
            {
                load.ahead += 1;
            } else {
                load.waiting += 1;
                if !run.waits_for_turn {
                    let due = next.unwrap_or(run.fire_time);
                    load.oldest_due = Some(load.oldest_due.map_or(due, |oldest| oldest.min(due)));
                }
            }
        }
        load
    }

    /// Puts an ended run into history and tells the listeners; answers its number.
    pub(crate) fn record(&mut self, run: Run, fence: u64, has_place: bool) -> (u64, Arc<Run>) {
        self.ctx.events.emit(&Event::RunEnded { run: &run, fence });
        let now = run.finished_at.unwrap_or_else(|| self.now());
        let run = Arc::new(run);
        if self.writer.is_some() {
            self.unwritten.push(Arc::clone(&run));
        }
        let number = if has_place {
            self.history.push(Entry::Whole(Arc::clone(&run)), now)
        } else {
            self.history.push_alone(Arc::clone(&run), now);
            0
        };
        (number, run)
    }

    pub(crate) fn write_history(&mut self) {
        if let Some(writer) = self.writer.as_mut().filter(|_| !self.unwritten.is_empty()) {
            writer.append(std::mem::take(&mut self.unwritten));
        }
    }

    /// Writes what is left and waits for the disk; the last thing before the loop ends.
    pub(crate) fn close_history(&mut self) {
        self.write_history();
        self.writer = None;
    }

    /// Leaves history to whoever asks for it when the loop has ended.
    pub(crate) fn leave_history(&mut self) {
        let empty = History::new(self.config.history_runs, self.config.history_age);
        let mut history = std::mem::replace(&mut self.history, empty);
        let former = std::mem::replace(&mut history.former, std::mem::take(&mut self.tasks));
        history.former.add_missing(former);
        *self.shared_history.lock().unwrap_or_else(PoisonError::into_inner) = Some(history);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.ended {
            self.leave_history();
        }
        self.inbox.close();
        self.workers.shared().ending.cancel(CancelReason::Shutdown);
        self.activity.set(true);
    }
}
