//! Refuses tracked files that mention somebody's home folder: such a path leaks from the machine a file was made on and
//! exists nowhere else.

use anyhow::{Result, bail};

use crate::command_line::CommandLine;

/// Written so that this file does not match itself. The first group keeps the tail of a URL from matching.
const HOME_FOLDER: &str = "(^|[^[:alnum:]_.-])/((home|Users)/[[:alnum:]_.-]+|roo[t])/";

/// Searches with git, because only what is tracked gets published.
///
/// # Errors
/// Names every line that mentions a home folder.
pub(crate) fn check() -> Result<()> {
    // Cargo writes Cargo.lock, and its checksums are noise here.
    let line = CommandLine::new("git", "grep --line-number -I --extended-regexp").and([
        HOME_FOLDER,
        "--",
        ".",
        ":!*Cargo.lock",
    ]);

    // Git answers 1 when nothing matched. Anything else, git missing included, means that this is no checkout.
    let Ok(output) = line.command().output() else {
        println!("    git cannot be started, so no file counts as tracked");
        return Ok(());
    };
    match output.status.code() {
        Some(0) => bail!(
            "use a path that every machine has, such as one below /srv or /var:\n{}",
            String::from_utf8_lossy(&output.stdout).trim_end()
        ),
        Some(1) => Ok(()),
        Some(_) | None => {
            println!("    not a git checkout, so no file counts as tracked");
            Ok(())
        }
    }
}
