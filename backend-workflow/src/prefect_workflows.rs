//! What Prefect is, and its deployments: found by name or by the schedules on them.

use std::collections::BTreeMap;

use scheduler_core::{Error, Result};
use serde_json::{Value, json};

use crate::engine::{EngineInfo, Workflow, WorkflowId, WorkflowName};
use crate::prefect::PrefectEngine;
use crate::prefect_deployment::is_hosted;
use crate::prefect_http::Call;
use crate::prefect_runs::{PAGE, id_of_workflow, unknown_workflow};
use crate::prefect_wire::{Deployment, Flow};

impl PrefectEngine {
    /// By the one call that tells the versions apart and needs the credentials.
    pub(crate) async fn ask_version(&self) -> Result<EngineInfo> {
        let reply = self.client.call(&Call::get(&["admin", "version"])).await?;
        if reply.is_missing() && self.client.is_bearer() {
            // Prefect Cloud has no version to ask for; this proves the key.
            self.client.call(&Call::post(&["deployments", "count"], json!({}))).await?.read::<Value>()?;
            return Ok(EngineInfo { kind: "prefect".to_owned(), version: "cloud".to_owned() });
        }
        if reply.is_missing() {
            let message = format!("{}; the URL of an API ends in `/api`", reply.refused());
            return Err(Error::unavailable("engine/bad_answer", message));
        }
        let version: String = reply.read()?;
        if version.split('.').next() != Some("3") {
            let message = format!(
                "{} is of Prefect {}, and only Prefect 3 is spoken here: upgrade that server, or name another",
                self.client.base(),
                version.chars().take(40).collect::<String>().escape_debug()
            );
            return Err(Error::unsupported("engine/wrong_version", message));
        }
        Ok(EngineInfo { kind: "prefect".to_owned(), version })
    }

    pub(crate) async fn find_workflow(&self, name: &WorkflowName) -> Result<Workflow> {
        match self.deployment_named(name).await? {
            Some(deployment) => Ok(self.workflow_of(deployment, &name.flow)),
            None => {
                let message = format!(
                    "Prefect has no deployment `{}/{}`; deploy it, or correct `flow` and `deployment`",
                    name.flow, name.deployment
                );
                Err(Error::not_found("engine/unknown_workflow", message))
            }
        }
    }

    /// `None` when there is none of that name.
    pub(crate) async fn deployment_named(&self, name: &WorkflowName) -> Result<Option<Deployment>> {
        check_name("flow", &name.flow)?;
        check_name("deployment", &name.deployment)?;
        let call = Call::get(&["deployments", "name", &name.flow, &name.deployment]);
        let reply = self.client.call(&call).await?;
        if reply.is_missing() { Ok(None) } else { reply.read().map(Some) }
    }

    pub(crate) async fn read_deployment(&self, workflow: &WorkflowId) -> Result<Deployment> {
        let id = id_of_workflow(workflow)?;
        let reply = self.client.call(&Call::get(&["deployments", id])).await?;
        if reply.is_missing() { Err(unknown_workflow(id)) } else { reply.read() }
    }

    /// Prefect has no filter for slugs, so every deployment is looked at.
    pub(crate) async fn find_scheduled(&self, prefix: &str) -> Result<Vec<Workflow>> {
        let mut found = self.all_deployments(&json!({})).await?;
        found.retain(|deployment| has_slug(deployment, prefix));
        let flows = self.names_of_flows(&found).await?;
        let named = found.into_iter().map(|deployment| {
            let flow = flows.get(&deployment.flow_id).cloned().unwrap_or_default();
            self.workflow_of(deployment, &flow)
        });
        Ok(named.collect())
    }

    /// Every deployment that the filter lets pass, by id.
    pub(crate) async fn all_deployments(&self, filter: &Value) -> Result<Vec<Deployment>> {
        let mut found: Vec<Deployment> = Vec::new();
        for page in 0.. {
            let body =
                json!({ "deployments": filter, "limit": PAGE, "offset": page * PAGE, "sort": "NAME_ASC" });
            let page: Vec<Deployment> =
                self.client.call(&Call::post(&["deployments", "filter"], body)).await?.read()?;
            let is_last = page.len() < PAGE;
            found.extend(page);
            if is_last {
                break;
            }
        }
        // A deployment that moved between two pages would be there twice.
        found.sort_by(|one, other| one.id.cmp(&other.id));
        found.dedup_by(|one, other| one.id == other.id);
        Ok(found)
    }

    async fn names_of_flows(&self, deployments: &[Deployment]) -> Result<BTreeMap<String, String>> {
        let mut ids: Vec<&str> = deployments.iter().map(|deployment| deployment.flow_id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut names = BTreeMap::new();
        for ids in ids.chunks(PAGE) {
            let body = json!({ "flows": { "id": { "any_": ids } }, "limit": PAGE });
            let flows: Vec<Flow> = self.client.call(&Call::post(&["flows", "filter"], body)).await?.read()?;
            names.extend(flows.into_iter().map(|flow| (flow.id, flow.name)));
        }
        Ok(names)
    }

    pub(crate) fn workflow_of(&self, deployment: Deployment, flow: &str) -> Workflow {
        let is_enforced = deployment.enforce_parameter_schema.unwrap_or(true);
        Workflow {
            page: Some(self.links.workflow(&deployment.id)),
            hosted: is_hosted(&deployment),
            name: WorkflowName { flow: flow.to_owned(), deployment: deployment.name },
            id: WorkflowId(deployment.id),
            parameters: deployment.parameter_openapi_schema.filter(|_| is_enforced),
        }
    }
}

fn has_slug(deployment: &Deployment, prefix: &str) -> bool {
    let mut slugs = deployment.schedules.iter().flatten().filter_map(|schedule| schedule.slug.as_deref());
    slugs.any(|slug| slug.starts_with(prefix))
}

/// Prefect answers some of these with an inner error, and a path cannot hold the last two.
///
/// # Errors
/// `engine/bad_name`.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    let is_bad = |one: char| matches!(one, '/' | '%' | '&' | '>' | '<') || one.is_control();
    if name.is_empty() || name.contains(is_bad) || matches!(name, "." | "..") {
        let message = format!(
            "`{}` is no name of a {what}: it has at least one character, and none of / % & < >",
            name.escape_debug()
        );
        return Err(Error::invalid("engine/bad_name", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_prefect_cannot_have_are_refused() {
        for name in ["etl", "with space", "ä.b-c_d", "a?b#c", "..."] {
            assert!(check_name("flow", name).is_ok(), "{name}");
        }
        for name in ["", "a/b", "50%", "a&b", "<a>", "..", ".", "a\nb"] {
            assert_eq!(check_name("flow", name).unwrap_err().code(), "engine/bad_name", "{name}");
        }
    }
}
