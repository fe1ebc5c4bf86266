//! `scheduler backends`: the kinds of backends, and which of them the configuration uses.

use clap::Args;
use scheduler_core::{BackendKind, Capability, Registered, Tier};
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::members::{self, Member};
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
    kind: &'a str,
    summary: &'a str,
    tier: Tier,
    /// The backends of this kind in the configuration.
    configured: Vec<String>,
    capabilities: Vec<Capability>,
    #[serde(rename = "crate")]
    crate_name: &'a str,
    version: &'a str,
    way: String,
}

impl<'a> Row<'a> {
    fn new(kind: &'a Registered<BackendKind>, members: &[Member]) -> Self {
        let name = kind.item.kind().as_str();
        let used = members.iter().filter(|member| member.is_used).map(|member| member.backend.info());
        let of_kind = used.filter(|info| info.kind == name);
        let sample = members::sample(&kind.item).map(|backend| backend.info());
        Self {
            kind: name,
            summary: kind.item.summary(),
            tier: kind.item.tier(),
            configured: of_kind.map(|info| info.name.to_string()).collect(),
            capabilities: sample.map(|info| info.capabilities).unwrap_or_default(),
            crate_name: kind.source.crate_name,
            version: kind.source.version,
            way: kind.way.to_string(),
        }
    }

    fn cells(&self) -> Vec<String> {
        let capabilities: Vec<&str> = self.capabilities.iter().map(|ability| ability.as_str()).collect();
        let configured = if self.configured.is_empty() { "-".to_owned() } else { self.configured.join(" ") };
        let source = format!("{} {}", self.crate_name, self.version);
        let tier = self.tier.to_string();
        vec![self.kind.to_owned(), tier, configured, source, self.way.clone(), capabilities.join(" ")]
    }
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    // The kinds are there without a configuration, and a faulty one is the affair of `check`.
    let members = session.check().map(|checked| checked.members).unwrap_or_default();
    let rows: Vec<Row<'_>> = session.registry.backends().map(|kind| Row::new(kind, &members)).collect();
    output::many(flags.output.format, "backends", &rows, || {
        let header = ["KIND", "TIER", "CONFIGURED", "CRATE", "WAY", "CAPABILITIES"];
        table(&header, 5, rows.iter().map(Row::cells))
    })?;
    Ok(Exit::Done)
}
