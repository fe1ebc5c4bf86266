//! `scheduler enqueue`: asks for runs of tasks, or of jobs that may run without one, whether a daemon runs or not.

use clap::Args;
use scheduler_core::{Adhoc, Order, Timestamp};
use serde_json::Value;

use crate::asked::{RequestFlags, WaitFlags, ask};
use crate::enqueue_lines::{self, Lines};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::OutputFlag;
use crate::outside::{self, Outside};
use crate::session::Session;
use crate::suggest::suggestion;

/// What is to run, and how.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// A task, or a job that may run without one.
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    name: Option<String>,
    /// The args of the job, as a JSON object.
    #[arg(long, value_name = "JSON", value_parser = object, conflicts_with = "file")]
    args: Option<Value>,
    /// Many runs at once, all or none: a JSON object a line, with `task` or `job`, and `args`, `params`, `at`,
    /// `key`, `priority`, `queue`, `unique` as needed; `-` reads them from stdin.
    #[arg(long, visible_alias = "from", value_name = "FILE",
          conflicts_with_all = ["params", "key", "at", "after", "priority", "queue", "unique", "unique_by",
                                "unique_for", "unique_until", "wait", "timeout"])]
    file: Option<std::path::PathBuf>,
    #[command(flatten)]
    request: RequestFlags,
    #[command(flatten)]
    wait: WaitFlags,
    #[command(flatten)]
    output: OutputFlag,
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    // Read before anything is opened: it may be a person who types them.
    let lines = flags.file.as_deref().map(Lines::read).transpose()?;
    outside::open(session, async |outside| {
        outside.scheduler.define_all(outside.checked.tasks.iter().map(|task| task.task.clone())).await?;
        match &lines {
            Some(lines) => enqueue_lines::enqueue(outside, lines, flags.output).await,
            None => ask(outside, flags.order(outside)?, &flags.wait, flags.output).await,
        }
    })
}

impl Flags {
    fn order(&self, outside: &Outside) -> Result<Order, Failure> {
        let name = self.name.as_deref().unwrap_or_default();
        let request = self.request.request(Timestamp::from(std::time::SystemTime::now()));
        let task = outside.checked.tasks.iter().find(|task| task.task.name == *name);
        match (task, &self.args) {
            (Some(task), None) => Ok(Order::Task(task.task.name.clone(), request)),
            (Some(_), Some(_)) => Err(args_of_a_task(name)),
            (None, args) => {
                let job = outside.checked.registry.job(name).map_err(|_| unknown(outside, name))?;
                Ok(Order::Job(Adhoc::new(job.name().clone(), args.clone().unwrap_or_default()), request))
            }
        }
    }
}

/// What is answered about args for a task, which has its own.
pub(crate) fn args_of_a_task(task: &str) -> Failure {
    let message = format!("task `{task}` has its args from the configuration");
    Failure::new(Exit::Usage, "enqueue/args_of_task", message).with_help(
        "give what differs from run to run as parameters: --param KEY=VALUE, or `params` in a line",
    )
}

/// What is answered about a name that is neither a task nor a job.
fn unknown(outside: &Outside, name: &str) -> Failure {
    let tasks = outside.checked.tasks.iter().map(|task| task.task.name.as_str());
    let jobs = outside.checked.registry.jobs().filter(|job| job.item.is_adhoc());
    let known: Vec<&str> = tasks.chain(jobs.map(|job| job.item.name().as_str())).collect();
    let message = format!("there is no task or job `{}`", name.escape_debug());
    Failure::new(Exit::NotFound, "task/unknown", message).with_help(suggestion(
        name,
        "tasks, and jobs that may run without one",
        &known,
    ))
}

fn object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(Value::Object(object)),
        Ok(_) => Err("write a JSON object, such as {\"program\":\"true\"}".to_owned()),
        Err(error) => Err(format!("no JSON: {error}")),
    }
}
