//! What every backend owes: to say what it is, to start, to stop, and to refuse what it cannot take.

use std::collections::BTreeSet;
use std::time::Duration;

use super::act::Part;
use super::fault::{Outcome, broken, ensure, ensure_eq};
use super::stage::Stage;
use crate::{CONTRACT, Capability, Drained, HealthStatus, Name, RunFilter, RunState};

pub(super) async fn what_it_is_never_changes(stage: &mut Stage) -> Outcome {
    let before = stage.info.clone();
    ensure_eq("the contract", before.contract, CONTRACT)?;
    let distinct: BTreeSet<Capability> = before.capabilities.iter().copied().collect();
    ensure_eq("capabilities, each named once", before.capabilities.len(), distinct.len())?;

    stage.start().await?;
    ensure_eq("info() while it runs", stage.backend.info(), before.clone())?;
    stage.stop(Duration::ZERO).await?;
    ensure_eq("info() after a stop", stage.backend.info(), before)
}

pub(super) async fn schedules_are_declared_exactly_where_they_are(stage: &mut Stage) -> Outcome {
    match (stage.declares(Capability::Schedules), stage.backend.schedules().is_some()) {
        (true, true) | (false, false) => Ok(()),
        (true, false) => broken("it declares schedules, but schedules() is None"),
        (false, true) => broken("schedules() is there, but not declared: declare Capability::Schedules"),
    }
}

pub(super) async fn starting_twice_changes_nothing(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let task = stage.task("holds", Part::Hold, |_| ()).await?;
    let run = stage.enqueue(&task).await?;
    stage.begun(run, 1).await?;

    stage.start().await?;

    let shown = stage.run(run).await?.map(|run| run.state);
    ensure_eq("the run that was under way", shown, Some(RunState::Running))?;
    stage.ledger.open_doors();
    let ended = stage.ended(run).await?;
    ensure_eq("its state and attempts", (ended.state, ended.attempt), (RunState::Succeeded, 1))
}

pub(super) async fn stopping_twice_changes_and_reports_nothing(stage: &mut Stage) -> Outcome {
    let unstarted = stage.stop(Duration::ZERO).await?;
    ensure_eq("the report of a stop before any start", unstarted, Drained::default())?;
    stage.start().await?;
    let task = stage.task("works", Part::Work(stage.units(2)), |_| ()).await?;
    let run = stage.enqueue(&task).await?;
    stage.begun(run, 1).await?;
    stage.stop(stage.units(20)).await?;

    let again = stage.stop(stage.units(20)).await?;

    ensure_eq("the report of the second stop", again, Drained::default())
}

pub(super) async fn it_starts_again_after_a_stop(stage: &mut Stage) -> Outcome {
    let task = stage.task("returns", Part::Echo, |_| ()).await?;
    stage.start().await?;
    stage.stop(Duration::ZERO).await?;

    stage.start().await?;

    let run = stage.enqueue(&task).await?;
    let ended = stage.ended(run).await?;
    ensure_eq("a run after the second start", ended.state, RunState::Succeeded)
}

pub(super) async fn health_says_whether_it_runs(stage: &mut Stage) -> Outcome {
    let before = stage.backend.health().await;
    ensure(before.status != HealthStatus::Up, || "it is up before it was started".into())?;
    stage.start().await?;
    let running = stage.backend.health().await;
    ensure(running.status == HealthStatus::Up, || format!("it runs, and its health is {running:?}"))?;
    stage.stop(Duration::ZERO).await?;
    let after = stage.backend.health().await;
    ensure(after.status != HealthStatus::Up, || "it is up after it was stopped".into())?;
    ensure(!after.findings.is_empty(), || format!("it is {} without saying why", after.status))
}

pub(super) async fn an_unknown_task_is_refused(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let unknown = Name::new("nobody_knows_it").expect("it is a name");
    let request = stage.request(&unknown, stage.now());

    let answer = stage.backend.enqueue(request).await;

    let code = answer.map_err(|error| error.code());
    ensure_eq("enqueue of a task that is not in the book", code, Err("task/unknown"))
}

pub(super) async fn nothing_is_taken_while_it_does_not_run(stage: &mut Stage) -> Outcome {
    let task = stage.task("returns", Part::Echo, |_| ()).await?;
    let early = stage.backend.enqueue(stage.request(&task, stage.now())).await;
    ensure_eq("enqueue before the start", early.map_err(|error| error.code()), Err("backend/stopped"))?;
    stage.start().await?;
    stage.stop(Duration::ZERO).await?;

    let late = stage.backend.enqueue(stage.request(&task, stage.now())).await;

    ensure_eq("enqueue after the stop", late.map_err(|error| error.code()), Err("backend/stopped"))
}

pub(super) async fn runs_can_be_asked_for_while_it_does_not_run(stage: &mut Stage) -> Outcome {
    let before = stage.page(&RunFilter::all()).await?;
    ensure_eq("its runs before the start", before.runs, [])?;
    stage.start().await?;
    stage.stop(Duration::ZERO).await?;

    let after = stage.page(&RunFilter::all()).await?;

    ensure_eq("its runs after a stop without any", after.runs, [])
}
