//! `scheduler drain`: before maintenance, lets what is under way end and keeps anything else from beginning, in a queue of
//! the durable tier or in the daemon of this configuration.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use scheduler_core::{Name, Pause, QueueDrained, Run, Timestamp};
use serde::Serialize;

use crate::asker::Asker;
use crate::command_line::duration;
use crate::data_dir::{self, Holder};
use crate::drain_wish::{Answer, Wish};
use crate::exit::Exit;
use crate::failure::{Failure, counted, waited_in_vain};
use crate::output::{self, OutputFlag};
use crate::outside;
use crate::relative::relative;
use crate::session::Session;
use crate::verb_queues::{replaced, unknown};

/// Why a queue is paused that is drained.
const WHY: &str = "drain";
/// How often it is looked whether a daemon has ended.
const GLANCE: Duration = Duration::from_millis(100);
/// Every how many of these looks it is asked whether it still lives although it has not answered.
const LIVES_EVERY: u32 = 20;

/// What to drain, and how long to wait.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["queue", "daemon"]))]
pub(crate) struct Flags {
    /// A queue: nothing more is taken from it, by any daemon, until `resume --queue`.
    #[arg(long, value_name = "QUEUE")]
    queue: Option<Name>,
    /// Only the queue of this backend; of every backend that has one unless given.
    #[arg(long, value_name = "BACKEND", requires = "queue")]
    backend: Option<Name>,
    /// The daemon on the data folder of this configuration: it takes and fires nothing more, and ends.
    #[arg(long)]
    daemon: bool,
    /// How long to wait for what is under way; as long as it takes unless given. A daemon cuts off what is left then.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// Why; it is shown to everybody who looks.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    reason: Option<String>,
    #[command(flatten)]
    asker: Asker,
    #[command(flatten)]
    output: OutputFlag,
}

#[derive(Serialize)]
struct OfQueue<'a> {
    queue: &'a Name,
    /// Whether nothing of it is under way any more.
    drained: bool,
    #[serde(flatten)]
    how: &'a QueueDrained,
    paused: &'a Pause,
    /// The pause of somebody else, in whose place this came.
    replaced: Option<&'a Pause>,
}

#[derive(Serialize)]
struct OfDaemon<'a> {
    /// Whether everything that was under way ended by itself.
    drained: bool,
    #[serde(flatten)]
    how: &'a Answer,
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    match &flags.queue {
        Some(queue) => drain_queue(session, flags, queue),
        None => drain_daemon(session, flags),
    }
}

fn drain_queue(session: &Session, flags: &Flags, queue: &Name) -> Result<Exit, Failure> {
    let why = flags.reason.as_ref().map_or(WHY.to_owned(), |reason| format!("{WHY}: {reason}"));
    let pause = Pause { by: flags.asker.name(), reason: Some(why), until: None };
    outside::open(session, async |outside| {
        outside.prepare()?;
        let which = (queue, flags.backend.as_ref());
        let replaced = replaced(outside, which, &pause, flags.output.format).await;
        let began = Instant::now();
        let drain = outside.scheduler.drain_queue(flags.backend.as_ref(), queue, &pause, flags.timeout);
        let how = match drain.await {
            Ok(how) => how,
            Err(error) if error.code() == "queue/drain_unknown" => {
                let is_over = flags.timeout.is_some_and(|timeout| began.elapsed() >= timeout);
                return Err(waited_in_vain(error, is_over));
            }
            Err(error) => return Err(unknown(error, which, outside).await),
        };
        let drained = how.running == 0;
        output::one(
            flags.output.format,
            &OfQueue { queue, drained, how: &how, paused: &pause, replaced: replaced.as_ref() },
            || match drained {
                true => {
                    let waiting = counted(how.waiting, "run");
                    format!(
                        "queue {queue} is drained, {waiting} waiting; `scheduler resume --queue {queue}` opens it\n"
                    )
                }
                false => format!("{}queue {queue} is paused and not drained yet\n", still(&how)),
            },
        )?;
        Ok(if drained { Exit::Done } else { Exit::TimedOut })
    })
}

/// What is still under way, line by line.
fn still(how: &QueueDrained) -> String {
    let now = Timestamp::from(std::time::SystemTime::now());
    let line = |run: &Run| {
        let since = run.started_at.map(|at| format!(", began {}", relative(at, now))).unwrap_or_default();
        format!("  {} of {}{since}\n", run.id, run.task)
    };
    let mut text = format!("{} still under way\n", counted(how.running, "run"));
    text.extend(how.still.iter().map(line));
    if how.still.len() < how.running {
        text.push_str(&format!("  and {} more\n", how.running - how.still.len()));
    }
    text
}

fn drain_daemon(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    let checked = session.load()?;
    let folder = &checked.settings.data_dir;
    let Some(holder) = data_dir::holder(folder)? else {
        let message = format!("no daemon runs on data_dir {}", folder.display());
        return Err(Failure::new(Exit::Unreachable, "daemon/not_running", message)
            .with_help("name its configuration, or its folder in SCHEDULER_SCHEDULER__DATA_DIR"));
    };
    let timeout_ms = flags.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    let (daemon, by, reason) = (holder.daemon.clone(), flags.asker.name(), flags.reason.clone());
    Wish { daemon, by, reason, timeout_ms }.tell(folder)?;
    let how = ended(folder, &holder)?;
    let drained = how.abandoned.is_empty();
    output::one(flags.output.format, &OfDaemon { drained, how: &how }, || {
        let Answer { finished, given_back, abandoned, .. } = &how;
        let cut_off: String = abandoned.iter().map(|run| format!("  {run} was cut off\n")).collect();
        let abandoned = abandoned.len();
        format!(
            "the daemon with process id {} has ended: {finished} finished, {given_back} given back, \
             {abandoned} abandoned\n{cut_off}",
            holder.pid
        )
    })?;
    Ok(if drained { Exit::Done } else { Exit::TimedOut })
}

/// Waits until a daemon has drained and ended.
fn ended(folder: &Path, holder: &Holder) -> Result<Answer, Failure> {
    let (mut looks, mut seen): (u32, Option<Answer>) = (0, None);
    loop {
        // The daemon that comes next may answer somebody else in its place.
        seen = seen.or_else(|| Answer::of(folder, holder));
        let answer = seen.as_ref();
        looks += 1;
        // The lock of a daemon that has not answered is seldom tried, so that it is in the way of no other.
        let is_over = (answer.is_some() || looks.is_multiple_of(LIVES_EVERY))
            && data_dir::holder(folder)?.as_ref() != Some(holder);
        match (answer, is_over) {
            (Some(answer), true) => return Ok(answer.clone()),
            // It may have answered since.
            (None, true) => {
                return Answer::of(folder, holder).ok_or_else(|| {
                    let pid = holder.pid;
                    let message = format!("the daemon with process id {pid} ended without an answer");
                    Failure::new(Exit::Findings, "daemon/no_answer", message)
                        .with_help("its log says how it ended")
                });
            }
            (_, false) => std::thread::sleep(GLANCE),
        }
    }
}
