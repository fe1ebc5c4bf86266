//! `scheduler dlq discard`, and what `dlq replay` has in common with it: which letters leave, one by one or by a filter.
//!
//! Letters that are named are settled at once. A filter may catch more than its author thinks, so it wants a
//! confirmation, and leaves alone what is held.

use std::io::{IsTerminal, Write};

use clap::Args;
use scheduler_core::{CanaryVerdict, DeadLetter, HeldLetters, Name, Replayed, RunId};
use serde::Serialize;

use crate::dlq_list::letters;
use crate::exit::Exit;
use crate::failure::{Failure, counted};
use crate::output::{self, Format, OutputFlag};
use crate::outside::Outside;
use crate::verb_dlq::no_letter;

/// How many letters are settled in one step.
const STEP: usize = 500;

/// Which letters.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The runs that failed.
    #[arg(value_name = "RUN", required_unless_present_any = ["task", "error", "all"],
          conflicts_with_all = ["task", "error", "all"])]
    pub(crate) runs: Vec<RunId>,
    /// All of this task, unless they are held.
    #[arg(long, value_name = "TASK")]
    task: Option<Name>,
    /// All of this group, unless they are held: its error as `dlq list --group` shows it.
    #[arg(long, value_name = "PATTERN")]
    error: Option<String>,
    /// All, unless they are held.
    #[arg(long, conflicts_with_all = ["task", "error"])]
    all: bool,
    /// Only shows what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Does without asking what --task, --error and --all want a confirmation for.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    pub(crate) output: OutputFlag,
}

/// What became of the letters.
#[derive(Serialize)]
struct Report {
    dry_run: bool,
    /// What the canaries told, if some went first.
    #[serde(skip_serializing_if = "Option::is_none")]
    canary: Option<CanaryVerdict>,
    /// How many were settled, or would be.
    settled: usize,
    /// How many were not.
    refused: usize,
    letters: Vec<Settled>,
}

#[derive(Serialize)]
pub(crate) struct Settled {
    run_id: RunId,
    pub(crate) result: Settlement,
    /// The new run of one that was replayed.
    new_run_id: Option<RunId>,
}

/// What became of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Settlement {
    Replayed,
    Discarded,
    /// It would be settled.
    Chosen,
    /// It was left alone, because the canaries did not succeed.
    Left,
    Unknown,
    Held,
    Unreadable,
}

impl Settlement {
    pub(crate) fn is_refusal(self) -> bool {
        matches!(self, Self::Left | Self::Unknown | Self::Held | Self::Unreadable)
    }
}

pub(crate) async fn discard(outside: &Outside, flags: &Flags) -> Result<Exit, Failure> {
    let Some(chosen) = flags.choose(outside, "discard", false).await? else { return Ok(Exit::Done) };
    // Who names a letter means it; what a filter caught may have been held meanwhile.
    let held = if flags.runs.is_empty() { HeldLetters::Stay } else { HeldLetters::Leave };
    let mut settled = Vec::new();
    for runs in chosen.chunks(STEP) {
        let answers = outside.scheduler.discard(runs, held).await?;
        for (run, has_left) in runs.iter().zip(answers) {
            let result = match has_left {
                true => Settlement::Discarded,
                false => foreseen(outside.letter(*run).await?, true),
            };
            settled.push(Settled::new(*run, result, None));
        }
    }
    flags.report(outside, settled, "discarded").await
}

impl Settled {
    pub(crate) fn new(run_id: RunId, result: Settlement, new_run_id: Option<RunId>) -> Self {
        Self { run_id, result, new_run_id }
    }

    /// What became of a letter that was to be replayed.
    pub(crate) fn replayed(run: RunId, answer: Replayed) -> Self {
        match answer {
            Replayed::As(new) => Self::new(run, Settlement::Replayed, Some(new)),
            Replayed::Unknown => Self::new(run, Settlement::Unknown, None),
            Replayed::Held => Self::new(run, Settlement::Held, None),
            Replayed::Unreadable => Self::new(run, Settlement::Unreadable, None),
        }
    }
}

impl Flags {
    /// The letters to settle; `None` when it was only to be shown which. `minds_hold` says whether a letter that
    /// is named is refused while it is held.
    pub(crate) async fn choose(
        &self,
        outside: &Outside,
        verb: &str,
        minds_hold: bool,
    ) -> Result<Option<Vec<RunId>>, Failure> {
        if !self.runs.is_empty() {
            if self.dry_run {
                let mut shown = Vec::new();
                for run in &self.runs {
                    shown.push(Settled::new(*run, foreseen(outside.letter(*run).await?, minds_hold), None));
                }
                self.print(shown, None, &format!("would {verb}"))?;
                return Ok(None);
            }
            return Ok(Some(self.runs.clone()));
        }
        let is_meant = |letter: &DeadLetter| {
            letter.held.is_none() && self.error.as_ref().is_none_or(|error| *error == letter.error_pattern())
        };
        let mut meant = letters(outside, self.task.as_ref(), usize::MAX).await?;
        meant.retain(is_meant);
        if self.dry_run {
            let shown = |letter: DeadLetter| {
                let run = letter.run.id;
                Settled::new(run, foreseen(Some(letter), minds_hold), None)
            };
            self.print(meant.into_iter().map(shown).collect(), None, &format!("would {verb}"))?;
            return Ok(None);
        }
        self.confirm(verb, meant.len())?;
        Ok(Some(meant.into_iter().map(|letter| letter.run.id).collect()))
    }

