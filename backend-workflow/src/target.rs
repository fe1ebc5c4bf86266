//! Which workflow of the engine runs a task: one that its args name, or one that we make for it.

use scheduler_core::{Overlap, Result, RunRequest, Task};
use serde_json::{Map, Value, json};

use crate::engine::Hosting;
use crate::job::{PREFECT, PrefectArgs};
use crate::plan::is_engine_fired;
use crate::session::Session;

/// What a task becomes in the engine.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// A run of a workflow that exists already.
    Deployment(PrefectArgs),
    /// A run of a workflow of ours, on whose workers the task is run.
    Hosted(Box<Hosting>),
}

/// Whether the task is run by a workflow that we make for it.
pub(crate) fn is_hosted(task: &Task) -> bool {
    task.job.as_str() != PREFECT
}

impl Target {
    /// The target of a task.
    ///
    /// # Errors
    /// `task/bad_args`.
    pub(crate) fn of(session: &Session, task: &Task) -> Result<Self> {
        if !is_hosted(task) {
            return PrefectArgs::of(task).map(Self::Deployment);
        }
        let config = &session.config;
        let own_folder = || session.ctx.data_dir.as_ref().map(|folder| folder.join("workflow"));
        let flow_folder = config
            .flow_folder
            .clone()
            .or_else(|| own_folder().map(|folder| folder.display().to_string()))
            .unwrap_or_else(|| "workflow".to_owned());
        Ok(Self::Hosted(Box::new(Hosting {
            deployment: session.names.deployment(&task.name),
            task: task.name.to_string(),
            program: config.program.clone(),
            config: config.config_file.clone(),
            // What we fire ourselves takes its turn here already, and what is asked for runs beside what runs.
            overlap: if is_engine_fired(task) { task.overlap } else { Overlap::Allow },
            pool: config.work_pool.clone(),
            flow_folder,
            env: config.env.clone(),
        })))
    }

    /// What a run that was asked for is given.
    pub(crate) fn parameters(&self, request: &RunRequest) -> Map<String, Value> {
        match self {
            Self::Deployment(args) => {
                let mut parameters = args.parameters.clone();
                parameters.extend(request.params.clone());
                parameters
            }
            Self::Hosted(_) => Map::from_iter([
                ("run_id".to_owned(), json!(request.run_id)),
                ("fire_time".to_owned(), json!(request.fire_time)),
                ("params".to_owned(), Value::Object(request.params.clone())),
            ]),
        }
    }

    /// What every run of the task's schedule is given. A workflow of ours works the rest out by itself.
    pub(crate) fn schedule_parameters(&self) -> Map<String, Value> {
        match self {
            Self::Deployment(args) => args.parameters.clone(),
            Self::Hosted(_) => Map::new(),
        }
    }

    /// Words of the task's own to find a run by.
    pub(crate) fn tags(&self) -> &[String] {
        match self {
            Self::Deployment(args) => &args.tags,
            Self::Hosted(_) => &[],
        }
    }
}
