//! What Prefect's API answers: the fields that are used, and no more.
//!
//! An answer may grow, and a field may be null that was not before, so everything that can be done without is
//! optional. A time that cannot be read counts as none.

use std::collections::BTreeMap;

use scheduler_core::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// A flow.
#[derive(Debug, Deserialize)]
pub(crate) struct Flow {
    pub(crate) id: String,
    pub(crate) name: String,
}

/// A deployment of a flow.
#[derive(Debug, Deserialize)]
pub(crate) struct Deployment {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) flow_id: String,
    #[serde(default)]
    pub(crate) paused: Option<bool>,
    #[serde(default)]
    pub(crate) schedules: Option<Vec<DeploymentSchedule>>,
    #[serde(default)]
    pub(crate) global_concurrency_limit: Option<Limit>,
    #[serde(default)]
    pub(crate) concurrency_options: Option<Collision>,
    #[serde(default)]
    pub(crate) job_variables: Option<Map<String, Value>>,
    #[serde(default)]
    pub(crate) parameters: Option<Map<String, Value>>,
    #[serde(default)]
    pub(crate) parameter_openapi_schema: Option<Value>,
    #[serde(default)]
    pub(crate) enforce_parameter_schema: Option<bool>,
    #[serde(default)]
    pub(crate) tags: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) labels: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    pub(crate) path: Option<String>,
    #[serde(default)]
    pub(crate) entrypoint: Option<String>,
    #[serde(default)]
    pub(crate) pull_steps: Option<Value>,
    #[serde(default)]
    pub(crate) work_pool_name: Option<String>,
}

/// How many runs of a deployment may go on at once.
#[derive(Debug, Deserialize)]
pub(crate) struct Limit {
    pub(crate) limit: u64,
}

/// What becomes of a run beyond that.
#[derive(Debug, Deserialize)]
pub(crate) struct Collision {
    pub(crate) collision_strategy: String,
}

/// A schedule of a deployment.
#[derive(Debug, Deserialize)]
pub(crate) struct DeploymentSchedule {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) slug: Option<String>,
    #[serde(default)]
    pub(crate) active: Option<bool>,
    pub(crate) schedule: Value,
    #[serde(default)]
    pub(crate) parameters: Option<Map<String, Value>>,
    #[serde(default, deserialize_with = "instant")]
    pub(crate) updated: Option<Timestamp>,
}

/// A run of a deployment.
#[derive(Debug, Deserialize)]
pub(crate) struct FlowRun {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) deployment_id: Option<String>,
    #[serde(default)]
    pub(crate) idempotency_key: Option<String>,
    #[serde(default)]
    pub(crate) state_type: Option<String>,
    #[serde(default)]
    pub(crate) state_name: Option<String>,
    #[serde(default)]
    pub(crate) state: Option<State>,
    #[serde(default)]
    pub(crate) labels: Option<Map<String, Value>>,
    #[serde(default, deserialize_with = "instant")]
    pub(crate) expected_start_time: Option<Timestamp>,
    #[serde(default, deserialize_with = "instant")]
    pub(crate) start_time: Option<Timestamp>,
    #[serde(default, deserialize_with = "instant")]
    pub(crate) end_time: Option<Timestamp>,
    /// By how much the run is late, by the server's clock; nothing while its time lies ahead.
    #[serde(default)]
    pub(crate) estimated_start_time_delta: Option<f64>,
    #[serde(default)]
    pub(crate) run_count: Option<u32>,
    #[serde(default)]
    pub(crate) parameters: Option<Map<String, Value>>,
    #[serde(default)]
    pub(crate) tags: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) created_by: Option<Creator>,
    #[serde(default)]
    pub(crate) work_pool_name: Option<String>,
}

/// A state of a run.
#[derive(Debug, Deserialize)]
pub(crate) struct State {
    #[serde(default, rename = "type")]
    pub(crate) kind: Option<String>,
    #[serde(default)]
    pub(crate) message: Option<String>,
    #[serde(default, deserialize_with = "instant")]
    pub(crate) timestamp: Option<Timestamp>,
}

/// Who made a run.
#[derive(Debug, Deserialize)]
pub(crate) struct Creator {
    #[serde(default)]
    pub(crate) id: Option<String>,
    #[serde(default, rename = "type")]
    pub(crate) kind: Option<String>,
}

/// The answer to a change of state.
#[derive(Debug, Deserialize)]
pub(crate) struct Orchestrated {
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) state: Option<State>,
    #[serde(default)]
    pub(crate) details: Option<Details>,
}

/// The answer to a change of state of many runs.
#[derive(Debug, Deserialize)]
pub(crate) struct OrchestratedAll {
    pub(crate) results: Vec<Orchestrated>,
}

/// Why a change of state was refused.
#[derive(Debug, Deserialize)]
pub(crate) struct Details {
    #[serde(default)]
    pub(crate) reason: Option<String>,
}

/// A work pool.
#[derive(Debug, Deserialize)]
pub(crate) struct WorkPool {
    #[serde(default)]
    pub(crate) is_paused: Option<bool>,
}

/// A line of a run's log.
#[derive(Debug, Deserialize)]
pub(crate) struct LogLine {
    #[serde(default)]
    pub(crate) level: Option<i64>,
    #[serde(default)]
    pub(crate) message: Option<String>,
    #[serde(default, deserialize_with = "instant")]
    pub(crate) timestamp: Option<Timestamp>,
}

fn instant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().ok()))
}
