//! `scheduler config`: what the configuration comes to and where each value comes from, and its schema.

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::origin::Origin;
use crate::output::{self, OutputFlag};
use crate::session::Session;
use crate::{assignment, defaults, redact, schema};

/// What to show.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Prints every value that is set, files and environment laid over one another.
    Show(Show),
    /// Prints the JSON Schema of a configuration, with the args of every job and backend of this program.
    Schema,
}

#[derive(Debug, Args)]
struct Show {
    /// Says behind each value which file, line and column, or which variable set it.
    #[arg(long)]
    origin: bool,
    /// Adds what is left out and has a default.
    #[arg(long)]
    defaults: bool,
    #[command(flatten)]
    output: OutputFlag,
}

/// One value.
struct Setting {
    place: String,
    value: Value,
    /// `None` for a default.
    origin: Option<Origin>,
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    match &flags.what {
        What::Show(show) => show_settings(session, show)?,
        What::Schema => {
            let text = serde_json::to_string_pretty(&schema::schema(&session.registry)).unwrap_or_default();
            output::print(&(text + "\n"))?;
        }
    }
    Ok(Exit::Done)
}

fn show_settings(session: &Session, show: &Show) -> Result<(), Failure> {
    let document = session.document()?;
    let tree = redact::redacted(document.value("").unwrap_or(&Value::Null));
    let set = assignment::leaves(&tree).into_iter();
    let mut settings: Vec<Setting> = set
        .map(|(place, value)| {
            let origin = Some(document.origin(&place));
            Setting { place, value: value.clone(), origin }
        })
        .collect();
    if show.defaults {
        let applied = defaults::applied(&schema::schema(&session.registry), &with_implied(session, tree));
        settings.extend(applied.into_iter().map(|(place, value)| Setting { place, value, origin: None }));
    }
    // The keys of one table stand together, whatever set them.
    settings.sort_by_cached_key(|setting| crate::pointer::keys(&setting.place));
    let rows: Vec<Row> = settings.iter().map(Row::new).collect();
    output::many(show.output.format, "settings", &rows, || text(&settings, show))
}

/// A configuration without backends has the local one.
fn with_implied(session: &Session, mut tree: Value) -> Value {
    let has_local = session.registry.backend("local").is_ok();
    if let Value::Object(table) = &mut tree
        && has_local
        && !table.contains_key("backends")
    {
        table.insert("backends".to_owned(), json!({ "local": {} }));
    }
    tree
}

fn text(settings: &[Setting], show: &Show) -> String {
    let lines: Vec<String> = settings.iter().map(|it| assignment::written(&it.place, &it.value)).collect();
    let width = lines.iter().map(|line| line.chars().count()).filter(|width| *width <= 80).max().unwrap_or(0);
    let mut text = String::new();
    for (setting, line) in settings.iter().zip(&lines) {
        match &setting.origin {
            Some(origin) if show.origin => text.push_str(&format!("{line:width$}  # {}\n", origin.place())),
            None => text.push_str(&format!("{line:width$}  # default\n")),
            Some(_) => text.push_str(&format!("{line}\n")),
        }
    }
    text
}

#[derive(Serialize)]
struct Row {
    key: String,
    value: Value,
    /// What set it: `file`, `environment`, `flag` or `default`.
    from: &'static str,
    file: Option<String>,
    line: Option<usize>,
    column: Option<usize>,
    variable: Option<String>,
}

impl Row {
    fn new(setting: &Setting) -> Self {
        let mut row = Self {
            key: assignment::key(&setting.place),
            value: setting.value.clone(),
            from: "default",
            file: None,
            line: None,
            column: None,
            variable: None,
        };
        match setting.origin.as_ref() {
            Some(Origin::File(at)) => {
                row.from = "file";
                row.file = Some(at.path.display().to_string());
                (row.line, row.column) = (Some(at.line), Some(at.column));
            }
            Some(Origin::Environment { variable, .. }) => {
                row.from = "environment";
                row.variable = Some(variable.clone());
            }
            Some(Origin::Flag { .. }) => row.from = "flag",
            Some(Origin::None) | None => {}
        }
        row
    }
}
