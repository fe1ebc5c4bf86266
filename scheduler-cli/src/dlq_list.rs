//! `scheduler dlq list`: the dead letters one by one, or grouped by what they say.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use scheduler_core::{DeadLetter, DeadLetterFilter, Name, RunFilter, RunId, Timestamp};
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::outside::Outside;
use crate::relative::relative;
use crate::suggest::suggestion;
use crate::table::table;

/// How many letters are read at a time.
const PAGE: usize = 1_000;

/// Which to list, and how.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Only those of this task.
    #[arg(long, value_name = "TASK")]
    task: Option<Name>,
    /// Groups them by their error, whatever numbers it names.
    #[arg(long)]
    group: bool,
    /// How many at most.
    #[arg(short = 'n', value_name = "COUNT", default_value_t = 100)]
    count: usize,
    #[command(flatten)]
    output: OutputFlag,
}

/// A letter, with the group it belongs to.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    letter: &'a DeadLetter,
    error_pattern: String,
}

/// Letters that say the same.
#[derive(Serialize)]
struct Group<'a> {
    error_pattern: String,
    letters: usize,
    held: usize,
    tasks: BTreeSet<&'a Name>,
    first_died_at: Timestamp,
    last_died_at: Timestamp,
    /// The newest of them.
    example: RunId,
}

pub(crate) async fn list(outside: &Outside, flags: &Flags) -> Result<Exit, Failure> {
    let most = if flags.group { usize::MAX } else { flags.count };
    let letters = letters(outside, flags.task.as_ref(), most).await?;
    let now = Timestamp::from(std::time::SystemTime::now());
    if flags.group {
        let mut groups = grouped(&letters);
        groups.truncate(flags.count);
        output::many(flags.output.format, "groups", &groups, || {
            let header = ["LETTERS", "HELD", "LAST", "EXAMPLE", "TASKS", "ERROR"];
            table(&header, 5, groups.iter().map(|group| group.cells(now)))
        })?;
        return Ok(Exit::Done);
    }
    let row = |letter| Row { letter, error_pattern: letter.error_pattern() };
    let rows: Vec<Row<'_>> = letters.iter().map(row).collect();
    output::many(flags.output.format, "letters", &rows, || {
        let header = ["RUN", "TASK", "DIED", "ATTEMPTS", "HELD", "ERROR"];
        table(&header, 5, letters.iter().map(|letter| cells(letter, now)))
    })?;
    Ok(Exit::Done)
}

/// The newest `most` dead letters, of one task or of all.
///
/// # Errors
/// `task/unknown`, with what it may have meant, of a task that left nothing and is not configured.
pub(crate) async fn letters(
    outside: &Outside,
    task: Option<&Name>,
    most: usize,
) -> Result<Vec<DeadLetter>, Failure> {
    let mut letters = Vec::new();
    let mut filter = DeadLetterFilter::all();
    filter.task = task.cloned();
    while letters.len() < most {
        filter = filter.limited(PAGE.min(most - letters.len()));
        let page = outside.scheduler.letters(&filter).await?;
        letters.extend(page.letters);
        filter.after = page.next;
        if page.next.is_none() {
            break;
        }
    }
    if let Some(task) = task.filter(|_| letters.is_empty() && most > 0) {
        must_know(outside, task).await?;
    }
    Ok(letters)
}

/// A task that was removed still has its past, as a job without a task has, so only one without any is unknown.
async fn must_know(outside: &Outside, task: &Name) -> Result<(), Failure> {
    let past = RunFilter::of_task(task.clone()).limited(1);
    let Err(unknown) = outside.checked.task(task.as_str()) else { return Ok(()) };
    if !outside.scheduler.history(&past).await?.runs.is_empty() {
        return Ok(());
    }
    let page = outside.scheduler.letters(&DeadLetterFilter::all().limited(PAGE)).await?;
    let configured = outside.checked.tasks.iter().map(|task| task.task.name.as_str());
    let known: BTreeSet<&str> =
        configured.chain(page.letters.iter().map(|letter| letter.run.task.as_str())).collect();
    let known: Vec<&str> = known.into_iter().collect();
    Err(unknown.with_help(suggestion(task.as_str(), "tasks", &known)))
}

/// The groups, the largest first.
fn grouped(letters: &[DeadLetter]) -> Vec<Group<'_>> {
    let mut by_pattern: BTreeMap<String, Group<'_>> = BTreeMap::new();
    // The newest come first.
    for letter in letters {
        let error_pattern = letter.error_pattern();
        let group = by_pattern.entry(error_pattern.clone()).or_insert_with(|| Group {
            error_pattern,
            letters: 0,
            held: 0,
            tasks: BTreeSet::new(),
            first_died_at: letter.died_at,
            last_died_at: letter.died_at,
            example: letter.run.id,
        });
        group.letters += 1;
        group.held += usize::from(letter.held.is_some());
        group.tasks.insert(&letter.run.task);
        group.first_died_at = group.first_died_at.min(letter.died_at);
        group.last_died_at = group.last_died_at.max(letter.died_at);
    }
    let mut groups: Vec<Group<'_>> = by_pattern.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.letters));
    groups
}

impl Group<'_> {
    fn cells(&self, now: Timestamp) -> Vec<String> {
        let tasks: Vec<&str> = self.tasks.iter().map(|task| task.as_str()).collect();
        vec![
            self.letters.to_string(),
            self.held.to_string(),
            relative(self.last_died_at, now),
            self.example.to_string(),
            tasks.join(" "),
            self.error_pattern.clone(),
        ]
    }
}

fn cells(letter: &DeadLetter, now: Timestamp) -> Vec<String> {
    let run = &letter.run;
    vec![
        run.id.to_string(),
        run.task.to_string(),
        relative(letter.died_at, now),
        run.attempt.to_string(),
        letter.held.clone().unwrap_or_else(|| "-".to_owned()),
        run.reason.clone().unwrap_or_default(),
    ]
}
