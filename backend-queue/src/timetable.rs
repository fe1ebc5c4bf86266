//! The tasks that this daemon fires: when each is looked at next, and what is decided then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use scheduler_core::{
    CancelReason, ClockStep, ClockWatch, Error, Event, Live, MAX_SLEEP, Name, Pause, Placed, Result, Run,
    RunState, Schedule, ScheduleStatus, Step, Task, Tier, Timestamp, Trigger, ZoneWatch, plan,
};

use tokio::time::Instant;

use crate::driver::{Driver, SAFETY_POLL};
use crate::store::{Decided, Decision, Effect, Pushed, Standing, kept_queue};

/// How soon a task is looked at again whose next step depends on a run that lives, maybe elsewhere.
const LIVE_POLL: Duration = Duration::from_millis(100);
/// How often a paused task is looked at: another process may resume it.
const PAUSED_POLL: Duration = Duration::from_secs(1);
/// A task takes at most so many steps in a row, so that no other waits for it.
const MOST_STEPS: usize = 200;

/// A call that took so long may have been answered long before.
const SHORT: Duration = Duration::from_millis(500);
/// How long a store that lost its schedules is complained about once.
const ONE_LOSS: Duration = Duration::from_secs(60);

/// The tasks, by name.
#[derive(Debug, Default)]
pub(crate) struct Timetable {
    tasks: HashMap<Name, Scheduled>,
    /// Those that are looked at later because the store did not do as it was told, and when that was.
    put_off: HashMap<Name, Instant>,
    /// When it was last found that the store has lost its schedules.
    lost: Option<Instant>,
    /// The store's clock beside ours that is never set, since it was first seen.
    watch: Option<ClockWatch>,
    /// When the store's clock was last seen.
    seen: Option<Instant>,
    zones: ZoneWatch,
}

/// A task that this daemon fires.
#[derive(Debug)]
struct Scheduled {
    placed: Arc<Placed>,
    revision: u64,
    look_at: Option<Instant>,
    next: Option<Timestamp>,
    /// How far its fires are ahead of the store's clock, after that was set back.
    lag: Duration,
    /// The store's clock skipped time up to here since the last look.
    skipped_to: Option<Timestamp>,
}

/// What a step was.
#[derive(Debug)]
enum Planned {
    /// There may be another.
    Taken,
    /// Look again after so long, if ever; and when it fires next.
    Wait(Option<Duration>, Option<Timestamp>),
}

/// What a decision was made with, and what came of it.
#[derive(Debug)]
struct Deciding {
    planned: Planned,
    skipped: Option<Box<Run>>,
    watch: Option<ClockWatch>,
    step: Option<ClockStep>,
    lag: Duration,
    skipped_to: Option<Timestamp>,
}

impl Deciding {
    /// Sees what the store's clock shows: a call that took long says nothing of when that was.
    fn see(&mut self, now: Timestamp, began: Instant, monotonic: Duration, trigger: &Trigger) {
        if began.elapsed() >= SHORT {
            return;
        }
        let watch = self.watch.get_or_insert_with(|| ClockWatch::new(now, monotonic));
        if let Some(step) = watch.look(now, monotonic) {
            self.step = Some(step);
            self.lag = watch.lag_of(Some(trigger));
            self.skipped_to = step.has_skipped_time_of(trigger).then_some(step.to).or(self.skipped_to);
        }
    }
}

