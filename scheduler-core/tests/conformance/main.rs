//! The kit itself: a backend that keeps every promise passes, and one that breaks a promise fails that alone.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic, in its helpers too")]

mod breaks;
mod documentation;
mod finish;
mod letters;
mod proof;
mod pump;
mod reference;
mod report;
mod retention;
mod store;
mod subject;

scheduler_core::conformance_tests!(|| subject::Disk::new(None));
