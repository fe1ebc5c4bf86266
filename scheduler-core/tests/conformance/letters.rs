//! The dead letters of the reference backend.

use scheduler_core::{
    DeadLetter, DeadLetterFilter, DeadLetterPage, DeadLetters, HeldLetters, Replayed, Result, Run, RunId,
    RunOrigin, async_trait,
};

use crate::breaks::Break;
use crate::store::{Shared, State};

impl Shared {
    fn replay_one(&self, state: &mut State, letter: RunId) -> Replayed {
        let Some(kept) = state.letters.get(&letter) else { return Replayed::Unknown };
        if kept.held.is_some() && !self.is(Break::HoldIgnored) {
            return Replayed::Held;
        }
        let now = state.life.as_ref().map_or(kept.died_at, |life| life.ctx.clock.now());
        let Some(origin) = state.runs.get(&letter).cloned() else { return Replayed::Unknown };
        let (old, id) = (origin.run, RunId::manual(now));
        let mut run = Run::queued(id, old.task, old.backend, old.tier, old.fire_time);
        (run.origin, run.params, run.adhoc) = (RunOrigin::Manual, old.params, old.adhoc);
        run.replay_of = Some(letter).filter(|_| !self.is(Break::OriginUnnamed));
        let mut stored = state.stored(run, now);
        stored.priority = origin.priority;
        state.runs.insert(id, stored);
        Replayed::As(id)
    }
}

#[async_trait]
impl DeadLetters for Shared {
    async fn letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
        let state = self.lock();
        let mut filter = filter.clone();
        if self.is(Break::LettersUnfiltered) {
            filter.task = None;
        }
        let letters = state.letters.iter().filter_map(|(run, kept)| {
            let mut letter = DeadLetter::new(state.runs.get(run)?.run.clone(), kept.died_at);
            letter.held.clone_from(&kept.held);
            Some(letter)
        });
        Ok(filter.page(letters))
    }

    async fn replay(&self, runs: &[RunId]) -> Result<Vec<Replayed>> {
        let mut state = self.lock();
        let mut answers = Vec::new();
        for run in runs {
            let answer = self.replay_one(&mut state, *run);
            if matches!(answer, Replayed::As(_)) && !self.is(Break::LeavesAtTheEnd) {
                state.letters.remove(run);
            }
            answers.push(answer);
        }
        for (run, _) in runs.iter().zip(&answers).filter(|(_, answer)| matches!(answer, Replayed::As(_))) {
            state.letters.remove(run);
        }
        self.notify(&mut state);
        Ok(answers)
    }

    async fn hold(&self, run: &RunId, reason: Option<&str>) -> Result<bool> {
        match self.lock().letters.get_mut(run) {
            Some(letter) => letter.held = reason.map(str::to_owned),
            None => return Ok(self.is(Break::UnknownHeld)),
        }
        Ok(true)
    }

    async fn discard(&self, runs: &[RunId], held: HeldLetters) -> Result<Vec<bool>> {
        let mut state = self.lock();
        let spares_held = held == HeldLetters::Stay && !self.is(Break::HeldDiscarded);
        let mut discard = |run: &RunId| {
            if spares_held && state.letters.get(run).is_some_and(|letter| letter.held.is_some()) {
                return false;
            }
            let was_there = state.letters.remove(run).is_some();
            if was_there && self.is(Break::DiscardedForgotten) {
                state.runs.remove(run);
            }
            was_there
        };
        Ok(runs.iter().map(&mut discard).collect())
    }
}
