//! The job `prefect`: a task that is a run of a deployment which exists already.

use scheduler_core::{
    ArgsError, Error, Job, JobDescriptor, JobError, Output, Result, RunContext, Task, Tier, async_trait,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::engine::WorkflowName;
use crate::prefect_workflows::check_name;

/// The name of the job.
pub(crate) const PREFECT: &str = "prefect";

/// Describes the job `prefect`. It runs on the workflow tier only.
pub fn job() -> JobDescriptor {
    let schema = schemars::schema_for!(PrefectArgs).to_value();
    JobDescriptor::typed(PREFECT, "runs a deployment of Prefect", PrefectArgs::checked)
        .on(&[Tier::Workflow])
        .with_schema(schema)
        .with_own_limit()
}

/// The args of the job `prefect`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PrefectArgs {
    /// The flow.
    pub(crate) flow: String,
    /// The deployment of it.
    pub(crate) deployment: String,
    /// What every run of the task is given.
    #[serde(default)]
    pub(crate) parameters: Map<String, Value>,
    /// Words to find its runs by in Prefect, besides ours.
    #[serde(default)]
    pub(crate) tags: Vec<String>,
}

impl PrefectArgs {
    /// The args of a task with this job.
    ///
    /// # Errors
    /// `task/bad_args`; a task that was placed has none that are bad.
    pub(crate) fn of(task: &Task) -> Result<Self> {
        serde_json::from_value(task.args.clone()).map_err(|error| {
            Error::invalid("task/bad_args", format!("task `{}`: {error}", task.name)).with_source(error)
        })
    }

    pub(crate) fn name(&self) -> WorkflowName {
        WorkflowName { flow: self.flow.clone(), deployment: self.deployment.clone() }
    }

    fn checked(self) -> Result<PrefectJob, Vec<ArgsError>> {
        let names = [("/flow", &self.flow), ("/deployment", &self.deployment)];
        let mut faults: Vec<ArgsError> = names
            .into_iter()
            .filter_map(|(place, name)| {
                Some(ArgsError::new(place, check_name(&place[1..], name).err()?.to_string()))
            })
            .collect();
        for (at, tag) in self.tags.iter().enumerate() {
            if tag.is_empty() || tag.starts_with("hs:") {
                let message = format!("`{}` is empty or begins with `hs:`, as ours do", tag.escape_debug());
                faults.push(ArgsError::new(format!("/tags/{at}"), message));
            }
        }
        if faults.is_empty() { Ok(PrefectJob) } else { Err(faults) }
    }
}

/// Stands for a run that Prefect does; there is nothing to run here.
#[derive(Debug)]
struct PrefectJob;

#[async_trait]
impl Job for PrefectJob {
    async fn run(&self, _: &RunContext) -> Result<Output, JobError> {
        Err(JobError::abort("a deployment is run by Prefect; use `scheduler trigger`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_job_takes_a_deployment_and_runs_on_the_workflow_tier_only() {
        let args =
            json!({"flow": "etl", "deployment": "nightly run", "parameters": {"who": "x"}, "tags": ["a"]});
        assert!(job().build(&args).is_ok());
        assert_eq!(job().tiers(), [Tier::Workflow]);
    }

    #[test]
    fn every_fault_of_the_args_has_its_place() {
        let places = |args: Value| -> Vec<String> {
            job().build(&args).err().unwrap().into_iter().map(|fault| fault.pointer).collect()
        };
        let names = json!({"flow": "a/b", "deployment": "", "tags": ["ok", "hs:run:1"]});
        assert_eq!(places(names), ["/flow", "/deployment", "/tags/1"]);
        assert_eq!(places(json!({"flow": "a", "deployment": "b", "wait": true})), ["/wait"]);
        assert_eq!(places(json!({"flow": "a", "deployment": "b", "parameters": 1})), ["/parameters"]);
    }
}
