//! Runs without a task: a job and its args, where the job allows that.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{
    Adhoc, BackendContext, Durability, Error, Job, JobDescriptor, Name, Overlap, Placed, Placement, Registry,
    Result, Run, Task,
};

impl Adhoc {
    /// This job with these args.
    pub fn new(job: Name, args: Value) -> Self {
        Self { job, args }
    }
}

impl Registry {
    /// A task in place of the one that nobody configured, named like its job, and the job's descriptor.
    ///
    /// # Errors
    /// `job/unknown`, `job/not_adhoc`.
    pub(crate) fn adhoc_task(&self, adhoc: &Adhoc) -> Result<(Task, &JobDescriptor)> {
        let descriptor = self.job(adhoc.job.as_str())?;
        if !descriptor.is_adhoc() {
            let job = &adhoc.job;
            let message =
                format!("job `{job}` may not run without a task here; adhoc = true in [jobs.{job}] lets it");
            return Err(Error::invalid("job/not_adhoc", message));
        }
        let mut task = Task::new(adhoc.job.clone(), adhoc.job.clone());
        task.args = match &adhoc.args {
            Value::Null => Value::Object(Map::new()),
            args => args.clone(),
        };
        // Who asks for it does not want it lost, and runs of one job have nothing to do with each other.
        task.characteristics.durability = Some(Durability::Persistent);
        task.overlap = Overlap::Allow;
        task.timeout = Some(descriptor.adhoc_limit());
        Ok((task, descriptor))
    }
}

/// The job that a task without a definition runs.
///
/// # Errors
/// `task/bad_args`.
pub(crate) fn build(task: &Task, descriptor: &JobDescriptor) -> Result<Arc<dyn Job>> {
    descriptor.build(&task.args).map_err(|faults| {
        let all: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Error::invalid("task/bad_args", format!("job `{}`: {}", task.job, all.join("; ")))
    })
}

impl BackendContext {
    /// What a run is to do: its task as this process knows it, or the job that it names itself, where that may run
    /// without a task in this process.
    ///
    /// # Errors
    /// `task/unknown`, `job/unknown`, `job/not_adhoc`, `task/bad_args`.
    pub fn work_of(&self, run: &Run) -> Result<Arc<Placed>> {
        let Some(adhoc) = &run.adhoc else {
            let unknown =
                || Error::not_found("task/unknown", format!("no task `{}` in this process", run.task));
            return self.tasks.find(&run.task).ok_or_else(unknown);
        };
        let (mut task, descriptor) = self.registry.adhoc_task(adhoc)?;
        let mut job = build(&task, descriptor);
        if job.is_err() && adhoc.args.is_null() {
            // A type without fields may be written as `null`.
            task.args = Value::Null;
            job = build(&task, descriptor).or(job);
        }
        let job = job?;
        let placement = Placement {
            tier: run.tier,
            backend: run.backend.clone(),
            classification: task.classify(),
            reasons: Vec::new(),
            warnings: Vec::new(),
        };
        Ok(Arc::new(Placed { task, job, placement: Arc::new(placement) }))
    }
}
