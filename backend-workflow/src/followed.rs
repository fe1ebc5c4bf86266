//! What was told of each run that lives, so that every attempt and every end is told once.
//!
//! Pure: what the engine shows goes in, what is to be told comes out.

use std::collections::HashMap;
use std::time::Duration;

use scheduler_core::{Name, Run, RunState, Timestamp};

use crate::engine::{EngineRun, EngineRunId};
use crate::names::Identity;
use crate::shown::shown;

/// Attempts that nobody saw are told one by one, the newest so many.
const MOST_ATTEMPTS: u32 = 10;
/// A run whose time lies ahead is looked at this often, as somebody may have cancelled it.
const GLANCE: Duration = Duration::from_secs(60);

/// Something to tell of a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum News {
    /// An attempt began.
    Started(Box<Run>),
    /// An attempt ended, and the next one follows.
    Again(Box<Run>),
    /// The run ended.
    Ended(Box<Run>),
}

/// The runs that live, and those that ended lately.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    live: HashMap<EngineRunId, Entry>,
    ended: HashMap<EngineRunId, Timestamp>,
}

#[derive(Debug)]
struct Entry {
    identity: Identity,
    /// How many attempts were told to have begun, and to be followed by another.
    started: u32,
    again: u32,
    /// Its time, while that lies ahead.
    due: Option<Timestamp>,
    looked: Duration,
}

impl Followed {
    /// Whether any run lives whose time has come.
    pub(crate) fn is_busy(&self, now: Timestamp) -> bool {
        self.live.values().any(|entry| entry.due.is_none_or(|due| due <= now))
    }

    /// When the next run's time comes that lies ahead.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.live.values().filter_map(|entry| entry.due).min()
    }

    /// The runs to look at that were not looked at since `since`.
    pub(crate) fn to_look_at(&self, now: Timestamp, since: Duration) -> Vec<EngineRunId> {
        let is_due = |entry: &Entry| {
            let has_come = entry.due.is_none_or(|due| due <= now);
            entry.looked < since && (has_come || since.saturating_sub(entry.looked) > GLANCE)
        };
        self.live.iter().filter(|(_, entry)| is_due(entry)).map(|(id, _)| id.clone()).collect()
    }

    /// How many live runs of each task there are.
    pub(crate) fn live_by_task(&self) -> HashMap<Name, usize> {
        let mut counts = HashMap::new();
        for entry in self.live.values() {
            *counts.entry(entry.identity.task.clone()).or_default() += 1;
        }
        counts
    }

    /// Who a run is, if it is followed.
    pub(crate) fn identity(&self, id: &EngineRunId) -> Option<Identity> {
        self.live.get(id).map(|entry| entry.identity.clone())
    }

    /// Begins to follow a run as it stands: what happened to it before is not told.
    pub(crate) fn adopt(&mut self, backend: &Name, identity: Identity, run: &EngineRun, looked: Duration) {
        let seen = shown(backend, identity.clone(), run);
        let again = seen.attempt.saturating_sub(u32::from(seen.state != RunState::Retrying));
        let due = run.scheduled_for.filter(|_| seen.state == RunState::Scheduled);
        let entry = Entry { identity, started: seen.attempt, again, due, looked };
        self.live.entry(run.id.clone()).or_insert(entry);
    }

    /// Takes in how a run stands; one that is new is followed from its beginning.
    pub(crate) fn see(
        &mut self,
        backend: &Name,
        identity: Identity,
        run: &EngineRun,
        looked: Duration,
    ) -> Vec<News> {
        if self.ended.contains_key(&run.id) {
            return Vec::new();
        }
        let seen = shown(backend, identity.clone(), run);
        let due = run.scheduled_for.filter(|_| seen.state == RunState::Scheduled);
        let entry = self.live.entry(run.id.clone()).or_insert_with(|| Entry {
            identity,
            started: 0,
            again: 0,
            due,
            looked,
        });
        (entry.due, entry.looked) = (due, looked);
        let news = entry.news(&seen);
        if seen.state.is_end() {
            self.live.remove(&run.id);
            self.ended.insert(run.id.clone(), seen.fire_time);
        }
        news
    }

    /// Forgets a run that the engine does not have any longer.
    pub(crate) fn lose(&mut self, id: &EngineRunId) {
        self.live.remove(id);
    }

    /// Forgets the ends of runs that were to start before `before`: they are not listed again.
    pub(crate) fn forget_ended(&mut self, before: Timestamp) {
        self.ended.retain(|_, fire_time| *fire_time >= before);
    }
}

