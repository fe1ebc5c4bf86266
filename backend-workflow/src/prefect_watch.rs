//! What keeps a Prefect that answers from doing its work: it says so nowhere itself.

use std::collections::BTreeMap;
use std::time::Duration;

use scheduler_core::cron::Cron;
use scheduler_core::{Result, Timestamp};
use serde_json::{Value, json};

use crate::engine::Workflow;
use crate::prefect::PrefectEngine;
use crate::prefect_http::Call;
use crate::prefect_runs::PAGE;
use crate::prefect_wire::{Deployment, DeploymentSchedule, FlowRun, WorkPool};

/// How long Prefect may take to plan the runs of a schedule that was written.
const TO_PLAN: Duration = Duration::from_secs(120);

/// Prefect plans at least the runs of the next hour; what lies further off need not be there yet.
const PLANNED: Duration = Duration::from_secs(3_600);

/// How long a worker may take to start a run that it took, or to end one.
const TO_ACT: Duration = Duration::from_secs(300);

impl PrefectEngine {
    pub(crate) async fn look_around(&self, workflows: &[Workflow], now: Timestamp) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let ids: Vec<&str> = workflows.iter().map(|workflow| workflow.id.0.as_str()).collect();
        for ids in ids.chunks(PAGE) {
            let body = json!({ "deployments": { "id": { "any_": ids } }, "limit": PAGE });
            let deployments: Vec<Deployment> =
                self.client.call(&Call::post(&["deployments", "filter"], body)).await?.read()?;
            let names = names(workflows, &deployments);
            for deployment in &deployments {
                found.extend(self.unplanned(deployment, named(&names, &deployment.id), now).await?);
            }
            found.extend(self.late(ids, &names).await?);
            found.extend(self.stuck(ids, &names, now).await?);
        }
        Ok(found)
    }

    /// Active schedules that should have made runs and have not.
    async fn unplanned(&self, deployment: &Deployment, name: &str, now: Timestamp) -> Result<Vec<String>> {
        let schedules = deployment.schedules.iter().flatten();
        let due: Vec<&DeploymentSchedule> = schedules.filter(|schedule| is_due(schedule, now)).collect();
        if due.is_empty() {
            return Ok(Vec::new());
        }
        if deployment.paused == Some(true) {
            return Ok(vec![format!(
                "deployment `{name}` is paused in Prefect, so none of its schedules fires"
            )]);
        }
        let mut found = Vec::new();
        for schedule in due {
            let body = json!({ "limit": 1, "flow_runs": {
                "created_by": { "id_": [schedule.id] },
                "expected_start_time": { "after_": now },
            } });
            let planned: Vec<FlowRun> = self.runs_like(body).await?;
            if planned.is_empty() {
                let slug = schedule.slug.as_deref().unwrap_or(&schedule.id);
                found.push(format!(
                    "schedule `{slug}` of deployment `{name}` is active and has no run ahead: \
                     Prefect's scheduler does not work, see the server's log"
                ));
            }
        }
        Ok(found)
    }

    /// Runs whose time has passed, and nobody there to take them.
    async fn late(&self, ids: &[&str], names: &BTreeMap<String, String>) -> Result<Vec<String>> {
        let state = json!({ "name": { "any_": ["Late"] } });
        let late = self.runs_in(ids, state).await?;
        let mut by_pool: BTreeMap<Option<String>, Vec<&FlowRun>> = BTreeMap::new();
        for run in &late {
            by_pool.entry(run.work_pool_name.clone()).or_default().push(run);
        }
        let mut found = Vec::new();
        for (pool, runs) in by_pool {
            let Some(why) = self.why_late(pool.as_deref()).await? else { continue };
            let of = runs.first().and_then(|run| run.deployment_id.as_deref()).unwrap_or_default();
            let count = if runs.len() >= PAGE { format!("{PAGE} or more") } else { runs.len().to_string() };
            found.push(format!("{count} late runs, one of deployment `{}`: {why}", named(names, of)));
        }
        Ok(found)
    }

    async fn why_late(&self, pool: Option<&str>) -> Result<Option<String>> {
        let Some(pool) = pool else {
            return Ok(Some("the deployment has no work pool and nobody serves it".to_owned()));
        };
        let reply = self.client.call(&Call::get(&["work_pools", pool])).await?;
        if reply.is_missing() {
            return Ok(Some(format!("work pool `{pool}` is gone")));
        }
        if reply.read::<WorkPool>()?.is_paused == Some(true) {
            return Ok(Some(format!("work pool `{pool}` is paused")));
        }
        let body = json!({ "workers": { "status": { "any_": ["ONLINE"] } }, "limit": 1 });
        let call = Call::post(&["work_pools", pool, "workers", "filter"], body);
        let workers: Vec<Value> = self.client.call(&call).await?.read()?;
        let nobody = || {
            format!("no worker polls work pool `{pool}`; start one with `prefect worker start --pool {pool}`")
        };
        Ok(workers.is_empty().then(nobody))
    }

    /// Runs that a worker took and did not start, or was told to end and did not.
    async fn stuck(
        &self,
        ids: &[&str],
        names: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<Vec<String>> {
        let waiting = self.runs_in(ids, json!({ "type": { "any_": ["PENDING", "CANCELLING"] } })).await?;
        let stuck = waiting.iter().filter_map(|run| {
            let since = now.since(run.state.as_ref()?.timestamp?);
            (since > TO_ACT).then(|| {
                let name = named(names, run.deployment_id.as_deref().unwrap_or_default());
                let is_ending = run.state_type.as_deref() == Some("CANCELLING");
                let what = if is_ending { "was told to end" } else { "was taken to be started" };
                let minutes = since.as_secs() / 60;
                format!(
                    "run {} of deployment `{name}` {what} {minutes} minutes ago: its worker has lost it",
                    run.id
                )
            })
        });
        Ok(stuck.collect())
    }

    async fn runs_in(&self, ids: &[&str], state: Value) -> Result<Vec<FlowRun>> {
        let filter = json!({ "deployment_id": { "any_": ids }, "state": state });
        self.runs_like(json!({ "limit": PAGE, "flow_runs": filter })).await
    }

    async fn runs_like(&self, body: Value) -> Result<Vec<FlowRun>> {
        self.client.call(&Call::post(&["flow_runs", "filter"], body)).await?.read()
    }
}

