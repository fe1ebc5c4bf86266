//! Runs a program that deals with a secret. Nothing that it prints is kept or told, unless it was asked for just that:
//! a new value goes straight into its file, and only dates are read of metadata.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use scheduler_core::{Printed, RunContext};
use tokio::process::Command;

use crate::capture::Pipes;
use crate::environment::{Environment, PASSED};
use crate::process::ProcessGroup;
use crate::program;
use crate::text_or_secret::TextOrSecret;

/// The secret's name, for its programs.
const SECRET_NAME: &str = "SECRET_NAME";
/// The file that a program is to look at.
const SECRET_FILE: &str = "SECRET_FILE";

/// How long a program may take to end when its time is over.
const GRACE: Duration = Duration::from_secs(1);

/// The most bytes that are read of metadata.
const LARGEST_METADATA: usize = 64 * 1024;

/// What a program is run for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) words: &'a [String],
    pub(crate) secret: &'a str,
    pub(crate) file: Option<&'a Path>,
    pub(crate) limit: Duration,
}

/// Where its standard output goes.
#[derive(Debug)]
pub(crate) enum Out {
    Nowhere,
    Into(File),
    /// Kept, and never told.
    Back,
}

impl Call<'_> {
    /// Runs the program to its end, which must be exit code 0, and answers what it printed if that was asked for.
    /// Dropped early, it kills the program.
    ///
    /// # Errors
    /// Says that it did not start, how it ended, or that its time was over.
    pub(crate) async fn run(self, ctx: &RunContext, input: Option<File>, out: Out) -> Result<String, String> {
        let name = self.words.first().map(String::as_str).unwrap_or_default();
        let file = self.file.map(|file| (SECRET_FILE, file.to_string_lossy().into_owned()));
        let own: BTreeMap<String, TextOrSecret> = [(SECRET_NAME, self.secret.to_owned())]
            .into_iter()
            .chain(file)
            .map(|(name, value)| (name.to_owned(), TextOrSecret::Text(value)))
            .collect();
        let passed = PASSED.map(str::to_owned).to_vec();
        let environment = Environment::new(passed, own)
            .map_err(|faults| faults.first().map(ToString::to_string).unwrap_or_default())?;
        let place = program::locate(name, &environment.path(), Path::new("."));
        let place = place.map_err(|fault| fault.to_string())?;
        let variables = environment.resolve(ctx).map_err(|error| error.to_string())?;
        let mut command = Command::new(place);
        command.arg0(name).args(&self.words[1..]).env_clear().envs(variables);
        command.stdin(input.map_or_else(Stdio::null, Stdio::from)).stderr(Stdio::null());
        let bound = match out {
            Out::Nowhere => {
                command.stdout(Stdio::null());
                0
            }
            Out::Into(file) => {
                command.stdout(Stdio::from(file));
                0
            }
            Out::Back => {
                command.stdout(Stdio::piped());
                LARGEST_METADATA
            }
        };
        let started =
            ProcessGroup::spawn(command, None, |leader| Pipes::new(leader, bound, Printed::default()));
        let (group, mut pipes) = started.map_err(|error| format!("`{name}` did not start: {error}"))?;
        let ended = tokio::time::timeout(self.limit, pipes.during(group.leader_ended())).await;
        let Ok(ended) = ended else {
            let _ = group.end(GRACE).await;
            return Err(format!("`{name}` did not end within {:?}", self.limit));
        };
        ended.map_err(|error| format!("`{name}` was lost: {error}"))?;
        group.kill();
        let _ = tokio::time::timeout(GRACE, pipes.read()).await;
        let status = group.reap().await.map_err(|error| format!("`{name}` was lost: {error}"))?;
        match status.code() {
            Some(0) => Ok(pipes.stdout()),
            Some(code) => Err(format!("`{name}` ended with exit code {code}; what it printed is not kept")),
            None => Err(format!("`{name}` was killed; what it printed is not kept")),
        }
    }
}
