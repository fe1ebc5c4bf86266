//! Starting and stopping all backends at once, and bringing back one that was away.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::join_all;

use crate::scheduler::{Inner, Member};
use crate::{
    BackendContext, Busy, CancelReason, CancelToken, Drained, Event, Name, Placed, Result, RunFilter, RunId,
    RunOrigin, RunRequest, Scheduler, Task, Timestamp, Trigger,
};

/// How long to wait before a backend that did not start is tried again.
const RESTART_PAUSE: Duration = Duration::from_secs(5);

/// Whether a scheduler runs.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    /// Makes starting and stopping take turns, so it is held while backends start and stop.
    turn: futures_util::lock::Mutex<()>,
    running: Mutex<Option<Running>>,
}

/// A scheduler that has been started.
#[derive(Clone, Debug)]
struct Running {
    /// Ends the driver; cancelled without waiting for a turn, which the driver may have taken.
    stopping: CancelToken,
    /// Cancelled by the driver when it has ended.
    ended: CancelToken,
}

impl Lifecycle {
    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_driver(&self) -> Option<Running> {
        let running = self.running().clone();
        running.iter().for_each(|running| running.stopping.cancel(CancelReason::Shutdown));
        running
    }
}

impl Drop for Lifecycle {
    /// The thread of the driver hears that the scheduler is gone.
    fn drop(&mut self) {
        self.end_driver();
    }
}

/// How a scheduler sees one of its backends.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    phase: Phase,
    /// Why it is down, while the scheduler runs without it.
    down: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Phase {
    #[default]
    Stopped,
    /// It was told to start, and nobody has heard yet how that went.
    Starting,
    /// It runs and has its tasks.
    Up,
}

impl Member {
    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_phase(&self, phase: Phase) {
        self.standing().phase = phase;
    }

    /// Whether it runs and has its tasks.
    pub(crate) fn is_up(&self) -> bool {
        self.standing().phase == Phase::Up
    }

    /// Why the scheduler runs without it, if it does.
    pub(crate) fn down(&self) -> Option<String> {
        self.standing().down.clone()
    }
}

impl Inner {
    pub(crate) async fn start(self: &Arc<Self>) -> Result<()> {
        let _turn = self.lifecycle.turn.lock().await;
        let before = self.lifecycle.running().clone();
        if let Some(running) = before {
            if running.stopping.reason().is_none() {
                return Ok(());
            }
            // A stop that its caller gave up half-way: the driver must be gone before there is another.
            running.ended.cancelled().await;
        }
        let started = join_all(self.backends.iter().map(|member| self.start_member(member))).await;
        let refused = self.backends.iter().zip(started).filter(|(member, _)| member.required);
        let result = match refused.filter_map(|(_, result)| result.err()).next() {
            None => self.start_driver(),
            Some(error) => Err(error),
        };
        if result.is_err()
            && let Err(error) = self.stop_members(Some(Duration::ZERO)).await
        {
            tracing::warn!("a backend was not stopped again after the start failed: {error}");
        }
        result
    }

    fn start_driver(self: &Arc<Self>) -> Result<()> {
        let running = Running { stopping: CancelToken::new(), ended: CancelToken::new() };
        if self.driver.is_needed() || self.backends.iter().any(|member| member.down().is_some()) {
            let (stopping, ended) = (running.stopping.clone(), running.ended.clone());
            self.driver.spawn(&Arc::downgrade(self), stopping, ended)?;
        } else {
            running.ended.cancel(CancelReason::Shutdown);
        }
        *self.lifecycle.running() = Some(running);
        Ok(())
    }

    pub(crate) async fn stop(&self, grace: Duration) -> Result<Drained> {
        // A test clock waits until the backends themselves wait.
        let busy = self.clock.busy();
        self.lifecycle.end_driver();
        let _turn = busy.parked(self.lifecycle.turn.lock()).await;
        if let Some(running) = self.lifecycle.end_driver() {
            // It enqueues nothing while the backends stop, and starts none.
            running.ended.cancelled().await;
        }
        self.lifecycle.running().take();
        busy.parked(self.stop_members(Some(grace))).await
    }

