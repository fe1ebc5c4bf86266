//! From a fire time to an attempt: steps of the plan, the order of runs, and the start of each.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{
    CancelReason, Cancelled, Enqueued, Entry, Error, Event, Overlap, Placed, Result, Run, RunContext, RunId,
    RunIdentity, RunRequest, RunState, Schedule, Step, Timestamp, attempt, plan,
};

use crate::engine::{Engine, Timer};
use crate::live::{LiveRun, RunKey};
use crate::tasks::TaskKey;

/// How long after its time to wind down an attempt is given up: its job blocks a thread.
const LOST: Duration = Duration::from_secs(1);

impl Engine {
    /// Takes every step that is due for a task, and sets its timer for the next.
    pub(crate) fn step(&mut self, key: TaskKey) {
        let number = self.tasks.new_timer(key);
        let now = self.now();
        let Some(lag) = self.tasks.get(key).map(|task| self.lag_of(&task.placed)) else { return };
        // An interval goes on by the monotonic clock when the wall clock was set back.
        let planned = now + lag;
        loop {
            let draining = self.drain.is_some();
            let Some(task) = self.tasks.get_mut(key) else { return };
            task.next = None;
            if draining {
                return;
            }
            if let Some(pause) = &task.paused {
                match pause.until {
                    Some(until) if until <= now => {
                        task.paused = None;
                        task.cursor.resume(planned);
                    }
                    Some(until) => return self.set_timer(until, Timer::Task(key, number)),
                    None => return,
                }
            }
            let placed = Arc::clone(&task.placed);
            let Some(schedule) = Schedule::of(&self.ctx.namespace, &placed.task) else { return };
            let live = task.live();
            match plan(&schedule, &mut task.cursor, live, planned) {
                Step::Fire { fire_time, entry } => {
                    let id = schedule.run_id(fire_time);
                    let run = self.new_run(&placed, id, fire_time);
                    self.admit(key, LiveRun::new(run, placed), entry);
                }
                Step::Skip { fire_time, reason } => {
                    let id = schedule.run_id(fire_time);
                    let run = self.new_run(&placed, id, fire_time);
                    self.record(run.into_skipped(now, reason.to_string()), 0);
                }
                Step::Wait(at) => {
                    let due = at - lag;
                    task.next = Some(due);
                    return self.set_timer(due, Timer::Task(key, number));
                }
                Step::AwaitFinish | Step::Done => return,
            }
        }
    }

    fn new_run(&self, placed: &Placed, id: RunId, fire_time: Timestamp) -> Run {
        Run::queued(id, placed.task.name.clone(), self.name.clone(), scheduler_core::Tier::Local, fire_time)
    }

    /// Takes a run that was asked for.
    pub(crate) fn enqueue(&mut self, request: RunRequest) -> Result<Enqueued> {
        if self.drain.is_some() {
            return Err(Error::unavailable(
                "backend/stopped",
                format!("backend `{}` is stopping", self.name),
            ));
        }
        if self.live.find(&request.run_id).is_some() || self.history().contains(&request.run_id) {
            return Ok(Enqueued::Duplicate(request.run_id));
        }
        // A task that fell back to this tier is in the book, but has no schedule here.
        let scheduled = self.tasks.find(&request.task);
        let placed = match scheduled.and_then(|key| self.tasks.get(key)) {
            Some(task) => Arc::clone(&task.placed),
            None => self.ctx.tasks.find(&request.task).ok_or_else(|| {
                Error::not_found("task/unknown", format!("no task `{}` in this process", request.task))
            })?,
        };
        let mut run = self.new_run(&placed, request.run_id, request.fire_time);
        run.origin = request.origin;
        run.params = request.params;
        let mut live = LiveRun::new(run, placed);
        live.priority = request.priority.unwrap_or(live.priority);
        if request.due > self.now() {
            live.run.state = RunState::Scheduled;
            let run = self.live.insert(live);
            self.set_timer(request.due, Timer::Due(run));
        } else {
            match scheduled {
                Some(task) => self.admit_manual(task, live),
                None => self.start_beside(live),
            }
        }
        Ok(Enqueued::Inserted(request.run_id))
    }

    fn start_beside(&mut self, live: LiveRun) {
        let priority = live.priority;
        let run = self.live.insert(live);
        self.ready.push(priority, run);
    }

    /// A manual run is never skipped: under `skip` it waits its turn like under `queue`.
    fn admit_manual(&mut self, task: TaskKey, live: LiveRun) {
        let busy = self.tasks.get(task).is_some_and(|task| task.live() != scheduler_core::Live::default());
        let entry = match live.placed.task.overlap {
            _ if !busy => Entry::Start,
            Overlap::Allow => Entry::Start,
            Overlap::Skip | Overlap::Queue => Entry::Queue,
            Overlap::CancelOther => Entry::CancelOthers,
        };
        self.admit(task, live, entry);
    }