impl Timetable {
    /// When the next task is to be looked at: some task often enough to see it when the store's clock is set.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        let next = self.tasks.values().filter_map(|task| task.look_at).min()?;
        Some(self.seen.map_or(next, |seen| next.min(seen + MAX_SLEEP)))
    }

    /// The store's clock was set: every task is looked at now, and goes on as the watch says.
    fn note(&mut self, step: ClockStep, now: Instant) {
        let Some(watch) = self.watch else { return };
        for task in self.tasks.values_mut() {
            let Some(trigger) = &task.placed.task.trigger else { continue };
            task.lag = watch.lag_of(Some(trigger));
            task.skipped_to = step.has_skipped_time_of(trigger).then_some(step.to).or(task.skipped_to);
            task.look_at = task.look_at.map(|at| at.min(now));
        }
        if step.is_correction {
            tracing::warn!(
                "the clock of the store was corrected: schedules begin anew where they lie ahead of it"
            );
        }
    }

    /// A time-zone database may have changed: the tasks in a zone that did are looked at now.
    fn note_zones(&mut self, wall: Timestamp, monotonic: Duration) {
        let triggers = self.tasks.values().filter_map(|task| task.placed.task.trigger.as_ref());
        let changed = self.zones.look(triggers.filter_map(Trigger::zone), wall, monotonic);
        if changed.is_empty() {
            return;
        }
        tracing::info!("the time-zone database has changed: {changed:?}");
        let is_in = |task: &Scheduled| {
            let zone = task.placed.task.trigger.as_ref().and_then(Trigger::zone);
            zone.is_some_and(|zone| changed.contains(zone))
        };
        let now = Instant::now();
        for task in self.tasks.values_mut().filter(|task| is_in(task)) {
            task.look_at = task.look_at.map(|_| now);
        }
    }

    pub(crate) fn names(&self) -> Vec<Name> {
        self.tasks.keys().cloned().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Whether a task waits because the store did not do as it was told.
    pub(crate) fn is_any_put_off(&self) -> bool {
        !self.put_off.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.tasks.clear();
        self.put_off.clear();
    }
}

