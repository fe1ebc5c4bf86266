//! What the program is asked.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::part::{Load, Part};

/// The command line.
#[derive(Debug)]
pub(crate) enum Call {
    /// Everything, each part in a process of its own.
    Everything(Arguments),
    /// One part in this process; its figures are printed as JSON.
    Part(Part, Load),
}

/// How everything is measured.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) quick: bool,
    pub(crate) json: bool,
    /// The daemon, if there is one to be measured.
    pub(crate) daemon: Option<PathBuf>,
}

impl Arguments {
    /// # Errors
    /// A word is unknown or missing.
    pub(crate) fn read() -> Result<Call> {
        let mut arguments = Self { quick: false, json: false, daemon: None };
        let mut part = None;
        let mut load = Load { tasks: 1_000_000, period_ms: 2_000, seconds: 10 };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} takes a value"));
            match word.as_str() {
                "--quick" => arguments.quick = true,
                "--json" => arguments.json = true,
                "--daemon" => arguments.daemon = Some(value()?.into()),
                "--part" => part = Some(Part::named(&value()?)?),
                "--tasks" => load.tasks = value()?.parse()?,
                "--period" => load.period_ms = value()?.parse()?,
                "--seconds" => load.seconds = value()?.parse()?,
                other => bail!(
                    "unknown argument `{other}`; usage: backend-local-bench [--quick] [--json] [--daemon PROGRAM] \
                     | --part NAME [--tasks N] [--period MILLISECONDS] [--seconds N]"
                ),
            }
        }
        Ok(part.map_or(Call::Everything(arguments), |part| Call::Part(part, load)))
    }
}