impl Entry {
    fn news(&mut self, seen: &Run) -> Vec<News> {
        let mut news = Vec::new();
        let in_state = |attempt, state| {
            let mut run = without_end(seen.clone());
            (run.attempt, run.state) = (attempt, state);
            Box::new(run)
        };
        let first = self.started.max(seen.attempt.saturating_sub(MOST_ATTEMPTS)) + 1;
        for attempt in first..=seen.attempt {
            if attempt > 1 && self.again < attempt - 1 && self.started >= attempt - 1 {
                news.push(News::Again(in_state(attempt - 1, RunState::Retrying)));
                self.again = attempt - 1;
            }
            news.push(News::Started(in_state(attempt, RunState::Running)));
            self.started = attempt;
        }
        if seen.state == RunState::Retrying && self.again < self.started {
            news.push(News::Again(in_state(self.started, RunState::Retrying)));
            self.again = self.started;
        }
        if seen.state.is_end() {
            news.push(News::Ended(Box::new(seen.clone())));
        }
        news
    }
}

/// The run as it was before its end.
fn without_end(mut run: Run) -> Run {
    run.finished_at = None;
    run.reason = None;
    run.failures.clear();
    run
}

#[cfg(test)]
mod tests {
    use scheduler_core::{RunId, RunOrigin};

    use super::*;
    use crate::engine::Phase;
    use crate::memory_world::run;

    fn identity() -> Identity {
        let at = Timestamp::from_millis(1_000);
        let task = Name::new("t").unwrap();
        let run_id = RunId::scheduled(&task, &task, at);
        Identity { run_id, task, fire_time: at, origin: RunOrigin::Schedule, params: Default::default() }
    }

    fn see(followed: &mut Followed, phase: Phase, attempts: u32) -> Vec<String> {
        let mut run = run("1");
        (run.phase, run.attempts) = (phase, attempts);
        let backend = Name::new("workflow").unwrap();
        let news = followed.see(&backend, identity(), &run, Duration::ZERO);
        let word = |news: &News| match news {
            News::Started(run) => format!("started {}", run.attempt),
            News::Again(run) => format!("again {}", run.attempt),
            News::Ended(run) => format!("ended {} {}", run.state, run.attempt),
        };
        news.iter().map(word).collect()
    }

    #[test]
    fn every_attempt_and_every_end_is_told_once_however_often_they_are_seen() {
        let mut followed = Followed::default();
        let steps: &[(Phase, u32, &[&str])] = &[
            (Phase::Queued, 0, &[]),
            (Phase::Running, 1, &["started 1"]),
            (Phase::Running, 1, &[]),
            (Phase::Retrying, 1, &["again 1"]),
            (Phase::Retrying, 1, &[]),
            (Phase::Running, 2, &["started 2"]),
            (Phase::Failed, 2, &["ended failed 2"]),
            (Phase::Failed, 2, &[]),
        ];
        for (phase, attempts, told) in steps {
            assert_eq!(see(&mut followed, *phase, *attempts), *told, "{phase:?}");
        }
    }

    #[test]
    fn what_happened_between_two_looks_is_told_in_its_order() {
        let told = see(&mut Followed::default(), Phase::Succeeded, 3);
        assert_eq!(told, ["started 1", "again 1", "started 2", "again 2", "started 3", "ended succeeded 3"]);
        assert_eq!(see(&mut Followed::default(), Phase::Cancelled, 0), ["ended cancelled 0"]);
        assert!(see(&mut Followed::default(), Phase::Running, u32::MAX).len() <= 20);
    }

    #[test]
    fn what_was_before_the_start_is_not_told() {
        let mut followed = Followed::default();
        let mut live = run("1");
        (live.phase, live.attempts) = (Phase::Running, 2);
        followed.adopt(&Name::new("workflow").unwrap(), identity(), &live, Duration::ZERO);
        assert!(see(&mut followed, Phase::Running, 2).is_empty());
        assert_eq!(see(&mut followed, Phase::Succeeded, 2), ["ended succeeded 2"]);
    }
}
