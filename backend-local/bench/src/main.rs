//! Measures the local tier beside its peers, in one run on one machine.
//!
//! `cargo xtask bench local` builds and starts it. Each part is measured in a process of its own, so that none finds
//! the memory or the threads of another, and one that hangs is ended and said so. We are driven as a program that embeds us drives us.

mod arguments;
mod child;
mod daemon;
mod idle;
mod machine;
mod operations;
mod ours;
mod part;
mod peers;
mod recorder;
mod report;

use std::process::ExitCode;

use crate::arguments::{Arguments, Call};

fn main() -> ExitCode {
    let measured = Arguments::read().and_then(|call| match call {
        Call::Part(part, load) => part.measure(load).map(|figures| println!("{figures}")),
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
