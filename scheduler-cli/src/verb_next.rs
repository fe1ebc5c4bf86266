//! `scheduler next`: when a task or a cron expression fires.

use clap::Args;
use scheduler_core::{Bounds, Timestamp, Trigger};
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format, OutputFlag};
use crate::relative::relative;
use crate::schedule;
use crate::session::Session;
use crate::table::table;
use crate::task_trigger::cron_rule;

/// What to look at, from when, and how far.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The task.
    #[arg(required_unless_present = "cron", conflicts_with = "cron")]
    task: Option<String>,
    /// A cron expression; no configuration is read.
    #[arg(long, value_name = "EXPRESSION")]
    cron: Option<String>,
    /// The time zone of the expression.
    #[arg(long, value_name = "TZ", default_value = "UTC", conflicts_with = "task")]
    timezone: String,
    /// Only fire times after this instant, in RFC 3339; now unless given.
    #[arg(long, value_name = "TIME")]
    after: Option<Timestamp>,
    /// How many, at most 10000.
    #[arg(short = 'n', value_name = "COUNT", default_value_t = 5,
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    count: u16,
    #[command(flatten)]
    output: OutputFlag,
}

#[derive(Serialize)]
struct Fire<'a> {
    fire: &'a str,
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    let (trigger, zone) = trigger(session, flags)?;
    let now = Timestamp::from(std::time::SystemTime::now());
    let mut fires = Vec::new();
    let mut after = flags.after.unwrap_or(now);
    if let Some(trigger) = &trigger {
        // Of a rule that follows the end of each run, only the first fire time is known.
        let count = if trigger.follows_finish() { 1 } else { usize::from(flags.count) };
        while let Some(next) = trigger.next_after(after).filter(|_| fires.len() < count) {
            fires.push(next);
            after = next;
        }
    }
    let written: Vec<String> = fires.iter().map(|fire| schedule::written(*fire, &zone)).collect();
    match flags.output.format {
        Format::Jsonl => {
            let lines: Vec<Fire<'_>> = written.iter().map(|fire| Fire { fire }).collect();
            output::many(Format::Jsonl, "fires", &lines, String::new)?;
        }
        format => output::many(format, "fires", &written, || match (&trigger, written.is_empty()) {
            (None, _) => "when asked: the task has no trigger\n".to_owned(),
            (Some(_), true) => "never again\n".to_owned(),
            (Some(_), false) => {
                let row =
                    |(fire, written): (&Timestamp, &String)| vec![written.clone(), relative(*fire, now)];
                table(&["FIRE TIME", "WHEN"], 1, fires.iter().zip(&written).map(row))
            }
        })?,
    }
    Ok(Exit::Done)
}

fn trigger(session: &Session, flags: &Flags) -> Result<(Option<Trigger>, String), Failure> {
    if let Some(expression) = &flags.cron {
        let rule = cron_rule(expression, &flags.timezone, "")?;
        return Ok((Some(Trigger::new(rule, Bounds::default())?), flags.timezone.clone()));
    }
    let checked = session.load()?;
    let task = checked.task(flags.task.as_deref().unwrap_or_default())?;
    let zone = &checked.settings.timezone;
    let zone = task.task.trigger.as_ref().map_or(zone.as_str(), |trigger| schedule::zone(trigger, zone));
    Ok((task.task.trigger.clone(), zone.to_owned()))
}
