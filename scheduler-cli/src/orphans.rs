//! Ends what a scheduler that was killed left running, before anything of this one runs.

#[cfg(feature = "builtin-jobs")]
use tracing::{error, warn};

/// Ends the orphans and tells of each.
#[cfg(feature = "builtin-jobs")]
pub(crate) fn sweep() {
    let swept = builtin_jobs::exec::sweep_orphans();
    for orphan in &swept.killed {
        warn!("ended {}", words(orphan));
    }
    for orphan in &swept.left {
        error!("cannot end {}", words(orphan));
    }
}

/// No job of this program starts processes that it knows of.
#[cfg(not(feature = "builtin-jobs"))]
pub(crate) fn sweep() {}

#[cfg(feature = "builtin-jobs")]
fn words(orphan: &builtin_jobs::exec::Orphan) -> String {
    let of_task = orphan.task.as_ref().map(|task| format!(" of task {task}")).unwrap_or_default();
    let of_run = orphan.run_id.map(|run| format!(" (run {run})")).unwrap_or_default();
    format!("process {}{of_task}{of_run}, which a scheduler left behind when it was killed", orphan.pid)
}
