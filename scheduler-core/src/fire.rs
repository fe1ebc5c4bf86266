//! One task's steps: looks at its runs, takes what was decided to its backend, and records what is skipped.

use std::sync::Arc;

use crate::driven::{Decision, Driven, LIVE_POLL};
use crate::driver::{Driver, lock};
use crate::scheduler::Inner;
use crate::{
    CancelReason, Error, Event, Name, PageToken, Placed, Result, Run, RunFilter, RunId, RunRequest, RunState,
    Timestamp,
};

/// How many skipped fires are kept for history.
const MAX_SKIPPED: usize = 1_000;

const LIVE_STATES: [RunState; 4] =
    [RunState::Scheduled, RunState::Queued, RunState::Running, RunState::Retrying];

impl Driver {
    /// Takes every step that is due for one task, and says when to look at it again.
    pub(crate) async fn step(&self, inner: &Inner, task: &Name, backend: &Name) -> Option<Timestamp> {
        let now = self.clock.now();
        let soon = Some(now + LIVE_POLL);
        if let Some(Decision::Wait(at)) = self.with(task, backend, |d| d.rest(&self.namespace, now))? {
            return at;
        }
        let mut running = match self.look_at_runs(inner, task, backend, now).await {
            Ok(running) => running,
            Err(error) => return self.note_away(task, backend, &error).and(soon),
        };
        loop {
            let decide = |driven: &mut Driven| {
                (driven.decide(&self.namespace, running, now), Arc::clone(&driven.placed))
            };
            let (decision, placed) = self.with(task, backend, decide)?;
            match decision {
                Decision::Enqueue(fire_time) => {
                    let under_way = UnderWay(self, task);
                    let fired = self.fire(inner, &placed, fire_time).await;
                    drop(under_way);
                    match fired {
                        Fired::Enqueued => {
                            running += 1;
                            self.settle(task, |driven| driven.settle(fire_time));
                        }
                        Fired::Refused(reason) => {
                            self.skip(&placed, fire_time, reason);
                            self.settle(task, |driven| driven.refuse(fire_time, now));
                        }
                        Fired::Later(error) => return self.note_away(task, backend, &error).and(soon),
                    }
                }
                Decision::CancelOthers(replaced) => {
                    for fire_time in replaced {
                        self.skip(&placed, fire_time, CancelReason::Replaced.as_str().to_owned());
                    }
                    self.cancel_live(inner, &placed, now).await;
                    // What ended at once makes room at once.
                    running = self.look_at_runs(inner, task, backend, now).await.unwrap_or(running);
                }
                Decision::Skip(fire_time, reason) => self.skip(&placed, fire_time, reason),
                Decision::Wait(at) => return at,
            }
        }
    }

    /// Settles a fire, also when its task has moved to another backend meanwhile, which must not fire it again.
    fn settle(&self, task: &Name, settle: impl FnOnce(&mut Driven)) {
        if let Some(driven) = lock(&self.tasks).get_mut(task) {
            settle(driven);
        }
    }

    /// Notes that the backend does not answer, and tells it the first time.
    fn note_away(&self, task: &Name, backend: &Name, error: &Error) -> Option<()> {
        let was_away = self.with(task, backend, |driven| std::mem::replace(&mut driven.was_away, true))?;
        if !was_away {
            tracing::warn!(%task, %backend, "its fires wait: {error}");
        }
        Some(())
    }

    /// The skipped fires that match a filter.
    pub(crate) fn skipped(&self, filter: &RunFilter) -> Vec<Run> {
        lock(&self.skipped).iter().filter(|run| filter.matches(run)).cloned().collect()
    }

    /// The runs that live now, as a filter.
    pub(crate) fn live_runs(&self) -> RunFilter {
        begun(self.clock.now() + lock(&self.watch).lag()).in_states(&LIVE_STATES)
    }

