//! `cargo xtask`: everything that decides whether a change may go in, as one program.
//!
//! It starts cargo and reads what cargo says; it builds nothing itself and knows no crate's insides.
//! Every command works on the workspace that this crate belongs to, whatever the current directory.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod alone;
mod arrows;
mod audit;
mod backends;
mod bench;
mod built;
mod certificate;
mod charge;
mod check;
mod codes;
mod command_line;
mod cpp;
mod docs;
mod examples;
mod faketime;
mod faults;
mod features;
mod fuzz;
mod house;
mod integration;
mod lanes;
mod locks;
mod manifest;
mod metadata;
mod new_backend;
mod output;
mod paths;
mod prefect;
mod redis;
mod resp;
mod scratch;
mod steps;
mod tally;
mod template;
mod test;
mod tool;

/// Checks, tests and audits the workspace.
///
/// Exit codes: 0 when everything holds, 1 when something was found, 2 when the command line is wrong or a tool is
/// missing.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check format, lints, every feature set, docs, crate dependencies and house rules
    ///
    /// All parts run even when one fails; the summary gives the command that repeats each failure.
    Check {
        /// Run these parts only, in the usual order [default: all]
        #[arg(value_enum, value_name = "PART")]
        parts: Vec<check::Part>,
    },
    /// Run `check` and every test suite; the last line is `N passed, N failed`
    ///
    /// Suites that mostly wait run beside what compiles, whose output comes when it has ended.
    Test {
        /// Run these suites only, without `check` [default: all]
        #[arg(value_enum, value_name = "SUITE")]
        suites: Vec<test::Suite>,
    },
    /// Run the suites that need a server beside one that is brought, used and stopped
    Integration {
        /// What to try
        #[arg(value_enum)]
        subject: integration::Subject,
    },
    /// Measure us beside our peers, on this machine and in this run
    ///
    /// Tells of each target whether it was reached. Whatever else the machine does at the time is measured with it.
    Bench {
        /// What to measure
        #[arg(value_enum)]
        subject: bench::Subject,
        /// Where runs are kept, of `queue` only
        #[arg(long, value_enum, required_if_eq("subject", "queue"))]
        store: Option<bench::Store>,
        /// How results are printed
        #[arg(short, long, value_enum, default_value_t = bench::Output::Table)]
        output: bench::Output,
        /// Measure less, to see that all of it works; the figures are worth little
        #[arg(long)]
        quick: bool,
    },
    /// Do to the durable tier what machines and servers do to it, and count from outside what became of the work
    ///
    /// Exit code 1 also when a row could not be run on this machine; it says why.
    Faults(faults::Flags),
    /// Feed inputs that nobody thought of to what reads configuration and names
    ///
    /// A finding names its input and the command that repeats it. Needs a C++ compiler; root gets one by apt-get.
    Fuzz {
        /// Run this target only [default: all]
        #[arg(value_enum)]
        target: Option<fuzz::Target>,
        /// How long each target runs
        #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
        seconds: u32,
    },
    /// Make a crate with a backend that keeps every promise, to be filled with your own
    ///
    /// It is examples/custom-backend under another name: backend-NAME, a member of this workspace, or a crate of its
    /// own in DIR.
    NewBackend {
        /// What a configuration calls it: characters of [a-z0-9_], beginning with a letter
        name: new_backend::Names,
        /// Make it in this folder, outside of the workspace
        #[arg(long, value_name = "DIR")]
        path: Option<std::path::PathBuf>,
    },
    /// Write the pages in docs/ that are made from the code
    Docs,
    /// Check dependencies for bans, licences and sources (needs cargo-deny)
    Audit,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Check { parts } => check::run(&parts),
        Command::Test { suites } => test::run(&suites),
        Command::Integration { subject } => integration::run(subject),
        Command::Bench { subject, store, output, quick } => {
            bench::run(subject, bench::Options { store, output, quick })
        }
        Command::Faults(flags) => faults::run(&flags),
        Command::Fuzz { target, seconds } => fuzz::run(target, seconds),
        Command::NewBackend { name, path } => new_backend::run(&name, path.as_deref()),
        Command::Docs => docs::run(),
        Command::Audit => audit::run(),
    };

    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
