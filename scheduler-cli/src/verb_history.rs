//! `scheduler history`: the runs of all tiers, whether the daemon runs or not.

use clap::Args;
use scheduler_core::{Name, Run, RunFilter, RunState, Spelled, Timestamp};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::outside;
use crate::relative::relative;
use crate::session::Session;
use crate::table::table;

/// Which runs to show.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Only those of this task.
    task: Option<Name>,
    /// How many at most.
    #[arg(short = 'n', value_name = "COUNT", default_value_t = 20)]
    count: usize,
    /// Only those that failed.
    #[arg(long)]
    failed: bool,
    #[command(flatten)]
    output: OutputFlag,
}

pub(crate) fn execute(session: &Session, flags: &Flags) -> Result<Exit, Failure> {
    let mut filter = RunFilter::all();
    filter.task.clone_from(&flags.task);
    if flags.failed {
        filter = filter.in_states(&[RunState::Failed]);
    }
    let runs = outside::open(session, async |outside| {
        let mut runs = Vec::new();
        while runs.len() < flags.count {
            filter = filter.limited(flags.count - runs.len());
            let page = outside.scheduler.history(&filter).await?;
            runs.extend(page.runs);
            filter.after = page.next;
            if page.next.is_none() {
                break;
            }
        }
        // A task that was removed still has its past, so only one without any is unknown.
        if let Some(task) = flags.task.as_ref().filter(|_| runs.is_empty()) {
            outside.checked.task(task.as_str())?;
        }
        Ok(runs)
    })?;
    let now = Timestamp::from(std::time::SystemTime::now());
    output::many(flags.output.format, "runs", &runs, || {
        let header = ["RUN", "TASK", "FIRED", "RESULT", "ATTEMPT", "TOOK", "NOTE"];
        table(&header, 6, runs.iter().map(|run| cells(run, now)))
    })?;
    Ok(Exit::Done)
}

/// Why it did not succeed, what it has to show, or how far it has come.
fn note(run: &Run) -> String {
    let progress = run.progress.as_ref().filter(|_| run.state == RunState::Running);
    match (run.reason.as_deref().or(run.summary()), progress) {
        (None, Some(progress)) => progress.to_string(),
        (said, _) => said.unwrap_or_default().to_owned(),
    }
}

fn cells(run: &Run, now: Timestamp) -> Vec<String> {
    let took = run.started_at.zip(run.finished_at).map(|(start, end)| Spelled(end.since(start)).to_string());
    vec![
        run.id.to_string(),
        run.task.to_string(),
        relative(run.fire_time, now),
        run.state.to_string(),
        if run.attempt == 0 { "-".to_owned() } else { run.attempt.to_string() },
        took.unwrap_or_else(|| "-".to_owned()),
        note(run),
    ]
}
