//! One question to one git server, by the user's git, keys and credential helpers, and without ever prompting.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use scheduler_core::{ArgsError, Printed, Result, RunContext, Stream};
use tokio::process::Command;

use crate::capture::Pipes;
use crate::environment::Environment;
use crate::git_poll_refs::{Reader, Refs, Watched};
use crate::http_secrets::Secrets;
use crate::process::ProcessGroup;
use crate::{git_poll_url, program};

/// Between the request to terminate and the kill.
const GRACE: Duration = Duration::from_millis(500);

/// How long the end of what git printed is waited for once it has ended.
const LAST_BYTES: Duration = Duration::from_secs(5);

/// How long git may take to read its configuration.
const CONFIGURED: Duration = Duration::from_secs(5);

/// What is kept of git's messages, in bytes.
const MESSAGES: usize = 16 * 1024;

/// The most of a message that is told, in characters.
const LONGEST_MESSAGE: usize = 300;

/// Variables that keep git from asking anybody; nobody can change these.
const SILENT: [(&str, &str); 3] =
    [("GIT_TERMINAL_PROMPT", "0"), ("GCM_INTERACTIVE", "never"), ("LC_ALL", "C")];

/// The same, unless the user has a program that answers without asking anybody. An empty `GIT_ASKPASS` also keeps git
/// from the one in its configuration, and ssh asks the terminal unless it is told to use a program.
const UNASKED: [(&str, &str); 3] =
    [("GIT_ASKPASS", ""), ("SSH_ASKPASS", "/bin/false"), ("SSH_ASKPASS_REQUIRE", "force")];

/// Says how git reaches servers by ssh.
const SSH: [&str; 2] = ["GIT_SSH_COMMAND", "GIT_SSH"];

/// The user's git.
#[derive(Debug)]
pub(crate) struct Git {
    pub(crate) program: String,
    pub(crate) environment: Environment,
}

/// The user's git, as one run finds it.
#[derive(Debug)]
pub(crate) struct Ready {
    program: PathBuf,
    variables: BTreeMap<String, OsString>,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) url: &'a str,
    pub(crate) watched: &'a Watched,
    pub(crate) limit: Duration,
    pub(crate) secrets: &'a Secrets,
}

/// How a program ended.
struct Ended {
    status: ExitStatus,
    messages: String,
}

/// Why nothing was found out.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    /// Whether the limit passed; then processes may have been left.
    pub(crate) timed_out: bool,
}

impl Git {
    /// Where the program lies.
    pub(crate) fn locate(&self) -> Result<PathBuf, ArgsError> {
        let found = program::locate(&self.program, &self.environment.path(), Path::new("."));
        found.map_err(|fault| ArgsError { pointer: "/git".to_owned(), ..fault })
    }

    /// What stands in the environment of every question of a run.
    ///
    /// # Errors
    /// A secret that cannot be read.
    pub(crate) async fn ready(&self, ctx: &RunContext, program: PathBuf) -> Result<Ready> {
        let mut variables = self.environment.resolve(ctx)?;
        for (name, value) in SILENT {
            variables.insert(name.to_owned(), value.into());
        }
        for (name, value) in UNASKED {
            variables.entry(name.to_owned()).or_insert_with(|| value.into());
        }
        let mut ready = Ready { program, variables };
        // Whoever chose another command for ssh chose how it asks as well.
        let is_chosen = SSH.iter().any(|name| ready.variables.contains_key(*name));
        if !is_chosen && !ready.is_configured("core.sshCommand").await {
            ready.variables.insert(SSH[0].to_owned(), "ssh -o BatchMode=yes".into());
        }
        Ok(ready)
    }
}

impl Ready {
    /// What the server says of the refs that are watched.
    ///
    /// # Errors
    /// When it said nothing, or not all of it, within the limit; the message holds no credentials.
    pub(crate) async fn ask(&self, question: Question<'_>) -> Result<Refs, Failure> {
        let reader = Arc::new(Mutex::new(Reader::new(question.watched.clone())));
        let heard = Arc::clone(&reader);
        let printed = Printed::to(move |stream, bytes| {
            if stream == Stream::Stdout {
                heard.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
            }
        });
        let (before, after) = question.watched.asked();
        let words = ["ls-remote"].into_iter().chain(before).chain(["--", question.url]).chain(after);
        let ended = self.run(words, printed, question.limit).await;
        let hidden = |message: &str| bounded(&git_poll_url::hide(question.secrets, message));
        let ended = ended.map_err(|failure| Failure { message: hidden(&failure.message), ..failure })?;
        if !ended.status.success() {
            return Err(Failure::new(hidden(&reason(&ended))));
        }
        let read = reader.lock().unwrap_or_else(PoisonError::into_inner).finish();
        read.map_err(Failure::new)
    }

    async fn is_configured(&self, key: &str) -> bool {
        let ended = self.run(["config", "--get", key], Printed::default(), CONFIGURED).await;
        ended.is_ok_and(|ended| ended.status.success())
    }

    async fn run<'a>(
        &self,
        words: impl IntoIterator<Item = &'a str>,
        printed: Printed,
        limit: Duration,
    ) -> Result<Ended, Failure> {
        let mut command = Command::new(&self.program);
        command.args(words).env_clear().envs(&self.variables);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let group = ProcessGroup::spawn(command, None, |leader| Pipes::new(leader, MESSAGES, printed));
        let (group, mut pipes) =
            group.map_err(|error| Failure::new(format!("git cannot be started: {error}")))?;
        match tokio::time::timeout(limit, pipes.during(group.leader_ended())).await {
            Ok(ended) => ended.map_err(|error| Failure::new(error.to_string()))?,
            Err(_) => {
                // Whether it could be waited for changes nothing any more.
                let _ = pipes.during(group.end(GRACE)).await;
                let message = format!("no answer within {limit:?} (`timeout`)");
                return Err(Failure { message, timed_out: true });
            }
        }
        group.kill();
        // Part of a list would look like deleted branches.
        let is_whole = tokio::time::timeout(LAST_BYTES, pipes.read()).await.is_ok();
        let status = group.reap().await.map_err(|error| Failure::new(error.to_string()))?;
        if is_whole {
            Ok(Ended { status, messages: pipes.stderr() })
        } else {
            let message = "git has ended, and something it started still holds its output".to_owned();
            Err(Failure { message, timed_out: true })
        }
    }
}

impl Failure {
    fn new(message: String) -> Self {
        Self { message, timed_out: false }
    }
}

/// What git says of its failure: its verdict, else its last line.
fn reason(ended: &Ended) -> String {
    let lines = || ended.messages.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_verdict =
        |line: &&str| ["fatal: ", "error: ", "ERROR: "].iter().any(|word| line.starts_with(word));
    match lines().find(is_verdict).or_else(|| lines().next_back()) {
        Some(line) => line.to_owned(),
        None => format!("git ended with {} and said nothing", ended.status),
    }
}

/// The message without control characters, cut where it is too long.
fn bounded(message: &str) -> String {
    let mut told: String =
        message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_MESSAGE).collect();
    if message.chars().count() > LONGEST_MESSAGE {
        told.push('…');
    }
    told
}
