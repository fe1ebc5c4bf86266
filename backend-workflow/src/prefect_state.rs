//! Where a run stands: Prefect's states in our words, and the other way round for filters.
//!
//! The types of state are nine; their names are an open set, of which those with a meaning of their own are known.

use serde_json::{Value, json};

use crate::engine::{EngineRun, EngineRunId, Phase, WorkflowId};
use crate::prefect_links::Links;
use crate::prefect_wire::FlowRun;

/// A run of ours from one of Prefect's.
pub(crate) fn run_of(run: FlowRun, links: &Links) -> EngineRun {
    let phase = phase(&run);
    let raw_state = run.state_name.or(run.state_type).unwrap_or_default();
    let by_schedule = run.created_by.filter(|by| by.kind.as_deref() == Some("SCHEDULE"));
    EngineRun {
        page: Some(links.run(&run.id)),
        id: EngineRunId(run.id),
        workflow: run.deployment_id.map(WorkflowId),
        key: run.idempotency_key,
        schedule: by_schedule.and_then(|by| by.id),
        phase,
        raw_state,
        message: run.state.and_then(|state| state.message).filter(|message| !message.is_empty()),
        scheduled_for: run.expected_start_time,
        started: run.start_time,
        ended: run.end_time,
        attempts: run.run_count.unwrap_or(0),
        parameters: run.parameters.unwrap_or_default(),
        tags: run.tags.unwrap_or_default(),
    }
}

/// Where the run stands.
pub(crate) fn phase(run: &FlowRun) -> Phase {
    let name = run.state_name.as_deref().unwrap_or_default();
    match run.state_type.as_deref() {
        Some("SCHEDULED") => match name {
            "AwaitingRetry" => Phase::Retrying,
            "Late" | "AwaitingConcurrencySlot" | "Resuming" => Phase::Queued,
            _ if run.estimated_start_time_delta.is_some_and(|late| late > 0.0) => Phase::Queued,
            _ => Phase::Scheduled,
        },
        Some("PENDING") | None => Phase::Queued,
        Some("PAUSED") => Phase::Paused,
        Some("CANCELLING") => Phase::Cancelling,
        Some("COMPLETED") => Phase::Succeeded,
        Some("FAILED") => Phase::Failed,
        Some("CRASHED") => Phase::Crashed,
        Some("CANCELLED") => Phase::Cancelled,
        // A type that is new says at least that the run has not ended in a way that is known.
        Some("RUNNING" | _) => Phase::Running,
    }
}

/// The filter for runs in one of these phases. Prefect cannot tell those apart that have not begun.
pub(crate) fn filter(phases: &[Phase]) -> Value {
    let mut types: Vec<&str> = phases.iter().flat_map(|phase| types_of(*phase)).copied().collect();
    types.sort_unstable();
    types.dedup();
    json!({ "type": { "any_": types } })
}

fn types_of(phase: Phase) -> &'static [&'static str] {
    match phase {
        Phase::Scheduled | Phase::Retrying => &["SCHEDULED"],
        Phase::Queued => &["SCHEDULED", "PENDING"],
        Phase::Running => &["RUNNING"],
        Phase::Paused => &["PAUSED"],
        Phase::Cancelling => &["CANCELLING"],
        Phase::Succeeded => &["COMPLETED"],
        Phase::Failed => &["FAILED"],
        Phase::Crashed => &["CRASHED"],
        Phase::Cancelled => &["CANCELLED"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_phase() {
        let cases = [
            ("SCHEDULED", "Scheduled", 0.0, Phase::Scheduled),
            ("SCHEDULED", "Scheduled", 0.04, Phase::Queued),
            ("SCHEDULED", "Late", 20.0, Phase::Queued),
            ("SCHEDULED", "AwaitingConcurrencySlot", 0.0, Phase::Queued),
            ("SCHEDULED", "AwaitingRetry", 0.0, Phase::Retrying),
            ("PENDING", "Submitting", 0.0, Phase::Queued),
            ("RUNNING", "Retrying", 0.0, Phase::Running),
            ("PAUSED", "Suspended", 0.0, Phase::Paused),
            ("CANCELLING", "Cancelling", 0.0, Phase::Cancelling),
            ("COMPLETED", "Completed", 0.0, Phase::Succeeded),
            ("FAILED", "TimedOut", 0.0, Phase::Failed),
            ("CRASHED", "Crashed", 0.0, Phase::Crashed),
            ("CANCELLED", "Cancelled", 0.0, Phase::Cancelled),
            ("MELTED", "Melted", 0.0, Phase::Running),
        ];
        let links = Links::new(&"http://host/api".parse().unwrap(), None).unwrap();
        for (kind, name, late, phase) in cases {
            let run = json!({ "id": "7", "state_type": kind, "state_name": name, "estimated_start_time_delta": late });
            let run = run_of(serde_json::from_value(run).unwrap(), &links);
            assert_eq!((run.phase, run.raw_state.as_str()), (phase, name));
        }
    }

    #[test]
    fn a_filter_names_each_type_once() {
        let asked = filter(&[Phase::Scheduled, Phase::Queued, Phase::Retrying]);
        assert_eq!(asked, json!({ "type": { "any_": ["PENDING", "SCHEDULED"] } }));
    }

    #[test]
    fn a_run_of_which_little_is_said_is_read() {
        let run: FlowRun = serde_json::from_str(
            r#"{"id":"7","tags":null,"parameters":null,"state":null,"created":"yesterday","new_field":{"a":1}}"#,
        )
        .unwrap();
        assert_eq!((phase(&run), run.start_time), (Phase::Queued, None));
    }
}
