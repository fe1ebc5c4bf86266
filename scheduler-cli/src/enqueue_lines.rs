//! `scheduler enqueue --file`: many runs at once, a JSON object a line. All of them are enqueued, or none.

use std::io::Read;
use std::path::{Path, PathBuf};

use scheduler_core::{
    Adhoc, Enqueued, Error, Name, Order, Priority, RunId, Timestamp, TriggerRequest, Unique, UniqueUntil,
    parse_duration,
};
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use serde_json::{Map, Value};

use crate::asked::{key, taken_by, told};
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::failure::{Failure, counted};
use crate::origin::{FilePosition, Origin};
use crate::output::{self, OutputFlag};
use crate::outside::Outside;
use crate::verb_enqueue::args_of_a_task;

/// What was read.
#[derive(Debug)]
pub(crate) struct Lines {
    path: PathBuf,
    text: String,
}

/// A line as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    task: Option<Name>,
    job: Option<Name>,
    args: Option<Map<String, Value>>,
    #[serde(default)]
    params: Map<String, Value>,
    at: Option<Timestamp>,
    key: Option<String>,
    priority: Option<u8>,
    queue: Option<Name>,
    unique: Option<UniqueLine>,
}

/// How a run keeps others of its kind out, as in the settings of a task.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct UniqueLine {
    param: Option<String>,
    until: Option<UniqueUntil>,
    #[serde(rename = "for")]
    window: Option<String>,
}

impl UniqueLine {
    fn read(self) -> scheduler_core::Result<Unique> {
        if self.param.as_deref() == Some("") {
            let message = "`param` of `unique` is empty; leave it out, or name a parameter";
            return Err(Error::invalid("enqueue/bad_line", message));
        }
        let mut unique = Unique::default();
        (unique.param, unique.until) = (self.param, self.until);
        unique.window = self.window.as_deref().map(parse_duration).transpose()?;
        Ok(unique)
    }
}

/// What became of the lines.
#[derive(Serialize)]
struct Report {
    inserted: usize,
    duplicates: usize,
    runs: Vec<Taken>,
}

#[derive(Serialize)]
struct Taken {
    line: usize,
    run_id: RunId,
    enqueued: &'static str,
}

impl Lines {
    /// Reads a file, or stdin where it is named `-`.
    ///
    /// # Errors
    /// `enqueue/unreadable`.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let is_stdin = path == Path::new("-");
        let mut text = String::new();
        let read = match is_stdin {
            true => std::io::stdin().read_to_string(&mut text).map(drop),
            false => std::fs::read_to_string(path).map(|content| text = content),
        };
        let path = if is_stdin { "stdin".into() } else { path.to_owned() };
        match read {
            Ok(()) => Ok(Self { path, text }),
            Err(error) => {
                let message = format!("cannot read {}: {error}", path.display());
                Err(Failure::new(Exit::Usage, "enqueue/unreadable", message)
                    .with_help("name a file of UTF-8 text, or - for stdin"))
            }
        }
    }

    /// The lines that say something, by their number from 1.
    fn numbered(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        lines.filter(|(_, line)| !line.trim().is_empty())
    }

    /// The orders with their line numbers.
    ///
    /// # Errors
    /// `enqueue/bad_lines` with every faulty line.
    fn orders(&self, outside: &Outside) -> Result<(Vec<usize>, Vec<Order>), Failure> {
        let (mut numbers, mut orders, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        for (number, line) in self.numbered() {
            match order(outside, line) {
                Ok(order) => {
                    numbers.push(number);
                    orders.push(order);
                }
                Err(fault) => faults.push(self.fault(number, line, &fault)),
            }
        }
        if faults.is_empty() {
            return Ok((numbers, orders));
        }
        let lines = counted(faults.len(), "faulty line");
        let message = format!("{} has {lines}: nothing was enqueued", self.path.display());
        Err(Failure { diagnostics: faults, ..Failure::new(Exit::Usage, "enqueue/bad_lines", message) })
    }

    fn fault(&self, number: usize, line: &str, fault: &Failure) -> Diagnostic {
        let length = line.chars().count();
        let origin = Origin::file(FilePosition::new(&self.path, number, line, 1, length));
        let Diagnostic { code, message, help, .. } = &*fault.summary;
        Diagnostic { help: help.clone(), ..Diagnostic::error(code, message.clone(), origin) }
    }
}

