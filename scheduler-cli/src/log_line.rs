//! A log line for people: `12:00:05 INFO  disk_usage  succeeded in 12ms  01kdn…/1`.

use std::fmt::{self, Write};

use scheduler_core::{Timestamp, cron};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::origin::printable;

/// Stands where a task's name does in lines that are about none.
pub(crate) const NO_TASK: &str = "scheduler";

/// Room for what most lines of a run say, so that what follows stands in one column.
const COMMON: usize = 20;

/// The widest column of task names; longer ones push their own line to the right.
const WIDEST: usize = 24;

/// Fields that every line of a run carries and that say little at a glance; the JSON form has them.
const LEFT_OUT: [&str; 4] = ["fence", "tier", "backend", "fire_time"];

/// Writes the time of day, the level, the task, what happened, and at the end run and attempt.
#[derive(Debug)]
pub(crate) struct LogLine {
    zone: String,
    width: usize,
}

impl LogLine {
    /// Lines with the time of day in `zone`, whose task names take `width` columns.
    pub(crate) fn new(zone: &str, width: usize) -> Self {
        Self { zone: zone.to_owned(), width: width.clamp(NO_TASK.len(), WIDEST) }
    }

    fn time_of_day(&self) -> String {
        let now = Timestamp::from(std::time::SystemTime::now());
        let written = cron::in_zone(now, &self.zone).unwrap_or_else(|_| now.to_string());
        written.get(11..19).unwrap_or_default().to_owned()
    }
}

impl<S, N> FormatEvent<S, N> for LogLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut parts = Parts::default();
        event.record(&mut parts);
        let colour = writer.has_ansi_escapes();
        let level = *event.metadata().level();
        let (on, off) = if colour { (style(level), "\x1b[0m") } else { ("", "") };
        let (dim, end) = if colour { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        let subject = if parts.task.is_empty() { NO_TASK } else { &parts.task };
        let width = self.width;
        let time = self.time_of_day();
        let message = parts.message + &parts.rest;
        write!(writer, "{dim}{time}{end} {on}{level:<5}{off} {subject:width$}  ")?;
        if parts.run_id.is_empty() {
            return writeln!(writer, "{message}");
        }
        writeln!(writer, "{message:COMMON$}  {dim}{}/{}{end}", parts.run_id, parts.attempt)
    }
}

fn style(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[1;31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[2m",
    }
}

/// The fields of an event, each as text that a terminal shows as it stands.
#[derive(Default)]
struct Parts {
    message: String,
    task: String,
    run_id: String,
    attempt: String,
    rest: String,
}

impl Visit for Parts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = printable(&format!("{value:?}"));
        match field.name() {
            "message" => self.message = text,
            "task" => self.task = text,
            "run_id" => self.run_id = text,
            "attempt" => self.attempt = text,
            name if LEFT_OUT.contains(&name) && !self.run_id.is_empty() => {}
            name => {
                let _ = write!(self.rest, " {name}={text}");
            }
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}
