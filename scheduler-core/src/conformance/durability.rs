//! What outlives the instance: waiting runs, attempts, and the knowledge of what has run.

use std::num::NonZeroU32;

use super::act::Part;
use super::fault::{Outcome, broken, ensure_eq};
use super::stage::Stage;
use crate::{Capability, Enqueued, RunState};

pub(super) async fn a_waiting_run_survives_a_restart(stage: &mut Stage) -> Outcome {
    stage.needs(Capability::Durable)?;
    stage.start().await?;
    let task = stage.task("returns", Part::Echo, |_| ()).await?;
    let run = stage.enqueue_at(&task, stage.now() + stage.units(10)).await?;

    stage.reopen().await?;
    stage.start().await?;

    ensure_eq("its state", stage.ended(run).await?.state, RunState::Succeeded)?;
    ensure_eq("its attempts", stage.ledger.of(run).len(), 1)
}

pub(super) async fn a_waiting_run_survives_a_crash(stage: &mut Stage) -> Outcome {
    stage.needs(Capability::Durable)?;
    stage.start().await?;
    let task = stage.task("returns", Part::Echo, |_| ()).await?;
    let run = stage.enqueue_at(&task, stage.now() + stage.units(10)).await?;

    stage.crash().await?;
    stage.start().await?;

    ensure_eq("its state", stage.ended(run).await?.state, RunState::Succeeded)?;
    ensure_eq("its attempts", stage.ledger.of(run).len(), 1)
}

pub(super) async fn a_run_cut_off_by_a_crash_runs_again_as_its_next_attempt(stage: &mut Stage) -> Outcome {
    stage.needs(Capability::Durable)?;
    stage.start().await?;
    let twice = |task: &mut crate::Task| task.retry.max_attempts = NonZeroU32::new(2);
    let task = stage.task("holds", Part::Hold, twice).await?;
    let run = stage.enqueue(&task).await?;
    stage.begun(run, 1).await?;

    stage.crash().await?;
    stage.ledger.open_doors();
    stage.start().await?;

    ensure_eq("its state", stage.ended(run).await?.state, RunState::Succeeded)?;
    let numbers: Vec<u32> = stage.ledger.of(run).iter().map(|seen| seen.attempt).collect();
    ensure_eq("its attempts, counted when they are delivered", numbers, [1, 2])
}

pub(super) async fn a_run_that_ended_is_known_after_a_restart(stage: &mut Stage) -> Outcome {
    stage.needs(Capability::Durable)?;
    stage.start().await?;
    let task = stage.task("returns", Part::Echo, |_| ()).await?;
    let request = stage.request(&task, stage.now());
    let id = request.run_id;
    stage.ask_enqueue(request.clone()).await?;
    stage.ended(id).await?;

    stage.reopen().await?;
    stage.start().await?;

    let shown = stage.run(id).await?.map(|run| run.state);
    ensure_eq("its state", shown, Some(RunState::Succeeded))?;
    ensure_eq("the same id again", stage.ask_enqueue(request).await?, Enqueued::Duplicate(id))?;
    stage.pass(5).await;
    ensure_eq("its attempts", stage.ledger.of(id).len(), 1)
}

pub(super) async fn who_keeps_runs_over_a_restart_says_so(stage: &mut Stage) -> Outcome {
    stage.needs_no(Capability::Durable)?;
    stage.start().await?;
    let task = stage.task("returns", Part::Echo, |_| ()).await?;
    let run = stage.enqueue_at(&task, stage.now() + stage.units(10)).await?;

    stage.reopen().await?;
    stage.start().await?;
    stage.pass(20).await;

    if stage.ledger.of(run).is_empty() {
        return Ok(());
    }
    broken("a waiting run survived a restart: declare Capability::Durable")
}
