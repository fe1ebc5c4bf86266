//! Where letters go that were given up: a file of JSON lines, or a URL.
//!
//! A letter leaves the dead letters only when it is safe in the archive, and unless somebody has held it by then.
//! Between the two the process may be killed: a file gets no letter twice all the same (see
//! [`Writer`]), and a URL gets such a letter again, with the same `Idempotency-Key`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use scheduler_core::{
    DeadLetter, DeadLetterFilter, Error, HeldLetters, Result, RunContext, RunId, Scheduler, Timestamp,
};
use serde::Serialize;

use crate::dead_letter_file::Writer;
use crate::dead_letter_survey::Chosen;
use crate::http::Http;
use crate::http_args::HttpArgs;
use crate::text_or_secret::TextOrSecret;

/// The version of what stands in a line.
const SCHEMA_VERSION: u32 = 1;

/// How many letters are written in one step.
const STEP: usize = 50;

const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// Where letters go.
#[derive(Debug)]
pub(crate) enum Archive {
    File(PathBuf),
    /// The request as args, to which the letter is added, and the same request to be checked.
    Url(Box<HttpArgs>, Box<Http>),
}

/// What became of a letter that was to be archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Archived {
    Safe,
    Held,
    Gone,
}

/// A letter as the archive has it.
#[derive(Serialize)]
pub(crate) struct Line<'a> {
    schema_version: u32,
    run_id: RunId,
    archived_at: Timestamp,
    class: &'a str,
    replays: u32,
    letter: &'a DeadLetter,
}

impl Archive {
    /// Moves letters here; `done` hears of each that was dealt with.
    ///
    /// # Errors
    /// `dead_letters/not_archived`, when one could not be written: it and those behind it stay where they are.
    /// Those of the backends and of the state.
    pub(crate) async fn take(
        &self,
        ctx: &RunContext,
        scheduler: &Scheduler,
        chosen: &[Chosen],
        mut done: impl FnMut(&Chosen, Archived) + Send,
    ) -> Result<()> {
        match self {
            Self::File(path) => {
                let file = Writer::open(path).await?;
                file.recover(ctx, scheduler).await?;
                for some in chosen.chunks(STEP) {
                    let found = free(scheduler, some).await?;
                    let held = file.write(ctx, scheduler, &found).await?;
                    some.iter().zip(&found).for_each(|(chosen, found)| done(chosen, found.answer(&held)));
                }
                file.finish(ctx).await
            }
            Self::Url(args, _) => {
                for chosen in chosen {
                    let found = free(scheduler, std::slice::from_ref(chosen)).await?.remove(0);
                    let mut held = BTreeSet::new();
                    if let Found::Free(_, letter) = &found {
                        send(args, ctx, &line(ctx, chosen, letter)).await?;
                        held = let_go(scheduler, &[chosen.run]).await?;
                    }
                    done(chosen, found.answer(&held));
                }
                Ok(())
            }
        }
    }
}

/// A letter that was to be archived, looked at again.
pub(crate) enum Found<'a> {
    Free(&'a Chosen, Box<DeadLetter>),
    Held,
    Gone,
}

impl Found<'_> {
    /// What became of it, when these were held before they could leave.
    fn answer(&self, held: &BTreeSet<RunId>) -> Archived {
        match self {
            Self::Free(chosen, _) if held.contains(&chosen.run) => Archived::Held,
            Self::Free(..) => Archived::Safe,
            Self::Held => Archived::Held,
            Self::Gone => Archived::Gone,
        }
    }
}

/// The letters as they are now: a person may have been faster.
async fn free<'a>(scheduler: &Scheduler, chosen: &'a [Chosen]) -> Result<Vec<Found<'a>>> {
    let mut found = Vec::with_capacity(chosen.len());
    for chosen in chosen {
        let page = scheduler.letters(&DeadLetterFilter::of_run(chosen.run)).await?;
        found.push(match page.letters.into_iter().next() {
            None => Found::Gone,
            Some(letter) if letter.held.is_some() => Found::Held,
            Some(letter) => Found::Free(chosen, Box::new(letter)),
        });
    }
    Ok(found)
}

/// Takes letters away that are safe in the archive; answers which of them somebody has held meanwhile.
pub(crate) async fn let_go(scheduler: &Scheduler, runs: &[RunId]) -> Result<BTreeSet<RunId>> {
    let left = scheduler.discard(runs, HeldLetters::Stay).await?;
    let mut held = BTreeSet::new();
    for (run, _) in runs.iter().zip(left).filter(|(_, has_left)| !has_left) {
        if !scheduler.letters(&DeadLetterFilter::of_run(*run)).await?.letters.is_empty() {
            held.insert(*run);
        }
    }
    Ok(held)
}

pub(crate) fn line<'a>(ctx: &RunContext, chosen: &'a Chosen, letter: &'a DeadLetter) -> Line<'a> {
    let archived_at = ctx.clock().now();
    let (run_id, class, replays) = (chosen.run, chosen.class.as_str(), chosen.count);
    Line { schema_version: SCHEMA_VERSION, run_id, archived_at, class, replays, letter }
}

async fn send(args: &HttpArgs, ctx: &RunContext, line: &Line<'_>) -> Result<()> {
    let not_sent = |cause: &dyn std::fmt::Display| {
        let message = format!("dead letter {} was not archived: {cause}", line.run_id);
        Error::unavailable("dead_letters/not_archived", message)
    };
    let mut args = args.clone();
    args.json = Some(serde_json::to_value(line).map_err(|error| not_sent(&error))?);
    let has_key = args.headers.keys().any(|name| name.eq_ignore_ascii_case(IDEMPOTENCY_KEY));
    if !has_key {
        args.headers.insert(IDEMPOTENCY_KEY.to_owned(), TextOrSecret::Text(line.run_id.to_string()));
    }
    let http = Http::new(args).map_err(|faults| match faults.first() {
        Some(fault) => not_sent(fault),
        None => not_sent(&"the request is not accepted"),
    })?;
    let answer = http.exchange(ctx).await.map_err(|error| not_sent(&error))?;
    http.fault_in(&answer).map_or(Ok(()), |fault| Err(not_sent(&fault)))
}