/// What tells one definition of a task from another: a hash of its words, and one of its trigger alone, from the
/// eighteenth character on.
fn definition(task: &Task) -> String {
    let (task, trigger) = (format!("{task:?}"), format!("{:?}", task.trigger));
    format!("{:016x}-{:016x}", hash(&task), hash(&trigger))
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Driver {
    pub(crate) async fn upsert(&mut self, placed: Arc<Placed>) -> Result<()> {
        let name = placed.task.name.clone();
        let revision = self.store.register(&name, &definition(&placed.task), self.config.lease).await?;
        let look_at = placed.task.trigger.is_some().then(Instant::now);
        let lag = self.timetable.watch.map(|watch| watch.lag_of(placed.task.trigger.as_ref()));
        let lag = lag.unwrap_or_default();
        let task = Scheduled { placed, revision, look_at, next: None, lag, skipped_to: None };
        self.timetable.tasks.insert(name.clone(), task);
        self.look(&name, self.looks_until()).await;
        Ok(())
    }

    pub(crate) fn remove(&mut self, task: &Name) -> bool {
        self.timetable.put_off.remove(task);
        self.timetable.tasks.remove(task).is_some()
    }

    pub(crate) async fn statuses(&mut self) -> Result<Vec<ScheduleStatus>> {
        let mut statuses = Vec::new();
        for name in self.timetable.names() {
            let standing = self.store.standing(&name).await?;
            let next = self.timetable.tasks.get(&name).and_then(|task| task.next);
            let mut status = ScheduleStatus::new(name, next);
            if let Some(standing) = standing {
                status.live = standing.live.running + standing.live.queued;
                status.next = next.filter(|_| standing.paused.is_none());
                status.paused = standing.paused;
            }
            statuses.push(status);
        }
        statuses.sort_by(|a, b| a.task.cmp(&b.task));
        Ok(statuses)
    }

    pub(crate) async fn pause(&mut self, task: &Name, pause: Option<Pause>) -> Result<()> {
        if !self.timetable.tasks.contains_key(task) {
            return Err(Error::not_found(
                "task/unknown",
                format!("no task `{task}` on backend `{}`", self.name),
            ));
        }
        self.store.pause(task, pause.as_ref()).await?;
        self.look(task, self.looks_until()).await;
        Ok(())
    }

    /// Looks at every task whose time has come.
    pub(crate) async fn look_at_due(&mut self) {
        self.timetable.note_zones(self.ctx.clock.now(), self.ctx.clock.monotonic());
        let (now, until) = (Instant::now(), self.looks_until());
        let look_at = |(name, task): (&Name, &Scheduled)| Some((task.look_at?, name.clone()));
        let mut due: Vec<_> = self.timetable.tasks.iter().filter_map(look_at).collect();
        if self.timetable.seen.is_some_and(|seen| seen + MAX_SLEEP <= now) {
            // Nothing was due for long: the first of all is looked at to see the store's clock.
            let first = due.iter().map(|(at, _)| *at).min();
            due.retain(|(at, _)| *at <= now || Some(*at) == first);
            self.timetable.seen = Some(now);
        } else {
            due.retain(|(at, _)| *at <= now);
        }
        // Whoever has waited longest comes first, so that none waits for one that is always behind.
        due.sort_unstable();
        for (_, name) in due {
            self.look(&name, until).await;
            if Instant::now() >= until {
                return;
            }
        }
    }

    /// Until when tasks are looked at before all else has its turn: leases, ends and commands wait meanwhile.
    fn looks_until(&self) -> Instant {
        Instant::now() + (self.config.lease / 10).min(SAFETY_POLL)
    }

    /// A run of this task ended: what waits for that is looked at now.
    pub(crate) fn look_soon(&mut self, task: &Name) {
        if let Some(task) = self.timetable.tasks.get_mut(task).filter(|task| task.look_at.is_some()) {
            task.look_at = Some(Instant::now());
        }
    }

    /// The store answers again: what was put off is looked at soon, however long its wait was to be.
    pub(crate) fn look_at_put_off(&mut self) {
        let Timetable { tasks, put_off, .. } = &mut self.timetable;
        for (name, since) in put_off {
            let soon = *since + SAFETY_POLL;
            if let Some(task) = tasks.get_mut(name) {
                task.look_at = task.look_at.map(|at| at.min(soon));
            }
        }
    }

    async fn look(&mut self, name: &Name, until: Instant) {
        for _ in 0..MOST_STEPS {
            match self.take_step(name).await {
                Ok(Planned::Taken) if Instant::now() >= until => break,
                Ok(Planned::Taken) => {}
                Ok(Planned::Wait(wait, next)) => {
                    self.timetable.put_off.remove(name);
                    if let Some(task) = self.timetable.tasks.get_mut(name) {
                        task.look_at = wait.map(after);
                        task.next = next;
                    }
                    return;
                }
                Err(error) => {
                    let wait = self.in_trouble(&error);
                    let now = Instant::now();
                    if let Some(task) = self.timetable.tasks.get_mut(name) {
                        task.look_at = task.look_at.map(|_| now + wait);
                        self.timetable.put_off.insert(name.clone(), now);
                    }
                    return;
                }
            }
        }
        self.timetable.put_off.remove(name);
        self.look_soon(name);
    }

    /// Registers a task again that the store knew and does not know any more.
    async fn begin_anew(&mut self, name: &Name, placed: &Placed) -> Result<Planned> {
        let revision = self.store.register(name, &definition(&placed.task), self.config.lease).await?;
        if let Some(task) = self.timetable.tasks.get_mut(name) {
            task.revision = revision;
        }
        let now = Instant::now();
        if self.timetable.lost.is_none_or(|before| now - before > ONE_LOSS) {
            tracing::error!(
                task = %name,
                "the store does not know it any more, so it has lost data: schedules begin anew, and runs may be lost"
            );
        }
        self.timetable.lost = Some(now);
        Ok(Planned::Taken)
    }

    async fn take_step(&mut self, name: &Name) -> Result<Planned> {
        let Some(task) = self.timetable.tasks.get(name) else { return Ok(Planned::Wait(None, None)) };
        let (placed, revision) = (Arc::clone(&task.placed), task.revision);
        let Some(schedule) = Schedule::of(&self.ctx.namespace, &placed.task) else {
            return Ok(Planned::Wait(None, None));
        };
        let (watch, lag, skipped_to) = (self.timetable.watch, task.lag, task.skipped_to);
        let (planned, skipped, step) = (Planned::Taken, None, None);
        let deciding = Mutex::new(Deciding { planned, skipped, watch, step, lag, skipped_to });
        let (began, clock) = (Instant::now(), &self.ctx.clock);
        let decide = |standing: Standing, now: Timestamp| {
            let mut deciding = lock(&deciding);
            deciding.see(now, began, clock.monotonic(), schedule.trigger);
            let mut standing = standing;
            if let Some(skipped_to) = deciding.skipped_to {
                standing.cursor.resume(skipped_to);
            }
            let (decision, planned) = decided(&schedule, standing, now, &mut deciding.lag, &self.name);
            deciding.skipped = match &decision.effect {
                Effect::Skip(run) => Some(run.clone()),
                Effect::Fire(..) | Effect::Nothing => None,
            };
            deciding.planned = planned;
            decision
        };
        let done = self.store.decide(name, revision, &decide).await;
        let Deciding { planned, skipped, watch, step, lag, .. } =
            deciding.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.note_clock(watch, step);
        let done = done?;
        if let Some(task) = self.timetable.tasks.get_mut(name) {
            (task.lag, task.skipped_to) = (lag, None);
        }
        match done {
            Decided::Done { ended, marked } => {
                for run in ended.iter().chain(skipped.as_deref()) {
                    self.ctx.events.emit(&Event::RunEnded { run, fence: 0 });
                }
                for id in marked {
                    self.tell_cancelled(id, CancelReason::Replaced);
                }
                Ok(planned)
            }
            Decided::Stale => {
                tracing::warn!(task = %name, "a newer definition of it is in the store: this daemon fires it no more");
                Ok(Planned::Wait(None, None))
            }
            Decided::Unknown => self.begin_anew(name, &placed).await,
        }
    }

    /// Keeps what a decision showed of the store's clock.
    fn note_clock(&mut self, watch: Option<ClockWatch>, step: Option<ClockStep>) {
        let now = Instant::now();
        self.timetable.watch = watch;
        self.timetable.seen = watch.map(|_| now);
        if let Some(step) = step {
            self.ctx.events.emit(&Event::ClockStepped { from: step.from, to: step.to });
            self.timetable.note(step, now);
        }
    }
}

/// That long from now, or as good as never.
fn after(wait: Duration) -> Instant {
    const LONGEST: Duration = Duration::from_secs(86_400);
    Instant::now() + wait.min(LONGEST)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next step of a schedule, pure. `lag` grows where the cursor lies ahead of the clock.
fn decided(
    schedule: &Schedule<'_>,
    standing: Standing,
    now: Timestamp,
    lag: &mut Duration,
    backend: &Name,
) -> (Decision, Planned) {
    let Standing { mut cursor, mut paused, live } = standing;
    match cursor.lag_behind(schedule.trigger, now) {
        Some(behind) => *lag = behind.max(*lag),
        None => {
            *lag = Duration::ZERO;
            cursor.begin_anew(schedule.trigger, now);
        }
    }
    let planned_at = now + *lag;
    if live == Live::default() && cursor.finished.is_some_and(|finished| finished < cursor.decided) {
        // It was told by a clock that was set back since, or never: it is as if it were now.
        cursor.finished = Some(planned_at);
    }
    if let Some(pause) = &paused {
        match pause.until {
            Some(until) if until <= now => {
                paused = None;
                cursor.resume(planned_at);
            }
            until => {
                let decision = Decision { cursor, paused, effect: Effect::Nothing };
                let poll = until.map_or(PAUSED_POLL, |until| until.since(now).min(PAUSED_POLL));
                return (decision, Planned::Wait(Some(poll), None));
            }
        }
    }
    let (effect, planned) = match plan(schedule, &mut cursor, live, planned_at) {
        Step::Fire { fire_time, entry } => {
            (Effect::Fire(Box::new(pushed(schedule, fire_time, now, backend)), entry), Planned::Taken)
        }
        Step::Skip { fire_time, reason } => {
            let run = pushed(schedule, fire_time, now, backend).run.into_skipped(now, reason.to_string());
            (Effect::Skip(Box::new(run)), Planned::Taken)
        }
        Step::Wait(at) => (Effect::Nothing, Planned::Wait(Some(at.since(planned_at)), Some(at - *lag))),
        Step::AwaitFinish => (Effect::Nothing, Planned::Wait(Some(LIVE_POLL), None)),
        Step::Done => (Effect::Nothing, Planned::Wait(None, None)),
    };
    (Decision { cursor, paused, effect }, planned)
}

fn pushed(schedule: &Schedule<'_>, fire_time: Timestamp, now: Timestamp, backend: &Name) -> Pushed {
    let task = schedule.task;
    let id = schedule.run_id(fire_time);
    let mut run = Run::queued(id, task.name.clone(), backend.clone(), Tier::Queue, fire_time);
    run.state = RunState::Queued;
    run.queue = task.queue.as_ref().and_then(kept_queue);
    run.unique = task.unique.as_ref().map(|unique| unique.key_of(&task.name, &run.params));
    Pushed {
        run,
        // An interval may be ahead of a clock that was set back; its run begins now all the same.
        due: fire_time.min(now),
        priority: task.priority.level(),
        max_attempts: task.retry.attempts_on(Tier::Queue),
        alone: task.overlap != scheduler_core::Overlap::Allow,
    }
}

/// Whether the next fire of a task follows from when its last run finished.
pub(crate) fn is_followed(placed: &Placed) -> bool {
    placed.task.trigger.as_ref().is_some_and(Trigger::follows_finish)
}

#[cfg(test)]
mod tests {
    use scheduler_core::{Cursor, Rule};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// What is decided of a rule whose cursor lies `ahead` of the clock, and how far its fires are ahead then.
    fn behind(rule: Rule, ahead: Duration) -> (Decision, Planned, Duration) {
        let now: Timestamp = "2026-06-15T12:00:00Z".parse().unwrap();
        let name = Name::new("t").unwrap();
        let mut task = Task::new(name.clone(), name.clone());
        task.trigger = Some(Trigger::new(rule, scheduler_core::Bounds::default()).unwrap());
        let schedule = Schedule::of(&name, &task).unwrap();
        let cursor = Cursor { runs: 3, ..Cursor::starting(now + ahead) };
        let standing = Standing { cursor, paused: None, live: Live::default() };
        let mut lag = Duration::ZERO;
        let (decision, planned) = decided(&schedule, standing, now, &mut lag, &name);
        (decision, planned, lag)
    }

    #[test]
    fn an_interval_whose_cursor_lies_ahead_of_the_clock_goes_on_within_its_period() {
        let every = Rule::Every(Duration::from_secs(10));
        let (decision, planned, lag) = behind(every.clone(), HOUR);
        let Planned::Wait(Some(wait), Some(next)) = planned else { panic!("{planned:?}") };
        assert!(wait <= Duration::from_secs(10), "{wait:?}");
        assert_eq!(next.to_string(), "2026-06-15T12:00:00.001Z");
        assert!(HOUR - lag <= Duration::from_millis(1), "{lag:?}");
        assert!(matches!(decision.effect, Effect::Nothing));

        let (decision, _, lag) = behind(every, 4 * HOUR);
        assert_eq!(lag, Duration::ZERO, "it was corrected");
        let Effect::Fire(pushed, _) = decision.effect else { panic!("{:?}", decision.cursor) };
        assert_eq!(pushed.run.fire_time.to_string(), "2026-06-15T12:00:00Z");
    }

    #[test]
    fn a_time_of_the_wall_clock_that_comes_again_waits() {
        let cron = Rule::Cron(scheduler_core::cron::Cron::parse("* * * * *", "UTC", "").unwrap());
        let (_, planned, lag) = behind(cron, HOUR);
        let Planned::Wait(Some(wait), _) = planned else { panic!("{planned:?}") };
        assert_eq!((wait, lag), (HOUR, Duration::ZERO));
    }

    #[test]
    fn a_definition_ends_with_what_the_trigger_is() {
        let name = Name::new("t").unwrap();
        let of = |seconds, timeout| {
            let mut task = Task::new(name.clone(), name.clone());
            task.trigger = Some(Trigger::every(Duration::from_secs(seconds)).unwrap());
            task.timeout = Some(Duration::from_secs(timeout));
            definition(&task)
        };
        assert_ne!(of(1, 1), of(1, 2));
        assert_eq!(of(1, 1)[17..], of(1, 2)[17..]);
        assert_ne!(of(1, 1)[17..], of(2, 1)[17..]);
    }
}
