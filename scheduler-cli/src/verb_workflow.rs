//! `scheduler workflow`: what the machines of a workflow engine need to run our tasks.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::session::{DEFAULT_CONFIG, Session};
use crate::settings::Settings;

/// The flow that calls `scheduler exec`.
const FLOW: &str = include_str!("../../deploy/prefect/scheduler_flow.py");
const FLOW_FILE: &str = "scheduler_flow.py";

/// What to do.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Writes the Python flow by which a Prefect worker runs tasks, and says what comes next.
    Install(Install),
}

/// Where to write.
#[derive(Debug, Args)]
struct Install {
    /// The folder, which is made if it is not there; `workflow` in the data folder of the configuration unless given.
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Replaces a file of another content.
    #[arg(long)]
    force: bool,
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    let Verb::Install(flags) = &flags.verb;
    let folder = match &flags.to {
        Some(folder) => folder.clone(),
        None => expected_folder(session)?,
    };
    let unwritable = |error| {
        let message = format!("cannot write into `{}`: {error}", folder.display());
        Failure::new(Exit::Usage, "workflow/unwritable", message)
            .with_help("name another folder with --to DIR")
    };
    std::fs::create_dir_all(&folder).map_err(unwritable)?;
    let folder = std::path::absolute(&folder).map_err(unwritable)?;
    let file = folder.join(FLOW_FILE);
    let is_new = write(&file, flags.force).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            let message = format!("`{}` is there already, with another content", file.display());
            Failure::new(Exit::Conflict, "workflow/exists", message)
                .with_help("name another folder with --to DIR; --force replaces it")
        }
        _ => unwritable(error),
    })?;
    let named = flags.to.is_some().then_some(&*folder);
    output::print(&next_steps(session, named, &file, is_new))?;
    Ok(Exit::Done)
}

/// Where the workflow tier looks for the flow unless it is told otherwise.
fn expected_folder(session: &Session) -> Result<PathBuf, Failure> {
    let document =
        session.document().map_err(|failure| failure.with_help("or name a folder with --to DIR"))?;
    // What is wrong with the rest of it is told by `check`.
    Ok(Settings::decode(&document, &session.config, &mut Vec::new()).data_dir.join("workflow"))
}

/// Writes the flow; says whether anything was written. The same content is left as it is.
fn write(file: &Path, force: bool) -> std::io::Result<bool> {
    match std::fs::read(file) {
        Ok(content) if content == FLOW.as_bytes() => return Ok(false),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(_) | Err(_) => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).create_new(!force).open(file)?;
    file.write_all(FLOW.as_bytes())?;
    Ok(true)
}

fn next_steps(session: &Session, folder: Option<&Path>, file: &Path, is_new: bool) -> String {
    let named = match session.config.to_str() {
        Some(DEFAULT_CONFIG) => String::new(),
        _ => format!(" --config {}", session.config.display()),
    };
    let written = if is_new { "wrote" } else { "up to date:" };
    let folder = folder.map(|folder| format!("\x20 flow_folder = {:?}\n", folder.display().to_string()));
    format!(
        "{written} {}\n\n\
         next, on this machine, where Prefect 3 is installed and PREFECT_API_URL names its server:\n\
         \x20 prefect work-pool create --type process hybrid-scheduler\n\
         \x20 prefect worker start --pool hybrid-scheduler\n\n\
         and in the configuration, which the worker reads as well:\n\
         \x20 [backends.workflow]\n\
         \x20 url = \"http://127.0.0.1:4200/api\"\n\
         {}\n\
         then: scheduler plan{named}, and scheduler run{named}\n",
        file.display(),
        folder.unwrap_or_default(),
    )
}
