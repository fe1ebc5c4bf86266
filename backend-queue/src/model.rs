//! A store in memory, as plain as can be: what the others are compared with.
//!
//! It says in words what each call does, without an index, a batch or a transaction, and looks at every run each
//! time.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::{
    CancelReason, Cursor, DeadLetter, DeadLetterFilter, DeadLetterPage, EndedRun, Entry, HeldLetters,
    HistoryBounds, Load, Name, Page, PageToken, Pause, Replayed, Result, Run, RunFilter, RunId, RunState,
    Timestamp,
};

use crate::model_run::{Kept, Lack, Place, Schedule, State, Written, now};
use crate::store::{
    Ack, Cancel, Claim, Decide, Decided, Effect, Held, Pushed, QueueState, Renewed, Replay, Retention,
    Standing, Stepped, Store,
};
use crate::unique::skipped;

/// A store that one test has.
#[derive(Debug, Default)]
pub(crate) struct Model(Mutex<State>);

impl Model {
    /// A model without a check.
    pub(crate) fn lacking(lacks: Option<Lack>) -> Self {
        Self(Mutex::new(State { lacks, ..State::default() }))
    }

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

    async fn push_unique(&self, runs: Vec<Pushed>) -> Result<Vec<Option<RunId>>> {
        let mut state = self.state();
        let answers = runs.iter().map(|pushed| state.insert_unique(pushed)).collect();
        state.release();
        Ok(answers)
    }

    async fn tell_progress(&self, runs: &[(Run, u64)]) -> Result<()> {
        let mut state = self.state();
        for (run, fence) in runs {
            if let Some(kept) = state.delivery(run.id, *fence) {
                (kept.run.progress, kept.run.started_at) = (run.progress.clone(), run.started_at);
            }
        }
        Ok(())
    }

    async fn step(&self, acks: &[Ack], claim: &Claim) -> Result<Stepped> {
        let mut state = self.state();
        let (mut seen, mut refused, mut marked) = (HashSet::new(), Vec::new(), Vec::new());
        for (index, ack) in acks.iter().enumerate() {
            // Of two for one delivery the first one counts.
            let is_first = seen.insert((ack.run.id, ack.fence));
            match if is_first { state.acknowledge(ack) } else { Written::Refused } {
                Written::Done => {}
                Written::Refused => refused.push(index),
                Written::Marked(reason) => marked.push((index, reason)),
            }
        }
        state.promote();
        let mut stepped = if claim.limit > 0 { state.claim(claim) } else { Stepped::default() };
        (stepped.refused, stepped.marked) = (refused, marked);
        let delayed = state.runs.iter().filter(|kept| matches!(kept.place, Place::Delayed(_)));
        let due = delayed.map(|kept| kept.due).min().map(|due| due.since(now()));
        stepped.next_due = [stepped.next_due, due].into_iter().flatten().min();
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

    async fn load(&self) -> Result<Load> {
        let (state, now) = (self.state(), now());
        let mut load = Load::default();
        let mut letters = 0;
        for kept in &state.runs {
            let is_ahead = matches!(kept.place, Place::Delayed(_)) && kept.due > now;
            match kept.place {
                Place::Running => load.under_way += 1,
                Place::Ended => letters += u64::from(kept.died.is_some()),
                _ if is_ahead => load.ahead += 1,
                Place::Behind => load.waiting += 1,
                Place::Delayed(_) | Place::Ready => {
                    load.waiting += 1;
                    load.oldest_due = Some(load.oldest_due.map_or(kept.due, |oldest| oldest.min(kept.due)));
                }
            }
        }
        load.dead_letters = Some(letters);
        Ok(load)
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
        let trigger =
            |definition: &str| definition.get(17..).map(str::to_owned).filter(|text| !text.is_empty());
        if trigger(&schedule.definition).is_some_and(|before| Some(before) != trigger(definition)) {
            schedule.cursor.edit(now());
        }
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
        let lacks = self.state().lacks;
        let mut before = self.state().standing(task);
        if lacks == Some(Lack::Cursor) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut state = self.state();
        if lacks != Some(Lack::Cursor) {
            before = state.standing(task);
        }
        let Some(before) = before else { return Ok(Decided::Unknown) };
        if state.schedules[task].revision > revision {
            return Ok(Decided::Stale);
        }
        if state.schedules[task].revision < revision {
            return Ok(Decided::Unknown);
        }
        let decision = decide(before, now());
        let (mut ended, mut marked) = (Vec::new(), Vec::new());
        match decision.effect {
            Effect::Fire(pushed, _) if state.owner_of(&pushed.run).is_some() => {
                let owner = state.owner_of(&pushed.run).expect("it was there just now");
                // One that is there already makes none.
                if owner != pushed.run.id {
                    let run = skipped(pushed.run, owner, now());
                    let due = run.fire_time;
                    state.insert(&Pushed {
                        run: run.clone(),
                        due,
                        priority: 0,
                        max_attempts: 1,
                        alone: false,
                    });
                    ended.push(run);
                }
            }
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
                state.insert_unique(&pushed);
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

    async fn pause_queue(&self, queue: Option<&Name>, pause: Option<&Pause>) -> Result<bool> {
        let mut state = self.state();
        let was_paused = state.pause_of(queue).is_some();
        state.paused.remove(&queue.cloned());
        state.paused.extend(pause.map(|pause| (queue.cloned(), pause.clone())));
        Ok(was_paused)
    }

    async fn now(&self) -> Result<Timestamp> {
        Ok(now())
    }

    async fn queues(&self) -> Result<Vec<QueueState>> {
        let state = self.state();
        let names: BTreeSet<Option<Name>> = state
            .runs
            .iter()
            .map(|kept| kept.run.queue.clone())
            .chain(state.paused.keys().cloned())
            .collect();
        let queues = names.iter().map(|name| state.queue(name.as_ref()));
        Ok(queues.filter(|queue| queue.waiting + queue.running > 0 || queue.paused.is_some()).collect())
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

    async fn replay(&self, letters: &[Replay]) -> Result<Vec<Replayed>> {
        let mut state = self.state();
        let answers = letters.iter().map(|replay| state.replay(replay)).collect();
        state.release();
        Ok(answers)
    }

    async fn hold(&self, run: RunId, reason: Option<&str>) -> Result<bool> {
        let mut state = self.state();
        let letter = state.find(run).filter(|kept| kept.died.is_some());
        Ok(letter.map(|kept| kept.hold = reason.map(str::to_owned)).is_some())
    }

    async fn discard(&self, runs: &[RunId], held: HeldLetters) -> Result<Vec<bool>> {
        let mut state = self.state();
        let mut discard = |id: &RunId| {
            let kept = state.find(*id)?;
            if held == HeldLetters::Stay && kept.hold.is_some() {
                return None;
            }
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

        let bounds = HistoryBounds::default().aged(retention.age).counting(retention.runs);
        Ok(over + state.prune(&bounds, limit - over).len())
    }

    async fn beyond(&self, bounds: &HistoryBounds, skip: usize, limit: u32) -> Result<Vec<EndedRun>> {
        Ok(self.state().beyond(bounds).into_iter().skip(skip).take(limit as usize).collect())
    }

    async fn prune(&self, bounds: &HistoryBounds, limit: u32) -> Result<Vec<EndedRun>> {
        Ok(self.state().prune(bounds, limit as usize))
    }

    async fn changed(&self) {
        std::future::pending::<()>().await;
    }
}