    /// Ends now, also while somebody else waits for a slower stop.
    pub(crate) async fn abort(&self) -> Result<Drained> {
        self.lifecycle.end_driver();
        // A stop under way has taken the turn until its backends are done, which this brings forward.
        let cut = self.stop_members(None).await;
        let rest = self.stop(Duration::ZERO).await;
        let mut drained = cut?;
        drained.add(rest?);
        Ok(drained)
    }

    /// What every backend is given.
    fn context(self: &Arc<Self>) -> BackendContext {
        BackendContext {
            namespace: self.namespace.clone(),
            clock: Arc::clone(&self.clock),
            tasks: self.tasks.clone(),
            registry: Arc::clone(&self.registry),
            state: Arc::clone(&self.state),
            events: self.events.clone(),
            scheduler: Scheduler(Arc::clone(self)).downgrade(),
            data_dir: self.data_dir.clone(),
        }
    }

    /// Connects every backend, without starting any; answers those that keep something outside of the process.
    pub(crate) async fn connect(self: &Arc<Self>) -> Result<Vec<Name>> {
        let _turn = self.lifecycle.turn.lock().await;
        let connecting = self.backends.iter().map(|member| member.backend.connect(self.context()));
        let (mut connected, mut refused) = (Vec::new(), None);
        for (member, answer) in self.backends.iter().zip(join_all(connecting).await) {
            match answer {
                Ok(()) => {
                    member.standing().down = None;
                    connected.push(member.info.name.clone());
                }
                Err(error) if error.code() == "backend/not_kept_outside" => {}
                Err(error) if member.required => refused = refused.or(Some(error)),
                Err(error) => {
                    let (backend, reason) = (&member.info.name, error.to_string());
                    self.events.emit(&Event::BackendDown { backend, reason: &reason });
                    member.standing().down = Some(reason);
                }
            }
        }
        refused.map_or(Ok(connected), Err)
    }

    /// Starts one backend and hands it its tasks; one that fails does not run.
    async fn start_member(self: &Arc<Self>, member: &Member) -> Result<()> {
        member.set_phase(Phase::Starting);
        let result = self.start_and_fill(member, self.context()).await;
        let down = result.as_ref().err().map(ToString::to_string);
        if down.is_some() {
            member.set_phase(Phase::Stopped);
        }
        // The error of a required one goes to the caller, who tells it.
        let before = match (&down, member.required) {
            (Some(_), true) => return result.map(drop),
            _ => std::mem::replace(&mut member.standing().down, down.clone()),
        };
        let backend = &member.info.name;
        match (before, &down) {
            (None, Some(reason)) => self.events.emit(&Event::BackendDown { backend, reason }),
            (Some(_), None) => self.events.emit(&Event::BackendUp { backend }),
            (None, None) | (Some(_), Some(_)) => {}
        }
        self.fire_at_start(member, &result?).await;
        Ok(())
    }

    /// Fires the tasks that fire at a start; one that is paused does not, nor one whose pause cannot be asked for.
    async fn fire_at_start(&self, member: &Member, tasks: &[Arc<Placed>]) {
        let fire_time = self.clock.now();
        let is_own = |placed: &&Arc<Placed>| member.schedules_for(&placed.task).is_some();
        let (own, driven): (Vec<_>, Vec<_>) = tasks.iter().partition(is_own);
        for tasks in [own, driven] {
            let Some(first) = tasks.first() else { continue };
            let paused = self.schedules_of(member, &first.task).statuses().await.map(|all| {
                let paused = all.into_iter().filter(|status| status.paused.is_some());
                paused.map(|status| status.task).collect::<Vec<Name>>()
            });
            for placed in tasks {
                let task = placed.task.name.clone();
                let refused = match &paused {
                    Ok(paused) if paused.contains(&task) => continue,
                    Ok(_) => {
                        let id = RunId::scheduled(&self.namespace, &task, fire_time);
                        let run = RunRequest::scheduled(id, task, fire_time);
                        self.enqueue(placed, run).await.err().map(|error| error.to_string())
                    }
                    Err(error) => Some(error.to_string()),
                };
                if let Some(error) = refused {
                    self.driver.skip(placed, fire_time, format!("not enqueued: {error}"));
                }
            }
        }
    }

