//! Runs that name a job and no task.

use serde_json::{Value, json};

use super::act::Part;
use super::fault::{Outcome, broken, ensure_eq};
use super::stage::{BOUND, FREE, Stage};
use crate::{Adhoc, Capability, Enqueued, Name, RunRequest, RunState};

/// A run of a job that gets these args.
fn order(stage: &Stage, job: &str, args: Value) -> RunRequest {
    let job = Name::new(job).expect("the kit's names are names");
    RunRequest { adhoc: Some(Adhoc::new(job.clone(), args)), ..stage.request(&job, stage.now()) }
}

pub(super) async fn a_run_without_a_task_runs_the_job_it_names(stage: &mut Stage) -> Outcome {
    stage.needs(Capability::Adhoc)?;
    stage.start().await?;
    // A task that happens to have the name of the job has nothing to do with it.
    stage.task(FREE, Part::Fail, |_| ()).await?;
    let args = json!({"n": [1, null], "text": "日"});
    let request = order(stage, FREE, args.clone());
    let id = request.run_id;

    ensure_eq("enqueue of a new run", stage.ask_enqueue(request.clone()).await?, Enqueued::Inserted(id))?;
    ensure_eq("the same id again", stage.ask_enqueue(request.clone()).await?, Enqueued::Duplicate(id))?;

    let run = stage.ended(id).await?;
    ensure_eq("its state", run.state, RunState::Succeeded)?;
    ensure_eq("the args that the job was made from", &run.output, &args)?;
    ensure_eq("what it was asked for as", &run.adhoc, &request.adhoc)?;
    ensure_eq("its task", run.task.as_str(), FREE)?;
    ensure_eq("its attempts", stage.ledger.of(id).len(), 1)
}

pub(super) async fn a_job_that_needs_a_task_is_not_run_without_one(stage: &mut Stage) -> Outcome {
    stage.needs(Capability::Adhoc)?;
    stage.start().await?;

    for (job, expected) in [(BOUND, "job/not_adhoc"), ("nobody_knows_it", "job/unknown")] {
        let answer = stage.backend.enqueue(order(stage, job, Value::Null)).await;
        let code = answer.map_err(|error| error.code());
        ensure_eq(&format!("enqueue of job {job} without a task"), code, Err(expected))?;
    }
    Ok(())
}

pub(super) async fn who_runs_jobs_without_a_task_says_so(stage: &mut Stage) -> Outcome {
    stage.needs_no(Capability::Adhoc)?;
    stage.start().await?;
    let request = order(stage, FREE, Value::Null);
    let id = request.run_id;

    if stage.backend.enqueue(request).await.is_err() {
        return Ok(());
    }
    stage.pass(20).await;

    match stage.ledger.of(id).is_empty() {
        true => Ok(()),
        false => broken("a job ran without a task: declare Capability::Adhoc"),
    }
}
