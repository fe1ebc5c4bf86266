//! Everything of one run, as a table and as JSON.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::arguments::Arguments;
use crate::part::{Load, Part};
use crate::{child, daemon, machine};

/// What was measured: the figures by name.
#[derive(Debug)]
pub(crate) struct Report(Map<String, Value>);

/// What we want to reach: a figure, the bound, and whether it is an upper one.
const TARGETS: [(&str, f64, bool); 15] = [
    ("fired_percent", 99.9, false),
    ("lateness_p50_ms", 2.0, true),
    ("lateness_p99_ms", 20.0, true),
    ("cpu_cores", 2.0, true),
    ("burst_drain_ms", 80.0, true),
    ("register_ns", 1_000.0, true),
    ("bytes_per_task", 400.0, true),
    ("add_ns", 2_000.0, true),
    ("pause_ns", 2_000.0, true),
    ("resume_ns", 2_000.0, true),
    ("remove_ns", 2_000.0, true),
    ("idle_lateness_p50_ms", 1.5, true),
    ("idle_cpu_ms_per_min", 20.0, true),
    ("first_fire_ms", 100.0, true),
    ("daemon_rss_mb", 15.0, true),
];

/// Measures everything.
///
/// # Errors
/// A part of ours failed.
pub(crate) fn measure(arguments: &Arguments) -> Result<Report> {
    let quick = arguments.quick;
    let mut figures = Map::new();
    figures.insert("schema_version".into(), json!(1));
    figures.insert("quick".into(), json!(quick));
    figures.insert("machine".into(), machine::this());
    figures.insert(
        "settings".into(),
        json!({
            "job": "tells how late it began and does nothing else",
            "history": "as it comes: the newest 10,000 runs and the last of each task, in memory",
            "lateness": "from the fire time to the beginning of the job; a fire that did not happen is later than all",
            "bytes_per_task": "resident memory after registering less before",
        }),
    );
    let long = Duration::from_secs(240);
    let load = |tasks, period_ms, seconds| Load { tasks, period_ms, seconds };
    let many = if quick { load(20_000, 2_000, 3) } else { load(1_000_000, 2_000, 30) };
    let sustained = child::measure(Part::Sustained, many, long)?;
    for name in ["tasks", "fires_expected", "fires", "lateness_p50_ms", "lateness_p99_ms", "cpu_cores"] {
        figures.insert(name.into(), sustained[name].clone());
    }
    let part = |name: &str| sustained[name].as_f64().unwrap_or(f64::NAN);
    figures.insert("fired_percent".into(), json!(part("fires") / part("fires_expected") * 100.0));
    let burst = child::measure(Part::Burst, load(if quick { 5_000 } else { 100_000 }, 2_000, 0), long)?;
    figures.insert("burst_drain_ms".into(), burst["burst_drain_ms"].clone());
    let operations = child::measure(Part::Operations, load(many.tasks, 3_600_000, 0), long)?;
    for name in ["register_ns", "bytes_per_task", "add_ns", "pause_ns", "resume_ns", "remove_ns"] {
        figures.insert(name.into(), operations[name].clone());
    }
    let idle = child::measure(Part::Idle, load(1, 1_000, if quick { 5 } else { 60 }), long)?;
    figures.insert("idle_cpu_ms_per_min".into(), idle["idle_cpu_ms_per_min"].clone());
    figures.insert("idle_lateness_p50_ms".into(), idle["lateness_p50_ms"].clone());
    let daemon = match &arguments.daemon {
        Some(program) => daemon::measure(program, if quick { 1 } else { 5 })?,
        None => Value::Null,
    };
    for name in ["first_fire_ms", "daemon_rss_mb"] {
        figures.insert(name.into(), daemon[name].clone());
    }
    // Twice as many fires, for what lies beyond.
    let twice = (!quick).then(|| child::measure(Part::Sustained, load(1_000_000, 1_000, 10), long));
    let twice = twice.transpose()?.unwrap_or_default();
    figures.insert("peers".into(), Value::Array(peers(quick)));
    figures.insert(
        "parts".into(),
        json!({
            "sustained": sustained,
            "every_second": twice,
            "burst": burst,
            "operations": operations,
            "idle": idle,
            "daemon": daemon,
        }),
    );
    let mut report = Report(figures);
    let targets = report.targets();
    report.0.insert("targets".into(), targets);
    Ok(report)
}

