//! A workflow engine in memory, for tests: it does what the seam asks for, and a test plays its workers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::{Error, Result, Timestamp, Trigger};
use serde_json::{Map, Value, json};

use crate::engine::{
    CancelOutcome, Capabilities, EngineInfo, EngineLogLine, EngineRun, EngineRunFilter, EngineRunId,
    EngineRuns, EngineSchedule, Hosted, Hosting, Launch, Launched, Phase, Rendered, ScheduleSpec, Told,
    Workflow, WorkflowEngine, WorkflowId, WorkflowName,
};
use crate::memory_world::{World, matches, run};

/// Clones share what they hold.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    can: Capabilities,
    world: Arc<Mutex<World>>,
}

impl Memory {
    /// One that fires schedules and runs our tasks.
    pub(crate) fn with_schedules() -> Self {
        Self::that_can(Capabilities {
            schedules: true,
            delayed: true,
            hosting: true,
            logs: true,
            backfill: true,
            events: true,
        })
    }

    /// One that only starts and shows runs.
    pub(crate) fn without_schedules() -> Self {
        Self::that_can(Capabilities::default())
    }

    /// One that runs our tasks, and leaves the firing to us.
    pub(crate) fn that_hosts() -> Self {
        Self::that_can(Capabilities { delayed: true, hosting: true, ..Capabilities::default() })
    }

    fn that_can(can: Capabilities) -> Self {
        Self { can, world: Arc::default() }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self) -> Result<MutexGuard<'_, World>> {
        let mut world = self.world();
        world.calls += 1;
        match (world.down, world.refused) {
            (true, _) => Err(Error::unavailable("engine/unreachable", "the engine is down")),
            (false, Some(code)) => Err(Error::unauthorized(code, "the engine refuses the credentials")),
            (false, None) => Ok(world),
        }
    }
}

#[async_trait]
impl WorkflowEngine for Memory {
    fn capabilities(&self) -> Capabilities {
        self.can
    }

    async fn probe(&self) -> Result<EngineInfo> {
        self.admit().map(|_| EngineInfo { kind: "memory".to_owned(), version: "1".to_owned() })
    }

    async fn workflow(&self, name: &WorkflowName) -> Result<Workflow> {
        let world = self.admit()?;
        let unknown = || {
            let message = format!("no workflow {}/{}", name.flow, name.deployment);
            Error::not_found("engine/unknown_workflow", message)
        };
        world.workflows.iter().find(|workflow| workflow.name == *name).cloned().ok_or_else(unknown)
    }

    async fn check(&self, _: &WorkflowId, parameters: &Map<String, Value>) -> Result<()> {
        match parameters.get("unfit") {
            Some(_) => Err(Error::invalid("engine/bad_parameters", "`unfit` does not fit")),
            None => Ok(()),
        }
    }

    async fn trigger(&self, request: &Launch) -> Result<Launched> {
        let mut world = self.admit()?;
        if world.workflows.iter().all(|workflow| workflow.id != request.workflow) {
            return Err(Error::not_found("engine/unknown_workflow", "no such workflow"));
        }
        world.launches.push(request.clone());
        if let Some(run) = world.runs.iter().find(|run| run.key.as_ref() == Some(&request.key)) {
            return Ok(Launched { run: run.clone(), created: false });
        }
        let id = world.id("run");
        let now = Timestamp::from(std::time::SystemTime::now());
        let lies_ahead = request.at.is_some_and(|at| at > now);
        let started = EngineRun {
            workflow: Some(request.workflow.clone()),
            key: Some(request.key.clone()),
            phase: if lies_ahead { Phase::Scheduled } else { Phase::Queued },
            scheduled_for: Some(request.at.unwrap_or(now)),
            parameters: request.parameters.clone(),
            tags: request.tags.clone(),
            ..run(&id)
        };
        world.runs.push(started.clone());
        if world.lost_answers > 0 {
            world.lost_answers -= 1;
            return Err(Error::unavailable("engine/timed_out", "no answer"));
        }
        Ok(Launched { run: started, created: true })
    }

