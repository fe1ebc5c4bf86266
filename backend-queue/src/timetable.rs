//! The tasks that this daemon fires: when each is looked at next, and what is decided then.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{
    CancelReason, Error, Event, Name, Pause, Placed, Result, Run, RunState, Schedule, ScheduleStatus, Step,
    Tier, Timestamp, Trigger, plan,
};

use tokio::time::Instant;

use crate::driver::{Driver, SAFETY_POLL};
use crate::store::{Decided, Decision, Effect, Pushed, Standing};

/// How soon a task is looked at again whose next step depends on a run that lives, maybe elsewhere.
const LIVE_POLL: Duration = Duration::from_millis(100);
/// How often a paused task is looked at: another process may resume it.
const PAUSED_POLL: Duration = Duration::from_secs(1);
/// A task takes at most so many steps in a row, so that no other waits for it.
const MOST_STEPS: usize = 200;

/// How long a store that lost its schedules is complained about once.
const ONE_LOSS: Duration = Duration::from_secs(60);

/// The tasks, by name.
#[derive(Debug, Default)]
pub(crate) struct Timetable {
    tasks: HashMap<Name, Scheduled>,
    /// Those that are looked at later because the store did not do as it was told, and when that was.
    put_off: HashMap<Name, Timestamp>,
    /// When it was last found that the store has lost its schedules.
    lost: Option<Timestamp>,
}

/// A task that this daemon fires.
#[derive(Debug)]
struct Scheduled {
    placed: Arc<Placed>,
    revision: u64,
    look_at: Option<Timestamp>,
    next: Option<Timestamp>,
}

/// What a step was.
enum Planned {
    /// There may be another.
    Taken,
    Wait(Option<Timestamp>, Option<Timestamp>),
}

impl Timetable {
    /// When the next task is to be looked at.
    pub(crate) fn next_look(&self) -> Option<Timestamp> {
        self.tasks.values().filter_map(|task| task.look_at).min()
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

/// What tells one definition of a task from another: its words, hashed by FNV-1a.
fn definition(placed: &Placed) -> String {
    let text = format!("{:?}", placed.task);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

impl Driver {
    pub(crate) async fn upsert(&mut self, placed: Arc<Placed>) -> Result<()> {
        let name = placed.task.name.clone();
        let revision = self.store.register(&name, &definition(&placed), self.config.lease).await?;
        let now = self.ctx.clock.now();
        let look_at = placed.task.trigger.is_some().then_some(now);
        self.timetable.tasks.insert(name.clone(), Scheduled { placed, revision, look_at, next: None });
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
        let (now, until) = (self.ctx.clock.now(), self.looks_until());
        let look_at = |(name, task): (&Name, &Scheduled)| Some((task.look_at?, name.clone()));
        let mut due: Vec<_> = self.timetable.tasks.iter().filter_map(look_at).collect();
        due.retain(|(at, _)| *at <= now);
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
        let now = self.ctx.clock.now();
        if let Some(task) = self.timetable.tasks.get_mut(task).filter(|task| task.look_at.is_some()) {
            task.look_at = Some(now);
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
                Ok(Planned::Wait(look_at, next)) => {
                    self.timetable.put_off.remove(name);
                    if let Some(task) = self.timetable.tasks.get_mut(name) {
                        task.look_at = look_at;
                        task.next = next;
                    }
                    return;
                }
                Err(error) => {
                    let wait = self.in_trouble(&error);
                    let now = self.ctx.clock.now();
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
        let revision = self.store.register(name, &definition(placed), self.config.lease).await?;
        if let Some(task) = self.timetable.tasks.get_mut(name) {
            task.revision = revision;
        }
        let now = self.ctx.clock.now();
        if self.timetable.lost.is_none_or(|before| now.since(before) > ONE_LOSS) {
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
        let planned = std::sync::Mutex::new(Planned::Taken);
        let skipped = std::sync::Mutex::new(None);
        let decide = |standing: Standing, now: Timestamp| {
            let (decision, step) = decided(&schedule, standing, now, &self.name);
            if let Effect::Skip(run) = &decision.effect {
                *lock(&skipped) = Some(run.clone());
            }
            *lock(&planned) = step;
            decision
        };
        match self.store.decide(name, revision, &decide).await? {
            Decided::Done { ended, marked } => {
                for run in ended.iter().chain(lock(&skipped).as_deref()) {
                    self.ctx.events.emit(&Event::RunEnded { run, fence: 0 });
                }
                for id in marked {
                    self.tell_cancelled(id, CancelReason::Replaced);
                }
                Ok(planned.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
            }
            Decided::Stale => {
                tracing::warn!(task = %name, "a newer definition of it is in the store: this daemon fires it no more");
                Ok(Planned::Wait(None, None))
            }
            Decided::Unknown => self.begin_anew(name, &placed).await,
        }
    }
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The next step of a schedule, pure.
fn decided(
    schedule: &Schedule<'_>,
    standing: Standing,
    now: Timestamp,
    backend: &Name,
) -> (Decision, Planned) {
    let Standing { mut cursor, mut paused, live } = standing;
    if let Some(pause) = &paused {
        match pause.until {
            Some(until) if until <= now => {
                paused = None;
                cursor.resume(now);
            }
            until => {
                let decision = Decision { cursor, paused, effect: Effect::Nothing };
                let poll = now + PAUSED_POLL;
                return (decision, Planned::Wait(Some(until.map_or(poll, |until| until.min(poll))), None));
            }
        }
    }
    let soon = Some(now + LIVE_POLL);
    let (effect, planned) = match plan(schedule, &mut cursor, live, now) {
        Step::Fire { fire_time, entry } => {
            (Effect::Fire(Box::new(pushed(schedule, fire_time, backend)), entry), Planned::Taken)
        }
        Step::Skip { fire_time, reason } => {
            let run = pushed(schedule, fire_time, backend).run.into_skipped(now, reason.to_string());
            (Effect::Skip(Box::new(run)), Planned::Taken)
        }
        Step::Wait(at) => (Effect::Nothing, Planned::Wait(Some(at), Some(at))),
        Step::AwaitFinish => (Effect::Nothing, Planned::Wait(soon, None)),
        Step::Done => (Effect::Nothing, Planned::Wait(None, None)),
    };
    (Decision { cursor, paused, effect }, planned)
}

fn pushed(schedule: &Schedule<'_>, fire_time: Timestamp, backend: &Name) -> Pushed {
    let task = schedule.task;
    let id = schedule.run_id(fire_time);
    let mut run = Run::queued(id, task.name.clone(), backend.clone(), Tier::Queue, fire_time);
    run.state = RunState::Queued;
    Pushed {
        run,
        due: fire_time,
        priority: task.priority.level(),
        max_attempts: task.retry.attempts_on(Tier::Queue),
        alone: task.overlap != scheduler_core::Overlap::Allow,
    }
}

/// Whether the next fire of a task follows from when its last run finished.
pub(crate) fn is_followed(placed: &Placed) -> bool {
    placed.task.trigger.as_ref().is_some_and(Trigger::follows_finish)
}
