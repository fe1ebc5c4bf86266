//! What is ours and no task wants where it is, and the plan for all tasks together.

use std::collections::BTreeSet;
use std::sync::Arc;

use scheduler_core::{Error, Name, Placed, PlannedAction, PlannedChange, Result};

use crate::engine::{EngineRunFilter, EngineSchedule, Phase, Workflow, WorkflowId};
use crate::plan::{Act, Step, deletion, is_engine_fired, kept, label, may_concern_all};
use crate::session::Session;

impl Session {
    /// The steps for schedules of ours that no task wants where they are.
    ///
    /// `wanted` are the workflows of the tasks that were planned, by task.
    ///
    /// # Errors
    /// Those of the engine.
    pub(crate) async fn plan_rest(
        &self,
        wanted: &[(Name, Option<WorkflowId>)],
        prune: bool,
    ) -> Result<Vec<Step>> {
        if !self.capabilities().schedules {
            return Ok(Vec::new());
        }
        let prefix = self.names.slug_prefix();
        let mut steps = Vec::new();
        for workflow in self.link.call(|engine| engine.workflows_with(&prefix)).await? {
            for schedule in self.link.call(|engine| engine.schedules(&workflow.id)).await? {
                let Some(slug) = schedule.slug.as_deref().filter(|slug| slug.starts_with(&prefix)) else {
                    continue;
                };
                let task = self.names.task_of_slug(slug);
                steps.extend(self.plan_left(&workflow, &schedule, task.as_ref(), wanted, prune));
            }
        }
        steps.extend(self.plan_unwanted(&steps, prune).await?);
        Ok(steps)
    }

    /// The steps for workflows that were made here and whose task is gone. That of a task which moved stays: one word
    /// brings the task back.
    async fn plan_unwanted(&self, deletions: &[Step], prune: bool) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        if !self.capabilities().hosting {
            return Ok(steps);
        }
        let prefix = self.names.deployment_prefix();
        for workflow in self.link.call(|engine| engine.hosted(&prefix)).await? {
            let Some(task) = self.names.task_of_deployment(&workflow.name.deployment) else { continue };
            if self.ctx.tasks.find(&task).is_some() {
                continue;
            }
            let subject = format!("deployment {}", workflow.name.deployment);
            let keep = |note: &str| kept(PlannedChange::new(PlannedAction::Keep, &subject).with_note(note));
            if !prune {
                steps.push(keep("no task wants it any more; prune deletes it"));
                continue;
            }
            steps.push(match self.why_kept(&workflow, deletions).await? {
                Some(note) => keep(note),
                None => Step {
                    change: PlannedChange::new(PlannedAction::Delete, &subject)
                        .with_note("no task wants it any more; what it ran stays in history"),
                    act: Act::Unhost(workflow.id),
                },
            });
        }
        Ok(steps)
    }

    /// Why a workflow that no task wants is not deleted yet.
    async fn why_kept(&self, workflow: &Workflow, deletions: &[Step]) -> Result<Option<&'static str>> {
        let is_deleted = |schedule: &EngineSchedule| {
            deletions.iter().any(|step| match &step.act {
                Act::Delete(id, slug) => *id == workflow.id && schedule.slug.as_ref() == Some(slug),
                Act::Nothing | Act::Host | Act::Unhost(_) | Act::Write(_) => false,
            })
        };
        let schedules = self.link.call(|engine| engine.schedules(&workflow.id)).await?;
        if !schedules.iter().all(is_deleted) {
            return Ok(Some("no task wants it any more, but it has a schedule of somebody else"));
        }
        let live = EngineRunFilter {
            workflows: vec![workflow.id.clone()],
            phases: vec![Phase::Running, Phase::Paused, Phase::Cancelling],
            limit: 1,
            ..EngineRunFilter::default()
        };
        let runs = self.link.call(|engine| engine.list_runs(&live)).await?.runs;
        Ok((!runs.is_empty()).then_some("no task wants it any more, but a run of it goes on"))
    }

    fn plan_left(
        &self,
        workflow: &Workflow,
        schedule: &EngineSchedule,
        task: Option<&Name>,
        wanted: &[(Name, Option<WorkflowId>)],
        prune: bool,
    ) -> Option<Step> {
        let here = wanted.iter().find(|(name, _)| Some(name) == task);
        let known = task.and_then(|task| self.ctx.tasks.find(task));
        match (here, known) {
            // It has been planned where it belongs.
            (Some((_, place)), _) if place.as_ref() == Some(&workflow.id) => None,
            (Some((name, _)), _) => {
                Some(deletion(workflow, schedule, "the task is run by another workflow now").of(name))
            }
            (None, Some(moved)) if moved.placement.backend != self.backend => {
                let why = format!("the task runs on `{}` now", moved.placement.backend);
                Some(deletion(workflow, schedule, &why).of(&moved.task.name))
            }
            (None, Some(here)) if !is_engine_fired(&here.task) => Some(
                deletion(workflow, schedule, "the engine is not to fire the task any more")
                    .of(&here.task.name),
            ),
            // It is of this backend and was not asked about.
            (None, Some(_)) => None,
            (None, None) if prune => Some(deletion(workflow, schedule, "no task wants it any more")),
            (None, None) => {
                let note = "no task wants it any more; it goes on firing until it is deleted (prune)";
                let subject = format!("schedule {}", label(schedule));
                Some(kept(PlannedChange::new(PlannedAction::Keep, subject).with_note(note)))
            }
        }
    }

    /// The steps for all of these tasks, and for what none of them wants.
    ///
    /// # Errors
    /// Those of the engine. What is wrong with a single task is a step of its own, and keeps no other from its place.
    pub(crate) async fn plan_all(
        &self,
        tasks: &[Arc<Placed>],
        prune: bool,
    ) -> Result<Vec<(Option<Name>, Step)>> {
        let (mut steps, mut wanted) = (Vec::new(), Vec::new());
        for placed in tasks {
            match self.plan_task(placed).await {
                Ok((planned, workflow)) => {
                    steps.extend(planned.into_iter().map(|step| (Some(placed.task.name.clone()), step)));
                    wanted.push((placed.task.name.clone(), workflow));
                }
                Err(error) if may_concern_all(&error) => return Err(error),
                Err(error) => steps.push((Some(placed.task.name.clone()), fault(&placed.task.name, &error))),
            }
        }
        let rest = self.plan_rest(&wanted, prune || self.config.prune).await?;
        let told: BTreeSet<String> = steps.iter().map(|(_, step)| step.change.subject.clone()).collect();
        let is_new = |step: &Step| step.act != Act::Nothing || !told.contains(&step.change.subject);
        steps.extend(rest.into_iter().filter(is_new).map(|step| (None, step)));
        Ok(steps)
    }
}

fn fault(task: &Name, error: &Error) -> Step {
    let change = PlannedChange::new(PlannedAction::Fault, format!("task {task}")).of_task(task.clone());
    kept(change.with_note(error.to_string()))
}
