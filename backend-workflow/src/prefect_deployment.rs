//! The deployment by which Prefect runs a task of ours on its workers.
//!
//! It is created once and only patched afterwards, and it is ours by a label that it got when it was created: one
//! without it belongs to somebody else and is left alone.

use scheduler_core::{Error, Overlap, Result};
use serde_json::{Map, Value, json};

use crate::engine::{Hosted, Hosting, Workflow, WorkflowId, WorkflowName};
use crate::prefect::PrefectEngine;
use crate::prefect_http::Call;
use crate::prefect_wire::{Deployment, Flow};
use crate::prefect_workflows::check_name;

/// The flow that we ship.
pub(crate) const FLOW: &str = "hybrid_scheduler";

/// Where the flow stands in its folder.
const ENTRYPOINT: &str = "scheduler_flow.py:run_task";

/// The label of what is ours.
const LABEL: (&str, &str) = ("managed-by", "hybrid-scheduler");

/// Fields that are not shown: variables may be secrets, and nobody reads a schema.
const UNSAID: [&str; 2] = ["job_variables", "parameter_openapi_schema"];

/// Whether the deployment was made here.
pub(crate) fn is_hosted(deployment: &Deployment) -> bool {
    let label = deployment.labels.as_ref().and_then(|labels| labels.get(LABEL.0));
    label.and_then(Value::as_str) == Some(LABEL.1)
}

impl PrefectEngine {
    pub(crate) async fn host_task(&self, hosting: &Hosting, dry_run: bool) -> Result<Hosted> {
        check_name("work pool", &hosting.pool)?;
        let wanted = wanted(hosting)?;
        let name = WorkflowName { flow: FLOW.to_owned(), deployment: hosting.deployment.clone() };
        let found = self.deployment_named(&name).await?;
        let mut changes = self.provide_pool(&hosting.pool, dry_run).await?;
        let Some(found) = found else {
            changes.push(format!("a deployment of the flow `{FLOW}`, for work pool `{}`", hosting.pool));
            let created = if dry_run { None } else { Some(self.create(&name, wanted).await?) };
            let workflow = created.map(|made| self.workflow_of(made, FLOW));
            return Ok(Hosted { workflow, changes, ..Hosted::default() });
        };
        if !is_hosted(&found) {
            return Err(foreign(&name));
        }
        let differing = differing(&found, &wanted);
        let mut hosted = told(&differing);
        hosted.changes.extend(changes);
        if !differing.is_empty() && !dry_run {
            let patch: Map<String, Value> = differing.into_iter().map(|one| (one.key, one.wanted)).collect();
            self.client
                .call(&Call::patch(&["deployments", &found.id], Value::Object(patch)))
                .await?
                .done()?;
        }
        hosted.workflow = Some(self.workflow_of(found, FLOW));
        Ok(hosted)
    }

    pub(crate) async fn find_hosted(&self, prefix: &str) -> Result<Vec<Workflow>> {
        let ours = json!({ "tags": { "all_": [LABEL.1] } });
        let found = self.all_deployments(&ours).await?;
        let ours = found.into_iter().filter(|made| is_hosted(made) && made.name.starts_with(prefix));
        Ok(ours.map(|made| self.workflow_of(made, FLOW)).collect())
    }

    /// Prefect keeps runs that began, and removes those that wait.
    pub(crate) async fn remove_hosted(&self, workflow: &WorkflowId) -> Result<bool> {
        let made = match self.read_deployment(workflow).await {
            Err(error) if error.code() == "engine/unknown_workflow" => return Ok(false),
            made => made?,
        };
        if !is_hosted(&made) {
            return Err(foreign(&WorkflowName { flow: FLOW.to_owned(), deployment: made.name }));
        }
        let reply = self.client.call(&Call::delete(&["deployments", &made.id])).await?;
        if reply.is_missing() {
            return Ok(reply.is_repeated);
        }
        reply.done().map(|()| true)
    }

    async fn provide_pool(&self, pool: &str, dry_run: bool) -> Result<Vec<String>> {
        let reply = self.client.call(&Call::get(&["work_pools", pool])).await?;
        if !reply.is_missing() {
            return reply.done().map(|()| Vec::new());
        }
        if !dry_run {
            let body = json!({ "name": pool, "type": "process" });
            let reply = self.client.call(&Call::post(&["work_pools", ""], body)).await?;
            // Somebody else may have made it meanwhile.
            if reply.status != 409 {
                reply.done()?;
            }
        }
        Ok(vec![format!("create work pool `{pool}` of type `process`")])
    }

