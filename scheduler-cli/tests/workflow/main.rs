//! The workflow tier as a person or a script drives it, on a real Prefect server with a real worker.
//!
//! `cargo xtask integration workflow` brings both and runs these tests; without them they are passed over.
#![cfg(all(
    unix,
    feature = "local",
    feature = "builtin-jobs",
    feature = "queue-sqlite",
    feature = "workflow-prefect"
))]

#[path = "../cli/bench.rs"]
#[cfg(test)]
#[expect(dead_code, reason = "the other tests of the command line use all of it")]
mod bench;
#[cfg(test)]
mod guarded;
#[cfg(test)]
mod moved;
#[cfg(test)]
mod plan;
#[path = "../../../backend-workflow/tests/prefect/records.rs"]
#[cfg(test)]
mod records;
#[cfg(test)]
mod runs;
#[cfg(test)]
mod shipped_flow;
#[cfg(test)]
mod site;
