//! Ended runs that are forgotten on demand.

use super::act::Part;
use super::fault::{Outcome, ensure, ensure_eq, not_applicable};
use super::stage::Stage;
use crate::{Capability, EndedRun, HistoryBounds, Retention, RunId, RunState};

fn keeper(stage: &Stage) -> Outcome<&dyn Retention> {
    match stage.backend.retention() {
        Some(keeper) => Ok(keeper),
        None => not_applicable("its retention() is None"),
    }
}

/// Everything beyond bounds, as it is told a few at a time.
async fn told(stage: &Stage, bounds: &HistoryBounds) -> Outcome<Vec<EndedRun>> {
    let mut told = Vec::new();
    loop {
        let some = stage.drive("beyond", keeper(stage)?.beyond(bounds, told.len(), 2)).await?;
        ensure(some.len() <= 2, || format!("{} runs are told where 2 are asked for", some.len()))?;
        if some.is_empty() {
            return Ok(told);
        }
        told.extend(some);
    }
}

/// The same runs, forgotten a few at a time.
async fn forgotten(stage: &Stage, bounds: &HistoryBounds) -> Outcome<Vec<EndedRun>> {
    let mut gone = Vec::new();
    loop {
        let some = stage.drive("forget", keeper(stage)?.forget(bounds, 2)).await?;
        ensure(some.len() <= 2, || format!("{} runs are forgotten where 2 are asked for", some.len()))?;
        if some.is_empty() {
            return Ok(gone);
        }
        gone.extend(some);
    }
}

fn ids(runs: &[EndedRun]) -> Vec<RunId> {
    runs.iter().map(|ended| ended.run).collect()
}

async fn shown(stage: &Stage) -> Outcome<Vec<RunId>> {
    let mut shown: Vec<RunId> = stage.runs().await?.iter().map(|run| run.id).collect();
    shown.sort_unstable();
    Ok(shown)
}

pub(super) async fn what_lies_beyond_the_bounds_is_forgotten_and_nothing_else(stage: &mut Stage) -> Outcome {
    keeper(stage)?;
    stage.start().await?;
    let returns = stage.task("returns", Part::Echo, |_| ()).await?;
    let fails = stage.task("fails", Part::Fail, |_| ()).await?;
    let holds = stage.task("holds", Part::Hold, |_| ()).await?;
    // First of all, so that a letter would be the first to go.
    let failed = stage.enqueue(&fails).await?;
    stage.ended(failed).await?;
    let mut well = Vec::new();
    for _ in 0..5 {
        let run = stage.enqueue(&returns).await?;
        stage.ended(run).await?;
        well.push(run);
    }
    let lives = stage.enqueue(&holds).await?;
    stage.begun(lives, 1).await?;
    let waits = stage.enqueue_at(&returns, stage.now() + stage.units(100_000)).await?;

    ensure_eq("what lies beyond no bounds", ids(&told(stage, &HistoryBounds::default()).await?), [])?;
    let two = HistoryBounds::default().counting(2);
    let (before, all) = (told(stage, &two).await?, shown(stage).await?);
    ensure(ids(&before).ends_with(&well[..3]), || {
        format!("not the three of five that ended first lie beyond two: {before:?} of {well:?}")
    })?;
    let gone = forgotten(stage, &two).await?;
    ensure_eq("what was forgotten, as it was told", &gone, &before)?;
    let kept: Vec<RunId> = all.into_iter().filter(|run| !ids(&gone).contains(run)).collect();
    ensure_eq("the runs that are shown then", shown(stage).await?, kept)?;

    // A letter does not go, nor what has not ended; the last run of a task may stay.
    let rest = forgotten(stage, &HistoryBounds::default().counting(0)).await?;
    ensure(rest.iter().all(|run| run.run != lives && run.run != waits), || format!("forgotten: {rest:?}"))?;
    let is_letter = stage.declares(Capability::DeadLetters);
    ensure(!is_letter || !ids(&rest).contains(&failed), || "the run of a dead letter is forgotten".into())?;
    let left = shown(stage).await?;
    let must_stay = [lives, waits].into_iter().chain(is_letter.then_some(failed));
    for run in must_stay {
        ensure(left.contains(&run), || format!("run {run} is gone, which had not ended or is a letter"))?;
    }
    let no_letter: Vec<&EndedRun> = gone.iter().chain(&rest).collect();
    ensure(no_letter.iter().all(|ended| !left.contains(&ended.run)), || "a forgotten run is shown".into())?;
    let held = stage.run(lives).await?.map(|run| run.state);
    ensure_eq("the run that lives", held, Some(RunState::Running))?;
    stage.ledger.open_doors();
    ensure_eq("its end", stage.ended(lives).await?.state, RunState::Succeeded)?;

    if stage.declares(Capability::Durable) {
        stage.reopen().await?;
        stage.start().await?;
        let left = shown(stage).await?;
        let is_back = |ended: &&EndedRun| left.contains(&ended.run);
        ensure(!no_letter.iter().any(is_back), || "a forgotten run is back after a restart".into())?;
    }
    Ok(())
}