    async fn create(&self, name: &WorkflowName, mut wanted: Map<String, Value>) -> Result<Deployment> {
        let call = Call::post(&["flows", ""], json!({ "name": FLOW }));
        let flow: Flow = self.client.call(&call).await?.read()?;
        wanted.insert("name".to_owned(), json!(name.deployment));
        wanted.insert("flow_id".to_owned(), json!(flow.id));
        wanted.insert("labels".to_owned(), json!({ LABEL.0: LABEL.1 }));
        // Posted again it would lose the schedules that it got meanwhile.
        let call = Call::post(&["deployments", ""], Value::Object(wanted)).once();
        match self.client.call(&call).await {
            Ok(reply) => reply.read(),
            Err(error) if error.is_transient() => match self.deployment_named(name).await {
                Ok(Some(made)) if is_hosted(&made) => Ok(made),
                Ok(Some(_)) => Err(foreign(name)),
                Ok(None) | Err(_) => Err(error),
            },
            Err(error) => Err(error),
        }
    }
}

fn foreign(name: &WorkflowName) -> Error {
    let message = format!(
        "deployment `{}/{}` was not made by the hybrid scheduler, so it is left alone; rename or delete it",
        name.flow, name.deployment
    );
    Error::conflict("engine/foreign_workflow", message)
}

/// The deployment as it should be, in the words of a patch.
fn wanted(hosting: &Hosting) -> Result<Map<String, Value>> {
    let (limit, collision) = match hosting.overlap {
        Overlap::Skip => (json!(1), json!({ "collision_strategy": "CANCEL_NEW" })),
        Overlap::Queue => (json!(1), json!({ "collision_strategy": "ENQUEUE" })),
        Overlap::Allow => (Value::Null, Value::Null),
        Overlap::CancelOther => {
            let message =
                "Prefect has no `overlap = \"cancel_other\"`; choose another, or `fired_by = \"scheduler\"`";
            return Err(Error::invalid("engine/overlap_not_sayable", message));
        }
    };
    let namespace = hosting.deployment.strip_suffix(&format!(".{}", hosting.task)).unwrap_or_default();
    let wanted = json!({
        "entrypoint": ENTRYPOINT,
        "path": hosting.flow_folder,
        "pull_steps": [
            { "prefect.deployments.steps.set_working_directory": { "directory": hosting.flow_folder } }
        ],
        "work_pool_name": hosting.pool,
        "job_variables": if hosting.env.is_empty() { json!({}) } else { json!({ "env": hosting.env }) },
        "parameters": { "task": hosting.task, "program": hosting.program, "config": hosting.config },
        "parameter_openapi_schema": schema(),
        "enforce_parameter_schema": true,
        "concurrency_limit": limit,
        "concurrency_options": collision,
        "tags": [LABEL.1, format!("hs:namespace:{namespace}"), format!("hs:task:{}", hosting.deployment)],
    });
    match wanted {
        Value::Object(wanted) => Ok(wanted),
        _ => Ok(Map::new()),
    }
}

/// What the flow takes.
fn schema() -> Value {
    let text = |title: &str, position: u32| json!({ "type": "string", "title": title, "position": position });
    let optional = |title: &str, position: u32| {
        json!({ "anyOf": [{ "type": "string" }, { "type": "null" }], "default": null,
            "title": title, "position": position })
    };
    json!({
        "title": "Parameters",
        "type": "object",
        "properties": {
            "task": text("task", 0),
            "program": text("program", 1),
            "config": optional("config", 2),
            "run_id": optional("run_id", 3),
            "fire_time": optional("fire_time", 4),
            "params": { "type": "object", "default": {}, "title": "params", "position": 5 },
        },
        "required": ["task"],
        "additionalProperties": false,
    })
}

/// A field that has to be written.
#[derive(Debug, PartialEq)]
struct Difference {
    key: String,
    is: Value,
    wanted: Value,
}

/// What has to be written. Tags that people added stay.
fn differing(found: &Deployment, wanted: &Map<String, Value>) -> Vec<Difference> {
    let differs = |(key, wanted): (&String, &Value)| {
        let (is, wanted) = to_write(found, key, wanted)?;
        Some(Difference { key: key.clone(), is, wanted })
    };
    wanted.iter().filter_map(differs).collect()
}

/// What differs, as people are told it.
fn told(differing: &[Difference]) -> Hosted {
    let mut hosted = Hosted::default();
    for Difference { key, is, wanted } in differing {
        if UNSAID.contains(&key.as_str()) {
            hosted.changes.push(format!("update `{key}`"));
            continue;
        }
        hosted.before.insert(key.clone(), is.clone());
        hosted.after.insert(key.clone(), wanted.clone());
    }
    hosted
}