/// Each peer at sizes that it may survive.
fn peers(quick: bool) -> Vec<Value> {
    let sizes: [(Part, &str, &[(usize, u64)]); 4] = [
        (Part::TokioInterval, "1.54", &[(100_000, 1_000), (1_000_000, 2_000)]),
        (Part::Clokwerk, "0.4.0", &[(10_000, 1_000), (100_000, 1_000)]),
        (Part::ApalisCron, "1.0.0", &[(10_000, 1_000), (100_000, 1_000)]),
        (Part::TokioCronScheduler, "0.15.1", &[(1_000, 1_000), (10_000, 1_000), (100_000, 1_000)]),
    ];
    let mut rows = Vec::new();
    for (part, version, loads) in sizes {
        for (tasks, period_ms) in loads.iter().take(if quick { 1 } else { loads.len() }) {
            let tasks = if quick { tasks / 10 } else { *tasks };
            let load = Load { tasks, period_ms: *period_ms, seconds: if quick { 2 } else { 10 } };
            let mut row = match child::measure(part, load, Duration::from_secs(60)) {
                Ok(row) => row,
                // It is said in its row.
                Err(error) => json!({
                    "tasks": tasks,
                    "period_ms": period_ms,
                    "fires_expected": load.expected(),
                    "failed": format!("{error:#}"),
                }),
            };
            row["name"] = json!(part.name());
            row["version"] = json!(version);
            rows.push(row);
        }
    }
    rows
}

impl Report {
    fn number(&self, name: &str) -> f64 {
        self.0.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN)
    }

    fn targets(&self) -> Value {
        let quick = self.0["quick"] == json!(true);
        let targets = TARGETS.iter().map(|(name, wanted, is_upper)| {
            let measured = self.number(name);
            let reached = if *is_upper { measured <= *wanted } else { measured >= *wanted };
            // Little is not judged, and neither is what was not measured.
            let reached = (!quick && !measured.is_nan()).then_some(reached);
            let sign = if *is_upper { "at most" } else { "at least" };
            json!({"what": name, "wanted": format!("{sign} {wanted}"), "measured": measured, "reached": reached})
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
        println!(
            "{:<22} {:>9} {:>9} {:>7} {:>9} {:>9} {:>6} {:>9} {:>7}",
            "", "tasks", "fires/s", "fired", "p50 ms", "p99 ms", "cores", "ns/task", "B/task"
        );
        self.row("backend-local", &self.0["parts"]["sustained"]);
        self.row("backend-local", &self.0["parts"]["every_second"]);
        for peer in self.0["peers"].as_array().into_iter().flatten() {
            self.row(peer["name"].as_str().unwrap_or_default(), peer);
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
                "{:<22} {:>12} wanted {}: {verdict}",
                what.unwrap_or_default(),
                short(&target["measured"]),
                wanted.unwrap_or_default()
            );
        }
        Ok(())
    }

    fn row(&self, name: &str, row: &Value) {
        let number = |name: &str| row[name].as_f64().unwrap_or(f64::NAN);
        if let Some(reason) = row["failed"].as_str() {
            return println!("{name:<22} {:>9} {reason}", number("tasks"));
        }
        if row.is_null() {
            return;
        }
        let ours = name == "backend-local";
        let registered = |name: &str| if ours { self.0[name].clone() } else { row[name].clone() };
        println!(
            "{name:<22} {:>9} {:>9.0} {:>6.1}% {:>9} {:>9} {:>6} {:>9} {:>7}",
            number("tasks"),
            number("fires") / number("seconds"),
            number("fires") / number("fires_expected") * 100.0,
            short(&row["lateness_p50_ms"]),
            short(&row["lateness_p99_ms"]),
            short(&row["cpu_cores"]),
            short(&registered("register_ns")),
            short(&registered("bytes_per_task")),
        );
    }
}

/// Three digits that say something.
fn short(value: &Value) -> String {
    match value.as_f64() {
        None => "-".to_owned(),
        Some(large) if large.abs() >= 100.0 => format!("{large:.0}"),
        Some(middle) if middle.abs() >= 10.0 => format!("{middle:.1}"),
        Some(small) => format!("{small:.2}"),
    }
}
