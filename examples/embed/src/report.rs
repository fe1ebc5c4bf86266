//! What the owner of the service finds in the morning.

use std::fs::OpenOptions;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use scheduler_core::{Name, RunContext, RunFilter, RunState};
use tokio::task::spawn_blocking;

use crate::Cache;
use crate::schedules::REFRESH;

/// Adds a line about the time since the last report to `file`, and returns it.
///
/// # Errors
/// History does not answer, or the file cannot be written.
pub async fn write(ctx: &RunContext, cache: &Cache, file: &Path) -> Result<String> {
    // The scheduler keeps the books already; the service counts nothing twice.
    let mut filter = RunFilter::all();
    filter.task = Some(Name::new(REFRESH)?);
    filter.limit = NonZeroUsize::new(2_000);
    // From the last report, inclusive, to this one, exclusive: a refresh of this very minute may still be at work.
    let from = ctx.state().load::<i64>().await?.unwrap_or(i64::MIN);
    let span = from..ctx.fire_time().as_millis();
    let runs = ctx.scheduler()?.history(&filter).await?.runs;
    let ended = |state| {
        runs.iter().filter(|run| run.state == state && span.contains(&run.fire_time.as_millis())).count()
    };
    let line = format!(
        "{} refreshed {} skipped {} failed {} asked {}\n",
        ctx.fire_time(),
        ended(RunState::Succeeded),
        ended(RunState::Skipped),
        ended(RunState::Failed),
        cache.take_asked()
    );

    let (path, addition) = (file.to_owned(), line.clone());
    spawn_blocking(move || append(path, &addition))
        .await?
        .with_context(|| format!("cannot write {}", file.display()))?;
    ctx.state().update(|_: Option<i64>| ctx.fire_time().as_millis()).await?;
    Ok(line)
}

fn append(file: PathBuf, line: &str) -> std::io::Result<()> {
    OpenOptions::new().create(true).append(true).open(file)?.write_all(line.as_bytes())
}
