//! What the program is asked.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::clean::{By, Cleaning};

/// The command line.
#[derive(Debug)]
pub(crate) enum Call {
    /// Everything, each cleaning in a process of its own.
    Everything(Arguments),
    /// One cleaning in this process; its figures are printed as JSON.
    Clean(Cleaning),
}

/// How everything is measured.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) quick: bool,
    pub(crate) json: bool,
    /// How many files there are, if not as many as usual.
    pub(crate) files: Option<usize>,
    pub(crate) rounds: Option<usize>,
    /// Where folders are made; where temporary files are otherwise.
    pub(crate) folder: Option<PathBuf>,
}

impl Arguments {
    /// # Errors
    /// A word is unknown or missing.
    pub(crate) fn read() -> Result<Call> {
        let mut arguments = Self { quick: false, json: false, files: None, rounds: None, folder: None };
        let mut cleaning = None;
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} takes a value"));
            match word.as_str() {
                "--quick" => arguments.quick = true,
                "--json" => arguments.json = true,
                "--files" => arguments.files = Some(value()?.parse()?),
                "--rounds" => arguments.rounds = Some(value()?.parse()?),
                "--folder" => arguments.folder = Some(value()?.into()),
                "--clean" => {
                    let (folder, by) = (value()?.into(), By::named(&value()?)?);
                    cleaning = Some(Cleaning { folder, by, kept: value()?.parse()? });
                }
                other => bail!(
                    "unknown argument `{other}`; usage: builtin-jobs-bench [--quick] [--json] [--files N] [--rounds N] \
                     [--folder PATH] | --clean FOLDER age|count KEPT"
                ),
            }
        }
        Ok(cleaning.map_or(Call::Everything(arguments), Call::Clean))
    }
}