    fn confirm(&self, verb: &str, number: usize) -> Result<(), Failure> {
        if self.yes || number == 0 {
            return Ok(());
        }
        let letters = counted(number, "dead letter");
        let unconfirmed = |message: String| Failure::new(Exit::Usage, "dlq/unconfirmed", message);
        let is_asked = self.output.format == Format::Table
            && std::io::stdin().is_terminal()
            && std::io::stderr().is_terminal();
        if !is_asked {
            return Err(unconfirmed(format!("this would {verb} {letters}"))
                .with_help("add --yes to do it, or --dry-run to see which"));
        }
        eprint!("{verb} {letters}? type {number} to go on: ");
        // Without a stderr the question is not seen, and nothing happens.
        let _ = std::io::stderr().flush();
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        if read.is_ok() && answer.trim() == number.to_string() {
            return Ok(());
        }
        Err(unconfirmed(format!("nothing was done: the answer was not {number}")))
    }

    pub(crate) async fn report(
        &self,
        outside: &Outside,
        settled: Vec<Settled>,
        done: &str,
    ) -> Result<Exit, Failure> {
        if let [only] = settled.as_slice()
            && let Some(failure) = only.refusal(outside).await
        {
            return Err(failure);
        }
        let has_refusals = settled.iter().any(|settled| settled.result.is_refusal());
        self.print(settled, None, done)?;
        Ok(if has_refusals { Exit::PartOfBulk } else { Exit::Done })
    }

    pub(crate) fn print(
        &self,
        letters: Vec<Settled>,
        canary: Option<CanaryVerdict>,
        done: &str,
    ) -> Result<(), Failure> {
        let refused = letters.iter().filter(|settled| settled.result.is_refusal()).count();
        let settled = letters.len() - refused;
        let report = Report { dry_run: self.dry_run, canary, settled, refused, letters };
        output::one(self.output.format, &report, || {
            let lines: String = report.letters.iter().map(Settled::line).collect();
            let refused = match refused {
                0 => String::new(),
                refused => format!(", {refused} not"),
            };
            format!("{lines}{done} {}{refused}\n", counted(settled, "dead letter"))
        })
    }
}

/// What would become of a letter.
fn foreseen(letter: Option<DeadLetter>, minds_hold: bool) -> Settlement {
    match letter {
        None => Settlement::Unknown,
        Some(letter) if minds_hold && letter.held.is_some() => Settlement::Held,
        Some(letter) if minds_hold && letter.unreadable.is_some() => Settlement::Unreadable,
        Some(_) => Settlement::Chosen,
    }
}

impl Settled {
    /// Why the only letter that was named was not settled.
    async fn refusal(&self, outside: &Outside) -> Option<Failure> {
        let run = self.run_id;
        match self.result {
            Settlement::Replayed | Settlement::Discarded | Settlement::Chosen | Settlement::Left => None,
            Settlement::Unknown => Some(no_letter(outside, run).await),
            Settlement::Held => Some(
                Failure::new(Exit::Conflict, "dlq/held", format!("the dead letter of run {run} is held"))
                    .with_help(format!("`scheduler dlq show {run}` says why, `scheduler dlq release {run}` lets it go")),
            ),
            Settlement::Unreadable => Some(
                Failure::new(
                    Exit::Conflict,
                    "dlq/unreadable",
                    format!("what was stored for run {run} cannot be read, so it cannot run again"),
                )
                .with_help(format!(
                    "`scheduler dlq show {run}` shows what was stored, `scheduler dlq discard {run}` removes it"
                )),
            ),
        }
    }

    fn line(&self) -> String {
        let run = self.run_id;
        match (self.result, self.new_run_id) {
            (_, Some(new)) => format!("{run} runs again as {new}\n"),
            (Settlement::Replayed | Settlement::Discarded | Settlement::Chosen, None) => format!("{run}\n"),
            (Settlement::Left, None) => format!("{run} was left alone\n"),
            (Settlement::Unknown, None) => format!("{run} is no dead letter\n"),
            (Settlement::Held, None) => format!("{run} is held\n"),
            (Settlement::Unreadable, None) => format!("{run} cannot be read\n"),
        }
    }
}
