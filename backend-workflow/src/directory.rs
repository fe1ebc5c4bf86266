//! What is known of the engine's workflows: which one runs a task, and which schedule is which task's.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use scheduler_core::{Name, Result, Task};

use crate::engine::{EngineRun, Workflow, WorkflowId};
use crate::names::Identity;
use crate::session::{Session, lock};
use crate::target::Target;

/// How long what was read of the engine's schedules counts.
const FRESH: Duration = Duration::from_secs(60);

/// What was read last.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// The workflow of a task, for as long as its target stays what it is.
    workflows: HashMap<Name, (Target, Workflow)>,
    /// The tasks of schedules, by the engine's id of them.
    schedules: HashMap<String, Name>,
    /// The tasks that workflows of ours run.
    hosted: HashMap<WorkflowId, Name>,
    /// Other people's workflows that carry schedules of ours, and for which tasks.
    carriers: BTreeMap<WorkflowId, Vec<Name>>,
    read_at: Option<Duration>,
}

impl Session {
    /// The workflow that runs a task; one of ours is made, or brought up to date, the first time.
    ///
    /// # Errors
    /// Those of the engine.
    pub(crate) async fn workflow_of(&self, task: &Task) -> Result<(Target, Workflow)> {
        let target = Target::of(self, task)?;
        if let Some((known, workflow)) = lock(&self.directory).workflows.get(&task.name)
            && *known == target
        {
            return Ok((target, workflow.clone()));
        }
        let workflow = match &target {
            Target::Deployment(args) => {
                let name = args.name();
                self.link.call(|engine| engine.workflow(&name)).await?
            }
            Target::Hosted(hosting) => {
                let hosted = self.link.call(|engine| engine.host(hosting, false)).await?;
                hosted.workflow.ok_or_else(|| {
                    let message = format!("the engine made no workflow for task `{}`", task.name);
                    scheduler_core::Error::unexpected("workflow/not_hosted", message)
                })?
            }
        };
        let mut directory = lock(&self.directory);
        if matches!(target, Target::Hosted(_)) {
            directory.hosted.insert(workflow.id.clone(), task.name.clone());
        }
        directory.workflows.insert(task.name.clone(), (target.clone(), workflow.clone()));
        Ok((target, workflow))
    }

    /// Forgets the workflow of a task, so that it is looked up anew.
    pub(crate) fn forget_workflow(&self, task: &Name) {
        lock(&self.directory).workflows.remove(task);
    }

    /// The workflows that were looked up so far.
    pub(crate) fn known_workflows(&self) -> Vec<Workflow> {
        let directory = lock(&self.directory);
        let by_id: BTreeMap<WorkflowId, Workflow> = directory
            .workflows
            .values()
            .map(|(_, workflow)| (workflow.id.clone(), workflow.clone()))
            .collect();
        by_id.into_values().collect()
    }

    /// Notes that schedules were changed: what was read of them counts no more.
    pub(crate) fn outdate_schedules(&self) {
        lock(&self.directory).read_at = None;
    }

    /// Reads which schedules are ours, unless that is known.
    ///
    /// # Errors
    /// Those of the engine.
    pub(crate) async fn read_schedules(&self) -> Result<()> {
        let now = self.ctx.clock.monotonic();
        let read_at = lock(&self.directory).read_at;
        if !self.capabilities().schedules || read_at.is_some_and(|at| now.saturating_sub(at) < FRESH) {
            return Ok(());
        }
        let prefix = self.names.slug_prefix();
        let (mut hosted, mut carriers, mut schedules) = (Vec::new(), BTreeMap::new(), HashMap::new());
        for workflow in self.link.call(|engine| engine.workflows_with(&prefix)).await? {
            let own = self.names.task_of_deployment(&workflow.name.deployment);
            if let Some(task) = own.filter(|_| workflow.hosted) {
                hosted.push((workflow.id, task));
                continue;
            }
            let mut tasks = Vec::new();
            for schedule in self.link.call(|engine| engine.schedules(&workflow.id)).await? {
                let slug = schedule.slug.as_deref().unwrap_or_default();
                if let Some(task) = self.names.task_of_slug(slug) {
                    tasks.push(task.clone());
                    schedules.insert(schedule.id, task);
                }
            }
            carriers.insert(workflow.id, tasks);
        }
        let mut directory = lock(&self.directory);
        directory.hosted.extend(hosted);
        // A schedule that is gone has runs whose task is still known by it.
        directory.schedules.extend(schedules);
        directory.carriers = carriers;
        directory.read_at = Some(now);
        Ok(())
    }

    /// Other people's workflows that carry schedules of ours: those of one task, or all.
    pub(crate) fn carriers(&self, task: Option<&Name>) -> Vec<WorkflowId> {
        let directory = lock(&self.directory);
        let carries = |tasks: &Vec<Name>| task.is_none_or(|task| tasks.contains(task));
        directory.carriers.iter().filter(|(_, tasks)| carries(tasks)).map(|(id, _)| id.clone()).collect()
    }

    /// Which run of ours this one is; `None` when it is somebody else's.
    pub(crate) fn identity(&self, run: &EngineRun) -> Option<Identity> {
        if let Some(launched) = self.names.launched(run) {
            return Some(launched);
        }
        let directory = lock(&self.directory);
        let by_schedule = run.schedule.as_ref().and_then(|schedule| directory.schedules.get(schedule));
        let by_workflow = run.workflow.as_ref().and_then(|workflow| directory.hosted.get(workflow));
        let task = by_schedule.or(by_workflow).cloned().or_else(|| self.names.tagged_task(run))?;
        drop(directory);
        match (&run.schedule, run.scheduled_for) {
            (Some(_), Some(fire_time)) => Some(self.names.scheduled(task, fire_time)),
            _ => self.names.by_hand(task, run),
        }
    }
}
