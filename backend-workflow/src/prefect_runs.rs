//! Runs: started, looked at and listed.

use scheduler_core::{Error, Result, Timestamp};
use serde_json::{Map, Value, json};

use crate::engine::{EngineRun, EngineRunFilter, EngineRunId, EngineRuns, Launch, Launched, WorkflowId};
use crate::prefect::PrefectEngine;
use crate::prefect_http::{Call, fresh};
use crate::prefect_state::{filter, run_of};
use crate::prefect_wire::FlowRun;

/// The label of a run that tells which call made it.
const CALL: &str = "hybrid-scheduler.call";

/// What one page of Prefect's holds at most.
pub(crate) const PAGE: usize = 200;

impl PrefectEngine {
    /// Starts a run. Everything that may be repeated carries the key, so a run is not doubled.
    pub(crate) async fn launch(&self, request: &Launch) -> Result<Launched> {
        let id = id_of_workflow(&request.workflow)?;
        if request.key.is_empty() {
            return Err(Error::invalid("engine/no_key", "a run is started with a key only"));
        }
        self.check_parameters(&request.workflow, &request.parameters).await?;
        let call = format!("{:016x}{:016x}", fresh(), fresh());
        let order = order(request, &call);
        let reply = self.client.call(&Call::post(&["deployments", id, "create_flow_run"], order)).await?;
        if reply.is_missing() {
            self.forget(&request.workflow);
            return Err(unknown_workflow(id));
        }
        // A conflict is what Prefect calls parameters that do not fit.
        if reply.status == 409 {
            self.forget(&request.workflow);
            return Err(Error::invalid("engine/bad_parameters", reply.told()));
        }
        let run: FlowRun = reply.read()?;
        if run.deployment_id.as_deref().is_some_and(|of| of != id) {
            let message =
                format!("key `{}` belongs to a run of another deployment of the same flow", request.key);
            return Err(Error::conflict("engine/key_taken", message));
        }
        // After a lost answer a run that is there may be the one that this very call has made.
        let made_by = run.labels.as_ref().and_then(|labels| labels.get(CALL)).and_then(Value::as_str);
        let created = reply.status == 201 || made_by == Some(call.as_str());
        Ok(Launched { run: run_of(run, &self.links), created })
    }

    pub(crate) async fn read_run(&self, run: &EngineRunId) -> Result<EngineRun> {
        let reply = self.client.call(&Call::get(&["flow_runs", id_of_run(run)?])).await?;
        if reply.is_missing() {
            return Err(unknown_run(run));
        }
        Ok(run_of(reply.read()?, &self.links))
    }

    pub(crate) async fn page_of_runs(&self, wanted: &EngineRunFilter) -> Result<EngineRuns> {
        let limit = wanted.limit.clamp(1, PAGE);
        let body = json!({
            "flow_runs": runs_like(wanted),
            "sort": "EXPECTED_START_TIME_DESC",
            "limit": limit,
            "offset": wanted.offset,
        });
        let found: Vec<FlowRun> =
            self.client.call(&Call::post(&["flow_runs", "filter"], body).look()).await?.read()?;
        let more = found.len() >= limit;
        Ok(EngineRuns { runs: found.into_iter().map(|run| run_of(run, &self.links)).collect(), more })
    }

    /// Asks Prefect to make the runs that the schedules name in a window.
    pub(crate) async fn fill_in(
        &self,
        workflow: &WorkflowId,
        from: Timestamp,
        to: Timestamp,
        at_most: usize,
    ) -> Result<()> {
        let id = id_of_workflow(workflow)?;
        if at_most == 0 || to < from {
            return Ok(());
        }
        // Prefect makes the fewest that it may, so the least is as many as the most.
        let body = json!({ "start_time": from, "end_time": to, "min_runs": at_most, "max_runs": at_most });
        let reply = self.client.call(&Call::post(&["deployments", id, "schedule"], body)).await?;
        if reply.is_missing() { Err(unknown_workflow(id)) } else { reply.done() }
    }
}

