//! `scheduler completions`: the script that lets a shell complete our verbs and flags.

use clap::Args;
use clap_complete::Shell;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;

/// Which shell.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The shell, such as bash: `scheduler completions bash > /etc/bash_completion.d/scheduler`.
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn execute(flags: &Flags, mut command: clap::Command) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(flags.shell, &mut command, "scheduler", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
