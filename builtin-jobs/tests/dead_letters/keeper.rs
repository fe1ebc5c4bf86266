//! A backend that keeps dead letters and runs what is replayed when a test says so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use scheduler_core::{
    Backend, BackendContext, BackendInfo, Cancelled, Capability, DeadLetter, DeadLetterFilter,
    DeadLetterPage, DeadLetters, Drained, Enqueued, Error, Health, HeldLetters, Name, Page, Replayed, Result,
    Run, RunFilter, RunId, RunRequest, RunState, Tier, Timestamp, async_trait,
};
use serde_json::Value;

/// Clones share the letters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keeper(Arc<Mutex<State>>);

#[derive(Debug, Default)]
pub(crate) struct State {
    runs: BTreeMap<RunId, Run>,
    letters: BTreeMap<RunId, DeadLetter>,
    /// Calls that never answer: whoever waits for them is as good as killed there.
    pub(crate) discard_hangs: bool,
    /// Whom a person holds in the moment in which letters are discarded.
    pub(crate) held_at_discard: Option<RunId>,
    pub(crate) replay_hangs: bool,
    /// As hanging, but after the replay was done.
    pub(crate) replay_is_not_told: bool,
    /// How many letters were replayed.
    pub(crate) replayed: usize,
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

impl Keeper {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A run of `task` that failed at `at` with this error.
    pub(crate) fn fail(&self, task: &str, error: &str, at: Timestamp) -> RunId {
        let mut run = Run::queued(RunId::manual(at), name(task), name("queue"), Tier::Queue, at);
        run.params.insert("order".to_owned(), Value::from(4711));
        self.bury(run, error, at)
    }

    fn bury(&self, mut run: Run, error: &str, at: Timestamp) -> RunId {
        (run.state, run.reason, run.attempt) = (RunState::Failed, Some(error.to_owned()), 1);
        run.record_failure(at, error);
        let id = run.id;
        let mut state = self.state();
        state.letters.insert(id, DeadLetter::new(run.clone(), at));
        state.runs.insert(id, run);
        id
    }

    /// Ends every run that waits: well, or with this error.
    pub(crate) fn work(&self, error: Option<&str>, at: Timestamp) {
        let waiting: Vec<Run> =
            self.state().runs.values().filter(|run| run.state == RunState::Queued).cloned().collect();
        for mut run in waiting {
            match error {
                Some(error) => {
                    self.bury(run, error, at);
                }
                None => {
                    run.state = RunState::Succeeded;
                    self.state().runs.insert(run.id, run);
                }
            }
        }
    }

    pub(crate) fn letters(&self) -> Vec<RunId> {
        self.state().letters.keys().copied().collect()
    }

    pub(crate) fn hold_now(&self, run: RunId) {
        self.state().letters.get_mut(&run).unwrap().held = Some("asked the vendor".to_owned());
    }

    pub(crate) fn make_unreadable(&self, run: RunId) {
        self.state().letters.get_mut(&run).unwrap().unreadable = Some("?".to_owned());
    }

    /// Forgets a run, as history does after a while.
    pub(crate) fn forget(&self, run: RunId) {
        self.state().runs.remove(&run);
    }
}

#[async_trait]
impl DeadLetters for Keeper {
    async fn letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage> {
        Ok(filter.page(self.state().letters.values().cloned()))
    }

    async fn replay(&self, runs: &[RunId]) -> Result<Vec<Replayed>> {
        let hangs = self.state().replay_hangs;
        if hangs {
            std::future::pending::<()>().await;
        }
        let answers = runs.iter().map(|id| {
            let mut state = self.state();
            let letter = match state.letters.get(id) {
                None => return Replayed::Unknown,
                Some(letter) if letter.held.is_some() => return Replayed::Held,
                Some(letter) if letter.unreadable.is_some() => return Replayed::Unreadable,
                Some(letter) => letter.run.clone(),
            };
            state.letters.remove(id);
            let again = RunId::manual(letter.fire_time);
            let mut run = Run::queued(again, letter.task, letter.backend, letter.tier, letter.fire_time);
            run.replay_of = Some(*id);
            state.runs.insert(again, run);
            state.replayed += 1;
            Replayed::As(again)
        });
        let answers = answers.collect();
        let is_told = !self.state().replay_is_not_told;
        if is_told { Ok(answers) } else { std::future::pending().await }
    }

    async fn hold(&self, run: &RunId, reason: Option<&str>) -> Result<bool> {
        let mut state = self.state();
        let Some(letter) = state.letters.get_mut(run) else { return Ok(false) };
        letter.held = reason.map(str::to_owned);
        Ok(true)
    }

    async fn discard(&self, runs: &[RunId], held: HeldLetters) -> Result<Vec<bool>> {
        let hangs = self.state().discard_hangs;
        if hangs {
            std::future::pending::<()>().await;
        }
        let person = self.state().held_at_discard.take();
        person.into_iter().for_each(|run| self.hold_now(run));
        let mut state = self.state();
        let mut discard = |run: &RunId| {
            let stays = state.letters.get(run)?.held.is_some() && held == HeldLetters::Stay;
            if stays { None } else { state.letters.remove(run) }
        };
        Ok(runs.iter().map(|run| discard(run).is_some()).collect())
    }
}

#[async_trait]
impl Backend for Keeper {
    fn info(&self) -> BackendInfo {
        BackendInfo::new(name("queue"), "keeper", Tier::Queue, &[Capability::DeadLetters])
    }

    async fn start(&self, _: BackendContext) -> Result<()> {
        Ok(())
    }

    async fn enqueue(&self, _: RunRequest) -> Result<Enqueued> {
        Err(Error::unsupported("backend/stopped", "it takes nothing"))
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Page> {
        Ok(filter.page(self.state().runs.values().cloned()))
    }

    async fn cancel(&self, _: &RunId) -> Result<Cancelled> {
        Err(Error::not_found("run/unknown", "it has no runs"))
    }

    async fn health(&self) -> Health {
        Health::up()
    }

    async fn stop(&self, _: Duration) -> Result<Drained> {
        Ok(Drained::default())
    }

    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        Some(self)
    }
}
