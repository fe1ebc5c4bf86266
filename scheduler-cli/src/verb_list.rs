//! `scheduler list`: the tasks with their last and next run, whether the daemon runs or not.

use std::collections::HashMap;

use clap::Args;
use scheduler_core::{Name, Run, RunFilter, RunState, Scheduler, Tier, Timestamp};
use serde::Serialize;

use crate::checked::CheckedTask;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::outside;
use crate::relative::relative;
use crate::schedule;
use crate::session::Session;
use crate::table::table;

/// How many runs are read at a time.
const PAGE: usize = 10_000;

/// How to print it.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    output: OutputFlag,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a Name,
    job: &'a Name,
    tier: Option<Tier>,
    backend: Option<&'a Name>,
    schedule: String,
    next: Option<Timestamp>,
    last: Option<Timestamp>,
    result: Option<RunState>,
    run_id: Option<String>,
    #[serde(skip)]
    next_words: String,
}

impl<'a> Row<'a> {
    fn new(task: &'a CheckedTask, last: Option<&Run>, now: Timestamp) -> Self {
        let next = next(task, last, now);
        Self {
            name: &task.task.name,
            job: &task.task.job,
            tier: task.placement.as_ref().map(|placement| placement.tier),
            backend: task.placement.as_ref().map(|placement| &placement.backend),
            schedule: schedule::words(task.task.trigger.as_ref()),
            next,
            last: last.map(|run| run.finished_at.or(run.started_at).unwrap_or(run.fire_time)),
            result: last.map(|run| run.state),
            run_id: last.map(|run| run.id.to_string()),
            next_words: schedule::next_words(task, next, now),
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.name.to_string(),
            self.tier.map_or("-".to_owned(), |tier| tier.to_string()),
            self.schedule.clone(),
            self.next_words.clone(),
            self.last.map_or("never".to_owned(), |last| relative(last, now)),
            self.result.map_or("-".to_owned(), |state| state.to_string()),
        ]
    }
}

/// When it fires next; of one that follows its runs, the pause after the last one counts.
fn next(task: &CheckedTask, last: Option<&Run>, now: Timestamp) -> Option<Timestamp> {
    let trigger = task.task.trigger.as_ref()?;
    let finished = last.and_then(|run| run.finished_at);
    let follows = finished.and_then(|finished| trigger.next_after_finish(finished));
    follows.filter(|next| *next > now).or_else(|| trigger.next_after(now))
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    outside::open(session, async |outside| {
        let tasks = &outside.checked.tasks;
        let now = Timestamp::from(std::time::SystemTime::now());
        let last = last_runs(&outside.scheduler, tasks.len()).await?;
        let rows: Vec<Row<'_>> =
            tasks.iter().map(|task| Row::new(task, last.get(&task.task.name), now)).collect();
        output::many(flags.output.format, "tasks", &rows, || {
            let header = ["NAME", "TIER", "SCHEDULE", "NEXT", "LAST", "RESULT"];
            table(&header, 2, rows.iter().map(|row| row.cells(now)))
        })?;
        Ok(Exit::Done)
    })
}

/// The newest run of each of `count` tasks.
async fn last_runs(scheduler: &Scheduler, count: usize) -> Result<HashMap<Name, Run>, Failure> {
    let mut last: HashMap<Name, Run> = HashMap::new();
    let mut filter = RunFilter::all().limited(PAGE);
    while last.len() < count {
        let page = scheduler.history(&filter).await?;
        for run in page.runs {
            last.entry(run.task.clone()).or_insert(run);
        }
        filter.after = page.next;
        if page.next.is_none() {
            break;
        }
    }
    Ok(last)
}
