//! `scheduler version`: the version, and what is compiled in.

use clap::Args;
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::session::Session;

/// How to print it.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    output: OutputFlag,
}

#[derive(Serialize)]
struct Version<'a> {
    version: &'static str,
    features: Vec<&'static str>,
    backends: Vec<&'a str>,
    jobs: Vec<&'a str>,
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    let features = [
        ("local", cfg!(feature = "local")),
        ("queue-sqlite", cfg!(feature = "queue-sqlite")),
        ("queue-redis", cfg!(feature = "queue-redis")),
        ("workflow-prefect", cfg!(feature = "workflow-prefect")),
        ("builtin-jobs", cfg!(feature = "builtin-jobs")),
    ];
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        features: features.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name).collect(),
        backends: session.registry.backends().map(|kind| kind.item.kind().as_str()).collect(),
        jobs: session.registry.jobs().map(|job| job.item.name().as_str()).collect(),
    };
    output::one(flags.output.format, &version, || {
        let list = |names: &[&str]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        format!(
            "scheduler {}\nfeatures: {}\nbackends: {}\njobs: {}\n",
            version.version,
            list(&version.features),
            list(&version.backends),
            list(&version.jobs)
        )
    })?;
    Ok(Exit::Done)
}
