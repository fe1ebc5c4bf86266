//! What can be measured in a process of its own.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{idle, operations, ours, peers};

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) tasks: usize,
    /// How often each task fires.
    pub(crate) period_ms: u64,
    /// How long fires are counted.
    pub(crate) seconds: u64,
}

impl Load {
    /// How many fires are due while they are counted.
    pub(crate) fn expected(self) -> u64 {
        self.tasks as u64 * self.seconds * 1_000 / self.period_ms
    }
}

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Tasks of ours whose phases are spread over the period.
    Sustained,
    /// Tasks of ours that are all due at the same instants.
    Burst,
    /// Adding, pausing, resuming and removing among many tasks that rest.
    Operations,
    /// One task of ours each second.
    Idle,
    /// A tokio task with an interval for each task.
    TokioInterval,
    /// clokwerk.
    Clokwerk,
    /// apalis-cron.
    ApalisCron,
    /// tokio-cron-scheduler.
    TokioCronScheduler,
}

impl Part {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Sustained, "sustained"),
        (Self::Burst, "burst"),
        (Self::Operations, "operations"),
        (Self::Idle, "idle"),
        (Self::TokioInterval, "tokio interval"),
        (Self::Clokwerk, "clokwerk"),
        (Self::ApalisCron, "apalis-cron"),
        (Self::TokioCronScheduler, "tokio-cron-scheduler"),
    ];

    /// # Errors
    /// There is none of this name.
    pub(crate) fn named(text: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text);
        found.map(|(part, _)| *part).with_context(|| format!("no part is called `{text}`"))
    }

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(part, _)| *part == self).map_or("", |(_, name)| name)
    }

    /// Measures it in this process.
    ///
    /// # Errors
    /// Those of what is measured.
    pub(crate) fn measure(self, load: Load) -> Result<Value> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let figures = runtime.block_on(async {
            match self {
                Self::Sustained => ours::sustained(load).await,
                Self::Burst => ours::bursts(load).await,
                Self::Operations => operations::measure(load).await,
                Self::Idle => idle::measure(load).await,
                Self::TokioInterval => peers::tokio_interval(load).await,
                Self::Clokwerk => peers::clokwerk(load).await,
                Self::ApalisCron => peers::apalis_cron(load).await,
                Self::TokioCronScheduler => peers::tokio_cron_scheduler(load).await,
            }
        });
        // A million timers of a peer would take their time to be dropped.
        runtime.shutdown_background();
        figures
    }
}
