//! `scheduler logs`: what a run logged, where its backend keeps that, also while it goes on.

use std::time::Duration;

use clap::Args;
use scheduler_core::{RunId, RunLogLine};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::origin::printable;
use crate::output::{self, Format, OutputFlag};
use crate::outside::{self, Outside};
use crate::session::Session;

/// How many lines are asked for at once.
const PAGE: usize = 200;
/// How often a run that goes on is asked for more.
const GLANCE: Duration = Duration::from_secs(1);
/// How often more is asked for after the end of a run: an engine shows lines a few seconds late.
const LAST_GLANCES: u32 = 4;

/// Which run.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The run.
    run: RunId,
    /// Shows new lines as they come, until the run has ended.
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    output: OutputFlag,
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    outside::open(session, async |outside| {
        let mut shown = 0;
        let mut glances = 0;
        // What is one JSON object cannot be printed before it is whole.
        let mut whole = Vec::new();
        loop {
            let has_ended = !flags.follow || outside.run(flags.run).await?.state.is_end();
            let lines = rest(outside, flags.run, shown).await?;
            shown += lines.len();
            glances = if has_ended && lines.is_empty() { glances + 1 } else { 0 };
            match flags.output.format {
                Format::Json => whole.extend(lines),
                format @ (Format::Table | Format::Jsonl) => show(format, &lines)?,
            }
            if !flags.follow || glances >= LAST_GLANCES {
                break;
            }
            tokio::time::sleep(GLANCE).await;
        }
        if flags.output.format == Format::Json {
            show(Format::Json, &whole)?;
        }
        Ok(Exit::Done)
    })
}

/// Every line from `offset` on.
async fn rest(outside: &Outside, run: RunId, offset: usize) -> Result<Vec<RunLogLine>, Failure> {
    let mut lines = Vec::new();
    loop {
        let page = outside.scheduler.logs(&run, offset + lines.len(), PAGE).await?;
        let is_last = page.len() < PAGE;
        lines.extend(page);
        if is_last {
            return Ok(lines);
        }
    }
}

fn show(format: Format, lines: &[RunLogLine]) -> Result<(), Failure> {
    output::many(format, "lines", lines, || lines.iter().map(line).collect())
}

fn line(line: &RunLogLine) -> String {
    let text: Vec<String> = line.message.lines().map(printable).collect();
    format!("{}  {:<8}  {}\n", line.at, printable(&line.level), text.join("\n    "))
}