/// Only ever a scheduled state: Prefect takes any other too, and shows a run that nothing runs.
fn order(request: &Launch, call: &str) -> Value {
    let mut state = json!({ "type": "SCHEDULED" });
    if let Some(at) = request.at {
        state["state_details"] = json!({ "scheduled_time": at });
    }
    let mut order = json!({
        "idempotency_key": request.key,
        "parameters": request.parameters,
        "tags": request.tags,
        "labels": { CALL: call },
        "state": state,
    });
    if !request.name.is_empty() {
        order["name"] = json!(request.name);
    }
    order
}

fn runs_like(wanted: &EngineRunFilter) -> Value {
    let mut filter_ = Map::new();
    let mut add = |key: &str, value: Value| filter_.insert(key.to_owned(), value);
    if !wanted.workflows.is_empty() {
        let ids: Vec<&str> = wanted.workflows.iter().map(|id| id.0.as_str()).filter(|id| is_id(id)).collect();
        add("deployment_id", json!({ "any_": ids }));
    }
    if !wanted.runs.is_empty() {
        let ids: Vec<&str> = wanted.runs.iter().map(|id| id.0.as_str()).filter(|id| is_id(id)).collect();
        add("id", json!({ "any_": ids }));
    }
    if !wanted.keys.is_empty() {
        add("idempotency_key", json!({ "any_": wanted.keys }));
    }
    if !wanted.tags.is_empty() {
        add("tags", json!({ "all_": wanted.tags }));
    }
    if !wanted.phases.is_empty() {
        add("state", filter(&wanted.phases));
    }
    let mut window = Map::new();
    window.extend(wanted.scheduled_from.map(|from| ("after_".to_owned(), json!(from))));
    window.extend(wanted.scheduled_up_to.map(|to| ("before_".to_owned(), json!(whole_millisecond(to)))));
    if !window.is_empty() {
        add("expected_start_time", Value::Object(window));
    }
    Value::Object(filter_)
}

/// The end of the millisecond: Prefect counts in microseconds.
fn whole_millisecond(at: Timestamp) -> String {
    let text = at.to_string();
    let text = text.trim_end_matches('Z');
    if text.contains('.') { format!("{text}999Z") } else { format!("{text}.000999Z") }
}

/// Prefect answers nonsense in the place of an id as it answers a wrong path, and an id may come from anywhere.
pub(crate) fn is_id(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

pub(crate) fn id_of_run(run: &EngineRunId) -> Result<&str> {
    if is_id(&run.0) { Ok(&run.0) } else { Err(unknown_run(run)) }
}

pub(crate) fn id_of_workflow(workflow: &WorkflowId) -> Result<&str> {
    if is_id(&workflow.0) { Ok(&workflow.0) } else { Err(unknown_workflow(&workflow.0)) }
}

pub(crate) fn unknown_run(run: &EngineRunId) -> Error {
    Error::not_found("engine/unknown_run", format!("Prefect has no flow run `{}`", run.0.escape_debug()))
}

pub(crate) fn unknown_workflow(id: &str) -> Error {
    let message = format!("Prefect has no deployment `{}`", id.escape_debug());
    Error::not_found("engine/unknown_workflow", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_says_what_is_wanted_and_nothing_else() {
        let id = "03cfae9f-dc37-4fdf-a4bd-319c630b0190";
        let wanted = EngineRunFilter {
            workflows: vec![WorkflowId(id.to_owned())],
            keys: vec!["k".to_owned()],
            scheduled_up_to: Some("2026-01-01T00:00:00.198Z".parse().unwrap()),
            ..EngineRunFilter::default()
        };
        let expected = json!({
            "deployment_id": { "any_": [id] },
            "idempotency_key": { "any_": ["k"] },
            "expected_start_time": { "before_": "2026-01-01T00:00:00.198999Z" },
        });
        assert_eq!(runs_like(&wanted), expected);
        assert_eq!(runs_like(&EngineRunFilter::default()), json!({}));
    }

    #[test]
    fn an_id_that_would_change_the_path_is_none() {
        assert!(is_id("03cfae9f-dc37-4fdf-a4bd-319c630b0190"));
        for text in [
            "",
            "filter",
            "../flows/",
            "03cfae9f-dc37-4fdf-a4bd-319c630b019/",
            "03cfae9fdc374fdfa4bd319c630b0190",
        ] {
            assert!(!is_id(text), "{text}");
        }
    }
}
