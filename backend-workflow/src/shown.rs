//! How a run of the engine is shown as one of ours.

use scheduler_core::{Name, Run, RunState, Tier};

use crate::engine::{EngineRun, Phase};
use crate::names::Identity;

/// A run of the engine, as history shows it.
pub(crate) fn shown(backend: &Name, identity: Identity, run: &EngineRun) -> Run {
    let Identity { run_id, task, fire_time, origin, params } = identity;
    let mut shown = Run::queued(run_id, task, backend.clone(), Tier::Workflow, fire_time);
    shown.origin = origin;
    shown.params = params;
    shown.state = if is_skipped(run) { RunState::Skipped } else { state(run.phase) };
    shown.finished_at = run.ended.filter(|_| run.phase.is_end());
    // An engine may count a start only when it is over.
    let has_begun = matches!(run.phase, Phase::Running | Phase::Retrying | Phase::Succeeded);
    shown.attempt = run.attempts.max(u32::from(has_begun));
    // Prefect gives an instant of start also to a run that ended without one.
    shown.started_at = run.started.filter(|_| shown.attempt > 0);
    shown.url.clone_from(&run.page);
    shown.reason = reason(run);
    if let (RunState::Failed, Some(reason)) = (shown.state, shown.reason.clone()) {
        let at = run.ended.or(run.started).unwrap_or(fire_time);
        shown.record_failure(at, reason);
    }
    shown
}

/// Whether the engine left a run out because another one of its workflow was going on: it says so in the message of a
/// run that was cancelled before it began.
fn is_skipped(run: &EngineRun) -> bool {
    let says_so = |message: &str| message.to_lowercase().contains("concurrency limit");
    run.phase == Phase::Cancelled && run.attempts == 0 && run.message.as_deref().is_some_and(says_so)
}

/// Where a run stands, in the words of every tier.
pub(crate) fn state(phase: Phase) -> RunState {
    match phase {
        Phase::Scheduled => RunState::Scheduled,
        Phase::Queued => RunState::Queued,
        Phase::Running | Phase::Paused | Phase::Cancelling => RunState::Running,
        Phase::Retrying => RunState::Retrying,
        Phase::Succeeded => RunState::Succeeded,
        Phase::Failed | Phase::Crashed => RunState::Failed,
        Phase::Cancelled => RunState::Cancelled,
    }
}

/// The phases that are shown as one of these states.
pub(crate) fn phases(states: &[RunState]) -> Vec<Phase> {
    const ALL: [Phase; 10] = [
        Phase::Scheduled,
        Phase::Queued,
        Phase::Running,
        Phase::Paused,
        Phase::Retrying,
        Phase::Cancelling,
        Phase::Succeeded,
        Phase::Failed,
        Phase::Crashed,
        Phase::Cancelled,
    ];
    let shown_as = |phase: &Phase| {
        let may_be_skipped = *phase == Phase::Cancelled && states.contains(&RunState::Skipped);
        may_be_skipped || states.contains(&state(*phase))
    };
    ALL.into_iter().filter(shown_as).collect()
}

/// The states of runs that have not ended, as the engine has them.
pub(crate) fn live_phases() -> Vec<Phase> {
    phases(&[RunState::Scheduled, RunState::Queued, RunState::Running, RunState::Retrying])
}

/// Why a run stands where it does, where that says more than its state.
fn reason(run: &EngineRun) -> Option<String> {
    let raw = &run.raw_state;
    let message = run.message.as_deref().filter(|message| !message.is_empty());
    match run.phase {
        Phase::Paused | Phase::Cancelling => Some(raw.clone()),
        Phase::Failed | Phase::Crashed | Phase::Cancelled => {
            let plain = matches!(raw.as_str(), "Failed" | "Cancelled");
            Some(match message {
                Some(message) if plain => message.to_owned(),
                Some(message) => format!("{raw}: {message}"),
                None => raw.to_lowercase(),
            })
        }
        Phase::Queued if raw != "Scheduled" && raw != "Pending" => Some(raw.clone()),
        Phase::Scheduled | Phase::Queued | Phase::Running | Phase::Retrying | Phase::Succeeded => None,
    }
}

