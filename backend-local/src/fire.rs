//! From a fire time to an attempt: steps of the plan, the order of runs, and the start of each.

use std::sync::Arc;
use std::time::Duration;

use scheduler_core::{
    CancelReason, Cancelled, Enqueued, Entry, Error, Event, Name, Overlap, Placed, Result, Run, RunId,
    RunRequest, RunState, Schedule, Step, plan,
};

use crate::engine::{Engine, Timer};
use crate::live::{LiveRun, RunKey};
use crate::page::is_a_last_run;
use crate::tasks::TaskKey;
use crate::workers::Item;

/// How long after its time to wind down an attempt is given up: its job blocks a thread.
pub(crate) const LOST: Duration = Duration::from_secs(1);

impl Engine {
    /// Takes every step that is due for a task, and sets its timer for the next.
    pub(crate) fn step(&mut self, key: TaskKey) {
        if self.step_at_pace(key).is_none() {
            self.step_by_plan(key);
        }
    }

    /// The usual case: a task of the plainest kind, of which nothing lives, fires once and waits, or only waits.
    fn step_at_pace(&mut self, key: TaskKey) -> Option<()> {
        if self.drain.is_some() {
            return None;
        }
        // An interval goes on by the monotonic clock when the wall clock was set back.
        let lag = self.pulse.watch().lag();
        let planned = self.now() + lag;
        let number = self.tasks.new_timer();
        let task = self.tasks.get_mut(key)?;
        let (pace, cursor) = task.at_ease()?;
        let Some((fire_time, following)) = pace.step(cursor, planned) else {
            let due = pace.wait(cursor, planned)? - lag;
            task.timer = number;
            task.next = Some(due);
            self.set_task_timer(due, key, number);
            return Some(());
        };
        let due = following - lag;
        let priority = task.priority;
        task.timer = number;
        task.next = Some(due);
        let run = self.live.insert(LiveRun::fired(key, Arc::clone(&task.placed), fire_time, priority));
        task.add_running(run);
        self.ready.push(priority, run);
        self.set_task_timer(due, key, number);
        Some(())
    }

    fn step_by_plan(&mut self, key: TaskKey) {
        let number = self.tasks.new_timer();
        let now = self.now();
        let Some(task) = self.tasks.get_mut(key) else { return };
        task.timer = number;
        let placed = Arc::clone(&task.placed);
        let lag = self.lag_of(&placed);
        let planned = now + lag;
        let namespace = self.ctx.namespace.clone();
        loop {
            let draining = self.drain.is_some();
            let Some(task) = self.tasks.get_mut(key) else { return };
            task.next = None;
            if draining {
                return;
            }
            match task.paused().map(|pause| pause.until) {
                Some(Some(until)) if until <= now => {
                    task.unpause();
                    task.cursor.resume(planned);
                }
                Some(Some(until)) => return self.set_task_timer(until, key, number),
                Some(None) => return,
                None => {}
            }
            let Some(schedule) = Schedule::of(&namespace, &placed.task) else { return };
            let live = task.live();
            match plan(&schedule, &mut task.cursor, live, planned) {
                Step::Fire { fire_time, entry } => {
                    let priority = task.priority;
                    self.admit(key, LiveRun::fired(key, Arc::clone(&placed), fire_time, priority), entry);
                }
                Step::Skip { fire_time, reason } => {
                    let id = schedule.run_id(fire_time);
                    let run = self.owner.queued(id, &placed.task.name, fire_time);
                    self.record(run.into_skipped(now, reason.to_string()), 0, true);
                }
                Step::Wait(at) => {
                    let due = at - lag;
                    task.next = Some(due);
                    return self.set_task_timer(due, key, number);
                }
                Step::AwaitFinish | Step::Done => return,
            }
        }
    }

