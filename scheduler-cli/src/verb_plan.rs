//! `scheduler plan`: what would change outside of the process, before anything does.
//!
//! The exit code says it to scripts: 0 when everything is as the configuration wants it, 1 when something would change,
//! 2 when a task wants what cannot be. Such a task keeps no other from being planned and applied.

use std::sync::Arc;

use clap::Args;
use scheduler_core::{BackendPlan, Placed, PlannedAction, PlannedChange};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::members::Member;
use crate::origin::printable;
use crate::output::{self, OutputFlag};
use crate::outside::{self, Outside};
use crate::session::Session;

/// What to look at, and whether to act.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Removes what no task of the configuration wants any more; without it such things stay as they are.
    #[arg(long)]
    prune: bool,
    /// Does what the plan says; the exit code is 0 when that is done.
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    output: OutputFlag,
}

#[derive(Serialize)]
struct Report<'a> {
    /// How much would change, or has been changed.
    changes: usize,
    /// How much cannot be as it is wanted.
    faults: usize,
    applied: bool,
    backends: &'a [BackendPlan],
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    let plans = outside::open_with(session, plans_ahead, async |outside| {
        let planned = accept(outside).await?;
        Ok(match (planned, flags.apply) {
            (false, _) => Vec::new(),
            (true, false) => outside.scheduler.plan(flags.prune).await?,
            (true, true) => outside.scheduler.apply(flags.prune).await?,
        })
    })?;
    let count = |is_meant: fn(PlannedAction) -> bool| {
        plans.iter().flat_map(|plan| &plan.changes).filter(|change| is_meant(change.action)).count()
    };
    let report = Report {
        changes: count(PlannedAction::is_change),
        faults: count(|action| action == PlannedAction::Fault),
        applied: flags.apply,
        backends: &plans,
    };
    output::one(flags.output.format, &report, || report.text())?;
    Ok(match (report.faults > 0, flags.apply) {
        (true, true) => Exit::PartOfBulk,
        (true, false) => Exit::Usage,
        (false, false) if report.changes > 0 => Exit::Findings,
        (false, _) => Exit::Done,
    })
}

/// Nobody else is connected to: what a queue keeps is no part of a plan.
fn plans_ahead(member: &Member) -> bool {
    member.backend.planning().is_some()
}

/// Hands over the tasks of the backends that plan, and says whether there is such a backend. Those of other backends
/// are made known only: one that moved there is not gone.
async fn accept(outside: &Outside) -> Result<bool, Failure> {
    let planners: Vec<_> = outside.scheduler.backends().iter().map(|backend| backend.info().name).collect();
    for task in &outside.checked.tasks {
        let Some(placement) = &task.placement else { continue };
        if planners.contains(&placement.backend) {
            outside.scheduler.define(task.task.clone()).await?;
            continue;
        }
        let (job, placement) = (Arc::clone(&task.job), placement.clone());
        outside.scheduler.acquaint(Placed { task: task.task.clone(), job, placement: placement.into() });
    }
    Ok(!planners.is_empty())
}

impl Report<'_> {
    fn text(&self) -> String {
        if self.backends.is_empty() {
            return "nothing to plan: no backend keeps schedules outside of this process\n".to_owned();
        }
        self.backends.iter().map(|plan| told(plan, self.applied)).collect()
    }
}

fn told(plan: &BackendPlan, applied: bool) -> String {
    let counted = |action: &PlannedAction| {
        let count = plan.changes.iter().filter(|change| change.action == *action).count();
        (count > 0).then(|| format!("{count} {}", words(*action, applied)))
    };
    let counts: Vec<String> = PlannedAction::ALL.iter().filter_map(counted).collect();
    let summary = if counts.is_empty() {
        "nothing is there, and nothing is wanted".to_owned()
    } else {
        counts.join(", ")
    };
    let changes: String = plan.changes.iter().map(change).collect();
    format!("{}: {summary}\n{changes}", plan.backend)
}

/// What a count of these is called.
fn words(action: PlannedAction, applied: bool) -> &'static str {
    match (action, applied) {
        (PlannedAction::Keep, _) => "to leave alone",
        (PlannedAction::Fault, _) => "at fault",
        (PlannedAction::Create, false) => "to create",
        (PlannedAction::Create, true) => "created",
        (PlannedAction::Update, false) => "to update",
        (PlannedAction::Update, true) => "updated",
        (PlannedAction::Pause, false) => "to pause",
        (PlannedAction::Pause, true) => "paused",
        (PlannedAction::Resume, false) => "to resume",
        (PlannedAction::Resume, true) => "resumed",
        (PlannedAction::Delete, false) => "to delete",
        (PlannedAction::Delete, true) => "deleted",
    }
}

fn change(change: &PlannedChange) -> String {
    let task = change.task.as_ref().map(|task| format!("  (task {task})")).unwrap_or_default();
    let mut text = format!("  {:<7} {}{task}\n", change.action.as_str(), printable(&change.subject));
    let differences = differences(&change.before, &change.after);
    let notes = change.notes.iter().map(|note| format!("note: {note}"));
    for line in differences.into_iter().chain(notes) {
        text.push_str(&format!("          {}\n", printable(&line)));
    }
    text
}

/// One line for each key that differs, by its path where tables lie in tables.
fn differences(before: &Value, after: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let none = Map::new();
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => compare("", before, after, &mut lines),
        (Value::Object(before), Value::Null) => compare("", before, &none, &mut lines),
        (Value::Null, Value::Object(after)) => compare("", &none, after, &mut lines),
        (Value::Null, Value::Null) => {}
        _ => lines.push(difference("", Some(before), Some(after))),
    }
    lines
}

fn compare(path: &str, before: &Map<String, Value>, after: &Map<String, Value>, lines: &mut Vec<String>) {
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        match (before.get(name), after.get(name)) {
            (before, after) if before == after => {}
            (Some(Value::Object(before)), Some(Value::Object(after))) => {
                compare(&format!("{path}{name}."), before, after, lines);
            }
            (before, after) => lines.push(difference(&format!("{path}{name}: "), before, after)),
        }
    }
}

fn difference(name: &str, before: Option<&Value>, after: Option<&Value>) -> String {
    let there = |value: Option<&Value>| value.filter(|value| !value.is_null()).map(Value::to_string);
    match (there(before), there(after)) {
        (Some(before), Some(after)) => format!("{name}{before} -> {after}"),
        (Some(before), None) => format!("{name}{before} -> nothing"),
        (None, Some(after)) => format!("{name}{after}"),
        (None, None) => format!("{name}nothing"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_update_shows_what_differs_and_nothing_else() {
        let before = json!({"rule": {"cron": "0 2 * * *", "timezone": "UTC"}, "active": true});
        let after = json!({"rule": {"cron": "30 2 * * *", "timezone": "UTC"}, "parameters": {"a": 1}});

        assert_eq!(
            differences(&before, &after),
            [
                "active: true -> nothing",
                r#"parameters: {"a":1}"#,
                r#"rule.cron: "0 2 * * *" -> "30 2 * * *""#
            ]
        );
        assert!(differences(&Value::Null, &Value::Null).is_empty());
        assert_eq!(differences(&json!("x"), &json!(2)), [r#""x" -> 2"#]);
    }

    #[test]
    fn what_somebody_else_named_cannot_move_the_cursor_of_a_terminal() {
        let told = change(&PlannedChange::new(PlannedAction::Keep, "schedule \u{1b}[2J of others"));

        assert!(!told.contains('\u{1b}') && told.starts_with("  keep    schedule "), "{told:?}");
    }
}
