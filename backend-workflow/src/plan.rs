//! What the engine's schedules should be, beside what they are, and the steps from the one to the other.
//!
//! Only what carries our slug is compared and changed. An id of the engine's stays as long as its slug does.

use scheduler_core::{
    Error, ErrorKind, FiredBy, Name, Pause, Placed, PlannedAction, PlannedChange, Result, Task,
};
use serde_json::{Map, Value, json};

use crate::engine::{EngineSchedule, Hosting, ScheduleSpec, Workflow, WorkflowId};
use crate::session::{Session, lock};
use crate::target::Target;

/// One step, and how it is told.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) change: PlannedChange,
    pub(crate) act: Act,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Act {
    Nothing,
    /// Makes the task's workflow, or brings it up to date.
    Host,
    /// Creates the task's schedule, or changes it in place.
    Write(ScheduleSpec),
    Delete(WorkflowId, String),
    /// Removes a workflow that was made here.
    Unhost(WorkflowId),
}

/// Whether the engine is to fire the task.
pub(crate) fn is_engine_fired(task: &Task) -> bool {
    task.trigger.is_some() && task.fired_by == FiredBy::Engine
}

impl Session {
    /// The steps for one task, and the workflow that its schedule belongs to.
    ///
    /// # Errors
    /// Those of the engine; they name the task.
    pub(crate) async fn plan_task(&self, placed: &Placed) -> Result<(Vec<Step>, Option<WorkflowId>)> {
        let task = &placed.task;
        let planned = self.plan_one(task).await;
        planned.map_err(|error| named(task, error))
    }

    async fn plan_one(&self, task: &Task) -> Result<(Vec<Step>, Option<WorkflowId>)> {
        let target = Target::of(self, task)?;
        let mut steps = Vec::new();
        let workflow = match &target {
            Target::Deployment(args) => {
                let name = args.name();
                let workflow = self.link.call(|engine| engine.workflow(&name)).await?;
                // What is triggered by hand may get the rest of them then.
                if task.trigger.is_some() {
                    self.link.call(|engine| engine.check(&workflow.id, &args.parameters)).await?;
                }
                Some(workflow)
            }
            Target::Hosted(hosting) => self.plan_host(task, hosting, &mut steps).await?,
        };
        if !self.capabilities().schedules {
            return Ok((steps, workflow.map(|workflow| workflow.id)));
        }
        let found = match &workflow {
            Some(workflow) => self.link.call(|engine| engine.schedules(&workflow.id)).await?,
            None => Vec::new(),
        };
        let slug = self.names.slug(&task.name);
        let actual = found.iter().find(|schedule| schedule.slug.as_ref() == Some(&slug));
        if is_engine_fired(task) {
            steps.extend(self.plan_schedule(task, &target, actual)?);
        } else if let (Some(actual), Some(workflow)) = (actual, &workflow) {
            let why = "the task has no trigger that the engine fires any more";
            steps.push(deletion(workflow, actual, why).of(&task.name));
        }
        if let (Target::Deployment(args), Some(_)) = (&target, &workflow) {
            let place = format!("{}/{}", args.flow, args.deployment);
            let prefix = self.names.slug_prefix();
            let is_foreign = |schedule: &&EngineSchedule| {
                schedule.slug.as_ref().is_none_or(|slug| !slug.starts_with(&prefix))
            };
            steps.extend(found.iter().filter(is_foreign).map(|foreign| {
                let subject = format!("schedule {} of {place}", label(foreign));
                kept(PlannedChange::new(PlannedAction::Keep, subject).with_note("somebody else's"))
            }));
        }
        Ok((steps, workflow.map(|workflow| workflow.id)))
    }

    async fn plan_host(
        &self,
        task: &Task,
        hosting: &Hosting,
        steps: &mut Vec<Step>,
    ) -> Result<Option<Workflow>> {
        let hosted = self.link.call(|engine| engine.host(hosting, true)).await?;
        let action = match (&hosted.workflow, hosted.is_same()) {
            (_, true) => PlannedAction::Keep,
            (None, false) => PlannedAction::Create,
            (Some(_), false) => PlannedAction::Update,
        };
        let mut change = PlannedChange::new(action, format!("deployment {}", hosting.deployment));
        if !hosted.after.is_empty() {
            change = change.between(Value::Object(hosted.before), Value::Object(hosted.after));
        }
        change.notes = hosted.changes;
        let act = if action.is_change() { Act::Host } else { Act::Nothing };
        steps.push(Step { change: change.of_task(task.name.clone()), act });
        Ok(hosted.workflow)
    }