    /// Takes a run that was asked for.
    pub(crate) fn enqueue(&mut self, request: RunRequest) -> Result<Enqueued> {
        if self.drain.is_some() {
            return Err(Error::unavailable(
                "backend/stopped",
                format!("backend `{}` is stopping", self.owner.backend),
            ));
        }
        let scheduled = self.tasks.find(&request.task);
        if self.knows(&request.run_id, &request.task) {
            return Ok(Enqueued::Duplicate(request.run_id));
        }
        // A task that fell back to this tier is in the book, but has no schedule here.
        let placed = match scheduled.and_then(|key| self.tasks.get(key)) {
            Some(task) => Arc::clone(&task.placed),
            None => self.ctx.tasks.find(&request.task).ok_or_else(|| {
                Error::not_found("task/unknown", format!("no task `{}` in this process", request.task))
            })?,
        };
        let mut run = self.owner.queued(request.run_id, &placed.task.name, request.fire_time);
        run.origin = request.origin;
        run.params = request.params;
        let is_ahead = request.due > self.now();
        if is_ahead {
            run.state = RunState::Scheduled;
        }
        let mut live = LiveRun::asked(scheduled, placed, run);
        live.priority = request.priority.unwrap_or(live.priority);
        if is_ahead {
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

    /// Whether there is, or was, a run of this id. An id is a task's own, so only its runs are looked at.
    fn knows(&mut self, id: &RunId, task: &Name) -> bool {
        let lives = self.live.find_asked(id).is_some()
            || self.tasks.find(task).and_then(|key| self.tasks.get(key)).is_some_and(|found| {
                found.runs().filter_map(|run| self.live.get(run)).any(|run| self.has_id(run, task, id))
            });
        lives
            || self.history.contains(id)
            || is_a_last_run(id, Some(task), &self.history, &self.tasks, &self.owner)
    }

    fn has_id(&self, run: &LiveRun, name: &Name, id: &RunId) -> bool {
        match &run.whole {
            Some(run) => run.id == *id,
            None => self.owner.id(name, run.fire_time) == *id,
        }
    }

    /// The name of a live run's task.
    pub(crate) fn name_of<'a>(&'a self, run: &'a LiveRun) -> Option<&'a Name> {
        match (&run.placed, &run.whole) {
            (Some(placed), _) => Some(&placed.task.name),
            (None, Some(run)) => Some(&run.task),
            // An attempt has it; then it is the definition that the task has still.
            (None, None) => Some(&self.tasks.get(run.task?)?.placed.task.name),
        }
    }

    fn start_beside(&mut self, live: LiveRun) {
        let priority = live.priority;
        let run = self.live.insert(live);
        self.ready.push(priority, run);
    }

    /// A manual run is never skipped: under `skip` it waits its turn like under `queue`.
    fn admit_manual(&mut self, task: TaskKey, live: LiveRun) {
        let busy = self.tasks.get(task).is_some_and(|task| task.live() != scheduler_core::Live::default());
        let overlap = live.placed.as_ref().map_or(Overlap::Allow, |placed| placed.task.overlap);
        let entry = match overlap {
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
            task.add_running(run);
            self.ready.push(priority, run);
        } else {
            task.add_waiting(run);
            self.take_turns(key);
        }
    }

    fn replace_others(&mut self, key: TaskKey) {
        let Some(task) = self.tasks.get(key) else { return };
        let others: Vec<RunKey> = task.runs().collect();
        for run in others {
            self.cancel_run(run, CancelReason::Replaced);
        }
    }

    /// Lets the next waiting run of a task start, if none of its runs is under way.
    pub(crate) fn take_turns(&mut self, key: TaskKey) {
        let Some(task) = self.tasks.get_mut(key).filter(|task| !task.has_running()) else { return };
        let Some(run) = task.next_waiting() else { return };
        task.add_running(run);
        if let Some(live) = self.live.get_mut(run) {
            live.waits_for_turn = false;
            self.ready.push(live.priority, run);
        }
    }

    /// The time of a run has come: it was delayed, or waited for its next attempt.
    pub(crate) fn make_ready(&mut self, key: RunKey) {
        let Some(live) = self.live.get_mut(key) else { return };
        let priority = live.priority;
        // One that waits for anything was made whole.
        let Some(run) = &mut live.whole else { return };
        match run.state {
            RunState::Scheduled => {
                run.state = RunState::Queued;
                let name = run.task.clone();
                match self.tasks.find(&name) {
                    Some(task) => {
                        if let Some(live) = self.live.remove(key) {
                            self.admit_manual(task, LiveRun { task: Some(task), ..live });
                        }
                    }
                    None => {
                        live.task = None;
                        self.ready.push(priority, key);
                    }
                }
            }
            RunState::Retrying | RunState::Queued if run.next_attempt_at.take().is_some() => {
                run.state = RunState::Queued;
                self.ready.push(priority, key);
            }
            _ => {}
        }
    }

    /// Hands ready runs to the workers while there are free slots.
    pub(crate) fn dispatch(&mut self) {
        let mut any = false;
        while self.attempts < self.config.concurrency.get() {
            let Some(key) = self.ready.pop() else { break };
            self.begin(key);
            any = true;
        }
        if any {
            self.workers.shared().call();
        }
    }

    fn begin(&mut self, key: RunKey) {
        let now = self.now();
        let fence = self.next_fence;
        if self.is_heard {
            self.make_whole(key);
        }
        let Some(live) = self.live.get_mut(key).filter(|live| live.state() == RunState::Queued) else {
            return;
        };
        let task = live.task.and_then(|task| self.tasks.get(task));
        // What is its task's anyway comes back with the end of the attempt, so that it is counted once.
        let is_its_tasks =
            task.zip(live.placed.as_ref()).is_some_and(|(task, own)| Arc::ptr_eq(&task.placed, own));
        let placed = if is_its_tasks { live.placed.take() } else { live.placed.clone() };
        let Some(placed) = placed else { return };
        self.next_fence += 1;
        self.attempts += 1;
        live.fence = fence;
        live.is_under_way = true;
        live.is_watched = false;
        let started_at = *live.started_at.get_or_insert(now);
        let mut item = Item {
            run: key,
            fence,
            placed,
            fire_time: live.fire_time,
            attempt: 1,
            asked: None,
            held: self.ctx.clock.busy(),
        };
        if let Some(run) = &mut live.whole {
            run.state = RunState::Running;
            run.attempt += 1;
            run.started_at = Some(started_at);
            item.attempt = run.attempt;
            item.asked = Some(Box::new((run.id, run.params.clone())));
            self.ctx.events.emit(&Event::AttemptStarted { run, fence });
        }
        self.workers.begin(item);
    }

    /// All of a live run, kept whole from now on.
    pub(crate) fn make_whole(&mut self, key: RunKey) -> Option<&mut Run> {
        let live = self.live.get(key)?;
        if live.whole.is_none() {
            let run = live.run(&self.owner, self.name_of(live)?);
            self.live.get_mut(key)?.whole = Some(Box::new(run));
        }
        self.live.get_mut(key)?.whole.as_deref_mut()
    }

    /// Ends a run by its id.
    pub(crate) fn cancel(&mut self, id: &RunId) -> Result<Cancelled> {
        let found = self.live.find_asked(id).or_else(|| {
            let mut all = self.live.iter();
            all.find(|(_, run)| self.name_of(run).is_some_and(|name| self.has_id(run, name, id)))
                .map(|(key, _)| key)
        });
        if let Some(key) = found {
            return Ok(self.cancel_run(key, CancelReason::Requested));
        }
        if self.history.contains(id) || is_a_last_run(id, None, &self.history, &self.tasks, &self.owner) {
            return Ok(Cancelled::AlreadyFinished);
        }
        let message = format!("backend `{}` has no run {id}", self.owner.backend);
        Err(Error::not_found("run/unknown", message))
    }

    /// Tells a run under way to stop; one that is not under way ends here.
    pub(crate) fn cancel_run(&mut self, key: RunKey, reason: CancelReason) -> Cancelled {
        let Some(live) = self.live.get(key) else { return Cancelled::AlreadyFinished };
        if !live.is_under_way {
            if let Some(run) = self.make_whole(key) {
                run.reason = Some(reason.as_str().to_owned());
            }
            self.end_run(key, RunState::Cancelled);
            return Cancelled::Prevented;
        }
        let fence = live.fence;
        let patience = self.definition_of(live).map_or(Duration::ZERO, |placed| placed.job.wind_down());
        self.workers.cancel(fence, reason);
        self.set_timer_in(patience.saturating_add(LOST), Timer::Overdue(key, fence));
        Cancelled::Requested
    }

    /// The definition that a run goes by.
    pub(crate) fn definition_of<'a>(&'a self, run: &'a LiveRun) -> Option<&'a Arc<Placed>> {
        match &run.placed {
            Some(placed) => Some(placed),
            None => Some(&self.tasks.get(run.task?)?.placed),
        }
    }
}
