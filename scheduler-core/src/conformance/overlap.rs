//! What happens to a fire that arrives while the last run lives.

use super::act::Part;
use super::fault::{Outcome, ensure, ensure_eq};
use super::stage::Stage;
use crate::{Name, Overlap, RunState, Timestamp};

/// A task whose runs take 25 units and which fires every 10, the first time 5 units after what is returned.
async fn crowded(stage: &mut Stage, overlap: Overlap) -> Outcome<(Name, Timestamp)> {
    stage.schedules()?;
    stage.start().await?;
    let base = stage.now();
    let part = Part::Work(stage.units(25));
    let task = stage.ticking("crowded", part, base + stage.units(5), |task| task.overlap = overlap).await?;
    Ok((task, base))
}

pub(super) async fn overlap_skip_leaves_skipped_runs_that_say_why(stage: &mut Stage) -> Outcome {
    let (task, base) = crowded(stage, Overlap::Skip).await?;

    stage.pass_until(base + stage.units(37)).await;

    let expected =
        [(5, RunState::Succeeded), (15, RunState::Skipped), (25, RunState::Skipped), (35, RunState::Running)];
    stage.tells(&task, base, &expected).await?;
    let silent = |run: &&crate::Run| run.state == RunState::Skipped && run.reason.is_none();
    let silent = stage.runs().await?.iter().filter(silent).count();
    ensure_eq("skipped runs without a reason", silent, 0)
}

pub(super) async fn overlap_queue_runs_one_after_the_other(stage: &mut Stage) -> Outcome {
    let (task, base) = crowded(stage, Overlap::Queue).await?;

    stage.pass_until(base + stage.units(27)).await;

    let expected = [(5, RunState::Running), (15, RunState::Queued), (25, RunState::Queued)];
    stage.tells(&task, base, &expected).await?;
    let second = stage.fire(&task, base + stage.units(15));
    let first = stage.ended(stage.fire(&task, base + stage.units(5))).await?;
    let began = stage.begun(second, 1).await?[0].at;
    let in_turn = first.finished_at.is_some_and(|finished| finished <= began);
    ensure(in_turn, || format!("the second began at {began}, the first ended at {:?}", first.finished_at))
}

pub(super) async fn overlap_cancel_other_takes_the_place_of_the_last(stage: &mut Stage) -> Outcome {
    let (task, base) = crowded(stage, Overlap::CancelOther).await?;

    stage.pass_until(base + stage.units(17)).await;

    stage.tells(&task, base, &[(5, RunState::Cancelled), (15, RunState::Running)]).await
}

pub(super) async fn overlap_allow_runs_beside_each_other(stage: &mut Stage) -> Outcome {
    let (task, base) = crowded(stage, Overlap::Allow).await?;

    stage.pass_until(base + stage.units(27)).await;

    let expected = [(5, RunState::Running), (15, RunState::Running), (25, RunState::Running)];
    stage.tells(&task, base, &expected).await
}
