//! `scheduler queues`, `pause` and `resume`: how the queues of the durable tier stand, and which of them rest. It acts on
//! the store, whether a daemon runs or not.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use scheduler_core::{BackendQueue, Error, ErrorKind, Name, Pause, Timestamp};
use serde::Serialize;

use crate::asker::Asker;
use crate::command_line::duration;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::origin::printable;
use crate::output::{self, Format, OutputFlag};
use crate::outside::{self, Outside};
use crate::relative::relative;
use crate::session::Session;
use crate::suggest::suggestion;
use crate::table::table;

/// How to show them.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    output: OutputFlag,
}

/// Which queue, why, and until when.
#[derive(Debug, Args)]
pub(crate) struct PauseFlags {
    #[command(flatten)]
    which: Which,
    /// Why; it is shown to everybody who looks.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    reason: Option<String>,
    #[command(flatten)]
    asker: Asker,
    /// When it ends by itself, in RFC 3339; only `resume` ends it unless given.
    #[arg(long = "until", value_name = "TIME")]
    until_when: Option<Timestamp>,
    /// How long it lasts, such as 1h.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, conflicts_with = "until_when")]
    length: Option<Duration>,
    #[command(flatten)]
    output: OutputFlag,
}

/// Which queue.
#[derive(Debug, Args)]
pub(crate) struct ResumeFlags {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    output: OutputFlag,
}

#[derive(Debug, Args)]
struct Which {
    /// The queue.
    #[arg(long, value_name = "QUEUE")]
    queue: Name,
    /// Only that of this backend; of every backend that has one unless given.
    #[arg(long, value_name = "BACKEND")]
    backend: Option<Name>,
}

#[derive(Serialize)]
struct Report<'a> {
    queue: &'a Name,
    /// Where it is paused, or was until now.
    backends: Vec<Name>,
    paused: Option<&'a Pause>,
    /// The pause of somebody else, in whose place this came.
    replaced: Option<&'a Pause>,
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    outside::open(session, async |outside| {
        let queues = outside.scheduler.queues().await?;
        let now = Timestamp::from(std::time::SystemTime::now());
        output::many(flags.output.format, "queues", &queues, || {
            let header = ["QUEUE", "BACKEND", "WEIGHT", "WAITING", "OLDEST", "RUNNING", "LIMITS", "STATE"];
            table(&header, 7, queues.iter().map(|queue| cells(queue, now)))
        })?;
        Ok(Exit::Done)
    })
}

fn cells(BackendQueue { backend, status, .. }: &BackendQueue, now: Timestamp) -> Vec<String> {
    let dash = || "-".to_owned();
    vec![
        status.queue.to_string(),
        backend.to_string(),
        status.weight.map_or_else(|| "not here".to_owned(), |weight| weight.to_string()),
        status.waiting.to_string(),
        status.oldest.map_or_else(dash, |oldest| relative(oldest, now)),
        status.running.to_string(),
        if status.limits.is_empty() { dash() } else { status.limits.join("; ") },
        status.paused.as_ref().map_or_else(dash, |pause| said(pause, now)),
    ]
}

/// That it is paused, by whom, until when and why.
fn said(pause: &Pause, now: Timestamp) -> String {
    let by = pause.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let over = pause.until.map(|until| format!(", over {}", relative(until, now))).unwrap_or_default();
    let reason = pause.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("paused{by}{over}{reason}")
}

