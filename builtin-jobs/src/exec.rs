//! The job `exec`: runs a program.
//!
//! The program is given as an argument list, never through a shell unless `shell = true`. Its environment is
//! what was listed (`pass_env`, `env`, the variables of the run), its standard input is empty, and it inherits
//! no file that the daemon opened. Its process group ends with the run:
//!
//! - When the program ends, what it left in its group is killed.
//! - When the run is cancelled or times out, the group is told to terminate, and killed after `grace`. When
//!   the attempt is dropped, the group is killed at once.
//! - When the daemon is killed, the group lives on until [`sweep_orphans`] finds it, at the next start.
//!
//! A process that leaves the group (`setsid`, a daemon) is left alone when the program ends by itself; what it
//! prints from then on is lost. On Linux it is killed by the marks in its environment (`SCHEDULER_RUN_ID`,
//! `SCHEDULER_EXEC_OWNER`) when the run is cancelled, times out or is dropped, and swept after the daemon's
//! death. One that also clears or overwrites its environment, or changes its user, is out of reach. A service
//! that shall outlive the daemon is started by the service manager, or with `env -u SCHEDULER_EXEC_OWNER`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use scheduler_core::{
    ArgsError, CancelReason, Error, Job, JobDescriptor, JobError, Name, OrAbort, Output, Printed, RunContext,
    RunId, async_trait,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio::process::Command;

use crate::capture::Pipes;
use crate::environment::{Environment, PASSED};
use crate::exit_code::{ExitCodes, Meaning, account};
use crate::marks::{self, Marks};
use crate::process::ProcessGroup;
use crate::text_or_secret::TextOrSecret;
use crate::{duration, program};

/// How long output is read after the program has ended. What it printed is in the pipe by then; only a process
/// that left the group can still hold the other end, and that one is not waited for.
const LAST_BYTES: Duration = Duration::from_millis(200);

/// What ending takes besides the grace: killing, reaping, looking for those who left the group.
const ENDING: Duration = Duration::from_secs(2);

/// The most that `max_output` may be: the output stands in the history of runs.
const LARGEST_OUTPUT: usize = 16 * 1024 * 1024;

/// Describes the job.
pub fn descriptor() -> JobDescriptor {
    let schema = schemars::schema_for!(ExecArgs).to_value();
    JobDescriptor::typed("exec", "runs a program", Exec::new).with_schema(schema)
}

/// Kills the processes of runs whose daemon is dead, and waits at most two seconds for their end.
///
/// It is called once when a scheduler starts, before any attempt, and it blocks. It never touches its own
/// process, one whose daemon lives, one of another user or of another process id namespace. Outside of Linux it
/// does nothing: the programs of a killed daemon run on there.
pub fn sweep_orphans() -> Swept {
    marks::sweep_orphans()
}

/// What a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Those that were killed.
    pub killed: Vec<Orphan>,
    /// Those that still lived when the time was over.
    pub left: Vec<Orphan>,
}

/// A process whose daemon is dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Its process id.
    pub pid: u32,
    /// The task it ran for, by its environment.
    pub task: Option<Name>,
    /// The run it belonged to, by its environment.
    pub run_id: Option<RunId>,
}

/// Runs a program.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExecArgs {
    /// The program: a path, or a name that is looked up in the child's `PATH`. With `shell`, a script.
    program: String,
    /// The program's arguments, each passed on as it stands.
    #[serde(default)]
    args: Vec<String>,
    /// Gives `program` to `/bin/sh -c` and makes `args` its `$1`, `$2` and so on. Off by default.
    #[serde(default)]
    shell: bool,
    /// The folder it runs in; a relative one counts from the daemon's, which is the default.
    #[serde(default)]
    cwd: Option<PathBuf>,
    /// Its own variables: texts, or secrets such as `{ env = "NAME" }` and `{ file = "/path" }`.
    #[serde(default)]
    env: BTreeMap<String, TextOrSecret>,
    /// The daemon's variables that are passed on. By default `PATH`, `HOME`, `USER`, `LOGNAME`, `LANG`,
    /// `LC_ALL`, `TZ` and `TMPDIR`.
    #[serde(default = "passed")]
    pass_env: Vec<String>,
    /// Exit codes with another meaning than the usual one.
    #[serde(default)]
    exit_codes: ExitCodes,
    /// The wait after an exit code that means snooze. 60 seconds by default.
    #[serde(default = "snooze", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    snooze: Duration,
    /// The time between the request to terminate and the kill. 5 seconds by default.
    #[serde(default = "grace", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    grace: Duration,
    /// Bytes kept of each output stream, half from its beginning and half from its end. 65536 by default.
    #[serde(default = "max_output")]
    max_output: usize,
}

