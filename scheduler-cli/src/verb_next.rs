//! `scheduler next`: when a task or a cron expression fires.

use clap::Args;
use scheduler_core::cron::Dialect;
use scheduler_core::{Bounds, Rule, Timestamp, Trigger, dst};
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format, OutputFlag};
use crate::relative::relative;
use crate::schedule;
use crate::session::Session;
use crate::table::table;

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
    /// How the expression is read: ocps, vixie or quartz.
    #[arg(long, value_name = "NAME", default_value_t, conflicts_with = "task")]
    dialect: Dialect,
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

/// One fire time.
#[derive(Serialize)]
struct Fire {
    fire: String,
    fire_utc: Timestamp,
    /// What a change of the zone's clock does to it; empty where there is nothing to say.
    note: String,
}

/// All of them, as lists side by side.
#[derive(Serialize)]
struct Report<'a> {
    fires: Vec<&'a str>,
    fires_utc: Vec<Timestamp>,
    notes: Vec<&'a str>,
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    let (trigger, zone) = trigger(session, flags)?;
    let now = Timestamp::from(std::time::SystemTime::now());
    let fires = match &trigger {
        // Of a rule that follows the end of each run, only the first fire time is known.
        Some(trigger) if trigger.follows_finish() => fires(trigger, &zone, flags.after.unwrap_or(now), 1),
        Some(trigger) => fires(trigger, &zone, flags.after.unwrap_or(now), flags.count.into()),
        None => Vec::new(),
    };
    match flags.output.format {
        Format::Jsonl => output::many(Format::Jsonl, "fires", &fires, String::new)?,
        Format::Json => output::print_object(&Report {
            fires: fires.iter().map(|fire| fire.fire.as_str()).collect(),
            fires_utc: fires.iter().map(|fire| fire.fire_utc).collect(),
            notes: fires.iter().map(|fire| fire.note.as_str()).collect(),
        })?,
        Format::Table => output::print(&match (&trigger, fires.is_empty()) {
            (None, _) => "when asked: the task has no trigger\n".to_owned(),
            (Some(trigger), true) if trigger.is_at_start() => {
                "once at each start of the scheduler\n".to_owned()
            }
            (Some(_), true) => "never again\n".to_owned(),
            (Some(_), false) => written(&fires, now),
        })?,
    }
    Ok(Exit::Done)
}

fn fires(trigger: &Trigger, zone: &str, after: Timestamp, count: usize) -> Vec<Fire> {
    let mut previous = after;
    let mut fires = Vec::new();
    while let Some(next) = trigger.next_after(previous).filter(|_| fires.len() < count) {
        let note = dst::note(trigger, zone, previous, next).map(|note| note.to_string()).unwrap_or_default();
        fires.push(Fire { fire: schedule::written(next, zone), fire_utc: next, note });
        previous = next;
    }
    fires
}

fn written(fires: &[Fire], now: Timestamp) -> String {
    let row = |fire: &Fire| {
        let Fire { fire, fire_utc, note } = fire;
        vec![fire.clone(), fire_utc.to_string(), relative(*fire_utc, now), note.clone()]
    };
    let is_noted = fires.iter().any(|fire| !fire.note.is_empty());
    let columns = if is_noted { 4 } else { 3 };
    let rows = fires.iter().map(row).map(|mut row| {
        row.truncate(columns);
        row
    });
    table(&["FIRE TIME", "UTC", "WHEN", "NOTE"][..columns], columns - 1, rows)
}

fn trigger(session: &Session, flags: &Flags) -> Result<(Option<Trigger>, String), Failure> {
    if let Some(expression) = &flags.cron {
        let rule = Rule::cron(flags.dialect, expression, &flags.timezone, "")?;
        return Ok((Some(Trigger::new(rule, Bounds::default())?), flags.timezone.clone()));
    }
    let checked = session.load()?;
    let task = checked.task(flags.task.as_deref().unwrap_or_default())?;
    let zone = &checked.settings.timezone;
    let zone = task.task.trigger.as_ref().map_or(zone.as_str(), |trigger| schedule::zone(trigger, zone));
    Ok((task.task.trigger.clone(), zone.to_owned()))
}
