//! A store in memory, as plain as can be: what the others are compared with.
//!
//! It says in words what each call does, without an index, a batch or a transaction, and looks at every run each
//! time.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use scheduler_core::{
    CancelReason, Cursor, DeadLetter, DeadLetterFilter, DeadLetterPage, Entry, Live, Name, Page, PageToken,
    Pause, Replayed, Result, Run, RunFilter, RunId, RunOrigin, RunState, Tier, Timestamp,
};

use crate::store::{
    Ack, Cancel, Claim, Decide, Decided, Delivery, Effect, Held, Next, Pushed, Renewed, Retention, Standing,
    Stepped, Store,
};

/// Runs and schedules, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Model(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    runs: Vec<Kept>,
    schedules: BTreeMap<Name, Schedule>,
    deliveries: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It waits for its time, from the first attempt on, after a failed one, or handed back.
    Delayed(RunState),
    Ready,
    /// It waits for its turn.
    Behind,
    Running,
    Ended,
}

#[derive(Debug)]
struct Kept {
    run: Run,
    place: Place,
    due: Timestamp,
    priority: u8,
    max_attempts: u32,
    alone: bool,
    fence: u64,
    leased_until: Timestamp,
    cancel: Option<String>,
    died: Option<Timestamp>,
    hold: Option<String>,
}

#[derive(Debug)]
struct Schedule {
    revision: u64,
    definition: String,
    served_until: Timestamp,
    cursor: Cursor,
    paused: Option<Pause>,
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

impl Kept {
    /// Whether it lives, as far as other runs of its task must wait for it.
    fn is_live(&self) -> bool {
        matches!(self.place, Place::Ready | Place::Running)
            || matches!(self.place, Place::Delayed(state) if state != RunState::Scheduled)
    }

    fn shown(&self) -> Run {
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

    fn letter(&self) -> Option<DeadLetter> {
        let mut letter = DeadLetter::new(self.shown(), self.died?);
        letter.held.clone_from(&self.hold);
        Some(letter)
    }

    fn end(&mut self, state: RunState, reason: Option<&str>) {
        self.run.state = state;
        self.run.reason = reason.map(str::to_owned).or(self.run.reason.take());
        self.run.finished_at = Some(now());
        self.place = Place::Ended;
        self.died = (state == RunState::Failed).then(now);
    }
}

impl State {
    fn insert(&mut self, pushed: &Pushed) -> bool {
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
        });
        true
    }

    /// Gives each task's turn to the first that waits for it, once nothing else of the task lives.
    fn release(&mut self) {
        for index in 0..self.runs.len() {
            let task = &self.runs[index].run.task;
            let is_free = !self.runs.iter().any(|kept| kept.run.task == *task && kept.is_live());
            if self.runs[index].place == Place::Behind && is_free {
                self.runs[index].place = Place::Ready;
            }
        }
    }

    fn note_finish(&mut self, task: &Name, at: Option<Timestamp>) {
        if let Some(schedule) = self.schedules.get_mut(task) {
            schedule.cursor.finished = schedule.cursor.finished.max(at);
        }
    }

    fn find(&mut self, id: RunId) -> Option<&mut Kept> {
        self.runs.iter_mut().find(|kept| kept.run.id == id)
    }

    fn delivery(&mut self, id: RunId, fence: u64) -> Option<&mut Kept> {
        self.find(id).filter(|kept| kept.place == Place::Running && kept.fence == fence)
    }