#[cfg(test)]
mod tests {
    use scheduler_core::{RunId, RunOrigin, Timestamp};

    use super::*;
    use crate::memory_world::run;

    fn shown_as(change: impl FnOnce(&mut EngineRun)) -> Run {
        let at = Timestamp::from_millis(1_000);
        let identity = Identity {
            run_id: RunId::manual(at),
            task: Name::new("t").unwrap(),
            fire_time: at,
            origin: RunOrigin::Schedule,
            params: Default::default(),
        };
        let mut run = run("1");
        change(&mut run);
        shown(&Name::new("workflow").unwrap(), identity, &run)
    }

    #[test]
    fn every_phase_has_a_state_and_what_the_state_does_not_say_is_its_reason() {
        let cases = [
            (Phase::Scheduled, "Scheduled", RunState::Scheduled, None),
            (Phase::Queued, "Late", RunState::Queued, Some("Late")),
            (Phase::Queued, "Pending", RunState::Queued, None),
            (Phase::Running, "Running", RunState::Running, None),
            (Phase::Paused, "Suspended", RunState::Running, Some("Suspended")),
            (Phase::Cancelling, "Cancelling", RunState::Running, Some("Cancelling")),
            (Phase::Retrying, "AwaitingRetry", RunState::Retrying, None),
            (Phase::Succeeded, "Completed", RunState::Succeeded, None),
            (Phase::Failed, "Failed", RunState::Failed, Some("boom")),
            (Phase::Failed, "TimedOut", RunState::Failed, Some("TimedOut: boom")),
            (Phase::Crashed, "Crashed", RunState::Failed, Some("Crashed: boom")),
            (Phase::Cancelled, "Cancelled", RunState::Cancelled, Some("boom")),
        ];
        for (phase, raw, state, reason) in cases {
            let run = shown_as(|run| {
                run.phase = phase;
                run.raw_state = raw.into();
                run.message = Some("boom".into());
            });
            assert_eq!((run.state, run.reason.as_deref()), (state, reason), "{raw}");
            assert!(phases(&[state]).contains(&phase));
        }
    }

    #[test]
    fn a_run_that_the_engine_left_out_beside_another_is_a_skipped_one() {
        let cancelled = |message: &str, attempts| {
            shown_as(|run| {
                (run.phase, run.raw_state, run.attempts) = (Phase::Cancelled, "Cancelled".into(), attempts);
                run.started = Some(Timestamp::from_millis(1));
                run.message = Some(message.into());
            })
        };
        let limit = "Deployment concurrency limit reached.";
        let skipped = cancelled(limit, 0);
        assert_eq!((skipped.state, skipped.reason.as_deref()), (RunState::Skipped, Some(limit)));
        assert_eq!((skipped.attempt, skipped.started_at), (0, None));
        assert_eq!(skipped.url.as_deref(), Some("http://engine/runs/1"));
        assert_eq!(cancelled(limit, 1).state, RunState::Cancelled);
        assert_eq!(cancelled("by hand", 0).state, RunState::Cancelled);
        assert_eq!(phases(&[RunState::Skipped]), [Phase::Cancelled]);
    }

    #[test]
    fn a_failed_run_keeps_its_last_failure_and_counts_its_starts() {
        let run = shown_as(|run| {
            run.phase = Phase::Failed;
            run.raw_state = "Failed".into();
            run.message = Some("boom".into());
            run.attempts = 3;
            run.ended = Some(Timestamp::from_millis(9_000));
        });
        assert_eq!((run.attempt, run.failures[0].attempt, run.failures[0].error.as_str()), (3, 3, "boom"));
        assert_eq!(run.finished_at, Some(Timestamp::from_millis(9_000)));
    }
}