pub(crate) fn pause(session: &Session, flags: &PauseFlags) -> Result<Exit, Failure> {
    let now = Timestamp::from(std::time::SystemTime::now());
    let length = flags.length;
    let refused = match (flags.until_when, length) {
        (Some(until), _) if until <= now => Some((format!("until {until}"), "name a time to come")),
        (_, Some(length)) if length.is_zero() => Some(("of 0s".to_owned(), "write --for 1h, for example")),
        _ => None,
    };
    if let Some((which, help)) = refused {
        let message = format!("a pause {which} is over already");
        return Err(Failure::new(Exit::Usage, "usage", message).with_help(help));
    }
    let mut pause = Pause::default();
    (pause.by, pause.reason, pause.until) = (flags.asker.name(), flags.reason.clone(), flags.until_when);
    let Which { queue, backend } = &flags.which;
    outside::open(session, async |outside| {
        outside.prepare()?;
        let replaced = replaced(outside, flags.which.pair(), &pause, flags.output.format).await;
        // How long it lasts is counted by the clock that ends it.
        let scheduler = &outside.scheduler;
        let paused = match scheduler.pause_queue(backend.as_ref(), queue, &pause, length).await {
            Ok(paused) => paused,
            Err(error) => return Err(unknown(error, flags.which.pair(), outside).await),
        };
        let kept = paused.first().map_or(&pause, |(_, kept)| kept);
        let backends = paused.iter().map(|(backend, _)| backend.clone()).collect();
        output::one(
            flags.output.format,
            &Report { queue, backends, paused: Some(kept), replaced: replaced.as_ref() },
            || format!("queue {queue} is {}; runs under way go on\n", said(kept, now)),
        )?;
        Ok(Exit::Done)
    })
}

pub(crate) fn resume(session: &Session, flags: &ResumeFlags) -> Result<Exit, Failure> {
    let Which { queue, backend } = &flags.which;
    outside::open(session, async |outside| {
        let backends = match outside.scheduler.resume_queue(backend.as_ref(), queue).await {
            Ok(backends) => backends,
            Err(error) => return Err(unknown(error, flags.which.pair(), outside).await),
        };
        let was_paused = !backends.is_empty();
        output::one(flags.output.format, &Report { queue, backends, paused: None, replaced: None }, || {
            match was_paused {
                true => format!("queue {queue} is paused no more\n"),
                false => format!("queue {queue} was not paused\n"),
            }
        })?;
        Ok(Exit::Done)
    })
}

/// The pause of somebody else, or for another reason, in whose place one comes. It is gone with that, so it is said.
pub(crate) async fn replaced(
    outside: &Outside,
    (queue, backend): (&Name, Option<&Name>),
    pause: &Pause,
    format: Format,
) -> Option<Pause> {
    // What does not answer does not pause either.
    let queues = outside.scheduler.queues().await.ok()?;
    let is_meant = |other: &BackendQueue| {
        other.status.queue == *queue && backend.is_none_or(|backend| other.backend == *backend)
    };
    let before = queues.into_iter().filter(is_meant).find_map(|queue| queue.status.paused)?;
    if (&before.by, &before.reason) == (&pause.by, &pause.reason) {
        return None;
    }
    if format == Format::Table {
        let now = Timestamp::from(std::time::SystemTime::now());
        eprintln!(
            "queue {queue} was {}; this takes its place, and `scheduler resume` ends it",
            printable(&said(&before, now))
        );
    }
    Some(before)
}

impl Which {
    fn pair(&self) -> (&Name, Option<&Name>) {
        (&self.queue, self.backend.as_ref())
    }
}

/// The failure of what was asked of a queue; of a queue or a backend that nobody has it tells those that there are.
pub(crate) async fn unknown(
    error: Error,
    (queue, backend): (&Name, Option<&Name>),
    outside: &Outside,
) -> Failure {
    let (is_unknown, is_other) = (error.kind() == ErrorKind::NotFound, error.code() == "backend/no_queues");
    let failure = Failure::from(error);
    if !is_unknown && !is_other {
        return failure;
    }
    let Ok(queues) = outside.scheduler.queues().await else { return failure };
    if is_unknown {
        let known: Vec<&str> = queues.iter().map(|queue| queue.status.queue.as_str()).collect();
        return failure.with_help(suggestion(queue.as_str(), "queues", &known));
    }
    let known: BTreeSet<&str> = queues.iter().map(|queue| queue.backend.as_str()).collect();
    let known: Vec<&str> = known.into_iter().collect();
    let Some(backend) = backend else { return failure };
    let help = suggestion(backend.as_str(), "backends with queues", &known);
    match outside.tier(backend) {
        Some(_) => failure.with_help(help),
        None => Failure::new(Exit::NotFound, "backend/unknown", format!("there is no backend `{backend}`"))
            .with_help(help),
    }
}
