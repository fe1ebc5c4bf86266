//! `scheduler check`: every fault of a configuration, without running anything.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use clap::Args;
use scheduler_core::{Tier, Timestamp};
use serde::Serialize;

use crate::checked::{Checked, CheckedTask};
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::failure::{Failure, count, counted};
use crate::output::{self, Format, OutputFlag};
use crate::relative::relative;
use crate::schedule;
use crate::session::Session;

/// How strict to be.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Exits 1 when there are warnings.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    output: OutputFlag,
}

#[derive(Serialize)]
struct Report<'a> {
    tasks: usize,
    tiers: BTreeMap<Tier, usize>,
    next: Option<Next>,
    diagnostics: &'a [Diagnostic],
}

#[derive(Serialize)]
struct Next {
    task: String,
    fire: String,
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    let checked = session.load()?;
    let now = Timestamp::from(std::time::SystemTime::now());
    let first = schedule::first(&checked.tasks, now);
    let report = Report {
        tasks: checked.tasks.len(),
        tiers: tiers(&checked.tasks),
        next: first.map(|(task, fire)| Next { task: task.to_string(), fire: fire.to_string() }),
        diagnostics: &checked.diagnostics,
    };
    if flags.output.format == Format::Table {
        print_warnings(&checked.diagnostics);
    }
    output::one(flags.output.format, &report, || {
        let warnings = match checked.diagnostics.len() {
            0 => String::new(),
            _ => format!("; {}", count(&checked.diagnostics)),
        };
        format!("OK {}{warnings}\n", summary(&checked, now))
    })?;
    Ok(if flags.strict && !checked.diagnostics.is_empty() { Exit::Findings } else { Exit::Done })
}

/// "5 tasks: 5 local; next: heartbeat in 3s".
pub(crate) fn summary(checked: &Checked, now: Timestamp) -> String {
    let mut text = counted(checked.tasks.len(), "task");
    let tiers: Vec<String> =
        tiers(&checked.tasks).iter().map(|(tier, number)| format!("{number} {tier}")).collect();
    if !tiers.is_empty() {
        text.push_str(&format!(": {}", tiers.join(", ")));
    }
    if let Some((task, next)) = schedule::first(&checked.tasks, now) {
        text.push_str(&format!("; next: {task} {}", relative(next, now)));
    }
    text
}

/// Prints warnings on stderr.
pub(crate) fn print_warnings(diagnostics: &[Diagnostic]) {
    let colour = output::has_colour(std::io::stderr().is_terminal());
    for diagnostic in diagnostics {
        let _ = writeln!(std::io::stderr(), "{}", diagnostic.render(colour));
    }
}

fn tiers(tasks: &[CheckedTask]) -> BTreeMap<Tier, usize> {
    let mut tiers = BTreeMap::new();
    for placement in tasks.iter().filter_map(|task| task.placement.as_ref()) {
        *tiers.entry(placement.tier).or_default() += 1;
    }
    tiers
}
