//! What the pages of apalis-board list: queues, runs, workers and figures.

use std::collections::BTreeMap;
use std::time::Duration;

use apalis_core::backend::{
    Filter, ListAllTasks, ListQueues, ListTasks, ListWorkers, Metrics, QueueInfo, RunningWorker, StatType,
    Statistic,
};
use apalis_core::task::Task as ApalisTask;
use apalis_core::task::status::Status;
use scheduler_core::{Backend, Result, Run, RunFilter, RunState, Timestamp};
use serde_json::Value;

use crate::board::{Board, seconds, shown, status};
use crate::store::called;

/// How many runs are looked at for one list or figure, the newest first.
const LOOKED_AT: usize = 20_000;
const PAGE: usize = 1_000;
/// How many days a queue's activity is of.
const DAYS: usize = 7;
const DAY: Duration = Duration::from_secs(86_400);

/// What runs are counted by looking at them. Each kind is looked at for itself, so that however many there are of one,
/// they hide none of another; the store counts those that wait and those that run.
const COUNTED: [&[RunState]; 3] = [
    &[RunState::Scheduled],
    &[RunState::Retrying],
    &[RunState::Succeeded, RunState::Failed, RunState::Cancelled, RunState::Skipped],
];

/// What was counted of a queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counted {
    by_status: BTreeMap<Status, usize>,
    /// Those of the killed that failed, and were not cancelled or skipped.
    failed: usize,
    /// How many runs ended, by day, today last.
    ended: [usize; DAYS],
}

impl Counted {
    fn note(&mut self, run: &Run, now: Timestamp) {
        *self.by_status.entry(status(run.state)).or_default() += 1;
        self.failed += usize::from(run.state == RunState::Failed);
        let age = run.finished_at.map(|at| now.since(at).as_secs() / DAY.as_secs());
        if let Some(days @ 0..DAYS) = age.and_then(|days| usize::try_from(days).ok()) {
            self.ended[DAYS - 1 - days] += 1;
        }
    }

    fn of(&self, status: &Status) -> usize {
        self.by_status.get(status).copied().unwrap_or(0)
    }

    fn add(&mut self, other: &Self) {
        for (status, count) in &other.by_status {
            *self.by_status.entry(status.clone()).or_default() += count;
        }
        self.failed += other.failed;
    }

    /// Under the titles by which the board finds them; each that it does not know it calls the total.
    pub(crate) fn statistics(&self) -> Vec<Statistic> {
        let figures = [
            ("PENDING_JOBS", self.of(&Status::Pending)),
            ("QUEUE_BACKLOG", self.of(&Status::Queued)),
            ("RUNNING_JOBS", self.of(&Status::Running)),
            ("FAILED_JOBS", self.of(&Status::Failed)),
            ("DONE_JOBS", self.of(&Status::Done)),
            ("KILLED_JOBS", self.of(&Status::Killed)),
            ("TOTAL_JOBS", self.by_status.values().sum()),
        ];
        let mut statistics: Vec<Statistic> = figures
            .into_iter()
            .map(|(title, count)| figure(title, StatType::Number, count.to_string()))
            .collect();
        let (done, failed) = (self.of(&Status::Done), self.failed);
        if done + failed > 0 {
            let rate = format!("{:.1}", 100.0 * done as f64 / (done + failed) as f64);
            statistics.push(figure("SUCCESS_RATE", StatType::Percentage, rate));
        }
        statistics
    }
}

fn figure(title: &str, stat_type: StatType, value: String) -> Statistic {
    Statistic { title: title.to_owned(), stat_type, value, priority: None }
}

impl Board {
    /// The states that the board's filter means.
    fn states(filter: &Filter) -> Vec<RunState> {
        let meant = |state: &RunState| filter.status.as_ref().is_none_or(|wanted| *wanted == status(*state));
        RunState::ALL.iter().copied().filter(meant).collect()
    }

    /// Looks at runs, at `most` of them and the newest first, until `look` has seen enough.
    async fn look_at(
        &self,
        states: &[RunState],
        most: usize,
        mut look: impl FnMut(Run) -> bool + Send,
    ) -> Result<()> {
        let page_size = PAGE.min(most);
        let mut filter = RunFilter::all().in_states(states).limited(page_size);
        for _ in 0..most / page_size {
            let page = self.backend.runs(&filter).await?;
            if page.runs.into_iter().any(&mut look) || page.next.is_none() {
                return Ok(());
            }
            filter.after = page.next;
        }
        Ok(())
    }

