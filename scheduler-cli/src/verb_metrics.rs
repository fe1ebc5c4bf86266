//! `scheduler metrics`: the numbers that the job `metrics_collection` keeps, whether the daemon runs or not.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use builtin_jobs::metrics_collection;
use builtin_jobs::metrics_series::{Point, Series, SeriesFile};
use clap::Args;
use scheduler_core::Timestamp;
use serde::Serialize;

use crate::checked::Checked;
use crate::command_line::duration;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::metrics_text;
use crate::output::{self, Format, OutputFlag};
use crate::relative::relative;
use crate::session::Session;
use crate::suggest::suggestion;
use crate::table::table;

/// The job that writes them.
const JOB: &str = "metrics_collection";

/// Which numbers to show.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Only those of this name, in which `*` stands for anything; then each point is shown.
    name: Option<String>,
    /// How far to look back.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    since: Duration,
    /// The file, if it is not that of the task in the configuration.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Prints the latest values in the text format of Prometheus.
    #[arg(long, conflicts_with = "format")]
    prometheus: bool,
    #[command(flatten)]
    output: OutputFlag,
}

/// A series, and how it did.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    series: Series,
    /// The last number, however old it is, and when that was.
    last: Option<f64>,
    at: Option<Timestamp>,
    min: Option<f64>,
    avg: Option<f64>,
    max: Option<f64>,
    #[serde(skip)]
    points: Vec<Point>,
}

/// A series with its points.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    series: &'a Series,
    points: &'a [Point],
}

/// A point by itself.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    labels: &'a str,
    source: &'a str,
    #[serde(flatten)]
    point: Point,
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    let file = match &flags.file {
        Some(file) => file.clone(),
        None => file_of(&session.load()?)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::new(Exit::Findings, "process/no_runtime", format!("cannot start a runtime: {error}"))
    })?;
    let now = Timestamp::from(std::time::SystemTime::now());
    let rows = runtime.block_on(read(&file, flags, now - flags.since))?;
    if flags.prometheus {
        // What was not told lately is no number of now.
        let latest = rows.iter().filter(|row| row.at.is_some_and(|at| at >= now - flags.since));
        output::print(&metrics_text::written(latest.filter_map(|row| Some((&row.series, row.last?)))))?;
    } else if flags.name.is_some() {
        show_points(&rows, flags.output.format, now)?;
    } else {
        output::many(flags.output.format, "series", &rows, || listed(&rows, now))?;
    }
    Ok(Exit::Done)
}

/// The file of the task that collects, or that of the data folder when there is no such task any more.
fn file_of(checked: &Checked) -> Result<PathBuf, Failure> {
    let data_dir = &checked.settings.data_dir;
    let tasks = checked.tasks.iter().filter(|task| task.task.job == *JOB);
    let files: BTreeSet<PathBuf> =
        tasks.map(|task| metrics_collection::file_of(&task.task.args, data_dir)).collect();
    let mut files = files.into_iter();
    match (files.next(), files.next()) {
        (Some(file), None) => Ok(file),
        (None, _) => Ok(metrics_collection::file_of(&serde_json::Value::Null, data_dir)),
        (Some(one), Some(other)) => {
            let message = format!("metrics are kept in {} and in {}", one.display(), other.display());
            let failure = Failure::new(Exit::Usage, "metrics/several_files", message);
            Err(failure.with_help("name one of them with --file FILE"))
        }
    }
}

async fn read(file: &std::path::Path, flags: &Flags, since: Timestamp) -> Result<Vec<Row>, Failure> {
    let mut opened = SeriesFile::open(file).await.map_err(|error| {
        let is_missing = error.code() == "metrics/no_file";
        let failure = Failure::from(error);
        if !is_missing {
            return failure;
        }
        failure.with_help(format!(
            "they are collected by a task of the job `{JOB}`: `scheduler run` runs it, and `scheduler exec TASK` once"
        ))
    })?;
    let pattern = flags.name.as_deref().unwrap_or("*");
    let found = opened.series(pattern).await?;
    if let (Some(name), true) = (&flags.name, found.is_empty()) {
        let all = opened.series("*").await?;
        let known: BTreeSet<&str> = all.iter().map(|series| series.name.as_str()).collect();
        let known: Vec<&str> = known.into_iter().collect();
        let message = format!("no metric is called `{name}`");
        return Err(Failure::new(Exit::NotFound, "metrics/unknown", message)
            .with_help(suggestion(name, "metrics", &known)));
    }
    let mut rows = Vec::with_capacity(found.len());
    for series in found {
        let points = opened.points(&series, since).await?;
        let last = opened.last(&series).await?;
        rows.push(Row::new(series, last, points));
    }
    Ok(rows)
}

impl Row {
    fn new(series: Series, last: Option<(Timestamp, f64)>, points: Vec<Point>) -> Self {
        let min = points.iter().map(|point| point.min).reduce(f64::min);
        let max = points.iter().map(|point| point.max).reduce(f64::max);
        let float = |count: u64| u32::try_from(count).map_or(f64::MAX, f64::from);
        let count: f64 = points.iter().map(|point| float(point.count)).sum();
        let total: f64 = points.iter().map(|point| point.avg * float(point.count)).sum();
        let avg = (!points.is_empty()).then(|| total / count.max(1.0));
        let (at, last) = last.unzip();
        Self { series, last, at, min, avg, max, points }
    }
}

fn listed(rows: &[Row], now: Timestamp) -> String {
    let told = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), metrics_text::number);
    let header = ["METRIC", "LAST", "AGE", "MIN", "AVG", "MAX", "TREND"];
    let cells = |row: &Row| {
        vec![
            row.series.full_name(),
            told(row.last),
            row.at.map_or_else(|| "-".to_owned(), |at| relative(at, now)),
            told(row.min),
            told(row.avg),
            told(row.max),
            metrics_text::trend(&row.points),
        ]
    };
    if rows.is_empty() {
        return "nothing is kept yet\n".to_owned();
    }
    table(&header, 0, rows.iter().map(cells))
}

fn show_points(rows: &[Row], format: Format, now: Timestamp) -> Result<(), Failure> {
    let points = || rows.iter().flat_map(|row| row.points.iter().map(move |point| (&row.series, point)));
    match format {
        Format::Table => {
            let cells = |(series, point): (&Series, &Point)| {
                let number = metrics_text::number;
                let range = match point.count {
                    1 => String::new(),
                    _ => format!("{} to {}", number(point.min), number(point.max)),
                };
                vec![
                    point.at.to_string(),
                    relative(point.at, now),
                    series.full_name(),
                    number(point.value),
                    range,
                ]
            };
            let text = table(&["TIME", "AGE", "METRIC", "VALUE", "RANGE"], 2, points().map(cells));
            output::print(&text)
        }
        Format::Json => {
            let whole: Vec<Whole<'_>> =
                rows.iter().map(|row| Whole { series: &row.series, points: &row.points }).collect();
            output::many(format, "series", &whole, String::new)
        }
        Format::Jsonl => {
            let lines: Vec<Line<'_>> = points()
                .map(|(series, point)| Line {
                    name: &series.name,
                    labels: &series.labels,
                    source: &series.source,
                    point: *point,
                })
                .collect();
            output::many(format, "points", &lines, String::new)
        }
    }
}
