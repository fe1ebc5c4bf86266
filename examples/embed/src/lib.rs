//! A small service that brings its own scheduler.
//!
//! It answers how much one currency costs in another, from a [`Cache`] that a schedule keeps fresh, and writes a
//! [`report`] every night. [`schedules`] is all that it needs to know of the scheduler, and takes the clock as an
//! argument: with a test clock a day passes in milliseconds.

mod cache;
mod feed;
pub mod report;
pub mod schedules;
pub mod server;

pub use cache::{Cache, Rates};
pub use feed::{Feed, FileFeed};