    fn plan_schedule(
        &self,
        task: &Task,
        target: &Target,
        actual: Option<&EngineSchedule>,
    ) -> Result<Vec<Step>> {
        let unsaid = || Error::unexpected("workflow/no_trigger", "a task that is fired has a trigger");
        let trigger = task.trigger.as_ref().ok_or_else(unsaid)?;
        let rendered = self.link.engine.render(trigger)?;
        let pause = lock(&self.pauses).of(&task.name).cloned();
        // Who paused it, here or in the engine, resumes it: neither an edit nor its loss there does.
        let is_active = actual.map_or(pause.is_none(), |actual| actual.active);
        let spec = ScheduleSpec {
            slug: self.names.slug(&task.name),
            rule: rendered.rule,
            active: is_active,
            parameters: target.schedule_parameters(),
        };
        let subject = format!("schedule {}", spec.slug);
        let of = |action| PlannedChange::new(action, subject.clone()).of_task(task.name.clone());
        let mut step = match actual {
            None => Step {
                change: of(PlannedAction::Create).between(Value::Null, fields(&spec.rule, &spec.parameters)),
                act: Act::Write(spec),
            },
            Some(actual) => match differences(actual, &spec) {
                None => kept(of(PlannedAction::Keep)),
                Some((before, after)) => {
                    Step { change: of(PlannedAction::Update).between(before, after), act: Act::Write(spec) }
                }
            },
        };
        step.change.notes.extend(rendered.notes);
        if actual.is_some_and(|actual| !actual.active) {
            let stays = pause.as_ref().map(|pause| format!("it stays {}", said(pause)));
            step.change.notes.push(stays.unwrap_or_else(|| "it is paused and stays so".to_owned()));
        }
        let mut steps = vec![step];
        if let (None, Some(pause)) = (actual, &pause) {
            // It is written so at once: between two calls it might fire.
            steps.push(kept(of(PlannedAction::Pause).with_note(said(pause))));
        }
        Ok(steps)
    }

    /// Takes a step of this task, or of none.
    ///
    /// # Errors
    /// Those of the engine.
    pub(crate) async fn take(&self, task: Option<&Task>, step: &Step) -> Result<()> {
        match (&step.act, task) {
            (Act::Nothing, _) | (Act::Host | Act::Write(_), None) => return Ok(()),
            (Act::Host, Some(task)) => {
                self.forget_workflow(&task.name);
                self.workflow_of(task).await?;
            }
            (Act::Write(spec), Some(task)) => {
                let (_, workflow) = self.workflow_of(task).await?;
                self.link.call(|engine| engine.upsert_schedule(&workflow.id, spec)).await?;
            }
            (Act::Unhost(workflow), _) => {
                self.link.call(|engine| engine.unhost(workflow)).await?;
            }
            (Act::Delete(workflow, slug), _) => {
                self.link.call(|engine| engine.delete_schedule(workflow, slug)).await?;
            }
        }
        tracing::info!(
            backend = %self.backend,
            "{} {}{}", step.change.action, step.change.subject, difference(&step.change)
        );
        self.outdate_schedules();
        Ok(())
    }
}

impl Step {
    pub(crate) fn of(self, task: &Name) -> Self {
        Self { change: self.change.of_task(task.clone()), act: self.act }
    }
}

pub(crate) fn kept(change: PlannedChange) -> Step {
    Step { change, act: Act::Nothing }
}

pub(crate) fn deletion(workflow: &Workflow, schedule: &EngineSchedule, why: &str) -> Step {
    let change = PlannedChange::new(PlannedAction::Delete, format!("schedule {}", label(schedule)))
        .between(fields(&schedule.rule, &schedule.parameters), Value::Null)
        .with_note(why);
    let slug = schedule.slug.clone().unwrap_or_default();
    Step { change, act: Act::Delete(workflow.id.clone(), slug) }
}

pub(crate) fn label(schedule: &EngineSchedule) -> &str {
    schedule.slug.as_deref().unwrap_or(&schedule.id)
}

fn fields(rule: &Value, parameters: &Map<String, Value>) -> Value {
    let mut fields = Map::from_iter([("rule".to_owned(), rule.clone())]);
    if !parameters.is_empty() {
        fields.insert("parameters".to_owned(), Value::Object(parameters.clone()));
    }
    Value::Object(fields)
}

/// What differs, as it is and as it should be.
fn differences(actual: &EngineSchedule, spec: &ScheduleSpec) -> Option<(Value, Value)> {
    let (mut before, mut after) = (Map::new(), Map::new());
    if actual.rule != spec.rule {
        before.insert("rule".to_owned(), actual.rule.clone());
        after.insert("rule".to_owned(), spec.rule.clone());
    }
    if actual.parameters != spec.parameters {
        before.insert("parameters".to_owned(), json!(actual.parameters));
        after.insert("parameters".to_owned(), json!(spec.parameters));
    }
    (!before.is_empty()).then_some((Value::Object(before), Value::Object(after)))
}

/// Who paused a task, and why.
fn said(pause: &Pause) -> String {
    let by = pause.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let until = pause.until.map(|until| format!(" until {until}")).unwrap_or_default();
    let why = pause.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("paused{by}{until}{why}")
}

fn difference(change: &PlannedChange) -> String {
    match change.action {
        PlannedAction::Update if !change.before.is_null() => {
            format!(": {} becomes {}", change.before, change.after)
        }
        _ if change.notes.is_empty() => String::new(),
        _ => format!(": {}", change.notes.join("; ")),
    }
}

/// Whether the error says nothing of the task in particular.
pub(crate) fn may_concern_all(error: &Error) -> bool {
    error.is_transient() || error.kind() == ErrorKind::Unauthorized
}

fn named(task: &Task, error: Error) -> Error {
    if may_concern_all(&error) {
        return error;
    }
    Error::new(error.kind(), error.code(), format!("task `{}`: {error}", task.name)).with_source(error)
}
