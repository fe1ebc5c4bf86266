//! What a daemon says that it does, as it says it.

use std::collections::BTreeMap;
use std::time::Instant;

use scheduler_core::Timestamp;
use serde_json::Value;

/// One line of the log that matters here.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    /// A run ended.
    Ran { task: String, fire: Timestamp, is_skip: bool, text: String },
    /// The wall clock was set.
    Stepped { from: Timestamp, to: Timestamp },
    /// The daemon has started.
    Started,
}

/// What was said, and when that was by the clock of the test.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) said: Said,
}

/// Reads a line of the log.
pub(crate) fn read(line: &str) -> Option<Said> {
    let line: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| line[key].as_str().or_else(|| line["fields"][key].as_str()).map(str::to_owned);
    let instant = |key: &str| text(key)?.parse::<Timestamp>().ok();
    let message = text("message").unwrap_or_default();
    match text("target")?.as_str() {
        "scheduler::clock" => Some(Said::Stepped { from: instant("from")?, to: instant("to")? }),
        "scheduler::run" => {
            let is_end = ["succeeded", "skipped", "failed for good", "cancelled"];
            if !is_end.iter().any(|head| message.starts_with(head)) {
                return None;
            }
            let is_skip = message.starts_with("skipped");
            Some(Said::Ran { task: text("task")?, fire: instant("fire_time")?, is_skip, text: message })
        }
        _ if message.contains(" tasks: ") => Some(Said::Started),
        _ => None,
    }
}

/// The fire times of a task that ran, in the order in which they did.
pub(crate) fn fires(seen: &[Seen], name: &str) -> Vec<Timestamp> {
    let of_task = seen.iter().filter_map(|seen| match &seen.said {
        Said::Ran { task, fire, is_skip: false, .. } if task == name => Some(*fire),
        _ => None,
    });
    of_task.collect()
}

/// How often a task was skipped.
pub(crate) fn skips(seen: &[Seen], name: &str) -> Vec<String> {
    let of_task = seen.iter().filter_map(|seen| match &seen.said {
        Said::Ran { task, is_skip: true, text, .. } if task == name => Some(text.clone()),
        _ => None,
    });
    of_task.collect()
}

/// Fires that ran more than once.
pub(crate) fn doubled(seen: &[Seen]) -> Vec<String> {
    let mut counts: BTreeMap<(String, Timestamp), usize> = BTreeMap::new();
    for Seen { said, .. } in seen {
        if let Said::Ran { task, fire, is_skip: false, .. } = said {
            *counts.entry((task.clone(), *fire)).or_default() += 1;
        }
    }
    let doubled = counts.into_iter().filter(|(_, count)| *count > 1);
    doubled.map(|((task, fire), count)| format!("{task} at {fire} ran {count} times")).collect()
}
