//! `scheduler init`: writes a first configuration and its schema, and never over somebody's file.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use clap::Args;
use serde_json::Value;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::schema;
use crate::session::{DEFAULT_CONFIG, Session};
use crate::starter;

/// Whether to replace what is there.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Replaces a configuration that is there.
    #[arg(long)]
    force: bool,
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    let config = &session.config;
    if config.extension().is_none_or(|ending| ending != "toml") {
        let message = format!("`{}` does not end in .toml, and this writes TOML", config.display());
        return Err(Failure::new(Exit::Usage, "init/not_toml", message)
            .with_help(format!("leave out --config for {DEFAULT_CONFIG}, or name another file")));
    }
    let schema_file = config.with_extension("schema.json");
    let schema_name = schema_file.file_name().unwrap_or_default().to_string_lossy();
    let schema = schema::schema(&session.registry);
    if !flags.force && is_foreign(&schema_file, &schema) {
        return Err(exists(&schema_file));
    }
    write(config, &starter::configuration(&session.registry, &schema_name), !flags.force)?;
    write(&schema_file, &format!("{schema:#}\n"), false)?;
    let named = match config.to_str() {
        Some(DEFAULT_CONFIG) => String::new(),
        _ => format!(" --config {}", config.display()),
    };
    output::print(&format!(
        "wrote {} and {}\nnext: scheduler check{named}, then scheduler run{named}\n",
        config.display(),
        schema_file.display()
    ))?;
    Ok(Exit::Done)
}

/// Whether a file is there that is no schema of ours.
fn is_foreign(file: &Path, schema: &Value) -> bool {
    let title = |value: &Value| value.get("title").cloned();
    match std::fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).ok().as_ref().and_then(title) != title(schema),
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

fn write(file: &Path, text: &str, is_new: bool) -> Result<(), Failure> {
    let opened = OpenOptions::new().write(true).create(true).truncate(true).create_new(is_new).open(file);
    opened.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => exists(file),
        _ => Failure::new(
            Exit::Usage,
            "init/unwritable",
            format!("cannot write `{}`: {error}", file.display()),
        )
        .with_help("name a file in a folder that is there with --config FILE"),
    })
}

fn exists(file: &Path) -> Failure {
    Failure::new(Exit::Conflict, "init/exists", format!("`{}` is there already", file.display()))
        .with_help("name another with --config FILE; --force replaces it")
}