    fn acknowledge(&mut self, ack: &Ack) -> bool {
        let Some(kept) = self.delivery(ack.run.id, ack.fence) else { return false };
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
        }
        true
    }

    fn promote(&mut self) {
        for kept in &mut self.runs {
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

    fn claim(&mut self, claim: &Claim) -> Stepped {
        let mut ready: Vec<&mut Kept> =
            self.runs.iter_mut().filter(|kept| kept.place == Place::Ready).collect();
        // The sort keeps the order in which they came.
        ready.sort_by_key(|kept| (Reverse(kept.priority), kept.due));
        let mut stepped = Stepped { has_more: ready.len() > claim.limit as usize, ..Stepped::default() };
        for kept in ready.into_iter().take(claim.limit as usize) {
            self.deliveries += 1;
            kept.run.attempt += 1;
            kept.place = Place::Running;
            kept.fence = self.deliveries;
            kept.leased_until = now() + claim.lease;
            kept.cancel = None;
            let (run, fence, max_attempts) = (kept.shown(), kept.fence, kept.max_attempts);
            stepped.claimed.push(Delivery { run, fence, max_attempts });
        }
        stepped
    }

    fn withdraw(&mut self, id: RunId, reason: &str) -> Cancel {
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

    fn standing(&self, task: &Name) -> Option<Standing> {
        let Schedule { cursor, paused, .. } = self.schedules.get(task)?;
        let of_task = || self.runs.iter().filter(|kept| kept.run.task == *task);
        let running = of_task().filter(|kept| kept.is_live()).count();
        let queued = of_task().filter(|kept| kept.place == Place::Behind).count();
        let live = Live { running, queued };
        Some(Standing { cursor: cursor.clone(), paused: paused.clone(), live })
    }

    fn replay(&mut self, letter: RunId, again: RunId) -> Replayed {
        let Some(kept) = self.find(letter).filter(|kept| kept.died.is_some()) else {
            return Replayed::Unknown;
        };
        if kept.hold.is_some() {
            return Replayed::Held;
        }
        let mut run =
            Run::queued(again, kept.run.task.clone(), name("queue"), Tier::Queue, kept.run.fire_time);
        run.origin = RunOrigin::Manual;
        run.params = kept.run.params.clone();
        run.adhoc = kept.run.adhoc.clone();
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

impl Model {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

#[async_trait]
impl Store for Model {
    async fn push(&self, runs: Vec<Pushed>) -> Result<Vec<bool>> {
        let mut state = self.state();
        let answers = runs.iter().map(|pushed| state.insert(pushed)).collect();
        state.release();
        Ok(answers)
    }

    async fn step(&self, acks: &[Ack], claim: &Claim) -> Result<Stepped> {
        let mut state = self.state();
        let refused = acks.iter().enumerate().filter(|(_, ack)| !state.acknowledge(ack));
        let refused: Vec<usize> = refused.map(|(index, _)| index).collect();
        state.promote();
        let mut stepped = if claim.limit > 0 { state.claim(claim) } else { Stepped::default() };
        stepped.refused = refused;
        let delayed = state.runs.iter().filter(|kept| matches!(kept.place, Place::Delayed(_)));
        stepped.next_due = delayed.map(|kept| kept.due).min().map(|due| due.since(now()));
        Ok(stepped)
    }

    async fn renew(&self, held: &[Held], lease: Duration) -> Result<Renewed> {
        let (mut state, mut renewed) = (self.state(), Renewed::default());
        for Held { run, fence } in held {
            match state.delivery(*run, *fence) {
                None => renewed.lost.push(*run),
                Some(kept) => {
                    kept.leased_until = now() + lease;
                    renewed.cancelled.extend(kept.cancel.clone().map(|reason| (*run, reason)));
                }
            }
        }
        Ok(renewed)
    }

    async fn reap(&self, _: u32) -> Result<Vec<Run>> {
        let (mut state, mut reaped) = (self.state(), Vec::new());
        for kept in &mut state.runs {
            if kept.place != Place::Running || kept.leased_until >= now() {
                continue;
            }
            kept.run.record_failure(now(), "its worker is gone: the lease expired");
            if let Some(reason) = kept.cancel.clone() {
                kept.end(RunState::Cancelled, Some(&reason));
            } else if kept.run.attempt >= kept.max_attempts {
                let reason = "its worker is gone: the lease expired, and no attempt is left";
                kept.end(RunState::Failed, Some(reason));
            } else {
                kept.place = Place::Ready;
            }
            reaped.push(kept.shown());
        }
        for run in reaped.iter().filter(|run| run.state.is_end()) {
            state.note_finish(&run.task, run.finished_at);
        }
        state.release();
        Ok(reaped)
    }

    async fn cancel(&self, run: RunId, reason: &str) -> Result<Cancel> {
        let mut state = self.state();
        let answer = state.withdraw(run, reason);
        state.release();
        Ok(answer)
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Page> {
        Ok(filter.page(self.state().runs.iter().map(Kept::shown)))
    }

    async fn waiting(&self) -> Result<usize> {
        let waits = |kept: &&Kept| !matches!(kept.place, Place::Running | Place::Ended);
        Ok(self.state().runs.iter().filter(waits).count())
    }

    async fn register(&self, task: &Name, definition: &str, lease: Duration) -> Result<u64> {
        let mut state = self.state();
        let schedule = state.schedules.entry(task.clone()).or_insert_with(|| Schedule {
            revision: 1,
            definition: definition.to_owned(),
            served_until: Timestamp::MAX,
            cursor: Cursor::starting(now()),
            paused: None,
        });
        schedule.revision += u64::from(schedule.definition != definition);
        definition.clone_into(&mut schedule.definition);
        if schedule.served_until < now() {
            schedule.cursor.served_since = now();
        }
        schedule.served_until = now() + lease;
        Ok(schedule.revision)
    }

    async fn serve(&self, tasks: &[Name], lease: Duration) -> Result<()> {
        let until = if lease.is_zero() { Timestamp::MIN } else { now() + lease };
        for (_, schedule) in self.state().schedules.iter_mut().filter(|(task, _)| tasks.contains(task)) {
            schedule.served_until = until;
        }
        Ok(())
    }

    async fn decide(&self, task: &Name, revision: u64, decide: &Decide<'_>) -> Result<Decided> {
        let mut state = self.state();
        let Some(before) = state.standing(task) else { return Ok(Decided::Unknown) };
        if state.schedules[task].revision > revision {
            return Ok(Decided::Stale);
        }
        if state.schedules[task].revision < revision {
            return Ok(Decided::Unknown);
        }
        let decision = decide(before, now());
        let (mut ended, mut marked) = (Vec::new(), Vec::new());
        match decision.effect {
            Effect::Fire(pushed, entry) => {
                let others = state.runs.iter().filter(|kept| kept.run.task == *task);
                let others = others.filter(|kept| kept.is_live() || kept.place == Place::Behind);
                let others: Vec<RunId> = others.map(|kept| kept.run.id).collect();
                for id in others.into_iter().filter(|_| entry == Entry::CancelOthers) {
                    match state.withdraw(id, CancelReason::Replaced.as_str()) {
                        Cancel::Ended(run) => ended.push(*run),
                        _ => marked.push(id),
                    }
                }
                state.insert(&pushed);
            }
            Effect::Skip(run) => {
                let due = run.fire_time;
                state.insert(&Pushed { run: *run, due, priority: 0, max_attempts: 1, alone: false });
            }
            Effect::Nothing => {}
        }
        let schedule = state.schedules.get_mut(task).expect("it has a standing");
        (schedule.cursor, schedule.paused) = (decision.cursor, decision.paused);
        state.release();
        Ok(Decided::Done { ended, marked })
    }

    async fn pause(&self, task: &Name, pause: Option<&Pause>) -> Result<()> {
        if let Some(schedule) = self.state().schedules.get_mut(task) {
            schedule.paused = pause.cloned();
            if pause.is_none() {
                schedule.cursor.resume(now());
            }
        }
        Ok(())
    }

    async fn standing(&self, task: &Name) -> Result<Option<Standing>> {
        Ok(self.state().standing(task))
    }

    async fn letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
        let mut letters: Vec<DeadLetter> = self.state().runs.iter().filter_map(Kept::letter).collect();
        letters.retain(|DeadLetter { run, .. }| {
            filter.run.is_none_or(|id| run.id == id)
                && filter.task.as_ref().is_none_or(|task| run.task == *task)
                && filter.after.is_none_or(|after| PageToken::of(run) < after)
        });
        letters.sort_by_key(|letter| Reverse(PageToken::of(&letter.run)));
        let has_more = letters.len() > filter.page_size();
        letters.truncate(filter.page_size());
        let next = letters.last().filter(|_| has_more).map(|letter| PageToken::of(&letter.run));
        Ok(DeadLetterPage { letters, next })
    }

    async fn replay(&self, letters: &[(RunId, RunId)]) -> Result<Vec<Replayed>> {
        let mut state = self.state();
        let answers = letters.iter().map(|(letter, again)| state.replay(*letter, *again)).collect();
        state.release();
        Ok(answers)
    }

    async fn hold(&self, run: RunId, reason: Option<&str>) -> Result<bool> {
        let mut state = self.state();
        let letter = state.find(run).filter(|kept| kept.died.is_some());
        Ok(letter.map(|kept| kept.hold = reason.map(str::to_owned)).is_some())
    }

    async fn discard(&self, runs: &[RunId]) -> Result<Vec<bool>> {
        let mut state = self.state();
        let mut discard = |id: &RunId| {
            let kept = state.find(*id)?;
            kept.hold = None;
            kept.died.take()
        };
        Ok(runs.iter().map(|id| discard(id).is_some()).collect())
    }

    async fn forget(&self, retention: &Retention, limit: u32) -> Result<usize> {
        let (mut state, limit) = (self.state(), limit as usize);
        let mut letters: Vec<&mut Kept> =
            state.runs.iter_mut().filter(|kept| kept.died.is_some() && kept.hold.is_none()).collect();
        letters.sort_by_key(|kept| kept.died);
        let count = letters.len();
        let is_over = |index: usize, at: Option<Timestamp>, keep: usize, age: Duration| {
            index + keep < count || at.is_some_and(|at| at <= now() - age)
        };
        let over = (0..count)
            .filter(|index| is_over(*index, letters[*index].died, retention.letters, retention.letter_age));
        let over = over.count().min(limit);
        letters.into_iter().take(over).for_each(|kept| kept.died = None);

        let mut ended: Vec<(Option<Timestamp>, RunId)> = state
            .runs
            .iter()
            .filter(|kept| kept.place == Place::Ended && kept.died.is_none())
            .map(|kept| (kept.run.finished_at, kept.run.id))
            .collect();
        ended.sort_by_key(|(at, _)| *at);
        let (count, oldest) = (ended.len(), now() - retention.age);
        let old = ended
            .iter()
            .enumerate()
            .filter(|(index, (at, _))| index + retention.runs < count || at.is_some_and(|at| at <= oldest));
        let old: Vec<RunId> = old.map(|(_, (_, id))| *id).take(limit - over).collect();
        state.runs.retain(|kept| !old.contains(&kept.run.id));
        Ok(over + old.len())
    }

    async fn changed(&self) {
        std::future::pending::<()>().await;
    }
}
