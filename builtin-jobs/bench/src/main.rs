//! Measures the jobs that look after a machine: how fast a large folder is cleaned beside `find -delete`, and whether
//! what hangs keeps others waiting.
//!
//! `cargo xtask bench jobs` builds and starts it. What cleans a folder is a process of its own, as `find` is, so that
//! both are timed from their start to their end and the peak of the memory is that of the cleaning alone.

mod arguments;
mod clean;
mod disk;
mod git;
mod health;
mod machine;
mod pile;
mod report;
mod work;

use std::process::ExitCode;

use crate::arguments::{Arguments, Call};

fn main() -> ExitCode {
    let measured = Arguments::read().and_then(|call| match call {
        Call::Clean(cleaning) => clean::work(&cleaning).map(|figures| println!("{figures}")),
        Call::Everything(arguments) => report::measure(&arguments)?.print(arguments.json),
    });
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
