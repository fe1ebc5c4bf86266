//! The deliveries that this process holds.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use scheduler_core::{Placed, Run, RunContext, RunId};

use crate::store::Held;

/// A delivery under way.
pub(crate) struct Flight {
    pub(crate) run: Run,
    pub(crate) fence: u64,
    pub(crate) max_attempts: u32,
    pub(crate) ctx: RunContext,
    pub(crate) placed: Arc<Placed>,
}

impl Flight {
    pub(crate) fn held(&self) -> Held {
        Held { run: self.run.id, fence: self.fence }
    }
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flight({:?})", self.ctx)
    }
}

/// All deliveries that this process holds.
#[derive(Debug, Default)]
pub(crate) struct Flights(HashMap<RunId, Flight>);

impl Flights {
    pub(crate) fn insert(&mut self, flight: Flight) {
        self.0.insert(flight.run.id, flight);
    }

    pub(crate) fn get(&self, run: RunId) -> Option<&Flight> {
        self.0.get(&run)
    }

    pub(crate) fn get_mut(&mut self, run: RunId) -> Option<&mut Flight> {
        self.0.get_mut(&run)
    }

    pub(crate) fn remove(&mut self, run: RunId) -> Option<Flight> {
        self.0.remove(&run)
    }

    /// The delivery, if it is still the one with this fence.
    pub(crate) fn take(&mut self, run: RunId, fence: u64) -> Option<Flight> {
        self.0.get(&run).filter(|flight| flight.fence == fence)?;
        self.0.remove(&run)
    }

    pub(crate) fn take_all(&mut self) -> Vec<Flight> {
        self.0.drain().map(|(_, flight)| flight).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Flight> {
        self.0.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
