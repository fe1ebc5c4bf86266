//! What is done with a backend that is connected and not started.

use super::act::Part;
use super::fault::{Outcome, broken, ensure, ensure_eq, not_applicable};
use super::stage::Stage;
use crate::{Cancelled, RunState};

pub(super) async fn what_is_asked_for_from_outside_runs_at_the_next_start(stage: &mut Stage) -> Outcome {
    let task = stage.task("returns", Part::Echo, |_| ()).await?;
    match stage.backend.connect(stage.context()).await {
        Ok(()) => {}
        Err(error) if error.code() == "backend/not_kept_outside" => {
            return not_applicable("it keeps nothing outside of the process that runs it");
        }
        Err(error) => return broken(format!("`connect` answered [{}] {error}", error.code())),
    }
    let run = stage.enqueue(&task).await?;
    let other = stage.enqueue_at(&task, stage.now() + stage.units(1)).await?;
    ensure_eq("cancelling a run that waits", stage.cancel(&other).await?, Cancelled::Prevented)?;
    stage.pass(5).await;
    ensure(stage.ledger.all().is_empty(), || "a run began although nothing was started".into())?;
    let shown = stage.run(run).await?.map(|run| run.state);
    ensure_eq("the run that waits", shown, Some(RunState::Queued))?;

    stage.reopen().await?;
    stage.start().await?;

    ensure_eq("its state", stage.ended(run).await?.state, RunState::Succeeded)?;
    ensure_eq("its attempts", stage.ledger.of(run).len(), 1)
}
