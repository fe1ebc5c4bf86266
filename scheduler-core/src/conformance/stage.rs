//! Where a promise is played: one subject, its backend, the tasks, the time, and what was seen.
//!
//! What it asks the backend is in `calls.rs`, how it lets time pass and waits in `waits.rs`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::act::{Act, Ledger, Part};
use super::fault::Outcome;
use super::waits::within;
use super::{Subject, Time};
use crate::{
    Backend, BackendContext, BackendInfo, Clock, Event, Events, JobDescriptor, MemoryStateStore, Name,
    Registry, Run, RunId, StateStore, SystemClock, TaskBook, TestClock, Timestamp, Way, WeakScheduler,
};

/// Where the given clock begins: 2027-01-15T08:00:00Z.
const BEGIN: Timestamp = Timestamp::from_millis(1_800_000_000_000);
/// The unit of time on the given clock, which costs nothing.
const UNIT: Duration = Duration::from_secs(1);

/// Something a backend told about a run.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Started(RunId),
    Again(RunId),
    Ended(Box<Run>),
}

/// The job that may run without a task, and the one that may not; each returns its args.
pub(super) const FREE: &str = "free";
pub(super) const BOUND: &str = "bound";

fn jobs(ledger: &Ledger, unit: Duration) -> Arc<Registry> {
    let mut registry = Registry::new();
    for name in [FREE, BOUND] {
        let ledger = ledger.clone();
        let job = JobDescriptor::new(name, "returns its args", move |args| {
            let part = Part::Return(args.clone());
            Ok(Arc::new(Act { part, ledger: ledger.clone(), glance: unit / 4 }))
        });
        let job = if name == FREE { job.adhoc() } else { job };
        registry.add_job(job, crate::source!(), Way::Explicit).expect("no two have one name");
    }
    Arc::new(registry)
}

/// A subject and everything around it.
pub(super) struct Stage {
    pub(super) subject: Arc<dyn Subject>,
    pub(super) clock: Arc<dyn Clock>,
    /// The clock, if the kit moves it.
    pub(super) given: Option<TestClock>,
    pub(super) unit: Duration,
    pub(super) namespace: Name,
    pub(super) tasks: TaskBook,
    pub(super) registry: Arc<Registry>,
    pub(super) events: Events,
    pub(super) state: Arc<dyn StateStore>,
    pub(super) told: Arc<Mutex<Vec<Told>>>,
    pub(super) ledger: Ledger,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) info: BackendInfo,
    pub(super) is_running: bool,
}

impl Stage {
    pub(super) async fn set(subject: Arc<dyn Subject>) -> Outcome<Self> {
        let (clock, given, unit): (Arc<dyn Clock>, _, _) = match subject.time() {
            Time::Given => {
                let clock = TestClock::at(BEGIN);
                (Arc::new(clock.clone()), Some(clock), UNIT)
            }
            Time::Own { unit } => (Arc::new(SystemClock::new()), None, unit),
        };
        let told: Arc<Mutex<Vec<Told>>> = Arc::default();
        let events = Events::default();
        let heard = Arc::clone(&told);
        events.listen(move |event| {
            let told = match *event {
                Event::AttemptStarted { run, .. } => Told::Started(run.id),
                Event::AttemptEnded { run, .. } => Told::Again(run.id),
                Event::RunEnded { run, .. } => Told::Ended(Box::new(run.clone())),
                _ => return,
            };
            heard.lock().unwrap_or_else(PoisonError::into_inner).push(told);
        });
        let namespace = subject.namespace();
        let backend = within(subject.patience(), "open", subject.open()).await?;
        let info = backend.info();
        let ledger = Ledger::default();
        Ok(Self {
            subject,
            clock,
            given,
            unit,
            namespace,
            tasks: TaskBook::default(),
            registry: jobs(&ledger, unit),
            events,
            state: Arc::new(MemoryStateStore::default()),
            told,
            ledger,
            backend,
            info,
            is_running: false,
        })
    }

    pub(super) fn context(&self) -> BackendContext {
        BackendContext {
            namespace: self.namespace.clone(),
            clock: Arc::clone(&self.clock),
            tasks: self.tasks.clone(),
            registry: Arc::clone(&self.registry),
            state: Arc::clone(&self.state),
            events: self.events.clone(),
            scheduler: WeakScheduler::default(),
            data_dir: self.subject.data_dir(),
        }
    }

    /// What it told about a run.
    pub(super) fn told(&self, id: RunId) -> Vec<Told> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_of = |told: &&Told| match told {
            Told::Started(run) | Told::Again(run) => *run == id,
            Told::Ended(run) => run.id == id,
        };
        told.iter().filter(is_of).cloned().collect()
    }

    /// Ends what is left; its faults are those of other promises.
    pub(super) async fn strike(mut self) {
        self.ledger.open_doors();
        let _ = self.abort().await;
    }
}
