//! The local tier of the hybrid scheduler: tasks run in this process, on tokio.
//!
//! One loop on a thread of its own holds the timers and all state; jobs run on threads of their own, so that
//! none of them can delay the loop. It is for frequent work that may be lost: nothing but history survives
//! the process.
//!
//! # Guarantees
//! - A fire happens at most once in the life of the process; misfires follow the task's policy.
//! - A job that panics, blocks its thread or never ends harms its own run only.
//! - A run whose time limit passed gives its slot back, whatever its job does.
//! - History is bounded and is written off the loop's thread.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use backend_local::{LocalBackend, LocalConfig};
//! use scheduler_core::{JobDescriptor, Name, Registry, RunFilter, Scheduler, SystemClock, Task, Way, source};
//!
//! # async fn example() -> scheduler_core::Result<()> {
//! let mut registry = Registry::new();
//! let hello = JobDescriptor::function("hello", "says hello", |_| async { Ok("hello".into()) });
//! registry.add_job(hello, source!(), Way::Explicit)?;
//! let local = LocalBackend::new(Name::new("local")?, LocalConfig::default());
//! let scheduler =
//!     Scheduler::builder(Arc::new(SystemClock::new())).registry(registry).backend(Arc::new(local)).build()?;
//! scheduler.start().await?;
//! scheduler.submit(Task::new(Name::new("greet")?, Name::new("hello")?)).await?;
//! scheduler.trigger(&Name::new("greet")?, Default::default()).await?;
//! scheduler.stop(Duration::from_secs(5)).await?;
//! assert_eq!(scheduler.history(&RunFilter::all()).await?.runs.len(), 1);
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
//! ```

mod attempts;
mod backend;
mod command;
mod config;
mod drain;
mod engine;
mod finish;
mod fire;
mod history;
mod history_file;
mod inbox;
mod live;
mod orders;
mod page;
mod pulse;
mod retention;
mod schedule;
mod seat;
mod tasks;
mod thread;
mod watch;
mod wheel;
mod workers;

pub use backend::{LocalBackend, kind};
pub use config::LocalConfig;

/// Compiles and runs the program in the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
