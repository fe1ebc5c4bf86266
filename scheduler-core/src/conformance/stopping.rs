//! Stopping: what ends, what is cut off, what is given back, and that nothing runs afterwards.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::act::Part;
use super::fault::{Outcome, broken, ensure, ensure_eq};
use super::stage::{Stage, Told};
use crate::{CancelReason, Capability, Drained, RunState, Task};

pub(super) async fn a_stop_lets_runs_end_within_the_grace(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let task = stage.task("works", Part::Work(stage.units(3)), |_| ()).await?;
    let run = stage.enqueue(&task).await?;
    stage.begun(run, 1).await?;

    let drained = stage.stop(stage.units(40)).await?;

    let expected = Drained { finished: 1, given_back: 0, abandoned: Vec::new() };
    ensure_eq("the report of the stop", drained, expected)?;
    let ended = stage.told(run).into_iter().find_map(|told| match told {
        Told::Ended(run) => Some(run.state),
        Told::Started(_) | Told::Again(_) => None,
    });
    ensure_eq("the end of the run that was told", ended, Some(RunState::Succeeded))
}

pub(super) async fn a_stop_names_what_it_cut_off(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let task = stage.task("works", Part::Work(stage.units(10_000)), |_| ()).await?;
    let (first, second) = (stage.enqueue(&task).await?, stage.enqueue(&task).await?);
    stage.begun(first, 1).await?;
    stage.begun(second, 1).await?;

    let mut drained = stage.stop(stage.units(2)).await?;

    drained.abandoned.sort();
    let mut expected = vec![first, second];
    expected.sort();
    ensure_eq("the runs that were cut off", drained.abandoned, expected)?;
    ensure_eq("runs that ended by themselves", drained.finished, 0)?;
    ensure_eq("what the job was told", stage.ledger.of(first)[0].told, Some(CancelReason::Shutdown))
}

pub(super) async fn a_stop_gives_back_what_did_not_begin(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let task = stage.task("returns", Part::Echo, |_| ()).await?;
    for _ in 0..3 {
        stage.enqueue_at(&task, stage.now() + stage.units(1_000)).await?;
    }

    let drained = stage.stop(stage.units(2)).await?;

    let expected = Drained { finished: 0, given_back: 3, abandoned: Vec::new() };
    ensure_eq("the report of the stop", drained, expected)
}

pub(super) async fn after_a_stop_nothing_runs(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let again = |task: &mut Task| {
        task.retry.max_attempts = NonZeroU32::new(2);
        task.retry.initial = stage.units(5);
    };
    let ahead = stage.task("returns", Part::Echo, |_| ()).await?;
    let failing = stage.task("fails", Part::Fail, again).await?;
    let first = stage.now() + stage.units(6);
    if stage.declares(Capability::Schedules) {
        stage.task("fires", Part::Echo, |task| task.trigger = Some(stage.every(5, first))).await?;
    }
    stage.enqueue_at(&ahead, first).await?;
    let run = stage.enqueue(&failing).await?;
    stage.in_state(run, RunState::Retrying).await?;

    stage.stop(stage.units(0)).await?;

    let before = stage.ledger.all().len();
    stage.pass(30).await;
    ensure_eq("attempts that are under way", stage.ledger.under_way(), 0)?;
    let after = stage.ledger.all();
    ensure(after.len() == before, || format!("after the stop `{}` ran", after[before].task))
}

pub(super) async fn an_abort_waits_for_nothing(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    // It hears nothing, and asks for an hour to wind down.
    let task = stage.task("deaf", Part::Deaf(stage.units(100_000)), |_| ()).await?;
    let run = stage.enqueue(&task).await?;
    stage.begun(run, 1).await?;

    let drained = stage.abort().await?;

    ensure_eq("the runs that were cut off", drained.abandoned, [run])?;
    stage.soon("the job of the aborted run is gone", || stage.ledger.under_way() == 0).await
}

pub(super) async fn an_abort_cuts_a_stop_short(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let task = stage.task("deaf", Part::Deaf(stage.units(1_000_000)), |_| ()).await?;
    let run = stage.enqueue(&task).await?;
    stage.begun(run, 1).await?;
    let (backend, grace) = (Arc::clone(&stage.backend), stage.units(1_000_000));
    let stopping = tokio::spawn(async move { backend.stop(grace).await });
    stage.refuses(&task).await?;

    let aborted = stage.abort().await?;

    stage.soon("the stop that was under way answers", || stopping.is_finished()).await?;
    let stopped = match stopping.await {
        Ok(Ok(drained)) => drained,
        answer => return broken(format!("the stop that was under way answered {answer:?}")),
    };
    let named = [stopped.abandoned, aborted.abandoned].concat();
    ensure(named.contains(&run), || "neither the stop nor the abort names the run that was cut off".into())?;
    stage.soon("the job of the aborted run is gone", || stage.ledger.under_way() == 0).await
}
