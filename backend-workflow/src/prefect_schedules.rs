//! Schedules of a deployment: read, written in place and removed, each by itself.
//!
//! A deployment that is posted again gets new ids for all its schedules, whose runs are then made a second time. One
//! that is patched with schedules loses them all when a single one of them has no slug, as somebody's from Prefect's
//! pages. So a schedule is only ever written by its own call; Prefect plans its runs a minute later unless its
//! deployment is touched too.

use scheduler_core::Result;
use serde_json::{Value, json};

use crate::engine::{EngineSchedule, ScheduleSpec, WorkflowId};
use crate::prefect::PrefectEngine;
use crate::prefect_cron::in_one_form;
use crate::prefect_http::Call;
use crate::prefect_runs::{id_of_workflow, unknown_workflow};
use crate::prefect_wire::DeploymentSchedule;

impl PrefectEngine {
    pub(crate) async fn read_schedules(&self, workflow: &WorkflowId) -> Result<Vec<EngineSchedule>> {
        let deployment = self.read_deployment(workflow).await?;
        Ok(deployment.schedules.unwrap_or_default().into_iter().map(schedule_of).collect())
    }

    pub(crate) async fn write_schedule(&self, workflow: &WorkflowId, schedule: &ScheduleSpec) -> Result<()> {
        let id = id_of_workflow(workflow)?;
        let entry = json!({
            "slug": schedule.slug,
            "active": schedule.active,
            "schedule": schedule.rule,
            "parameters": schedule.parameters,
        });
        if let Some(found) = self.schedule_of_slug(workflow, &schedule.slug).await? {
            return self.patch_schedule(id, &found.id, entry).await;
        }
        let call = Call::post(&["deployments", id, "schedules"], json!([entry]));
        let reply = self.client.call(&call).await?;
        if reply.status == 409
            && let Some(found) = self.schedule_of_slug(workflow, &schedule.slug).await?
        {
            // Another daemon was faster, or the answer to our own first request was lost.
            return self.patch_schedule(id, &found.id, entry).await;
        }
        if reply.is_missing() {
            return Err(unknown_workflow(id));
        }
        reply.done()?;
        self.touch(id).await
    }

    pub(crate) async fn remove_schedule(&self, workflow: &WorkflowId, slug: &str) -> Result<bool> {
        let Some(found) = self.schedule_of_slug(workflow, slug).await? else { return Ok(false) };
        let path = ["deployments", id_of_workflow(workflow)?, "schedules", &found.id];
        let reply = self.client.call(&Call::delete(&path)).await?;
        if reply.is_missing() {
            // Somebody else was faster, unless the answer to our own first request was lost.
            return Ok(reply.is_repeated);
        }
        reply.done().map(|()| true)
    }

    pub(crate) async fn switch_schedule(
        &self,
        workflow: &WorkflowId,
        slug: &str,
        active: bool,
    ) -> Result<bool> {
        let Some(found) = self.schedule_of_slug(workflow, slug).await? else { return Ok(false) };
        if found.active.unwrap_or(true) != active {
            let entry = json!({
                "slug": slug,
                "active": active,
                "schedule": found.schedule,
                "parameters": found.parameters.unwrap_or_default(),
            });
            self.patch_schedule(id_of_workflow(workflow)?, &found.id, entry).await?;
        }
        Ok(true)
    }

    async fn schedule_of_slug(
        &self,
        workflow: &WorkflowId,
        slug: &str,
    ) -> Result<Option<DeploymentSchedule>> {
        let schedules = self.read_deployment(workflow).await?.schedules.unwrap_or_default();
        Ok(schedules.into_iter().find(|schedule| schedule.slug.as_deref() == Some(slug)))
    }

    /// What the entry does not name is set to its default by Prefect, so it names everything.
    async fn patch_schedule(&self, id: &str, schedule: &str, entry: Value) -> Result<()> {
        let call = Call::patch(&["deployments", id, "schedules", schedule], entry);
        self.client.call(&call).await?.done()?;
        self.touch(id).await
    }

    /// Makes Prefect look at the deployment within seconds. That it looks later does no harm.
    async fn touch(&self, id: &str) -> Result<()> {
        if let Err(error) = self.client.call(&Call::patch(&["deployments", id], json!({}))).await?.done() {
            tracing::debug!(%error, "Prefect plans the runs of the schedule with its next round");
        }
        Ok(())
    }
}

fn schedule_of(schedule: DeploymentSchedule) -> EngineSchedule {
    EngineSchedule {
        id: schedule.id,
        slug: schedule.slug,
        rule: in_one_form(&schedule.schedule),
        active: schedule.active.unwrap_or(true),
        parameters: schedule.parameters.unwrap_or_default(),
    }
}
