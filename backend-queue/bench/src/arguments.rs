//! What the program is asked.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// The command line.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) place: Place,
    pub(crate) quick: bool,
    pub(crate) json: bool,
    /// Nothing but drains of so many runs of ours, for whoever looks with a profiler.
    pub(crate) profile: Option<usize>,
    /// To be one of several worker processes, for at most so many runs.
    pub(crate) worker: Option<usize>,
}

/// Where runs are kept.
#[derive(Debug)]
pub(crate) enum Place {
    /// A server that is ours alone: it is flushed.
    Redis(String),
    /// A folder for files.
    Sqlite(PathBuf),
}

impl Arguments {
    /// # Errors
    /// A word is unknown or missing.
    pub(crate) fn read() -> Result<Self> {
        let mut place = None;
        let (mut quick, mut json, mut profile, mut worker) = (false, false, None, None);
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--redis" => place = Some(Place::Redis(words.next().context("--redis takes a URL")?)),
                "--sqlite" => {
                    place = Some(Place::Sqlite(words.next().context("--sqlite takes a folder")?.into()));
                }
                "--quick" => quick = true,
                "--json" => json = true,
                "--profile" => profile = Some(words.next().context("--profile takes a number")?.parse()?),
                "--worker" => worker = Some(words.next().context("--worker takes a number")?.parse()?),
                other => bail!("unknown argument `{other}`"),
            }
        }
        let usage =
            "usage: backend-queue-bench --redis URL | --sqlite FOLDER [--quick] [--json] [--profile RUNS]";
        Ok(Self { place: place.context(usage)?, quick, json, profile, worker })
    }
}