    async fn status(&self, run: &EngineRunId) -> Result<EngineRun> {
        let world = self.admit()?;
        let unknown = || Error::not_found("engine/unknown_run", "no such run");
        world.runs.iter().find(|known| known.id == *run).cloned().ok_or_else(unknown)
    }

    async fn cancel(&self, run: &EngineRunId) -> Result<CancelOutcome> {
        let mut world = self.admit()?;
        let Some(run) = world.runs.iter_mut().find(|known| known.id == *run) else {
            return Err(Error::not_found("engine/unknown_run", "no such run"));
        };
        let outcome = match run.phase {
            phase if phase.is_end() => return Ok(CancelOutcome::AlreadyFinished),
            Phase::Scheduled | Phase::Queued => CancelOutcome::Prevented,
            _ => CancelOutcome::Requested,
        };
        (run.phase, run.raw_state) = match outcome {
            CancelOutcome::Prevented => (Phase::Cancelled, "Cancelled".to_owned()),
            _ => (Phase::Cancelling, "Cancelling".to_owned()),
        };
        Ok(outcome)
    }

    async fn cancel_waiting(&self, runs: &[EngineRunId]) -> Result<usize> {
        let mut world = self.admit()?;
        world.bulks.push(runs.len());
        let waits = |run: &&mut EngineRun| {
            runs.contains(&run.id) && matches!(run.phase, Phase::Scheduled | Phase::Queued)
        };
        let ended = world.runs.iter_mut().filter(waits).map(|run| {
            (run.phase, run.raw_state) = (Phase::Cancelled, "Cancelled".to_owned());
        });
        Ok(ended.count())
    }

    async fn list_runs(&self, filter: &EngineRunFilter) -> Result<EngineRuns> {
        let mut world = self.admit()?;
        if !filter.runs.is_empty() {
            world.looks.push(filter.runs.len());
        }
        let mut runs: Vec<EngineRun> =
            world.runs.iter().filter(|run| matches(filter, run)).cloned().collect();
        runs.sort_by_key(|run| std::cmp::Reverse(run.scheduled_for));
        let end = (filter.offset + filter.limit).min(runs.len());
        let page = runs.get(filter.offset..end).unwrap_or_default().to_vec();
        Ok(EngineRuns { runs: page, more: end < runs.len() })
    }

    async fn host(&self, hosting: &Hosting, dry_run: bool) -> Result<Hosted> {
        let mut world = self.admit()?;
        let name = WorkflowName { flow: "ours".to_owned(), deployment: hosting.deployment.clone() };
        let known = world.workflows.iter().find(|workflow| workflow.name == name).cloned();
        let before = world.hosted.iter().position(|known| known.deployment == hosting.deployment);
        let is_same = before.is_some_and(|at| world.hosted[at] == *hosting);
        let changes = match (&known, is_same) {
            (None, _) => vec![format!("create {}", hosting.deployment)],
            (Some(_), false) => vec![format!("change {}", hosting.deployment)],
            (Some(_), true) => Vec::new(),
        };
        if dry_run {
            return Ok(Hosted { workflow: known, changes, ..Hosted::default() });
        }
        match before {
            Some(at) => world.hosted[at] = hosting.clone(),
            None => world.hosted.push(hosting.clone()),
        }
        world.writes.extend(changes.iter().cloned());
        let workflow = known.unwrap_or_else(|| world.add_workflow(name, true));
        Ok(Hosted { workflow: Some(workflow), changes, ..Hosted::default() })
    }

    async fn hosted(&self, prefix: &str) -> Result<Vec<Workflow>> {
        let world = self.admit()?;
        let is_ours = |workflow: &&Workflow| workflow.hosted && workflow.name.deployment.starts_with(prefix);
        Ok(world.workflows.iter().filter(is_ours).cloned().collect())
    }

    async fn unhost(&self, workflow: &WorkflowId) -> Result<bool> {
        let mut world = self.admit()?;
        let before = world.workflows.len();
        world.workflows.retain(|known| known.id != *workflow);
        Ok(world.workflows.len() < before)
    }

