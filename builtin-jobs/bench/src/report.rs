//! Everything of one run, as a table and as JSON.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::arguments::Arguments;
use crate::{clean, git, health, machine};

/// What was measured: the figures by name.
#[derive(Debug)]
pub(crate) struct Report(Map<String, Value>);

/// What we want to reach at most.
const TARGETS: [(&str, f64); 5] = [
    ("age_ratio", 1.5),
    ("count_ratio", 1.5),
    ("count_peak_mb", 32.0),
    ("health_ratio", 1.1),
    ("git_ratio", 1.0),
];

/// Measures everything.
///
/// # Errors
/// A job does not do what it is there for.
pub(crate) fn measure(arguments: &Arguments) -> Result<Report> {
    let quick = arguments.quick;
    let folder = match &arguments.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let mut figures = Map::new();
    figures.insert("schema_version".into(), json!(1));
    figures.insert("quick".into(), json!(quick));
    figures.insert("machine".into(), machine::this(folder.path()));
    figures.insert(
        "settings".into(),
        json!({
            "files": "empty, a thousand to a folder, 99 of 100 older than an hour, made anew before each cleaning and \
                      written to the disk; on an ext4 of their own where this user may mount one",
            "find": "find FOLDER -type f -mmin +60 -delete",
            "age": "cache_cleanup, max_age = \"1h\"",
            "count": "cache_cleanup, max_files = as many as are new",
            "seconds": "from the start of the process to its end",
            "peak_mb": "VmHWM of the process that cleans",
            "health": "tcp, http and command, side by side",
            "git": "bare repositories by their paths, the slow ones over HTTP; all else by default, but no spread",
        }),
    );
    let files = arguments.files.unwrap_or(if quick { 20_000 } else { 1_000_000 });
    let rounds = arguments.rounds.unwrap_or(if quick { 1 } else { 3 });
    let seconds = Duration::from_secs;
    let (slow, limit) = if quick { (seconds(1), seconds(2)) } else { (seconds(4), seconds(5)) };
    let parts = [
        health::measure(if quick { 1 } else { 5 })?,
        git::measure(folder.path(), if quick { 40 } else { 200 }, slow, limit)?,
        clean::measure(folder.path(), files, rounds)?,
    ];
    for part in parts {
        if let Value::Object(part) = part {
            figures.extend(part);
        }
    }
    let mut report = Report(figures);
    let targets = report.targets();
    report.0.insert("targets".into(), targets);
    Ok(report)
}

impl Report {
    fn targets(&self) -> Value {
        let quick = self.0["quick"] == json!(true);
        let targets = TARGETS.iter().map(|(name, wanted)| {
            let measured = self.0.get(*name).and_then(Value::as_f64).unwrap_or(f64::NAN);
            // Little is not judged.
            let reached = (!quick).then_some(measured <= *wanted);
            json!({"what": name, "wanted": format!("at most {wanted}"), "measured": measured, "reached": reached})
        });
        Value::Array(targets.collect())
    }

    /// Prints it to where results go.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub(crate) fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", serde_json::to_string_pretty(&self.0)?);
            return Ok(());
        }
        println!("{}\n", self.0["machine"]);
        for (name, value) in &self.0 {
            if let Some(number) = value.as_f64() {
                println!("{name:<26} {number:>14.3}");
            }
        }
        println!();
        for target in self.0["targets"].as_array().into_iter().flatten() {
            let verdict = match target["reached"].as_bool() {
                Some(true) => "reached",
                Some(false) => "NOT REACHED",
                None => "not judged",
            };
            let (what, wanted) = (target["what"].as_str(), target["wanted"].as_str());
            println!(
                "{:<26} {:>14.3} wanted {}: {verdict}",
                what.unwrap_or_default(),
                target["measured"].as_f64().unwrap_or(f64::NAN),
                wanted.unwrap_or_default()
            );
        }
        Ok(())
    }
}
