//! Prints results: a table for people, JSON with a schema version for scripts.
//!
//! A reader that has seen enough (`| head`) ends the output, not the command.

use std::io::{self, ErrorKind, Write};

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde::ser::SerializeMap;

use crate::exit::Exit;
use crate::failure::Failure;

/// The version of every JSON output; it only grows.
const SCHEMA_VERSION: u32 = 1;

/// How a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text for people.
    #[default]
    Table,
    /// One JSON object.
    Json,
    /// One JSON object a line.
    Jsonl,
}

/// The flag of every command that prints a result.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct OutputFlag {
    /// How to print the result.
    #[arg(short = 'o', long = "output", value_enum, default_value = "table", value_name = "FORMAT")]
    pub(crate) format: Format,
}

/// Prints one thing.
pub(crate) fn one<T: Serialize>(
    format: Format,
    thing: &T,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    match format {
        Format::Table => print(&text()),
        Format::Json | Format::Jsonl => print_object(thing),
    }
}

/// Prints many things, in JSON under the key `name`.
pub(crate) fn many<T: Serialize>(
    format: Format,
    name: &'static str,
    things: &[T],
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    match format {
        Format::Table => print(&text()),
        Format::Json => print(&line(&List { name, things })?),
        Format::Jsonl => {
            let lines: Result<String, Failure> =
                things.iter().map(|body| line(&Versioned { schema_version: SCHEMA_VERSION, body })).collect();
            print(&lines?)
        }
    }
}

/// Prints an object as JSON, whatever was asked for.
pub(crate) fn print_object<T: Serialize>(body: &T) -> Result<(), Failure> {
    print(&line(&Versioned { schema_version: SCHEMA_VERSION, body })?)
}

/// Prints text as it stands.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(unprintable(&error)),
        _ => Ok(()),
    }
}

/// Whether to colour what goes to a stream.
pub(crate) fn has_colour(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn line<T: Serialize>(thing: &T) -> Result<String, Failure> {
    let json = serde_json::to_string(thing).map_err(|error| unprintable(&error.into()))?;
    Ok(json + "\n")
}

fn unprintable(error: &io::Error) -> Failure {
    Failure::new(Exit::Findings, "output/unwritable", format!("cannot print the result: {error}"))
}

#[derive(Serialize)]
struct Versioned<'a, T: Serialize> {
    schema_version: u32,
    #[serde(flatten)]
    body: &'a T,
}

struct List<'a, T> {
    name: &'static str,
    things: &'a [T],
}

impl<T: Serialize> Serialize for List<'_, T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("schema_version", &SCHEMA_VERSION)?;
        map.serialize_entry(self.name, self.things)?;
        map.end()
    }
}