fn passed() -> Vec<String> {
    PASSED.map(str::to_owned).to_vec()
}

fn snooze() -> Duration {
    Duration::from_secs(60)
}

fn grace() -> Duration {
    Duration::from_secs(5)
}

fn max_output() -> usize {
    64 * 1024
}

impl ExecArgs {
    /// The same program with these variables of its own.
    pub(crate) fn with_env(self, env: BTreeMap<String, TextOrSecret>) -> Self {
        Self { env, ..self }
    }
}

/// A program that can be run.
#[derive(Debug)]
pub(crate) struct Exec {
    program: String,
    args: Vec<String>,
    cwd: PathBuf,
    environment: Environment,
    exit_codes: ExitCodes,
    snooze: Duration,
    grace: Duration,
    max_output: usize,
    is_alone: bool,
}

impl Exec {
    pub(crate) fn new(args: ExecArgs) -> Result<Self, Vec<ArgsError>> {
        let mut faults = faults_of(&args);
        let environment = match Environment::new(args.pass_env, args.env) {
            Ok(environment) if faults.is_empty() => environment,
            Ok(_) => return Err(faults),
            Err(found) => {
                faults.extend(found);
                return Err(faults);
            }
        };
        let (program, arguments) = if args.shell {
            // The word after the script becomes its `$0`, which stands in the shell's messages.
            let shell = ["-c".to_owned(), args.program, "sh".to_owned()];
            ("/bin/sh".to_owned(), shell.into_iter().chain(args.args).collect())
        } else {
            (args.program, args.args)
        };
        Ok(Self {
            program,
            args: arguments,
            cwd: args.cwd.unwrap_or_else(|| ".".into()),
            environment,
            exit_codes: args.exit_codes,
            snooze: args.snooze,
            grace: args.grace,
            max_output: args.max_output,
            is_alone: true,
        })
    }

    /// The same program as one of several in a run. What leaves its group is not hunted for: the marks are those
    /// of the run, and the others carry them as well.
    pub(crate) fn among_others(self) -> Self {
        Self { is_alone: false, ..self }
    }

    fn locate(&self) -> Result<PathBuf, ArgsError> {
        program::locate(&self.program, &self.environment.path(), &self.cwd)
    }

    fn start(&self, ctx: &RunContext) -> Result<(ProcessGroup, Pipes), JobError> {
        let variables = self.environment.resolve(ctx)?;
        let told = |fault: ArgsError| fault.to_string();
        program::check_folder(&self.cwd).map_err(told).or_abort()?;
        let place = self.locate().map_err(told).or_abort()?;
        let mut command = Command::new(place);
        command.arg0(&self.program).args(&self.args).current_dir(&self.cwd);
        command.env_clear().envs(variables);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let marks = if self.is_alone { Marks::of(ctx.run_id()) } else { None };
        let printed = if self.is_alone { ctx.printed().clone() } else { Printed::default() };
        let bound = self.max_output;
        let group = ProcessGroup::spawn(command, marks, |leader| Pipes::new(leader, bound, printed));
        group.map_err(|source| self.not_started(source))
    }