    async fn listed(
        &self,
        filter: &Filter,
        is_meant: impl Fn(&Run) -> bool + Send + Sync,
    ) -> Result<Vec<ApalisTask<Value>>> {
        // Their own arithmetic has no page before the first.
        let limit = filter.limit() as usize;
        let mut skip = (filter.page.saturating_sub(1) as usize).saturating_mul(limit);
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        self.look_at(&Self::states(filter), LOOKED_AT, |run| {
            if is_meant(&run) {
                if skip > 0 {
                    skip -= 1;
                } else {
                    found.push(shown(&run));
                }
            }
            found.len() == limit
        })
        .await?;
        Ok(found)
    }

    /// What there is, by queue, after a look at `most` runs of each kind.
    pub(crate) async fn counted(&self, most: usize) -> Result<BTreeMap<String, Counted>> {
        let now = Timestamp::from(std::time::SystemTime::now());
        let names = self.backend.config.queue_names();
        let mut counted: BTreeMap<String, Counted> =
            names.iter().map(|name| (name.to_string(), Counted::default())).collect();
        for states in COUNTED {
            self.look_at(states, most, |run| {
                counted.entry(called(run.queue.as_ref()).to_owned()).or_default().note(&run, now);
                false
            })
            .await?;
        }
        if let Some(store) = self.backend.found().await? {
            for state in store.queues().await? {
                let counts =
                    &mut counted.entry(called(state.queue.as_ref()).to_owned()).or_default().by_status;
                counts.insert(Status::Queued, state.waiting);
                counts.insert(Status::Running, state.running);
            }
        }
        Ok(counted)
    }

    /// The worker of this process, while it runs.
    fn workers(&self) -> Vec<RunningWorker> {
        let Some(since) = self.backend.runs_since() else { return Vec::new() };
        vec![RunningWorker {
            id: self.backend.name.to_string(),
            queue: self.queue.to_string(),
            backend: format!("{} of the scheduler", self.backend.config.shown_url()),
            started_at: seconds(since),
            last_heartbeat: seconds(Timestamp::from(std::time::SystemTime::now())),
            layers: format!("{:?}", self.backend.layers),
        }]
    }
}

impl ListQueues for Board {
    async fn list_queues(&self) -> Result<Vec<QueueInfo>> {
        let workers: Vec<String> = self.workers().into_iter().map(|worker| worker.id).collect();
        let known = self.backend.config.queue_names();
        let info = |(name, counted): (String, Counted)| {
            // A queue that is not configured here has no worker here.
            let is_served = known.iter().any(|known| known.as_str() == name);
            let workers = if is_served { workers.clone() } else { Vec::new() };
            QueueInfo { stats: counted.statistics(), workers, activity: counted.ended.to_vec(), name }
        };
        Ok(self.counted(LOOKED_AT).await?.into_iter().map(info).collect())
    }
}

impl ListWorkers for Board {
    async fn list_workers(&self) -> Result<Vec<RunningWorker>> {
        Ok(self.workers())
    }

    async fn list_all_workers(&self) -> Result<Vec<RunningWorker>> {
        Ok(self.workers())
    }
}

impl ListTasks for Board {
    async fn list_tasks(&self, filter: &Filter) -> Result<Vec<ApalisTask<Value>>> {
        self.listed(filter, |run| self.has(run)).await
    }
}

impl ListAllTasks for Board {
    async fn list_all_tasks(&self, filter: &Filter) -> Result<Vec<ApalisTask<Value>>> {
        self.listed(filter, |_| true).await
    }
}

impl Metrics for Board {
    async fn global(&self) -> Result<Vec<Statistic>> {
        let mut all = Counted::default();
        self.counted(LOOKED_AT).await?.values().for_each(|counted| all.add(counted));
        Ok(all.statistics())
    }

    async fn fetch_by_queue(&self) -> Result<Vec<Statistic>> {
        Ok(self.counted(LOOKED_AT).await?.remove(self.queue.as_str()).unwrap_or_default().statistics())
    }
}
