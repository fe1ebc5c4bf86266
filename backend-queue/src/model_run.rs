//! What the model of a store keeps, and what becomes of one run or schedule of it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use scheduler_core::{
    Cursor, DeadLetter, EndedRun, HistoryBounds, Live, Name, Pause, Replayed, Run, RunId, RunOrigin,
    RunState, Tier, Timestamp, UniqueKey,
};

use tokio::time::Instant;

use crate::store::{Ack, Cancel, Next, Pushed, Replay, Standing};
use crate::unique::is_kept_out;

/// A check that a model can be made without, to show what it is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// An end counts whichever delivery it is of.
    Fence,
    /// A schedule is read first and written later, whatever others did in between.
    Cursor,
}

/// Runs and schedules, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) runs: Vec<Kept>,
    pub(crate) schedules: BTreeMap<Name, Schedule>,
    /// The pauses of queues; nothing stands for the one called `default`.
    pub(crate) paused: BTreeMap<Option<Name>, Pause>,
    /// From when on the next may begin in microseconds, by the queue, and by the value of a parameter.
    pub(crate) paces: BTreeMap<(Option<Name>, Option<String>), i64>,
    /// For which of those something waits, by the queue as a whole.
    pub(crate) awaited: BTreeMap<Option<Name>, i64>,
    pub(crate) deliveries: u64,
    /// Which run has a kind, and until when at most.
    pub(crate) owners: BTreeMap<String, (RunId, UniqueKey, Option<Timestamp>)>,
    pub(crate) lacks: Option<Lack>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It waits for its time, from the first attempt on, after a failed one, or handed back.
    Delayed(RunState),
    Ready,
    /// It waits for its turn.
    Behind,
    Running,
    Ended,
}

/// What became of an acknowledgement.
#[derive(Debug)]
pub(crate) enum Written {
    Done,
    Refused,
    Marked(String),
}

#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) run: Run,
    pub(crate) place: Place,
    pub(crate) due: Timestamp,
    pub(crate) priority: u8,
    pub(crate) max_attempts: u32,
    pub(crate) alone: bool,
    pub(crate) fence: u64,
    pub(crate) leased_until: Timestamp,
    pub(crate) cancel: Option<String>,
    pub(crate) died: Option<Timestamp>,
    pub(crate) hold: Option<String>,
    /// Whether it waits until another of the same value of a parameter has ended, or for the slot of that value.
    pub(crate) is_in_line: bool,
    /// Whether it comes from there.
    pub(crate) has_waited: bool,
}

#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) revision: u64,
    pub(crate) definition: String,
    pub(crate) served_until: Timestamp,
    pub(crate) cursor: Cursor,
    pub(crate) paused: Option<Pause>,
}

thread_local! {
    /// When the virtual time of this thread began, if it has one.
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// While it lives, the time of this thread is that of its tokio runtime, which may be paused, from a fixed instant on.
#[derive(Debug)]
pub(crate) struct VirtualTime(());

impl VirtualTime {
    pub(crate) fn begin() -> Self {
        BEGAN.set(Some(Instant::now()));
        Self(())
    }
}

impl Drop for VirtualTime {
    fn drop(&mut self) {
        BEGAN.set(None);
    }
}

pub(crate) fn now() -> Timestamp {
    const FIRST: i64 = 1_780_000_000_000;
    match BEGAN.get() {
        Some(began) => Timestamp::from_millis(FIRST) + began.elapsed(),
        None => Timestamp::from(SystemTime::now()),
    }
}

impl Kept {
    /// Whether it lives, as far as other runs of its task must wait for it.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.place, Place::Ready | Place::Running)
            || matches!(self.place, Place::Delayed(state) if state != RunState::Scheduled)
    }

    pub(crate) fn shown(&self) -> Run {
        let mut run = self.run.clone();
        run.state = match self.place {
            Place::Delayed(state) => state,
            Place::Ready | Place::Behind => RunState::Queued,
            Place::Running => RunState::Running,
            Place::Ended => run.state,
        };
        let waits = matches!(run.state, RunState::Retrying | RunState::Queued);
        run.next_attempt_at = Some(self.due).filter(|_| waits && run.attempt > 0);
        run
    }

    pub(crate) fn letter(&self) -> Option<DeadLetter> {
        let mut letter = DeadLetter::new(self.shown(), self.died?);
        letter.held.clone_from(&self.hold);
        Some(letter)
    }

    pub(crate) fn end(&mut self, state: RunState, reason: Option<&str>) {
        self.run.state = state;
        self.run.reason = reason.map(str::to_owned).or(self.run.reason.take());
        self.run.finished_at = Some(now());
        self.place = Place::Ended;
        self.died = (state == RunState::Failed).then(now);
    }
}

