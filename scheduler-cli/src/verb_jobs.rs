//! `scheduler jobs`: what tasks may name as their job.

use clap::Args;
use scheduler_core::{JobDescriptor, Registered, Tier};
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::session::Session;
use crate::table::table;

/// How to print it.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    output: OutputFlag,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    summary: &'a str,
    tiers: &'a [Tier],
    adhoc: bool,
    #[serde(rename = "crate")]
    crate_name: &'a str,
    version: &'a str,
    way: String,
}

impl<'a> Row<'a> {
    fn new(job: &'a Registered<JobDescriptor>) -> Self {
        Self {
            name: job.item.name().as_str(),
            summary: job.item.summary(),
            tiers: job.item.tiers(),
            adhoc: job.item.is_adhoc(),
            crate_name: job.source.crate_name,
            version: job.source.version,
            way: job.way.to_string(),
        }
    }

    fn cells(&self) -> Vec<String> {
        let tiers: Vec<&str> = self.tiers.iter().map(|tier| tier.as_str()).collect();
        let source = format!("{} {}", self.crate_name, self.version);
        vec![self.name.to_owned(), tiers.join(" "), source, self.way.clone(), self.summary.to_owned()]
    }
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    // The jobs are there without a configuration, and a faulty one is the affair of `check`.
    let configured = session.check().map(|checked| checked.registry);
    let registry = configured.as_ref().unwrap_or(&session.registry);
    let rows: Vec<Row<'_>> = registry.jobs().map(Row::new).collect();
    output::many(flags.output.format, "jobs", &rows, || {
        table(&["JOB", "TIERS", "CRATE", "WAY", "WHAT IT DOES"], 4, rows.iter().map(Row::cells))
    })?;
    Ok(Exit::Done)
}
