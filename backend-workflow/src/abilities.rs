//! What the backend can do beyond its duties: keep schedules, plan them, and show what runs logged.

use std::sync::Arc;

use async_trait::async_trait;
use scheduler_core::{
    Error, FiredBy, Name, Pause, Placed, PlannedChange, Planning, Result, RunFilter, RunId, RunLogLine,
    RunLogs, RunState, ScheduleStatus, Schedules, Timestamp,
};

use crate::WorkflowBackend;
use crate::plan::{Act, is_engine_fired};
use crate::session::{Session, lock};

/// How many runs that live are counted while nobody follows them.
const MOST_COUNTED: usize = 1_000;

#[async_trait]
impl Schedules for WorkflowBackend {
    fn fires(&self, by: FiredBy) -> bool {
        by == FiredBy::Engine && self.engine.capabilities().schedules
    }

    /// The schedule is written soon after, however the engine answers now; what keeps it from being written stands
    /// in the health.
    async fn upsert(&self, task: Arc<Placed>) -> Result<()> {
        self.session()?.look_at(&task.task.name);
        Ok(())
    }

    async fn remove(&self, task: &Name) -> Result<bool> {
        let session = self.session()?;
        let slug = session.names.slug(task);
        let mut was_there = false;
        if session.capabilities().schedules {
            for workflow in session.link.call(|engine| engine.workflows_with(&slug)).await? {
                was_there |= session.link.call(|engine| engine.delete_schedule(&workflow.id, &slug)).await?;
            }
        }
        lock(&session.pauses).remove(task);
        session.forget_workflow(task);
        session.outdate_schedules();
        Ok(was_there || session.ctx.tasks.find(task).is_some())
    }

    async fn statuses(&self) -> Result<Vec<ScheduleStatus>> {
        let Ok(session) = self.session() else { return Ok(Vec::new()) };
        let now = session.ctx.clock.now();
        let live = session.live_runs(now).await;
        let mut statuses = Vec::new();
        for placed in session.engine_fired() {
            let task = &placed.task;
            let next = task.trigger.as_ref().and_then(|trigger| trigger.next_after(now));
            let mut status = ScheduleStatus::new(task.name.clone(), next);
            // While the engine does not answer, what is known here counts.
            let is_paused = session.is_paused(&task.name).await.ok();
            status.paused =
                lock(&session.pauses).of(&task.name).filter(|_| is_paused != Some(false)).cloned();
            if is_paused == Some(true) && status.paused.is_none() {
                status.paused =
                    Some(Pause { by: None, reason: Some("paused in the engine".to_owned()), until: None });
            }
            status.next = next.filter(|_| status.paused.is_none());
            status.live = live.iter().filter(|(name, _)| *name == task.name).map(|(_, count)| *count).sum();
            statuses.push(status);
        }
        Ok(statuses)
    }

    async fn pause(&self, task: &Name, pause: Pause) -> Result<()> {
        let session = self.session()?;
        session.switch(task, false).await?;
        lock(&session.pauses).add(task, pause);
        session.look_at(task);
        Ok(())
    }

    async fn resume(&self, task: &Name) -> Result<()> {
        let session = self.session()?;
        session.switch(task, true).await?;
        lock(&session.pauses).remove(task);
        Ok(())
    }
}

#[async_trait]
impl Planning for WorkflowBackend {
    async fn plan(&self, tasks: &[Arc<Placed>], prune: bool) -> Result<Vec<PlannedChange>> {
        let steps = self.session()?.plan_all(tasks, prune).await?;
        Ok(steps.into_iter().map(|(_, step)| step.change).collect())
    }

    async fn apply(&self, tasks: &[Arc<Placed>], prune: bool) -> Result<Vec<PlannedChange>> {
        let session = self.session()?;
        let steps = session.plan_all(tasks, prune).await?;
        for (task, step) in &steps {
            let placed = tasks.iter().find(|placed| Some(&placed.task.name) == task.as_ref());
            session.take(placed.map(|placed| &placed.task), step).await?;
        }
        Ok(steps.into_iter().map(|(_, step)| step.change).collect())
    }
}

#[async_trait]
impl RunLogs for WorkflowBackend {
    async fn logs(&self, run: &RunId, offset: usize, limit: usize) -> Result<Vec<RunLogLine>> {
        let session = self.session()?;
        let unknown =
            || Error::not_found("run/unknown", format!("backend `{}` has no run {run}", session.backend));
        let (_, found) = session.find(*run).await?.ok_or_else(unknown)?;
        let lines = session.link.call(|engine| engine.logs(&found.id, offset, limit)).await?;
        let line =
            |line: crate::EngineLogLine| RunLogLine { at: line.at, level: line.level, message: line.message };
        Ok(lines.into_iter().map(line).collect())
    }
}

impl Session {
    /// Lets a task's schedule fire, or keeps it from firing; it is written first if it is not there.
    ///
    /// # Errors
    /// `task/unknown`, `workflow/no_schedule` when the engine does not fire the task, and those of the engine.
    pub(crate) async fn switch(&self, task: &Name, active: bool) -> Result<()> {
        let placed = self.task(task)?;
        if !is_engine_fired(&placed.task) || !self.capabilities().schedules {
            let message = format!("the engine holds no schedule of task `{task}`");
            return Err(Error::invalid("workflow/no_schedule", message));
        }
        let slug = self.names.slug(task);
        let (_, workflow) = self.workflow_of(&placed.task).await?;
        if self.link.call(|engine| engine.set_schedule_active(&workflow.id, &slug, active)).await? {
            return Ok(());
        }
        for mut step in self.plan_task(&placed).await?.0 {
            if let Act::Write(spec) = &mut step.act {
                spec.active = active;
            }
            self.take(Some(&placed.task), &step).await?;
        }
        Ok(())
    }

    /// Whether the engine was told not to fire a task.
    ///
    /// # Errors
    /// Those of the engine.
    pub(crate) async fn is_paused(&self, task: &Name) -> Result<bool> {
        let placed = self.task(task)?;
        let slug = self.names.slug(task);
        let (_, workflow) = self.workflow_of(&placed.task).await?;
        let schedules = self.link.call(|engine| engine.schedules(&workflow.id)).await?;
        Ok(schedules.iter().any(|schedule| schedule.slug.as_ref() == Some(&slug) && !schedule.active))
    }

    /// How many runs of each task live.
    async fn live_runs(&self, now: Timestamp) -> Vec<(Name, usize)> {
        if self.is_attended() {
            return lock(&self.live).iter().map(|(task, count)| (task.clone(), *count)).collect();
        }
        let live = [RunState::Scheduled, RunState::Queued, RunState::Running, RunState::Retrying];
        let filter = RunFilter::all().fired_up_to(now).in_states(&live).limited(MOST_COUNTED);
        let page = self.page(&filter).await.unwrap_or_default();
        page.runs.into_iter().map(|run| (run.task, 1)).collect()
    }
}
