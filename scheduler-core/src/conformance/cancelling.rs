//! Ending a run from outside, wherever it stands.

use std::num::NonZeroU32;

use super::act::Part;
use super::fault::{Outcome, broken, ensure_eq};
use super::stage::Stage;
use crate::{CancelReason, Cancelled, Capability, ErrorKind, RunId, RunState};

pub(super) async fn a_waiting_run_that_is_cancelled_never_starts(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let task = stage.task("returns", Part::Echo, |_| ()).await?;
    let run = stage.enqueue_at(&task, stage.now() + stage.units(5)).await?;

    let answer = stage.cancel(&run).await?;

    ensure_eq("the answer", answer, Cancelled::Prevented)?;
    ensure_eq("its state", stage.ended(run).await?.state, RunState::Cancelled)?;
    stage.pass(10).await;
    ensure_eq("attempts of the run", stage.ledger.of(run).len(), 0)
}

pub(super) async fn a_run_between_attempts_can_be_cancelled(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let twice = |task: &mut crate::Task| {
        task.retry.max_attempts = NonZeroU32::new(2);
        task.retry.initial = stage.units(20);
    };
    let task = stage.task("fails", Part::Fail, twice).await?;
    let run = stage.enqueue(&task).await?;
    stage.in_state(run, RunState::Retrying).await?;

    let answer = stage.cancel(&run).await?;

    ensure_eq("the answer", answer, Cancelled::Prevented)?;
    ensure_eq("its state", stage.ended(run).await?.state, RunState::Cancelled)?;
    stage.pass(30).await;
    ensure_eq("attempts of the run", stage.ledger.of(run).len(), 1)
}

pub(super) async fn a_running_run_that_is_cancelled_hears_it(stage: &mut Stage) -> Outcome {
    stage.needs(Capability::CancelRunning)?;
    stage.start().await?;
    let task = stage.task("holds", Part::Hold, |_| ()).await?;
    let run = stage.enqueue(&task).await?;
    stage.begun(run, 1).await?;

    let answer = stage.cancel(&run).await?;

    ensure_eq("the answer", answer, Cancelled::Requested)?;
    let ended = stage.ended(run).await?;
    ensure_eq("what the job heard", stage.ledger.of(run)[0].told, Some(CancelReason::Requested))?;
    ensure_eq("the state of the run", ended.state, RunState::Cancelled)
}

pub(super) async fn who_cancels_running_runs_says_so(stage: &mut Stage) -> Outcome {
    stage.needs_no(Capability::CancelRunning)?;
    stage.start().await?;
    let task = stage.task("holds", Part::Hold, |_| ()).await?;
    let run = stage.enqueue(&task).await?;
    stage.begun(run, 1).await?;

    match stage.backend.cancel(&run).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(()),
        answer => broken(format!(
            "cancel of a running run answered {answer:?}: declare Capability::CancelRunning, \
             or answer with an error of kind Unsupported"
        )),
    }
}

pub(super) async fn a_run_that_ended_cannot_be_cancelled(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let task = stage.task("returns", Part::Echo, |_| ()).await?;
    let run = stage.enqueue(&task).await?;
    stage.ended(run).await?;

    let answer = stage.cancel(&run).await?;

    ensure_eq("the answer", answer, Cancelled::AlreadyFinished)?;
    ensure_eq("its state", stage.ended(run).await?.state, RunState::Succeeded)
}

pub(super) async fn a_run_that_nobody_knows_cannot_be_cancelled(stage: &mut Stage) -> Outcome {
    stage.start().await?;

    let answer = stage.backend.cancel(&RunId::manual(stage.now())).await;

    ensure_eq("cancel of an unknown run", answer.map_err(|error| error.code()), Err("run/unknown"))
}