/// Whether Prefect must have planned a run of it by now.
fn is_due(schedule: &DeploymentSchedule, now: Timestamp) -> bool {
    let is_old = schedule.updated.is_some_and(|updated| now.since(updated) > TO_PLAN);
    schedule.active == Some(true) && is_old && fires_soon(&schedule.schedule, now)
}

fn fires_soon(rule: &Value, now: Timestamp) -> bool {
    if let Some(interval) = rule.get("interval").and_then(Value::as_f64) {
        return interval <= PLANNED.as_secs_f64();
    }
    let Some(cron) = rule.get("cron").and_then(Value::as_str) else { return false };
    let zone = rule.get("timezone").and_then(Value::as_str).unwrap_or("UTC");
    // What somebody else wrote may mean something else to us; five fields mean nearly the same.
    let next = Cron::parse(cron, zone, "").ok().filter(|_| cron.split_whitespace().count() == 5);
    next.and_then(|cron| cron.next_after(now + TO_PLAN)).is_some_and(|next| next < now + PLANNED)
}

fn names(workflows: &[Workflow], deployments: &[Deployment]) -> BTreeMap<String, String> {
    let own = deployments.iter().map(|deployment| (deployment.id.clone(), deployment.name.clone()));
    let full = workflows.iter().map(|workflow| {
        (workflow.id.0.clone(), format!("{}/{}", workflow.name.flow, workflow.name.deployment))
    });
    own.chain(full).collect()
}

fn named<'a>(names: &'a BTreeMap<String, String>, id: &'a str) -> &'a str {
    names.get(id).map_or(id, String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_schedule_that_fires_soon_must_have_a_run() {
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let cases = [
            (json!({ "cron": "*/5 * * * *" }), "2026-05-01T00:00:00Z", true, true),
            (json!({ "cron": "*/5 * * * *" }), "2026-05-01T00:00:00Z", false, false),
            (json!({ "cron": "*/5 * * * *" }), "2026-05-31T23:59:00Z", true, false),
            (json!({ "cron": "0 0 1 1 *" }), "2026-05-01T00:00:00Z", true, false),
            (json!({ "interval": 60.0 }), "2026-05-01T00:00:00Z", true, true),
            (json!({ "interval": 86400.0 }), "2026-05-01T00:00:00Z", true, false),
            (json!({ "rrule": "FREQ=MINUTELY" }), "2026-05-01T00:00:00Z", true, false),
        ];
        for (rule, updated, active, expected) in cases {
            let schedule = json!({ "id": "1", "active": active, "schedule": rule, "updated": updated });
            let schedule: DeploymentSchedule = serde_json::from_value(schedule).unwrap();
            assert_eq!(is_due(&schedule, now), expected, "{:?}", schedule.schedule);
        }
    }
}
