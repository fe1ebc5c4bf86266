//! Applies the missed-run policies of tasks that the engine fires: cancels late runs, and fills in missing ones.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use scheduler_core::{MisfirePolicy, Name, Placed, Result, Timestamp};

use crate::engine::{EngineRun, EngineRunFilter, EngineRunId, Phase};
use crate::listing::PAGE;
use crate::misfires::{GRACE, left_out};
use crate::plan::is_engine_fired;
use crate::session::Session;
use crate::target::is_hosted;

/// How an engine calls a run whose time has come and that no worker has fetched.
const LATE: &str = "Late";
/// How many pages of late runs are read in one go.
const MOST_PAGES: usize = 25;
/// How many late runs are cancelled with one call.
const AT_ONCE: usize = 50;

impl Session {
    /// The tasks of this backend that the engine fires.
    pub(crate) fn engine_fired(&self) -> Vec<Arc<Placed>> {
        let mut tasks = self.ctx.tasks.all();
        tasks.retain(|placed| placed.placement.backend == self.backend && is_engine_fired(&placed.task));
        tasks
    }

    /// Cancels the late runs of schedules that do not run any more by the policy of their task.
    ///
    /// # Errors
    /// Those of the engine.
    pub(crate) async fn cancel_late(&self, now: Timestamp) -> Result<()> {
        let mut late: BTreeMap<Name, Vec<(Timestamp, EngineRun)>> = BTreeMap::new();
        for run in self.late_runs(now - GRACE).await? {
            if let Some(identity) = self.identity(&run) {
                late.entry(identity.task).or_default().push((identity.fire_time, run));
            }
        }
        for placed in self.engine_fired() {
            let Some(runs) = late.get(&placed.task.name) else { continue };
            let fires: Vec<Timestamp> = runs.iter().map(|(fire_time, _)| *fire_time).collect();
            let out = left_out(&placed.task.misfire, &fires, now);
            let out: HashSet<Timestamp> = out.into_iter().collect();
            let missed = runs.iter().filter(|(fire_time, _)| out.contains(fire_time));
            let missed: Vec<EngineRunId> = missed.map(|(_, run)| run.id.clone()).collect();
            let mut cancelled = 0_usize;
            for some in missed.chunks(AT_ONCE) {
                cancelled += self.link.call(|engine| engine.cancel_waiting(some)).await?;
            }
            if cancelled > 0 {
                let (task, misfire) = (&placed.task.name, placed.task.misfire.policy);
                tracing::warn!(
                    backend = %self.backend, %task,
                    "{cancelled} of {} late runs do not run (misfire = {misfire})", fires.len()
                );
            }
        }
        Ok(())
    }

    /// The runs that schedules made, whose time is long past and that nobody has fetched.
    async fn late_runs(&self, up_to: Timestamp) -> Result<Vec<EngineRun>> {
        self.read_schedules().await?;
        let late = EngineRunFilter {
            phases: vec![Phase::Queued],
            scheduled_up_to: Some(up_to),
            limit: PAGE,
            ..EngineRunFilter::default()
        };
        let mut sources = vec![EngineRunFilter { tags: vec![self.names.namespace_tag()], ..late.clone() }];
        let workflows = self.carriers(None);
        if !workflows.is_empty() {
            sources.push(EngineRunFilter { workflows, ..late });
        }
        let mut runs = Vec::new();
        for mut source in sources {
            for _ in 0..MOST_PAGES {
                let page = self.link.call(|engine| engine.list_runs(&source)).await?;
                source.offset += page.runs.len();
                let more = page.more && !page.runs.is_empty();
                runs.extend(
                    page.runs.into_iter().filter(|run| run.schedule.is_some() && run.raw_state == LATE),
                );
                if !more {
                    break;
                }
            }
        }
        Ok(runs)
    }

    /// Makes the runs that are missing since the newest one of a task, where its policy runs them all. Only on
    /// workflows of ours: on another the schedules of others would be filled in as well.
    ///
    /// `changed` says since when a schedule is as it is; what it would have named before is not missing.
    ///
    /// # Errors
    /// Those of the engine.
    pub(crate) async fn fill_in(&self, now: Timestamp, changed: &BTreeMap<Name, Timestamp>) -> Result<()> {
        if !self.capabilities().backfill {
            return Ok(());
        }
        for placed in self.engine_fired() {
            let task = &placed.task;
            if task.misfire.policy != MisfirePolicy::All
                || !is_hosted(task)
                || self.is_paused(&task.name).await?
            {
                continue;
            }
            let Some(newest) = self.newest_fire(&task.name, now).await? else { continue };
            let from = changed.get(&task.name).map_or(newest, |changed| newest.max(*changed));
            let oldest = task.misfire.max_lateness.map_or(from, |lateness| from.max(now - lateness));
            let missing = missing(&placed, oldest, now - GRACE);
            let (Some(first), Some(last)) = (missing.first(), missing.last()) else { continue };
            let (_, workflow) = self.workflow_of(task).await?;
            let count = missing.len();
            self.link.call(|engine| engine.backfill(&workflow.id, *first, *last, count)).await?;
            tracing::warn!(
                backend = %self.backend, task = %task.name,
                "the engine made none of {count} runs from {first} on; they are filled in"
            );
        }
        Ok(())
    }

    /// The newest fire of a task that the engine has a run of.
    async fn newest_fire(&self, task: &Name, now: Timestamp) -> Result<Option<Timestamp>> {
        let newest = EngineRunFilter {
            tags: vec![self.names.task_tag(task)],
            scheduled_up_to: Some(now),
            limit: PAGE,
            ..EngineRunFilter::default()
        };
        let page = self.link.call(|engine| engine.list_runs(&newest)).await?;
        let made = page.runs.iter().filter(|run| run.schedule.is_some());
        Ok(made.filter_map(|run| run.scheduled_for).max())
    }
}

/// The newest fires after `after` up to `up_to`, as many as the policy runs.
fn missing(placed: &Placed, after: Timestamp, up_to: Timestamp) -> Vec<Timestamp> {
    let Some(trigger) = &placed.task.trigger else { return Vec::new() };
    let most = usize::try_from(placed.task.misfire.max.get()).unwrap_or(usize::MAX);
    let mut fires = std::collections::VecDeque::new();
    let mut at = after;
    // More than a thousand are not counted: an absence that long is looked at in parts.
    for _ in 0..1_000 {
        let Some(next) = trigger.next_after(at).filter(|next| *next <= up_to) else { break };
        fires.push_back(next);
        if fires.len() > most {
            fires.pop_front();
        }
        at = next;
    }
    fires.into()
}