fn order(outside: &Outside, line: &str) -> Result<Order, Failure> {
    let bad = |message: String| Failure::new(Exit::Usage, "enqueue/bad_line", message);
    let line: Line = serde_json::from_str(line).map_err(|error| {
        bad(unreadable(&error)).with_help("write one JSON object a line, as {\"task\": \"NAME\"}")
    })?;
    let mut request = TriggerRequest::now();
    request.at = line.at;
    request.key = line.key.as_deref().map(key).transpose().map_err(bad)?;
    request.params = line.params;
    request.queue = line.queue;
    request.unique = line.unique.map(UniqueLine::read).transpose().map_err(|error| bad(error.to_string()))?;
    request.priority = match line.priority.map(|level| (level, Priority::new(level))) {
        Some((level, None)) => return Err(bad(format!("priority {level} is not between 0 and 9"))),
        priority => priority.and_then(|(_, priority)| priority),
    };
    let order = match (line.task, line.job, line.args) {
        (Some(task), None, None) => {
            outside.checked.task(task.as_str())?;
            Order::Task(task, request)
        }
        (Some(task), None, Some(_)) => return Err(args_of_a_task(task.as_str())),
        (None, Some(job), args) => {
            Order::Job(Adhoc::new(job, args.map_or(Value::Null, Value::Object)), request)
        }
        (None, None, _) | (Some(_), Some(_), _) => {
            return Err(bad("it names neither a task nor a job, or both".to_owned())
                .with_help("write either \"task\" or \"job\""));
        }
    };
    taken_by(outside, &order)?;
    Ok(order)
}

/// What is wrong with a line, and in which column; JSON counts the lines of one line, which says nothing.
fn unreadable(error: &serde_json::Error) -> String {
    let (told, column) = (error.to_string(), error.column());
    let what = told.strip_suffix(&format!(" at line {} column {column}", error.line())).unwrap_or(&told);
    match error.classify() {
        Category::Data => format!("not what can be enqueued: {what}, at column {column}"),
        Category::Syntax | Category::Eof | Category::Io => {
            format!("no JSON: {what}, at column {column}")
        }
    }
}

/// Enqueues what the lines ask for.
pub(crate) async fn enqueue(outside: &Outside, lines: &Lines, output: OutputFlag) -> Result<Exit, Failure> {
    let (numbers, orders) = lines.orders(outside)?;
    if !orders.is_empty() {
        outside.prepare()?;
    }
    let answers = outside.scheduler.enqueue_all(&orders).await?;
    let taken =
        |(line, answer): (usize, Enqueued)| Taken { line, run_id: answer.run_id(), enqueued: told(answer) };
    let inserted = answers.iter().filter(|answer| matches!(answer, Enqueued::Inserted(_))).count();
    let duplicates = answers.len() - inserted;
    let runs = numbers.into_iter().zip(answers).map(taken).collect();
    output::one(output.format, &Report { inserted, duplicates, runs }, || {
        let there = if duplicates > 0 { format!(", {duplicates} there already") } else { String::new() };
        format!("enqueued {}{there}\n", counted(inserted, "run"))
    })?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_cannot_be_read_is_told_by_what_is_wrong_and_its_column() {
        let cases = [
            ("", "no JSON: EOF while parsing a value, at column 0"),
            ("backup", "no JSON: expected value, at column 1"),
            (r#"{"task": "backup""#, "no JSON: EOF while parsing an object, at column 17"),
            ("[]", "not what can be enqueued: "),
            (r#"{"tsk": "backup"}"#, "not what can be enqueued: unknown field `tsk`, expected one of "),
            (r#"{"task": 7}"#, "not what can be enqueued: invalid type: integer `7`, expected "),
        ];
        for (line, told) in cases {
            let error = serde_json::from_str::<Line>(line).unwrap_err();
            let message = unreadable(&error);
            assert!(message.starts_with(told) && message.contains(", at column "), "{line}: {message}");
            assert!(!message.contains("line 1"), "{line}: {message}");
        }
    }
}
