//! The scheduler through its public face, over a backend that an outside author could have written.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic, in its helpers too")]

mod degraded;
mod faulty;
mod firing;
mod lifecycle;
mod limits;
mod memory;
mod outage;
mod overlap;
mod registry;
mod routing;
mod runs;
mod stage;