    fn not_started(&self, source: io::Error) -> JobError {
        let message = format!("cannot start program `{}`", self.program);
        if source.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) {
            let message =
                format!("{message}: it is no program for this machine, or a script without a line `#!`");
            return JobError::abort(Error::invalid("exec/not_started", message));
        }
        match source.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::ArgumentListTooLong => {
                JobError::abort(Error::invalid("exec/not_started", message).with_source(source))
            }
            _ => JobError::retry(Error::unavailable("exec/not_started", message).with_source(source)),
        }
    }

    fn conclude(&self, status: ExitStatus, pipes: &Pipes, took: Duration) -> Result<Output, JobError> {
        let account = || account(status, &pipes.stdout(), &pipes.stderr());
        let error = match self.exit_codes.meaning(status) {
            Meaning::Success => return Ok(shown(status.code(), pipes, took)),
            Meaning::Snooze => JobError::snooze(self.snooze),
            Meaning::Abort => JobError::abort(account()),
            Meaning::Retry => JobError::retry(account()),
        };
        Err(error.with_output(shown(status.code(), pipes, took)))
    }
}

#[async_trait]
impl Job for Exec {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        if let Some(reason) = ctx.cancel_token().reason() {
            return Err(ended_early(reason));
        }
        let began = Instant::now();
        let (group, mut pipes) = self.start(ctx)?;
        match ctx.unless_cancelled(pipes.during(group.leader_ended())).await {
            Ok(ended) => ended?,
            Err(reason) => {
                pipes.during(group.end(self.grace)).await?;
                return Err(ended_early(reason).with_output(shown(None, &pipes, began.elapsed())));
            }
        }
        let took = began.elapsed();
        group.kill();
        // Whoever still holds a pipe now has left the group and is not waited for.
        let _ = tokio::time::timeout(LAST_BYTES, pipes.read()).await;
        let status = group.reap().await?;
        self.conclude(status, &pipes, took)
    }

    fn wind_down(&self) -> Duration {
        self.grace.saturating_add(ENDING)
    }

    fn check(&self) -> Vec<ArgsError> {
        // A program is looked for from the folder; where that is missing, its absence says nothing more.
        let place = match program::check_folder(&self.cwd) {
            Err(fault) if self.program.contains('/') && Path::new(&self.program).is_relative() => {
                [Some(fault), None]
            }
            folder => [folder.err(), self.locate().err()],
        };
        place.into_iter().flatten().chain(self.environment.missing()).collect()
    }
}

/// What a program printed and how long it took, as history keeps it, whether it succeeded or not.
fn shown(exit_code: Option<i32>, pipes: &Pipes, took: Duration) -> Output {
    json!({
        "exit_code": exit_code,
        "stdout": pipes.stdout(),
        "stderr": pipes.stderr(),
        "duration_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    })
}

fn ended_early(reason: CancelReason) -> JobError {
    JobError::retry(format!("ended by the scheduler: {}", reason.as_str()))
}

fn faults_of(args: &ExecArgs) -> Vec<ArgsError> {
    let mut faults = Vec::new();
    if args.program.trim().is_empty() {
        let what = if args.shell { "the script is empty" } else { "the program is empty" };
        faults.push(ArgsError::new("/program", what).with_help("say what to run"));
    }
    let words = args.args.iter().enumerate().map(|(index, word)| (format!("/args/{index}"), word.as_bytes()));
    let texts = std::iter::once(("/program".to_owned(), args.program.as_bytes())).chain(words);
    let folder = args.cwd.iter().map(|cwd| ("/cwd".to_owned(), cwd.as_os_str().as_encoded_bytes()));
    for (pointer, text) in texts.chain(folder) {
        if text.contains(&0) {
            let text = String::from_utf8_lossy(text);
            faults.push(ArgsError::new(pointer, format!("`{}` holds a NUL byte", text.escape_debug())));
        }
    }
    if args.cwd.as_ref().is_some_and(|cwd| cwd.as_os_str().is_empty()) {
        let help = "leave it out to run in the folder of the daemon";
        faults.push(ArgsError::new("/cwd", "the folder is empty").with_help(help));
    }
    if args.max_output > LARGEST_OUTPUT {
        let message = format!("{} bytes are more than history takes, {LARGEST_OUTPUT}", args.max_output);
        let help = "let the program write to a file";
        faults.push(ArgsError::new("/max_output", message).with_help(help));
    }
    faults.extend(args.exit_codes.faults());
    faults
}