impl State {
    /// The ended runs beyond bounds, in the order in which they ended.
    pub(crate) fn beyond(&self, bounds: &HistoryBounds) -> Vec<EndedRun> {
        let ended = self.runs.iter().filter(|kept| kept.place == Place::Ended && kept.died.is_none());
        let mut ended: Vec<&Run> = ended.map(|kept| &kept.run).collect();
        ended.sort_by_key(|run| run.finished_at);
        let oldest = bounds.max_age.map_or(Timestamp::MIN, |age| now() - age);
        let is_old = |run: &&&Run| run.finished_at.is_some_and(|at| at <= oldest);
        let over = bounds.beyond(ended.len(), ended.iter().filter(is_old).count());
        let told =
            |run: &Run| EndedRun::new(run.id, run.task.clone(), run.finished_at.unwrap_or_default(), 0);
        ended[..over].iter().map(|run| told(run)).collect()
    }

    /// Forgets the first of them.
    pub(crate) fn prune(&mut self, bounds: &HistoryBounds, limit: usize) -> Vec<EndedRun> {
        let mut old = self.beyond(bounds);
        old.truncate(limit);
        for ended in &old {
            // Who has won a time keeps it, and nobody else keeps others out who is not known any more.
            let has_won = self
                .runs
                .iter()
                .any(|kept| kept.run.id == ended.run && kept.run.state == RunState::Succeeded);
            self.owners
                .retain(|_, (owner, unique, _)| *owner != ended.run || has_won && unique.until.is_none());
        }
        self.runs.retain(|kept| old.iter().all(|ended| ended.run != kept.run.id));
        old
    }

    pub(crate) fn insert(&mut self, pushed: &Pushed) -> bool {
        if self.runs.iter().any(|kept| kept.run.id == pushed.run.id) {
            return false;
        }
        let Pushed { run, due, priority, max_attempts, alone } = pushed.clone();
        let place = match (run.state.is_end(), due <= now(), alone) {
            (true, ..) => Place::Ended,
            (false, false, _) => Place::Delayed(RunState::Scheduled),
            (false, true, true) => Place::Behind,
            (false, true, false) => Place::Ready,
        };
        let leased_until = Timestamp::MIN;
        let (fence, cancel, died, hold) = (0, None, None, None);
        self.runs.push(Kept {
            run,
            place,
            due,
            priority,
            max_attempts,
            alone,
            fence,
            leased_until,
            cancel,
            died,
            hold,
            is_in_line: false,
            has_waited: false,
        });
        true
    }

    /// Adds a run unless another one keeps it out; says which is there instead.
    pub(crate) fn insert_unique(&mut self, pushed: &Pushed) -> Option<RunId> {
        let id = pushed.run.id;
        if let Some(owner) = self.owner_of(&pushed.run) {
            let is_there = self.runs.iter().any(|kept| kept.run.id == id);
            return Some(if is_there { id } else { owner });
        }
        if !self.insert(pushed) {
            return Some(id);
        }
        if let Some(unique) = &pushed.run.unique {
            let expires = unique.window_ms.map(|window| now() + Duration::from_millis(window));
            self.owners.insert(unique.key.clone(), (id, unique.clone(), expires));
        }
        None
    }

    /// The run that keeps this one out.
    pub(crate) fn owner_of(&self, run: &Run) -> Option<RunId> {
        let (owner, unique, expires) = self.owners.get(&run.unique.as_ref()?.key)?;
        let known = self.runs.iter().find(|kept| kept.run.id == *owner).map(Kept::shown);
        let stands = known.map(|run| (run.state, run.attempt));
        is_kept_out(unique.until, *expires, now(), stands).then_some(*owner)
    }

    /// Gives each task's turn to the first that waits for it, once nothing else of the task lives.
    pub(crate) fn release(&mut self) {
        for index in 0..self.runs.len() {
            if self.runs[index].place != Place::Behind {
                continue;
            }
            let task = &self.runs[index].run.task;
            if !self.runs.iter().any(|kept| kept.is_live() && kept.run.task == *task) {
                self.runs[index].place = Place::Ready;
            }
        }
    }

