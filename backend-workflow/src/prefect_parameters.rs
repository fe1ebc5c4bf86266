//! Parameters of a run against the schema of its workflow, before anything is sent.
//!
//! Prefect judges them itself, and its verdict counts. What is refused here would be refused there, or would
//! start a run that fails: so what cannot be judged, as a value that Prefect computes, is let pass.

use std::sync::{Arc, PoisonError};

use jsonschema::Validator;
use scheduler_core::{Error, Result};
use serde_json::{Map, Value};

use crate::engine::WorkflowId;
use crate::prefect::PrefectEngine;
use crate::prefect_wire::Deployment;

/// Of how many workflows the schema is kept.
const KEPT: usize = 1_000;

/// What was seen of a workflow, which counts until the server contradicts it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    rule: Option<Arc<Rule>>,
}

struct Rule {
    validator: Validator,
    defaults: Map<String, Value>,
    required: Vec<String>,
}

impl std::fmt::Debug for Rule {
    /// Without the values, which may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rule").field("required", &self.required).finish_non_exhaustive()
    }
}

impl Known {
    pub(crate) fn of(deployment: &Deployment) -> Self {
        let schema = deployment.parameter_openapi_schema.as_ref();
        let is_enforced = deployment.enforce_parameter_schema.unwrap_or(true);
        let schema =
            schema.filter(|schema| is_enforced && schema.as_object().is_some_and(|map| !map.is_empty()));
        // A schema that cannot be understood judges nothing.
        let rule = schema.and_then(|schema| Some((jsonschema::validator_for(schema).ok()?, schema)));
        let rule = rule.map(|(validator, schema)| {
            let required = schema.get("required").and_then(Value::as_array);
            let required = required.into_iter().flatten().filter_map(|name| Some(name.as_str()?.to_owned()));
            let defaults = deployment.parameters.clone().unwrap_or_default();
            Arc::new(Rule { validator, defaults, required: required.collect() })
        });
        Self { rule }
    }
}

impl PrefectEngine {
    /// # Errors
    /// `engine/bad_parameters` names those that do not fit; `engine/unknown_workflow`.
    pub(crate) async fn check_parameters(
        &self,
        workflow: &WorkflowId,
        parameters: &Map<String, Value>,
    ) -> Result<()> {
        if let Some(rule) = self.recall(workflow)
            && rule.is_none_or(|rule| faults(&rule, parameters).is_empty())
        {
            return Ok(());
        }
        // It was never seen, or what was seen would refuse them: it may have changed.
        let deployment = self.read_deployment(workflow).await?;
        let rule = self.learn(&deployment);
        let found = rule.map(|rule| faults(&rule, parameters)).unwrap_or_default();
        if found.is_empty() {
            return Ok(());
        }
        let message =
            format!("the parameters do not fit deployment `{}`: {}", deployment.name, found.join("; "));
        Err(Error::invalid("engine/bad_parameters", message))
    }

    fn recall(&self, workflow: &WorkflowId) -> Option<Option<Arc<Rule>>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(workflow).map(|known| known.rule.clone())
    }

    /// Has the workflow looked at again before its next run.
    pub(crate) fn forget(&self, workflow: &WorkflowId) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(workflow);
    }

    fn learn(&self, deployment: &Deployment) -> Option<Arc<Rule>> {
        let fresh = Known::of(deployment);
        let rule = fresh.rule.clone();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(WorkflowId(deployment.id.clone()), fresh);
        rule
    }
}

/// Each names the parameter and what is wrong; no value is repeated, as it may be a secret.
fn faults(rule: &Rule, given: &Map<String, Value>) -> Vec<String> {
    if given.values().any(is_computed) || rule.defaults.values().any(is_computed) {
        return Vec::new();
    }
    let mut all = rule.defaults.clone();
    all.extend(given.clone());
    // Prefect takes null for whatever need not be given.
    all.retain(|name, value| !value.is_null() || rule.required.contains(name));
    let all = Value::Object(all);
    rule.validator.iter_errors(&all).take(5).map(|error| told(&error)).collect()
}

fn told(error: &jsonschema::ValidationError<'_>) -> String {
    let place = error.instance_path().to_string();
    let words = error.masked().to_string();
    let place = place.trim_start_matches('/').replace('/', ".");
    if place.is_empty() { words } else { format!("`{place}`: {words}") }
}

/// Prefect's own notation for values that it computes when a run begins.
fn is_computed(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.contains_key("__prefect_kind") || map.values().any(is_computed),
        Value::Array(list) => list.iter().any(is_computed),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(extra: &Value) -> Option<Arc<Rule>> {
        let mut deployment = json!({ "id": "1", "name": "d", "flow_id": "2", "parameters": { "who": "x" },
            "parameter_openapi_schema": { "type": "object", "required": ["who"],
                "properties": { "who": { "type": "string" }, "secs": { "type": "number", "default": null } } } });
        deployment.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        Known::of(&serde_json::from_value(deployment).unwrap()).rule
    }

    #[test]
    fn parameters_are_judged_as_prefect_judges_them() {
        let rule = rule(&json!({})).unwrap();
        let cases = [
            (json!({}), 0),
            (json!({ "secs": 5 }), 0),
            (json!({ "secs": null }), 0),
            (json!({ "unknown": 1 }), 0),
            (json!({ "secs": { "__prefect_kind": "jinja", "template": "{{ 1 }}" } }), 0),
            (json!({ "secs": "canary" }), 1),
            (json!({ "who": null }), 1),
            (json!({ "who": 5, "secs": "canary" }), 2),
        ];
        for (given, expected) in cases {
            let found = faults(&rule, given.as_object().unwrap());
            assert_eq!(found.len(), expected, "{given}: {found:?}");
            assert!(found.iter().all(|fault| !fault.contains("canary")), "{found:?}");
        }
    }

    #[test]
    fn a_schema_that_is_not_enforced_or_not_understood_judges_nothing() {
        assert!(rule(&json!({ "enforce_parameter_schema": false })).is_none());
        assert!(rule(&json!({ "parameter_openapi_schema": { "type": "nonsense" } })).is_none());
        assert!(rule(&json!({ "parameter_openapi_schema": {} })).is_none());
        assert!(rule(&json!({ "parameter_openapi_schema": null })).is_none());
    }
}