    /// Adds a run to its task, to start at once or when its turn comes.
    fn admit(&mut self, key: TaskKey, mut live: LiveRun, entry: Entry) {
        let priority = live.priority;
        live.waits_for_turn = entry != Entry::Start;
        if entry == Entry::CancelOthers {
            self.replace_others(key);
        }
        let run = self.live.insert(live);
        let Some(task) = self.tasks.get_mut(key) else { return };
        if entry == Entry::Start {
            task.running.push(run);
            self.ready.push(priority, run);
        } else {
            task.waiting.push_back(run);
            self.take_turns(key);
        }
    }

    fn replace_others(&mut self, key: TaskKey) {
        let Some(task) = self.tasks.get(key) else { return };
        let others: Vec<RunKey> = task.running.iter().chain(&task.waiting).copied().collect();
        for run in others {
            self.cancel_run(run, CancelReason::Replaced);
        }
    }

    /// Lets the next waiting run of a task start, if none of its runs is under way.
    pub(crate) fn take_turns(&mut self, key: TaskKey) {
        let Some(task) = self.tasks.get_mut(key).filter(|task| task.running.is_empty()) else { return };
        let Some(run) = task.waiting.pop_front() else { return };
        task.running.push(run);
        if let Some(live) = self.live.get_mut(run) {
            live.waits_for_turn = false;
            self.ready.push(live.priority, run);
        }
    }

    /// The time of a run has come: it was delayed, or waited for its next attempt.
    pub(crate) fn make_ready(&mut self, key: RunKey) {
        let Some(live) = self.live.get_mut(key) else { return };
        let priority = live.priority;
        match live.run.state {
            RunState::Scheduled => {
                live.run.state = RunState::Queued;
                let name = live.run.task.clone();
                match self.tasks.find(&name) {
                    Some(task) => {
                        if let Some(live) = self.live.remove(key) {
                            self.admit_manual(task, *live);
                        }
                    }
                    None => self.ready.push(priority, key),
                }
            }
            RunState::Retrying | RunState::Queued if live.run.next_attempt_at.take().is_some() => {
                live.run.state = RunState::Queued;
                self.ready.push(priority, key);
            }
            _ => {}
        }
    }

    /// Starts ready runs while there are free slots.
    pub(crate) fn dispatch(&mut self) {
        while self.attempts < self.config.concurrency.get() {
            let Some(key) = self.ready.pop() else { break };
            self.begin(key);
        }
        self.activity.set(self.attempts > 0);
    }

    fn begin(&mut self, key: RunKey) {
        let now = self.now();
        let fence = self.next_fence;
        let Some(live) = self.live.get_mut(key).filter(|live| live.run.state == RunState::Queued) else {
            return;
        };
        self.next_fence += 1;
        self.attempts += 1;
        let run = &mut live.run;
        run.state = RunState::Running;
        run.attempt += 1;
        run.started_at.get_or_insert(now);
        live.fence = fence;
        let identity = RunIdentity {
            namespace: self.ctx.namespace.clone(),
            task: run.task.clone(),
            tier: run.tier,
            backend: self.name.clone(),
            run_id: run.id,
            fire_time: run.fire_time,
            attempt: run.attempt,
            fence,
            params: run.params.clone(),
        };
        let ctx = RunContext::new(identity, self.ctx.run_host());
        self.ctx.events.emit(&Event::AttemptStarted { run: &live.run, fence });
        let (job, limit) = (Arc::clone(&live.placed.job), live.placed.task.timeout);
        let given = ctx.clone();
        let work = async move { attempt(&*job, &given, limit).await };
        live.attempt = Some((ctx.clone(), self.workers.begin(key, ctx, work)));
        if let Some(limit) = limit {
            let patience = limit.saturating_add(live.placed.job.wind_down()).saturating_add(LOST);
            self.set_timer_in(patience, Timer::Overdue(key, fence));
        }
    }

    /// Ends a run by its id.
    pub(crate) fn cancel(&mut self, id: &RunId) -> Result<Cancelled> {
        if let Some(key) = self.live.find(id) {
            return Ok(self.cancel_run(key, CancelReason::Requested));
        }
        if self.history().contains(id) {
            return Ok(Cancelled::AlreadyFinished);
        }
        Err(Error::not_found("run/unknown", format!("backend `{}` has no run {id}", self.name)))
    }

    /// Tells a run under way to stop; one that is not under way ends here.
    pub(crate) fn cancel_run(&mut self, key: RunKey, reason: CancelReason) -> Cancelled {
        let Some(live) = self.live.get_mut(key) else { return Cancelled::AlreadyFinished };
        let Some((ctx, _)) = &live.attempt else {
            live.run.reason = Some(reason.as_str().to_owned());
            self.end_run(key, RunState::Cancelled);
            return Cancelled::Prevented;
        };
        ctx.cancel(reason);
        let (fence, patience) = (live.fence, live.placed.job.wind_down().saturating_add(LOST));
        self.set_timer_in(patience, Timer::Overdue(key, fence));
        Cancelled::Requested
    }
}

impl LiveRun {
    fn new(run: Run, placed: Arc<Placed>) -> Self {
        let priority = placed.task.priority;
        Self { run, placed, priority, fence: 0, attempt: None, waits_for_turn: false }
    }
}
