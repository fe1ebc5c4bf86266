//! The verbs and their flags.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind as ClapError;
use clap::{CommandFactory, Parser, Subcommand};
use scheduler_core::Registry;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Format;
use crate::session::{DEFAULT_CONFIG, Session};
#[cfg(all(feature = "builtin-jobs", feature = "queue-sqlite"))]
use crate::verb_metrics;
#[cfg(feature = "workflow-prefect")]
use crate::verb_workflow;
use crate::{
    verb_backends, verb_cancel, verb_check, verb_classify, verb_completions, verb_config, verb_dlq,
    verb_drain, verb_enqueue, verb_exec, verb_explain, verb_history, verb_init, verb_jobs, verb_list,
    verb_logs, verb_next, verb_plan, verb_queues, verb_run, verb_show, verb_trigger, verb_version,
};

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 findings or a run that did not succeed, 2 wrong command line or configuration,
3 a daemon or backend cannot be reached, 4 not found, 5 the state of things forbids it, 6 part of several
failed, 124 waited in vain.";

/// Runs tasks where they belong: in this process, in a durable queue, or in a workflow engine.
#[derive(Debug, Parser)]
#[command(name = "scheduler", version, after_help = EXIT_CODES)]
struct CommandLine {
    /// The configuration, TOML or YAML by its ending.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "SCHEDULER_CONFIG",
        default_value = DEFAULT_CONFIG
    )]
    config: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Writes a first configuration and its schema.
    Init(verb_init::Flags),
    /// Runs the tasks until it is told to stop.
    Run(verb_run::Flags),
    /// Looks for faults of the configuration without running anything.
    Check(verb_check::Flags),
    /// Says where a task runs, why, and what would change that.
    Explain(verb_explain::Flags),
    /// Says which tier a task of such characteristics belongs on.
    Classify(verb_classify::Flags),
    /// Lists the tasks with their last and next run.
    List(verb_list::Flags),
    /// Shows what would change outside of this process, such as the schedules of a workflow engine.
    Plan(verb_plan::Flags),
    /// Shows when a task or a cron expression fires.
    Next(verb_next::Flags),
    /// Runs a task once, here and now.
    Exec(verb_exec::Flags),
    /// Asks for a run of a task that a durable tier keeps.
    Trigger(verb_trigger::Flags),
    /// Asks for runs of tasks, or of jobs that may run without one; many at once from a file.
    Enqueue(verb_enqueue::Flags),
    /// Shows runs, the newest first.
    History(verb_history::Flags),
    /// Shows everything that is known about a run.
    Show(verb_show::Flags),
    /// Shows what a run logged, where its backend keeps that.
    Logs(verb_logs::Flags),
    /// Shows the numbers that the job `metrics_collection` keeps.
    #[cfg(all(feature = "builtin-jobs", feature = "queue-sqlite"))]
    Metrics(verb_metrics::Flags),
    /// Ends a run that a durable tier keeps.
    Cancel(verb_cancel::Flags),
    /// Lists the queues of the durable tier: what waits in them, what runs, and which are paused.
    Queues(verb_queues::Flags),
    /// Keeps runs of a queue from being taken, in every process.
    Pause(verb_queues::PauseFlags),
    /// Lets runs of a queue be taken again.
    Resume(verb_queues::ResumeFlags),
    /// Lets what is under way end, in a queue or in the daemon, and keeps anything else from beginning.
    Drain(verb_drain::Flags),
    /// Looks after dead letters: runs that failed for good and are kept.
    Dlq(verb_dlq::Flags),
    /// Shows the configuration and where each value comes from, or the schema of one.
    Config(verb_config::Flags),
    /// Prepares a machine of a workflow engine to run tasks.
    #[cfg(feature = "workflow-prefect")]
    Workflow(verb_workflow::Flags),
    /// Lists the kinds of backends that this program knows.
    Backends(verb_backends::Flags),
    /// Lists the jobs that this program knows.
    Jobs(verb_jobs::Flags),
    /// Prints what a shell needs to complete the command line.
    Completions(verb_completions::Flags),
    /// Shows the version and what is compiled in.
    Version(verb_version::Flags),
}