    fn render(&self, trigger: &Trigger) -> Result<Rendered> {
        if trigger.follows_finish() {
            let message = "a trigger that follows the finish cannot be said";
            return Err(Error::unsupported("engine/trigger_not_sayable", message));
        }
        Ok(Rendered { rule: json!({"trigger": trigger.to_string()}), notes: Vec::new() })
    }

    async fn schedules(&self, workflow: &WorkflowId) -> Result<Vec<EngineSchedule>> {
        let world = self.admit()?;
        let of_it = world.schedules.iter().filter(|(id, _)| id == workflow);
        Ok(of_it.map(|(_, schedule)| schedule.clone()).collect())
    }

    async fn workflows_with(&self, prefix: &str) -> Result<Vec<Workflow>> {
        let world = self.admit()?;
        let carries = |workflow: &&Workflow| {
            let mut schedules = world.schedules.iter().filter(|(id, _)| *id == workflow.id);
            schedules.any(|(_, schedule)| schedule.slug.as_ref().is_some_and(|slug| slug.starts_with(prefix)))
        };
        Ok(world.workflows.iter().filter(carries).cloned().collect())
    }

    async fn upsert_schedule(&self, workflow: &WorkflowId, schedule: &ScheduleSpec) -> Result<()> {
        let mut world = self.admit()?;
        let ScheduleSpec { slug, rule, active, parameters } = schedule.clone();
        if let Some(known) = world.schedule(workflow, &slug) {
            (known.rule, known.active, known.parameters) = (rule, active, parameters);
            world.writes.push(format!("update {slug}"));
            return Ok(());
        }
        let id = world.id("schedule");
        world.writes.push(format!("create {slug}"));
        let made = EngineSchedule { id, slug: Some(slug), rule, active, parameters };
        world.schedules.push((workflow.clone(), made));
        Ok(())
    }

    async fn delete_schedule(&self, workflow: &WorkflowId, slug: &str) -> Result<bool> {
        let mut world = self.admit()?;
        let before = world.schedules.len();
        world.schedules.retain(|(id, known)| id != workflow || known.slug.as_deref() != Some(slug));
        world.writes.push(format!("delete {slug}"));
        Ok(world.schedules.len() < before)
    }

    async fn set_schedule_active(&self, workflow: &WorkflowId, slug: &str, active: bool) -> Result<bool> {
        let mut world = self.admit()?;
        world.writes.push(format!("active {slug} {active}"));
        let Some(schedule) = world.schedule(workflow, slug) else { return Ok(false) };
        schedule.active = active;
        Ok(true)
    }

    async fn logs(&self, run: &EngineRunId, offset: usize, limit: usize) -> Result<Vec<EngineLogLine>> {
        drop(self.admit()?);
        let line = |n| EngineLogLine {
            at: Timestamp::from_millis(0),
            level: "info".to_owned(),
            message: format!("{} {n}", run.0),
        };
        Ok((offset..3).take(limit).map(line).collect())
    }

    async fn backfill(
        &self,
        workflow: &WorkflowId,
        from: Timestamp,
        to: Timestamp,
        at_most: usize,
    ) -> Result<()> {
        self.admit()?.backfills.push((workflow.clone(), from, to, at_most));
        Ok(())
    }

    async fn watch(&self, tag: &str, tell: &(dyn Fn(Told) + Send + Sync)) -> Result<()> {
        let (number, mut seen) = {
            let mut world = self.admit()?;
            world.streams += 1;
            (world.streams, world.runs.clone())
        };
        tell(Told::Begun);
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let now = {
                let world = self.world();
                if world.down || world.broken_streams >= number {
                    return Err(Error::unavailable("engine/cut_short", "the stream ended"));
                }
                world.runs.clone()
            };
            let is_tagged = |run: &&EngineRun| run.tags.iter().any(|own| own == tag);
            for run in now.iter().filter(is_tagged).filter(|run| !seen.contains(run)) {
                tell(Told::Changed(run.id.clone()));
            }
            seen = now;
        }
    }

    async fn findings(&self, _: &[Workflow], _: Timestamp) -> Result<Vec<String>> {
        self.admit().map(|world| world.findings.clone())
    }
}
