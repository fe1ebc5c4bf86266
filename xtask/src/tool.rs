//! Programs of the machine that a suite needs. Root on Debian gets those that are missing; others are told which.

use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::command_line::CommandLine;

/// A program and where it comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    /// The package of Debian that holds it.
    pub(crate) package: &'static str,
    /// What it does for us, as the end of "it …".
    pub(crate) purpose: &'static str,
}

/// Makes sure that the program is there.
///
/// # Errors
/// It is not and this process may not install it, or installing fails.
pub(crate) fn ensure(tool: &Tool) -> Result<()> {
    let Tool { program, package, purpose } = tool;
    if answers(program) {
        return Ok(());
    }
    install(package, &format!("there is no `{program}` on this machine (it {purpose})"))?;
    if !answers(program) {
        bail!("the package {package} was installed, and there is still no `{program}` on the PATH");
    }
    Ok(())
}

/// Installs a package of Debian; `lack` says what is missing without it.
///
/// # Errors
/// This process may not install it, or installing fails.
pub(crate) fn install(package: &str, lack: &str) -> Result<()> {
    if !is_root() || !answers("apt-get") {
        bail!("{lack}; install the package {package} (as root on Debian this command does)");
    }

    // Suites run beside one another, and apt-get wants to be alone.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    println!("    {lack}; installing {package}");
    // A machine that has just begun may be installing by itself.
    let apt = |words: &[&str]| {
        let line = CommandLine::new("apt-get", "-qq -o DPkg::Lock::Timeout=300").and(words.iter().copied());
        line.with_variable("DEBIAN_FRONTEND", "noninteractive").run()
    };
    // Lists that cannot be renewed may still name it.
    let updated = apt(&["update"]);
    apt(&["install", "--yes", "--no-install-recommends", package])
        .map_err(|error| updated.err().unwrap_or(error))
        .with_context(|| format!("cannot install {package}, and {lack}"))
}

/// Whether the program starts and says its version, in one of the two ways of asking for it.
pub(crate) fn answers(program: &str) -> bool {
    ["--version", "version"].iter().any(|question| {
        let mut command = Command::new(program);
        command.arg(question).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_counts_only_when_it_answers() {
        assert!(answers("cargo"));
        assert!(!answers("false"));
        assert!(!answers("no-such-program-anywhere"));
    }
}