    pub(crate) fn note_finish(&mut self, task: &Name, at: Option<Timestamp>) {
        if let Some(schedule) = self.schedules.get_mut(task) {
            schedule.cursor.finished = schedule.cursor.finished.max(at);
        }
    }

    pub(crate) fn find(&mut self, id: RunId) -> Option<&mut Kept> {
        self.runs.iter_mut().find(|kept| kept.run.id == id)
    }

    pub(crate) fn delivery(&mut self, id: RunId, fence: u64) -> Option<&mut Kept> {
        let is_any = self.lacks == Some(Lack::Fence);
        self.find(id).filter(|kept| kept.place == Place::Running && (kept.fence == fence || is_any))
    }

    pub(crate) fn acknowledge(&mut self, ack: &Ack) -> Written {
        let Some(kept) = self.delivery(ack.run.id, ack.fence) else { return Written::Refused };
        if let Some(reason) = kept.cancel.clone().filter(|_| ack.next != Next::End) {
            return Written::Marked(reason);
        }
        kept.run = ack.run.clone();
        match ack.next {
            Next::End => {
                kept.place = Place::Ended;
                kept.died = (ack.run.state == RunState::Failed).then(now);
                if ack.is_followed {
                    self.note_finish(&ack.run.task, ack.run.finished_at);
                }
            }
            Next::Again(wait) => {
                kept.due = now() + wait;
                kept.run.finished_at = None;
                let is_retry = ack.run.state == RunState::Retrying;
                kept.place = Place::Delayed(if is_retry { RunState::Retrying } else { RunState::Queued });
            }
            Next::Back => {
                kept.run.finished_at = None;
                kept.place = Place::Ready;
            }
        }
        Written::Done
    }

    pub(crate) fn promote(&mut self) {
        for kept in &mut self.runs {
            if matches!(kept.place, Place::Delayed(_)) && kept.due <= now() && kept.is_in_line {
                // It comes back as old as it is.
                (kept.due, kept.is_in_line) = (now().min(kept.run.fire_time), false);
            }
            match kept.place {
                Place::Delayed(RunState::Scheduled) if kept.due <= now() && kept.alone => {
                    kept.place = Place::Behind;
                }
                Place::Delayed(_) if kept.due <= now() => kept.place = Place::Ready,
                _ => {}
            }
        }
        self.release();
    }

    pub(crate) fn withdraw(&mut self, id: RunId, reason: &str) -> Cancel {
        let Some(kept) = self.find(id) else { return Cancel::Unknown };
        match kept.place {
            Place::Ended => Cancel::TooLate,
            Place::Running => {
                kept.cancel = Some(reason.to_owned());
                Cancel::Marked
            }
            Place::Delayed(_) | Place::Ready | Place::Behind => {
                kept.end(RunState::Cancelled, Some(reason));
                let run = kept.shown();
                self.note_finish(&run.task, run.finished_at);
                Cancel::Ended(Box::new(run))
            }
        }
    }

    pub(crate) fn standing(&self, task: &Name) -> Option<Standing> {
        let Schedule { cursor, paused, .. } = self.schedules.get(task)?;
        let of_task = || self.runs.iter().filter(|kept| kept.run.task == *task);
        let running = of_task().filter(|kept| kept.is_live()).count();
        let queued = of_task().filter(|kept| kept.place == Place::Behind).count();
        let live = Live { running, queued };
        Some(Standing { cursor: cursor.clone(), paused: paused.clone(), live })
    }

    pub(crate) fn replay(&mut self, replay: &Replay) -> Replayed {
        let Replay { letter, run: again, params } = replay.clone();
        let Some(kept) = self.find(letter).filter(|kept| kept.died.is_some()) else {
            return Replayed::Unknown;
        };
        if kept.hold.is_some() {
            return Replayed::Held;
        }
        let mut run =
            Run::queued(again, kept.run.task.clone(), name("queue"), Tier::Queue, kept.run.fire_time);
        run.origin = RunOrigin::Manual;
        run.params = params.unwrap_or_else(|| kept.run.params.clone());
        run.adhoc = kept.run.adhoc.clone();
        run.queue = kept.run.queue.clone();
        run.replay_of = Some(letter);
        let (priority, max_attempts, alone) = (kept.priority, kept.max_attempts, kept.alone);
        let pushed = Pushed { run, due: now(), priority, max_attempts, alone };
        if !self.insert(&pushed) {
            return Replayed::Unknown;
        }
        self.find(letter).expect("it was there").died = None;
        Replayed::As(again)
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}
