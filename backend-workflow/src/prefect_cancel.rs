//! Ends runs: one that a person names, and many that nobody has fetched.

use scheduler_core::Result;
use serde_json::{Value, json};

use crate::engine::{CancelOutcome, EngineRunId};
use crate::prefect::PrefectEngine;
use crate::prefect_http::Call;
use crate::prefect_runs::{id_of_run, is_id, unknown_run};
use crate::prefect_wire::{Orchestrated, OrchestratedAll};

/// How many runs Prefect changes with one call.
const AT_ONCE: usize = 50;

impl PrefectEngine {
    /// Asks for the state that ends what runs. Prefect turns that into the end at once where nothing runs yet,
    /// and judges by itself which of the two it is, so a run that begins meanwhile is ended as well.
    pub(crate) async fn end_run(&self, run: &EngineRunId) -> Result<CancelOutcome> {
        let id = id_of_run(run)?;
        let body = json!({ "state": ending(), "force": false });
        let reply = self.client.call(&Call::post(&["flow_runs", id, "set_state"], body)).await?;
        if reply.is_missing() {
            return Err(unknown_run(run));
        }
        let answer: Orchestrated = reply.read()?;
        Ok(outcome(answer, reply.is_repeated))
    }

    /// By the call for many runs, which takes only those that still wait when it gets to them.
    pub(crate) async fn end_waiting(&self, runs: &[EngineRunId]) -> Result<usize> {
        let ids: Vec<&str> = runs.iter().map(|run| run.0.as_str()).filter(|id| is_id(id)).collect();
        let mut ended = 0;
        for ids in ids.chunks(AT_ONCE) {
            let body = json!({
                "flow_runs": { "id": { "any_": ids }, "state": { "type": { "any_": ["SCHEDULED"] } } },
                "state": ending(),
                "limit": AT_ONCE,
            });
            let reply = self.client.call(&Call::post(&["flow_runs", "bulk_set_state"], body)).await;
            ended += match reply {
                Ok(reply) if !reply.is_missing() => {
                    let answer: OrchestratedAll = reply.read()?;
                    answer.results.into_iter().filter(|result| is_ended(result, reply.is_repeated)).count()
                }
                // An older server has no such call.
                Ok(_) => self.end_one_by_one(ids).await?,
                Err(error) if error.code() == "engine/bad_answer" => self.end_one_by_one(ids).await?,
                Err(error) => return Err(error),
            };
        }
        Ok(ended)
    }

    async fn end_one_by_one(&self, ids: &[&str]) -> Result<usize> {
        let mut ended = 0;
        for id in ids {
            let outcome = self.end_run(&EngineRunId((*id).to_owned())).await?;
            ended += usize::from(matches!(outcome, CancelOutcome::Prevented | CancelOutcome::Requested));
        }
        Ok(ended)
    }
}

fn ending() -> Value {
    json!({ "type": "CANCELLING", "name": "Cancelling", "message": "ended by the hybrid scheduler" })
}

fn is_ended(answer: &Orchestrated, is_repeated: bool) -> bool {
    let now = answer.state.as_ref().and_then(|state| state.kind.as_deref()).unwrap_or_default();
    match answer.status.as_str() {
        "ACCEPT" => true,
        "REJECT" => now == "CANCELLED",
        _ => is_repeated && now == "CANCELLED",
    }
}

fn outcome(answer: Orchestrated, is_repeated: bool) -> CancelOutcome {
    let now = answer.state.and_then(|state| state.kind).unwrap_or_default();
    let reason = answer.details.and_then(|details| details.reason);
    let is_end = matches!(now.as_str(), "COMPLETED" | "FAILED" | "CRASHED" | "CANCELLED");
    match (answer.status.as_str(), now.as_str()) {
        ("ACCEPT" | "REJECT", "CANCELLED") => CancelOutcome::Prevented,
        ("ACCEPT", _) => CancelOutcome::Requested,
        // The answer to the first request was lost, and that was what ended it.
        ("ABORT", "CANCELLED") if is_repeated => CancelOutcome::Prevented,
        _ if is_end => CancelOutcome::AlreadyFinished,
        (_, "CANCELLING") => CancelOutcome::Requested,
        (status, _) => CancelOutcome::Refused(reason.unwrap_or_else(|| format!("Prefect answered {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_a_cancel_is_read_from_the_body_of_its_answer() {
        let refused = || CancelOutcome::Refused("no way".to_owned());
        let cases = [
            ("ACCEPT", "CANCELLING", false, CancelOutcome::Requested),
            ("ACCEPT", "CANCELLED", false, CancelOutcome::Prevented),
            ("REJECT", "CANCELLED", false, CancelOutcome::Prevented),
            ("ABORT", "CANCELLING", false, CancelOutcome::Requested),
            ("ABORT", "COMPLETED", false, CancelOutcome::AlreadyFinished),
            ("ABORT", "CANCELLED", false, CancelOutcome::AlreadyFinished),
            ("ABORT", "CANCELLED", true, CancelOutcome::Prevented),
            ("REJECT", "RUNNING", false, refused()),
            ("WAIT", "PENDING", true, refused()),
        ];
        for (status, now, is_repeated, expected) in cases {
            let answer =
                json!({ "status": status, "state": { "type": now }, "details": { "reason": "no way" } });
            let answer: Orchestrated = serde_json::from_value(answer).unwrap();
            assert_eq!(outcome(answer, is_repeated), expected, "{status} {now} {is_repeated}");
        }
        let bare: Orchestrated = serde_json::from_value(json!({ "status": "REJECT" })).unwrap();
        assert_eq!(outcome(bare, false), CancelOutcome::Refused("Prefect answered REJECT".to_owned()));
    }
}
