//! A job that an outside crate brings: `log_watch` reports the lines of a log file that hold certain words.
//!
//! Each run reads what was appended since the last one, because the task keeps its place in the file as its
//! state. The crate knows nothing of backends, of the command line or of configuration files.

mod appended;
mod args;
mod watch;

pub use args::Args;
pub use watch::LogWatch;

use scheduler_core::{JobDescriptor, Source, register_job, source};

// For a program that says `use custom_job as _;`.
register_job!(job);

/// This crate, as `scheduler jobs` names it.
pub const SOURCE: Source = source!();

/// For a program that says `.job(custom_job::job(), custom_job::SOURCE)`.
pub fn job() -> JobDescriptor {
    let summary = "reports the new lines of a log file that hold certain words";
    JobDescriptor::typed("log_watch", summary, LogWatch::new).with_schema(Args::schema())
}
