//! What passes between the driver and the workers.

use std::fmt;
use std::sync::Arc;

use scheduler_core::{AttemptEnd, Placed, RunContext, RunId};

/// A delivery, ready to be worked on.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) placed: Arc<Placed>,
    pub(crate) ctx: RunContext,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Work({:?})", self.ctx)
    }
}

/// How a delivery ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) run: RunId,
    pub(crate) fence: u64,
    pub(crate) end: AttemptEnd,
    /// Held until the end is taken note of, for a test clock.
    pub(crate) ctx: RunContext,
}