    /// How many runs of the task live, by the account of the backends that may have them; notes when the last
    /// one finished.
    async fn look_at_runs(
        &self,
        inner: &Inner,
        task: &Name,
        backend: &Name,
        now: Timestamp,
    ) -> Result<usize> {
        let Some(placed) = self.with(task, backend, |driven| Arc::clone(&driven.placed)) else {
            return Ok(0);
        };
        let lag = self.with(task, backend, |driven| driven.lag).unwrap_or_default();
        let begun = begun(now + lag);
        let filter = RunFilter { task: Some(task.clone()), ..begun.clone().in_states(&LIVE_STATES) };
        let mut answers = Vec::new();
        for member in inner.hosts(&placed) {
            answers.push(member.backend.runs(&filter).await);
        }
        let others_answer = answers.iter().skip(1).any(Result::is_ok);
        let mut running = 0;
        for answer in answers {
            match answer {
                Ok(page) => running += page.runs.len(),
                // While its own backend is away, a task that may fall back goes by the others.
                Err(error) if others_answer => tracing::debug!(%task, "not all its runs are known: {error}"),
                Err(error) => return Err(error),
            }
        }
        if running == 0 && placed.task.trigger.as_ref().is_some_and(crate::Trigger::follows_finish) {
            let ended = RunFilter { task: Some(task.clone()), ..begun };
            let mut finished = None;
            for member in inner.hosts(&placed) {
                let Ok(page) = member.backend.runs(&ended).await else { continue };
                finished = page.runs.iter().filter_map(|run| run.finished_at).chain(finished).max();
            }
            self.with(task, backend, |driven| driven.note_finish(finished, now));
        }
        Ok(running)
    }

    /// Hands one fire to the backend.
    async fn fire(&self, inner: &Inner, placed: &Placed, fire_time: Timestamp) -> Fired {
        let task = &placed.task.name;
        let run_id = RunId::scheduled(&self.namespace, task, fire_time);
        let mut request = RunRequest::scheduled(run_id, task.clone(), fire_time);
        // An interval is ahead of a wall clock that was set back; its run begins now all the same.
        request.due = fire_time.min(self.clock.now());
        match inner.enqueue(placed, request).await {
            Ok(_) => Fired::Enqueued,
            Err(error) if error.is_transient() => Fired::Later(error),
            Err(error) => Fired::Refused(format!("not enqueued: {error}")),
        }
    }

    async fn cancel_live(&self, inner: &Inner, placed: &Placed, now: Timestamp) {
        let lag = self.with(&placed.task.name, &placed.placement.backend, |driven| driven.lag);
        let begun = begun(now + lag.unwrap_or_default());
        let filter = RunFilter { task: Some(placed.task.name.clone()), ..begun.in_states(&LIVE_STATES) };
        for member in inner.hosts(placed) {
            let Ok(page) = member.backend.runs(&filter).await else { continue };
            for run in page.runs {
                if let Err(error) = member.backend.cancel(&run.id).await {
                    tracing::warn!(task = %run.task, run_id = %run.id, "not cancelled: {error}");
                }
            }
        }
    }

    pub(crate) fn skip(&self, placed: &Placed, fire_time: Timestamp, reason: String) {
        let (task, placement) = (&placed.task.name, &placed.placement);
        let id = RunId::scheduled(&self.namespace, task, fire_time);
        let run = Run::queued(id, task.clone(), placement.backend.clone(), placement.tier, fire_time)
            .into_skipped(self.clock.now(), reason);
        self.events.emit(&Event::RunEnded { run: &run, fence: 0 });
        let mut skipped = lock(&self.skipped);
        if skipped.len() == MAX_SKIPPED {
            skipped.pop_front();
        }
        skipped.push_back(run);
    }
}

/// While it lives, a fire of the task is on its way to a backend.
struct UnderWay<'a>(&'a Driver, &'a Name);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.settle(self.1, |driven| driven.is_under_way = false);
    }
}

/// What became of a fire.
enum Fired {
    Enqueued,
    Refused(String),
    Later(Error),
}

/// The newest runs whose time has come: one that is asked for tomorrow does not live yet.
fn begun(now: Timestamp) -> RunFilter {
    RunFilter { after: Some(PageToken::before_all_up_to(now)), ..RunFilter::all() }
}
