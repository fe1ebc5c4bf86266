//! A child process as a line that a person can run again.
//!
//! What is started and what is printed come from the same words, so the advice in a summary cannot drift from what
//! really ran. Children start in the workspace root; the printed line assumes the reader is there too.

use std::fmt;
use std::fs;
use std::io::{PipeReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use crate::charge::Charge;
use crate::output::Output;

/// The directory of the workspace's `Cargo.toml`.
pub(crate) fn workspace_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in a folder of the workspace")
}

/// Where cargo builds, as it understands it: relative to the workspace root.
pub(crate) fn target_folder() -> String {
    std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned())
}

/// Whether nobody has built our crates here to change them. Then nothing is written down for the next change, which
/// costs a fifth of a build; whoever has set it otherwise has it otherwise.
fn builds_once() -> bool {
    static BUILDS_ONCE: OnceLock<bool> = OnceLock::new();
    *BUILDS_ONCE.get_or_init(|| {
        let folder = workspace_root().join(target_folder()).join("debug/incremental");
        let mut written = fs::read_dir(folder).into_iter().flatten().flatten();
        // Of this crate there always is something: cargo has just built it.
        let is_built = written.any(|entry| entry.file_name().to_string_lossy().starts_with("scheduler_core"));
        std::env::var_os(INCREMENTAL).is_none() && !is_built
    })
}

/// The variable by which cargo is told.
const INCREMENTAL: &str = "CARGO_INCREMENTAL";

/// A program, its arguments and the environment variables it needs.
#[derive(Clone, Debug)]
pub(crate) struct CommandLine {
    variables: Vec<(&'static str, String)>,
    program: String,
    arguments: Vec<String>,
    folder: PathBuf,
}

impl CommandLine {
    /// A cargo command whose words are separated by single spaces; words with spaces go through [`Self::and`].
    pub(crate) fn cargo(words: &str) -> Self {
        Self::new("cargo", words)
    }

    pub(crate) fn new(program: &str, words: &str) -> Self {
        Self::program(program).and(words.split(' '))
    }

    /// A program without arguments.
    pub(crate) fn program(program: impl Into<String>) -> Self {
        let folder = workspace_root().to_owned();
        Self { variables: Vec::new(), program: program.into(), arguments: Vec::new(), folder }
    }

    pub(crate) fn and(mut self, arguments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    pub(crate) fn with_variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// The same with the lowest priority, so that it gets what the others leave.
    pub(crate) fn behind_others(mut self) -> Self {
        let program = std::mem::replace(&mut self.program, "nice".to_owned());
        self.arguments.splice(0..0, ["-n".to_owned(), "19".to_owned(), program]);
        self
    }

    /// Starts in this folder instead of the workspace root.
    pub(crate) fn in_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = folder.into();
        self
    }

    /// The child, ready to start, for callers that read its output.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let variables = self.variables.iter().map(|(name, value)| (name, value));
        command.args(&self.arguments).envs(variables).current_dir(&self.folder);
        if builds_once() {
            command.env(INCREMENTAL, "0");
        }
        command
    }

    /// Runs the child with our own output and succeeds when it does.
    ///
    /// # Errors
    /// The child cannot start or ends with a failure; both name the command line.
    pub(crate) fn run(&self) -> Result<()> {
        let status = self.command().status().with_context(|| self.cannot_start())?;
        self.judge(status)
    }

    /// Runs the child and writes what it says. Where that is kept, the child runs behind others.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(crate) fn run_to(&self, output: &mut Output) -> Result<()> {
        match output {
            Output::Shown => self.run(),
            Output::Kept(kept) => {
                let (mut said, child) = self.start_behind_others()?;
                let all = said.read_to_end(kept).with_context(|| format!("cannot read from `{self}`"));
                self.judge(child.wait()?)?;
                all.map(drop)
            }
        }
    }

    /// Starts the child behind others, with what it says in either way in one pipe.
    ///
    /// # Errors
    /// The child cannot start.
    pub(crate) fn start_behind_others(&self) -> Result<(PipeReader, Charge)> {
        let (said, says) = std::io::pipe().context("there is no pipe")?;
        let mut command = self.clone().behind_others().command();
        command.stdin(Stdio::null()).stdout(says.try_clone().context("there is no pipe")?).stderr(says);
        // The command holds the end that is written to, and with it the pipe would never end.
        let child = Charge::spawn(command).with_context(|| self.cannot_start())?;
        Ok((said, child))
    }

    /// Runs the child and returns what it wrote to standard output.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(crate) fn output(&self) -> Result<Vec<u8>> {
        let output = self.command().stderr(Stdio::inherit()).output().with_context(|| self.cannot_start())?;
        self.judge(output.status)?;
        Ok(output.stdout)
    }

    pub(crate) fn judge(&self, status: ExitStatus) -> Result<()> {
        if !status.success() {
            bail!("`{self}` ended with {status}");
        }
        Ok(())
    }

    pub(crate) fn cannot_start(&self) -> String {
        format!("cannot start `{self}`")
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.variables {
            write!(f, "{name}={} ", quoted(value))?;
        }
        f.write_str(&quoted(&self.program))?;
        for argument in &self.arguments {
            write!(f, " {}", quoted(argument))?;
        }
        Ok(())
    }
}

/// The word as a POSIX shell reads it back.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_line_can_be_pasted_into_a_shell() {
        let line = CommandLine::cargo("doc --no-deps")
            .and(["it's", ""])
            .with_variable("RUSTDOCFLAGS", "-D warnings");

        assert_eq!(line.to_string(), r"RUSTDOCFLAGS='-D warnings' cargo doc --no-deps 'it'\''s' ''");
    }

    #[test]
    fn a_failing_child_is_reported_by_its_command_line() {
        let line = CommandLine::new("false", "--quietly");

        let error = line.run().expect_err("`false` always fails");

        assert_eq!(error.to_string(), "`false --quietly` ended with exit status: 1");
    }

    #[test]
    fn a_program_that_is_missing_is_reported_by_its_command_line() {
        let line = CommandLine::new("no-such-program-anywhere", "--flag");

        let error = line.run().expect_err("there is no such program");

        assert_eq!(error.to_string(), "cannot start `no-such-program-anywhere --flag`");
    }
}
