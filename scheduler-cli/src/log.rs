//! Sets up the log: lines for people on a terminal, JSON for whatever else reads stderr.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::log_line::LogLine;
use crate::output;

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// Text where a person reads it, JSON elsewhere.
    pub(crate) fn of_stderr() -> Self {
        if std::io::stderr().is_terminal() { Self::Text } else { Self::Json }
    }
}

/// Sends the log to stderr. `RUST_LOG` chooses what of it, `level` and worse by default; the time of day is
/// that of `zone`, and names of tasks take `width` columns.
///
/// # Errors
/// `log/bad_filter` when `RUST_LOG` makes no sense.
pub(crate) fn start(format: LogFormat, level: &str, zone: &str, width: usize) -> Result<(), Failure> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.trim().is_empty() => EnvFilter::try_new(&filter).map_err(|error| {
            Failure::new(Exit::Usage, "log/bad_filter", format!("RUST_LOG is `{filter}`: {error}"))
                .with_help("write a level such as `debug`, or target=level, separated by commas")
        })?,
        _ => EnvFilter::new(level),
    };
    // A reader that went away must not end the daemon, which a complaint on the closed stderr would.
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    // A second call, by a program that runs this one twice, keeps the first log.
    let _ = match format {
        LogFormat::Text => {
            let colour = output::has_colour(std::io::stderr().is_terminal());
            log.with_ansi(colour).event_format(LogLine::new(zone, width)).try_init()
        }
        LogFormat::Json => {
            log.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
        }
    };
    Ok(())
}
