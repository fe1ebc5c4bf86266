//! Reads the runs of the past from every backend, none of which needs to run for that.

use std::collections::HashMap;

use scheduler_core::{Name, Page, Result, Run, RunFilter};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::members::Member;

/// How many runs are read at a time.
const PAGE: usize = 10_000;

/// The newest run of each of `count` tasks.
pub(crate) fn last_runs(members: &[Member], count: usize) -> Result<HashMap<Name, Run>, Failure> {
    wait_for(async {
        let mut last: HashMap<Name, Run> = HashMap::new();
        let mut filter = RunFilter::all().limited(PAGE);
        while last.len() < count {
            let Page { runs, next, .. } = page(members, &filter).await?;
            for run in runs {
                last.entry(run.task.clone()).or_insert(run);
            }
            filter.after = next;
            if next.is_none() {
                break;
            }
        }
        Ok(last)
    })
}

/// One page of the runs of all backends, the newest first.
pub(crate) fn runs(members: &[Member], filter: &RunFilter) -> Result<Page, Failure> {
    wait_for(page(members, filter))
}

async fn page(members: &[Member], filter: &RunFilter) -> Result<Page> {
    let (mut runs, mut more) = (Vec::new(), false);
    for member in members {
        let page = member.backend.runs(filter).await?;
        more |= page.next.is_some();
        runs.extend(page.runs);
    }
    let mut page = filter.page(runs);
    // A backend that has more than it gave does so even where the merged page is not full.
    page.next = page.next.or_else(|| page.runs.last().filter(|_| more).map(scheduler_core::PageToken::of));
    Ok(page)
}

/// Waits for work that needs no daemon.
pub(crate) fn wait_for<T>(work: impl Future<Output = Result<T>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::new(Exit::Findings, "process/no_runtime", format!("cannot start a runtime: {error}"))
    })?;
    Ok(runtime.block_on(work)?)
}