    /// Answers the tasks that fire at a start.
    async fn start_and_fill(&self, member: &Member, ctx: BackendContext) -> Result<Vec<Arc<Placed>>> {
        member.backend.start(ctx).await?;
        let filled = self.fill(member).await;
        if filled.is_err()
            && let Err(error) = member.backend.stop(Duration::ZERO).await
        {
            tracing::warn!(backend = %member.info.name, "not stopped again: {error}");
        }
        filled
    }

    /// Hands a backend its tasks; answers those that fire at a start. A task that is submitted meanwhile comes before
    /// or after all of them.
    async fn fill(&self, member: &Member) -> Result<Vec<Arc<Placed>>> {
        let _accepting = self.accepting.lock().await;
        let mut remembers = member.backend.schedules().is_some();
        let all = self.tasks_on(member);
        let fires_at_start =
            |placed: &&Arc<Placed>| placed.task.trigger.as_ref().is_some_and(Trigger::is_at_start);
        let at_start = all.iter().filter(fires_at_start).cloned().collect();
        let is_own = |placed: &Arc<Placed>| member.schedules_for(&placed.task).is_some();
        let (own, driven): (Vec<_>, Vec<_>) = all.into_iter().partition(is_own);
        if let Some(schedules) = member.backend.schedules().filter(|_| !own.is_empty()) {
            schedules.upsert_all(own).await?;
        }
        for placed in driven {
            let last = if remembers { self.last_fire(member, &placed.task).await } else { Ok(None) };
            // One that does not answer is not asked about every task.
            remembers &= last.is_ok();
            self.driver.begin(placed, last.ok().flatten());
        }
        member.set_phase(Phase::Up);
        Ok(at_start)
    }

    /// The last fire of a task that a backend has a run of. Who keeps schedules outside of the process keeps runs
    /// there too, so a fire that came due while the process was away follows the misfire policy.
    async fn last_fire(&self, member: &Member, task: &Task) -> Result<Option<Timestamp>> {
        let filter = RunFilter::of_task(task.name.clone()).fired_up_to(self.clock.now());
        let page = member.backend.runs(&filter).await?;
        let mut fired = page.runs.iter().filter(|run| run.origin == RunOrigin::Schedule);
        Ok(fired.next().map(|run| run.fire_time))
    }

    /// Stops every backend that was told to start.
    async fn stop_members(&self, grace: Option<Duration>) -> Result<Drained> {
        let stopping = self.backends.iter().map(|member| async move {
            if member.standing().phase == Phase::Stopped {
                member.standing().down = None;
                return Ok(Drained::default());
            }
            let result = match grace {
                Some(grace) => member.backend.stop(grace).await,
                None => member.backend.abort().await,
            };
            *member.standing() = Standing::default();
            result
        });
        let mut total = Drained::default();
        let mut first_error = None;
        for result in join_all(stopping).await {
            match result {
                Ok(drained) => total.add(drained),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(total), Err)
    }
}

/// Tries backends that are down again until all are up.
pub(crate) async fn revive(scheduler: Weak<Inner>, busy: Busy) {
    loop {
        let Some(inner) = scheduler.upgrade() else { return };
        if inner.backends.iter().all(|member| member.down().is_none()) {
            return;
        }
        let mut pause = inner.clock.sleep_until(inner.clock.monotonic().saturating_add(RESTART_PAUSE));
        drop(inner);
        busy.parked(&mut pause).await;
        drop(pause);
        let Some(inner) = scheduler.upgrade() else { return };
        // Whoever stops the scheduler ends this first, wherever it waits.
        let _turn = inner.lifecycle.turn.lock().await;
        let down = inner.backends.iter().filter(|member| member.down().is_some());
        // What they said goes to the log when their state changes.
        join_all(down.map(|member| inner.start_member(member))).await;
    }
}
