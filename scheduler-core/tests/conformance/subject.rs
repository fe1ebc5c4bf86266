//! The reference backend as a subject of the kit.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use scheduler_core::conformance::{Subject, Time};
use scheduler_core::{Backend, Result, RunState, async_trait};

use crate::breaks::Break;
use crate::reference::Reference;
use crate::store::{State, lock};

pub(crate) const SLOTS: NonZeroUsize = NonZeroUsize::new(4).unwrap();

/// The reference backend over a disk of its own.
pub(crate) struct Disk {
    pub(crate) broken: Option<Break>,
    pub(crate) time: Time,
    pub(crate) state: Arc<Mutex<State>>,
}

impl Disk {
    pub(crate) fn new(broken: Option<Break>) -> Self {
        Self { broken, time: Time::Given, state: Arc::default() }
    }
}

#[async_trait]
impl Subject for Disk {
    async fn open(&self) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(Reference::new(Arc::clone(&self.state), self.broken)))
    }

    async fn kill(&self, _: Arc<dyn Backend>) {
        let mut state = lock(&self.state);
        state.end();
        if self.broken == Some(Break::WaitingLostAtCrash) {
            state.runs.retain(|_, stored| stored.run.state != RunState::Scheduled);
        }
    }

    fn time(&self) -> Time {
        self.time
    }

    fn concurrency(&self) -> Option<NonZeroUsize> {
        Some(SLOTS)
    }

    fn patience(&self) -> Duration {
        match self.broken {
            // What does not happen at once on the given clock does not happen.
            Some(_) => Duration::from_secs(1),
            None => Duration::from_secs(20),
        }
    }
}
