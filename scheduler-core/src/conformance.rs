//! The proof that a backend keeps what it promises: one test for each promise.
//!
//! The author of a backend implements [`Subject`] and calls [`conformance_tests!`](crate::conformance_tests) in
//! a file under `tests/`; nothing but `scheduler-core`, with the feature `conformance`, is needed for it:
//!
//! ```
//! use std::sync::Arc;
//! use scheduler_core::conformance::Subject;
//! use scheduler_core::{Backend, Result, async_trait};
//!
//! # fn my_backend() -> Arc<dyn Backend> { panic!("compiled, and never called") }
//! struct Mine;
//!
//! #[async_trait]
//! impl Subject for Mine {
//!     async fn open(&self) -> Result<Arc<dyn Backend>> {
//!         Ok(my_backend())
//!     }
//! }
//!
//! scheduler_core::conformance_tests!(|| Mine);
//! # fn main() {}
//! ```
//!
//! What a backend declares ([`Capability`](crate::Capability)) it has to keep, and what it keeps it has to
//! declare: both are tested. A promise that does not apply to a backend passes, and says why on stderr and in
//! the report.
//!
//! # The report
//!
//! With `SCHEDULER_CONFORMANCE_REPORT=report.json cargo test`, the test `the_report_is_written` plays every
//! promise once more and writes a [`Report`] as JSON to that file; a relative path counts from the folder of
//! the package. [`report()`] gives the same to a program.
//!
//! # Time and waiting
//!
//! A backend that goes by the clock it is given is tested on a [`TestClock`](crate::TestClock): hours take no
//! time. It holds that clock while it works ([`Clock::busy`](crate::Clock::busy)). One that goes by the clock
//! of its store says so in [`Subject::time`]. The kit never sleeps for luck: it waits for what must happen, at
//! most as long as [`Subject::patience`], and says in vain for what.
//!
//! The kit's jobs run in the process of the test, so a backend whose jobs run elsewhere cannot be tested with
//! it. That a result of a delivery which has been given up is refused is not tested either: it takes a crash
//! that leaves the job running, and within one process there is none.

mod act;
mod adhoc;
mod attempts;
mod calls;
mod cancelling;
mod durability;
mod duties;
mod fault;
mod letters;
mod outside;
mod overlap;
mod payloads;
mod priorities;
mod promises;
mod report;
mod retention;
mod runs;
mod schedules;
mod stage;
mod stopping;
mod subject;
mod waits;

pub use promises::{PROMISES, Promise};
pub use report::{Finding, Kept, Report, report};
pub use subject::{Subject, Time};

#[doc(hidden)]
pub use report::{__prove, __write_report};