/// How the field is and how it should be, where these differ.
fn to_write(found: &Deployment, key: &str, wanted: &Value) -> Option<(Value, Value)> {
    let is = match key {
        "entrypoint" => json!(found.entrypoint),
        "path" => json!(found.path),
        "pull_steps" => found.pull_steps.clone().unwrap_or_default(),
        "work_pool_name" => json!(found.work_pool_name),
        "job_variables" => json!(found.job_variables.clone().unwrap_or_default()),
        "parameters" => json!(found.parameters.clone().unwrap_or_default()),
        "parameter_openapi_schema" => found.parameter_openapi_schema.clone().unwrap_or_default(),
        "enforce_parameter_schema" => json!(found.enforce_parameter_schema.unwrap_or(true)),
        "concurrency_limit" => json!(found.global_concurrency_limit.as_ref().map(|limit| limit.limit)),
        "concurrency_options" => {
            let strategy = found.concurrency_options.as_ref().map(|options| &options.collision_strategy);
            strategy.map_or(Value::Null, |strategy| json!({ "collision_strategy": strategy }))
        }
        "tags" => return tags_to_write(found, wanted),
        _ => return Some((Value::Null, wanted.clone())),
    };
    // Without a limit the strategy says nothing.
    let is_idle = key == "concurrency_options" && wanted.is_null();
    (is != *wanted && !is_idle).then(|| (is, wanted.clone()))
}

fn tags_to_write(found: &Deployment, wanted: &Value) -> Option<(Value, Value)> {
    let before = found.tags.clone().unwrap_or_default();
    let mut tags = before.clone();
    for tag in wanted.as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !tags.iter().any(|has| has == tag) {
            tags.push(tag.to_owned());
        }
    }
    (tags.len() > before.len()).then(|| (json!(before), json!(tags)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn hosting() -> Hosting {
        Hosting {
            deployment: "default.backup".to_owned(),
            task: "backup".to_owned(),
            program: "scheduler".to_owned(),
            config: None,
            overlap: Overlap::Skip,
            pool: "pool".to_owned(),
            flow_folder: "/srv/flow".to_owned(),
            env: BTreeMap::new(),
        }
    }

    fn as_read(hosting: &Hosting) -> Value {
        let mut read = Value::Object(wanted(hosting).unwrap());
        read["id"] = json!("7");
        read["name"] = json!("default.backup");
        read["flow_id"] = json!("8");
        // A limit is read back in another place than it is written to.
        read["global_concurrency_limit"] = json!({ "limit": read["concurrency_limit"] });
        read["concurrency_limit"] = Value::Null;
        read["concurrency_options"]["grace_period_seconds"] = Value::Null;
        read["tags"].as_array_mut().unwrap().push(json!("of-somebody"));
        read
    }

    #[test]
    fn what_is_as_it_should_be_is_not_written_and_what_drifted_is() {
        let read = as_read(&hosting());
        let of =
            |read: Value| differing(&serde_json::from_value(read).unwrap(), &wanted(&hosting()).unwrap());
        let one = |key: &str, is: Value, wanted: Value| [Difference { key: key.to_owned(), is, wanted }];
        assert_eq!(of(read.clone()), []);

        let mut drifted = read.clone();
        drifted["entrypoint"] = json!("other.py:main");
        assert_eq!(of(drifted), one("entrypoint", json!("other.py:main"), json!(ENTRYPOINT)));
        let mut unlimited = read.clone();
        unlimited["global_concurrency_limit"] = Value::Null;
        assert_eq!(of(unlimited), one("concurrency_limit", Value::Null, json!(1)));
        let mut untagged = read;
        untagged["tags"] = json!(["of-somebody"]);
        let Difference { key, wanted, .. } = of(untagged).remove(0);
        assert_eq!((key.as_str(), wanted.as_array().unwrap().len()), ("tags", 4));
    }

    #[test]
    fn what_differs_is_told_as_it_was_and_as_it_should_be_but_no_variable_of_a_worker() {
        let mut hosting = hosting();
        let read = serde_json::from_value(as_read(&hosting)).unwrap();
        hosting.env.insert("TOKEN".to_owned(), "canary".to_owned());
        hosting.config = Some("/etc/new.toml".to_owned());

        let hosted = told(&differing(&read, &wanted(&hosting).unwrap()));

        assert_eq!(hosted.changes, ["update `job_variables`"]);
        let config = |fields: &Map<String, Value>| fields["parameters"]["config"].clone();
        assert_eq!((config(&hosted.before), config(&hosted.after)), (Value::Null, json!("/etc/new.toml")));
        assert!(!hosted.is_same() && !format!("{hosted:?}").contains("canary"), "{hosted:?}");
    }

    #[test]
    fn an_overlap_that_prefect_does_not_have_is_refused() {
        let refused = wanted(&Hosting { overlap: Overlap::CancelOther, ..hosting() }).unwrap_err();
        assert_eq!(refused.code(), "engine/overlap_not_sayable");
        let allowed = wanted(&Hosting { overlap: Overlap::Allow, ..hosting() }).unwrap();
        assert_eq!(allowed["concurrency_limit"], Value::Null);
    }
}
