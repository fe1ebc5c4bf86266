//! The history of a backend of ours as a cache: ended runs, with what is kept of them, that are too old or too many.

use scheduler_core::{ArgsError, EndedRun, HistoryBounds, Name, Result, RunContext, async_trait};

use crate::cache_args::TargetArgs;
use crate::cache_cleanup::CacheTarget;
use crate::cache_sweep::Sweep;

/// How many runs go at once, so that the backend does its work in between.
const AT_ONCE: usize = 500;

/// What has ended on a backend.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) backend: Name,
    bounds: HistoryBounds,
}

impl History {
    /// Reads a target.
    ///
    /// # Errors
    /// Every fault of its keys.
    pub(crate) fn read(args: TargetArgs) -> Result<Self, Vec<ArgsError>> {
        let mut bounds = HistoryBounds::default();
        (bounds.max_age, bounds.max_runs) = (args.max_age, args.max_runs);
        let mut faults = Vec::new();
        if bounds == HistoryBounds::default() {
            let help = "set `max_age` or `max_runs`";
            faults.push(ArgsError::new("", "nothing says what goes").with_help(help));
        }
        match Name::new(&args.backend.unwrap_or_default()) {
            Ok(backend) if faults.is_empty() => return Ok(Self { backend, bounds }),
            Ok(_) => {}
            Err(error) => faults.push(ArgsError::new("/backend", error.to_string())),
        }
        Err(faults)
    }
}

#[async_trait]
impl CacheTarget for History {
    async fn clean(&self, ctx: &RunContext, sweep: &Sweep) -> Result<()> {
        let scheduler = ctx.scheduler()?;
        let looked = scheduler.history_beyond(&self.backend, &self.bounds, 0, 1).await;
        // Outside of a daemon nobody has opened what the backends keep.
        if looked.is_err_and(|error| error.code() == "backend/stopped") {
            scheduler.connect().await?;
        }
        let mut count = 0;
        while !sweep.is_stopped() {
            let ended = if sweep.is_dry() {
                scheduler.history_beyond(&self.backend, &self.bounds, count, AT_ONCE).await?
            } else {
                scheduler.forget_beyond(&self.backend, &self.bounds, AT_ONCE).await?
            };
            if ended.is_empty() {
                break;
            }
            for (run, place) in ended.iter().zip(count..) {
                sweep.removed(place as u128, run.bytes, || shown(run));
            }
            count += ended.len();
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

fn shown(EndedRun { run, task, ended_at, .. }: &EndedRun) -> String {
    format!("run {run} of {task}, ended {ended_at}")
}