/// Does what the command line asks for.
pub(crate) fn execute(registry: Registry, arguments: Vec<OsString>) -> ExitCode {
    let format = asked_format(&arguments);
    let answer = match CommandLine::try_parse_from(arguments) {
        Ok(CommandLine { config, verb }) => verb.execute(&Session { registry, config }),
        Err(error) => unparsed(&error, format),
    };
    answer
        .unwrap_or_else(|failure| {
            failure.print(format);
            failure.exit
        })
        .into()
}

impl Verb {
    fn execute(self, session: &Session) -> Result<Exit, Failure> {
        match self {
            Self::Init(flags) => verb_init::execute(session, &flags),
            Self::Run(flags) => verb_run::execute(session, &flags),
            Self::Check(flags) => verb_check::execute(session, &flags),
            Self::Explain(flags) => verb_explain::execute(session, &flags),
            Self::Classify(flags) => verb_classify::execute(&flags),
            Self::List(flags) => verb_list::execute(session, &flags),
            Self::Plan(flags) => verb_plan::execute(session, &flags),
            Self::Next(flags) => verb_next::execute(session, &flags),
            Self::Exec(flags) => verb_exec::execute(session, &flags),
            Self::Trigger(flags) => verb_trigger::execute(session, &flags),
            Self::Enqueue(flags) => verb_enqueue::execute(session, &flags),
            Self::History(flags) => verb_history::execute(session, &flags),
            Self::Show(flags) => verb_show::execute(session, &flags),
            Self::Logs(flags) => verb_logs::execute(session, &flags),
            #[cfg(all(feature = "builtin-jobs", feature = "queue-sqlite"))]
            Self::Metrics(flags) => verb_metrics::execute(session, &flags),
            Self::Cancel(flags) => verb_cancel::execute(session, &flags),
            Self::Queues(flags) => verb_queues::execute(session, &flags),
            Self::Pause(flags) => verb_queues::pause(session, &flags),
            Self::Resume(flags) => verb_queues::resume(session, &flags),
            Self::Drain(flags) => verb_drain::execute(session, &flags),
            Self::Dlq(flags) => verb_dlq::execute(session, &flags),
            Self::Config(flags) => verb_config::execute(session, &flags),
            #[cfg(feature = "workflow-prefect")]
            Self::Workflow(flags) => verb_workflow::execute(session, &flags),
            Self::Backends(flags) => verb_backends::execute(session, &flags),
            Self::Jobs(flags) => verb_jobs::execute(session, &flags),
            Self::Completions(flags) => verb_completions::execute(&flags, CommandLine::command()),
            Self::Version(flags) => verb_version::execute(session, &flags),
        }
    }
}

/// Help and versions are answers; everything else that clap says is a wrong command line.
fn unparsed(error: &clap::Error, format: Format) -> Result<Exit, Failure> {
    let is_answer = matches!(error.kind(), ClapError::DisplayHelp | ClapError::DisplayVersion);
    if is_answer || format == Format::Table {
        // Nobody reads on who closed the stream.
        let _ = error.print();
        let _ = std::io::stdout().flush();
        return Ok(if is_answer { Exit::Done } else { Exit::Usage });
    }
    let text = error.to_string();
    let message = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
    Err(Failure::new(Exit::Usage, "usage", message))
}

/// The format that a command line asks for, also when the rest of it makes no sense.
pub(crate) fn asked_format(arguments: &[OsString]) -> Format {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let named = words.iter().enumerate().find_map(|(index, word)| match *word {
        "-o" | "--output" => words.get(index + 1).copied(),
        _ => word.strip_prefix("--output=").or_else(|| word.strip_prefix("-o")),
    });
    match named.map(|name| name.trim_start_matches('=')) {
        Some("json") => Format::Json,
        Some("jsonl") => Format::Jsonl,
        _ => Format::Table,
    }
}

/// A parser for one of several words; clap lists them when another is given.
pub(crate) fn word<T>(
    words: impl Iterator<Item = &'static str>,
) -> impl clap::builder::TypedValueParser<Value = T>
where
    T: std::str::FromStr<Err = scheduler_core::Error> + Clone + Send + Sync + 'static,
{
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(words).try_map(|word| word.parse::<T>())
}

/// Reads a duration of the command line; what is none learns how one is written.
pub(crate) fn duration(text: &str) -> Result<std::time::Duration, String> {
    scheduler_core::parse_duration(text)
        .map_err(|error| format!("{error}; {}", scheduler_core::DURATION_FORMS))
}
