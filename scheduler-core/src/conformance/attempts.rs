//! How often a run is tried, when, and what ends an attempt.

use std::num::NonZeroU32;

use super::act::{Part, Seen};
use super::fault::{Outcome, ensure, ensure_eq};
use super::stage::Stage;
use crate::{Backoff, CancelReason, HealthStatus, Run, RunState, Task};

fn attempts(max: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(max)
}

fn numbers(seen: &[Seen]) -> Vec<u32> {
    seen.iter().map(|seen| seen.attempt).collect()
}

fn ensure_reason(run: &Run, part: &str) -> Outcome {
    let holds = run.reason.as_deref().is_some_and(|reason| reason.contains(part));
    ensure(holds, || format!("the reason of the failed run is {:?}, without `{part}`", run.reason))
}

pub(super) async fn attempts_are_counted_from_one_to_the_maximum(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let three = |task: &mut Task| {
        task.retry.max_attempts = attempts(3);
        task.retry.initial = stage.units(1);
    };
    let task = stage.task("fails", Part::Fail, three).await?;

    let run = stage.enqueue(&task).await?;

    let ended = stage.ended(run).await?;
    stage.pass(10).await;
    ensure_eq("attempts of a run that may have 3", numbers(&stage.ledger.of(run)), [1, 2, 3])?;
    ensure_eq("the state and attempt of the run", (ended.state, ended.attempt), (RunState::Failed, 3))?;
    ensure_reason(&ended, "attempt 3 fails")?;
    let failures: Vec<(u32, bool)> = ended
        .failures
        .iter()
        .map(|failure| {
            (failure.attempt, failure.error.contains(&format!("attempt {} fails", failure.attempt)))
        })
        .collect();
    ensure_eq(
        "the run's failures: each attempt, and whether its error is named",
        failures,
        [(1, true), (2, true), (3, true)],
    )
}

pub(super) async fn a_failed_run_waits_before_it_is_tried_again(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let constant = |task: &mut Task| {
        task.retry.max_attempts = attempts(2);
        task.retry.initial = stage.units(8);
    };
    let growing = |task: &mut Task| {
        task.retry.max_attempts = attempts(3);
        task.retry.initial = stage.units(4);
        task.retry.backoff = Backoff::Exponential;
        task.retry.jitter = true;
    };
    let constant = stage.task("constant", Part::Fail, constant).await?;
    let growing = stage.task("growing", Part::Fail, growing).await?;

    let run = stage.enqueue(&constant).await?;
    let jittered = stage.enqueue(&growing).await?;

    let waiting = stage.in_state(run, RunState::Retrying).await?;
    let first = stage.begun(run, 1).await?[0].at;
    let next = waiting.next_attempt_at;
    let named = next.is_some_and(|next| next + stage.earliness() >= first + stage.units(8));
    ensure(named, || {
        format!("it failed at {first} and is to wait 8 units; the next attempt is at {next:?}")
    })?;
    for (run, waits) in [(run, vec![(8, 8)]), (jittered, vec![(2, 4), (4, 8)])] {
        let seen = stage.begun(run, waits.len() + 1).await?;
        for (pair, (least, most)) in seen.windows(2).zip(waits) {
            let (least, most) = (stage.units(least), stage.units(most) + stage.lateness());
            let wait = pair[1].at.since(pair[0].at);
            ensure(least <= wait + stage.earliness() && wait <= most, || {
                format!("attempt {} came after {wait:?}, not {least:?} to {most:?}", pair[1].attempt)
            })?;
        }
    }
    Ok(())
}

pub(super) async fn an_aborted_run_is_not_tried_again(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let many = |task: &mut Task| {
        task.retry.max_attempts = attempts(5);
        task.retry.initial = stage.units(1);
    };
    let task = stage.task("aborts", Part::Abort, many).await?;

    let run = stage.enqueue(&task).await?;

    let ended = stage.ended(run).await?;
    stage.pass(10).await;
    ensure_eq("attempts of the run", numbers(&stage.ledger.of(run)), [1])?;
    ensure_eq("its state", ended.state, RunState::Failed)?;
    ensure_reason(&ended, "it asks for no other attempt")
}

pub(super) async fn a_snooze_spends_no_attempt(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let task = stage.task("snoozes", Part::Snooze(2, stage.units(3)), |_| ()).await?;

    let run = stage.enqueue(&task).await?;

    let ended = stage.ended(run).await?;
    let seen = stage.ledger.of(run);
    ensure_eq("the numbers of its deliveries", numbers(&seen), [1, 1, 1])?;
    ensure_eq("its state and attempt", (ended.state, ended.attempt), (RunState::Succeeded, 1))?;
    ensure_eq("its failures", ended.failures.len(), 0)?;
    let shortest = seen.windows(2).map(|pair| pair[1].at.since(pair[0].at)).min().unwrap_or_default();
    ensure(shortest + stage.earliness() >= stage.units(3), || {
        format!("it snoozed for {shortest:?} instead of {:?}", stage.units(3))
    })
}

pub(super) async fn a_time_limit_ends_the_attempt(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let limited = |task: &mut Task| task.timeout = Some(stage.units(3));
    let task = stage.task("works", Part::Work(stage.units(100)), limited).await?;

    let run = stage.enqueue(&task).await?;

    let ended = stage.ended(run).await?;
    ensure_eq("its state", ended.state, RunState::Failed)?;
    ensure_reason(&ended, "timed out")?;
    ensure_eq("what the job was told", stage.begun(run, 1).await?[0].told, Some(CancelReason::TimedOut))?;
    let took = ended.started_at.zip(ended.finished_at).map(|(start, end)| end.since(start));
    let bounds = stage.units(3) - stage.earliness()..=stage.units(3) + stage.lateness();
    ensure(took.is_some_and(|took| bounds.contains(&took)), || {
        format!("an attempt of at most {:?} took {took:?}", stage.units(3))
    })
}

pub(super) async fn a_panic_fails_its_own_run_and_no_other(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let working = stage.task("works", Part::Work(stage.units(3)), |_| ()).await?;
    let task = stage.task("panics", Part::Panic, |_| ()).await?;
    let beside = stage.enqueue(&working).await?;
    stage.begun(beside, 1).await?;

    let run = stage.enqueue(&task).await?;

    let ended = stage.ended(run).await?;
    ensure_eq("the state of the run that panicked", ended.state, RunState::Failed)?;
    ensure_reason(&ended, "the job of the kit panics")?;
    ensure_eq("the state of the run beside it", stage.ended(beside).await?.state, RunState::Succeeded)?;
    let after = stage.enqueue(&working).await?;
    ensure_eq("the state of the next run", stage.ended(after).await?.state, RunState::Succeeded)?;
    ensure_eq("its health", stage.backend.health().await.status, HealthStatus::Up)
}

pub(super) async fn fences_rise_over_attempts_runs_and_restarts(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let twice = |task: &mut Task| {
        task.retry.max_attempts = attempts(2);
        task.retry.initial = stage.units(1);
    };
    let task = stage.task("fails", Part::Fail, twice).await?;
    for reopen in [false, true, false] {
        let run = stage.enqueue(&task).await?;
        stage.ended(run).await?;
        if reopen {
            stage.pass(1).await;
            stage.reopen().await?;
            stage.start().await?;
        }
    }

    let fences: Vec<u64> = stage.ledger.all().iter().map(|seen| seen.fence).collect();

    ensure(fences.is_sorted_by(|a, b| a < b), || {
        format!("the fences of three runs with two attempts, over a restart: {fences:?}")
    })
}
