//! The dead letters of all backends as one list.

use serde_json::{Map, Value};

use crate::{
    DeadLetterFilter, DeadLetterPage, DeadLetters, HeldLetters, PageToken, Replayed, Result, RunId, Scheduler,
};

impl Scheduler {
    /// The dead letters of every backend that keeps them as one list, the newest fire first.
    ///
    /// # Errors
    /// Those of the first backend that does not answer.
    pub async fn letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
        let mut letters = Vec::new();
        // Behind the end of a page that has a next one, its backend may own more: nothing there is shown yet.
        let mut horizon: Option<PageToken> = None;
        for keeper in self.keepers() {
            let keeper = keeper?;
            let page = keeper.letters(filter).await?;
            horizon = horizon.max(page.next);
            letters.extend(page.letters);
        }
        letters.retain(|letter| horizon.is_none_or(|horizon| PageToken::of(&letter.run) >= horizon));
        let mut page = filter.page(letters);
        page.next = page.next.or(horizon);
        Ok(page)
    }

    /// Runs dead letters again, each once and as a new run of the same task, fire time and parameters; answers in
    /// the order of `runs`.
    ///
    /// # Errors
    /// Those of the first backend that does not answer. What others did before that stays done.
    pub async fn replay(&self, runs: &[RunId]) -> Result<Vec<Replayed>> {
        let mut answers = vec![Replayed::Unknown; runs.len()];
        for keeper in self.keepers() {
            let keeper = keeper?;
            let (places, rest) = left(runs, &answers, |answer| *answer == Replayed::Unknown);
            for (place, answer) in places.into_iter().zip(keeper.replay(&rest).await?) {
                answers[place] = answer;
            }
        }
        Ok(answers)
    }

    /// Runs a dead letter again with these parameters in place of its own, which stay with the run that failed.
    ///
    /// # Errors
    /// What its backend refuses such parameters for; `dead_letters/no_edit` where it cannot.
    pub async fn replay_with(&self, run: &RunId, params: &Map<String, Value>) -> Result<Replayed> {
        for keeper in self.keepers() {
            let keeper = keeper?;
            if !keeper.letters(&DeadLetterFilter::of_run(*run)).await?.letters.is_empty() {
                return keeper.replay_with(run, params).await;
            }
        }
        Ok(Replayed::Unknown)
    }

    /// Keeps a dead letter from replay and retention, for this reason; `None` lets it go again. Says whether there
    /// is such a letter.
    ///
    /// # Errors
    /// Those of the first backend that does not answer.
    pub async fn hold(&self, run: &RunId, reason: Option<&str>) -> Result<bool> {
        for keeper in self.keepers() {
            let keeper = keeper?;
            if keeper.hold(run, reason).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes dead letters, and those that are held as `held` says; says of each, in the order of `runs`, whether
    /// there was one and it left.
    ///
    /// # Errors
    /// Those of the first backend that does not answer. What others did before that stays done.
    pub async fn discard(&self, runs: &[RunId], held: HeldLetters) -> Result<Vec<bool>> {
        let mut answers = vec![false; runs.len()];
        for keeper in self.keepers() {
            let keeper = keeper?;
            let (places, rest) = left(runs, &answers, |was_there| !was_there);
            for (place, answer) in places.into_iter().zip(keeper.discard(&rest, held).await?) {
                answers[place] = answer;
            }
        }
        Ok(answers)
    }

    /// What keeps dead letters; an error for one that is known to be down.
    fn keepers(&self) -> impl Iterator<Item = Result<&dyn DeadLetters>> {
        let keeping = self.0.backends.iter().filter(|member| member.backend.dead_letters().is_some());
        keeping.filter_map(|member| member.answering().map(|backend| backend.dead_letters()).transpose())
    }
}

/// The runs that nobody has answered for, with their places.
fn left<T>(runs: &[RunId], answers: &[T], is_left: impl Fn(&T) -> bool) -> (Vec<usize>, Vec<RunId>) {
    let unanswered = runs.iter().zip(answers).enumerate().filter(|(_, (_, answer))| is_left(answer));
    unanswered.map(|(place, (run, _))| (place, *run)).unzip()
}
