//! The scheduler through its public face, over a backend that an outside author could have written.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic, in its helpers too")]

#[path = "../../../examples/custom-backend/src/lib.rs"]
#[expect(unreachable_pub, dead_code, reason = "it is a library where it lives")]
mod custom_backend;
mod degraded;
mod engine;
mod faulty;
mod fired_by;
mod firing;
mod lifecycle;
mod limits;
mod many;
mod orders;
mod outage;
mod outside;
mod overlap;
mod queues;
mod registry;
mod routing;
mod runs;
mod stage;
mod waits;
