//! One firing of a task: its states, its outcome, and what history keeps of it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::characteristics::words;
use crate::{Name, Progress, RunId, Tier, Timestamp, UniqueKey};

words! {
    /// Where a run stands.
    RunState {
        /// Its fire time lies ahead.
        Scheduled = "scheduled",
        /// It waits for a worker.
        Queued = "queued",
        /// An attempt is under way.
        Running = "running",
        /// An attempt failed and the next one is waited for.
        Retrying = "retrying",
        /// It ended well.
        Succeeded = "succeeded",
        /// It ended badly.
        Failed = "failed",
        /// It was ended from outside.
        Cancelled = "cancelled",
        /// It never began; its `reason` says why.
        Skipped = "skipped",
    }
}

impl RunState {
    /// Whether the run has ended.
    pub fn is_end(self) -> bool {
        self.successors().is_empty()
    }

    /// The states that may follow this one.
    pub fn successors(self) -> &'static [Self] {
        match self {
            Self::Scheduled => &[Self::Queued, Self::Skipped, Self::Cancelled],
            Self::Queued => &[Self::Running, Self::Failed, Self::Cancelled],
            Self::Running => &[Self::Succeeded, Self::Failed, Self::Retrying, Self::Queued, Self::Cancelled],
            Self::Retrying => &[Self::Queued, Self::Cancelled],
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Skipped => &[],
        }
    }
}

words! {
    /// What made a run.
    RunOrigin {
        /// Its task's trigger.
        Schedule = "schedule",
        /// A person or a program.
        Manual = "manual",
    }
}

/// A run, as a backend shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Run {
    /// Its identity.
    pub id: RunId,
    /// The task it belongs to.
    pub task: Name,
    /// The backend that owns it.
    pub backend: Name,
    /// The tier of that backend.
    pub tier: Tier,
    /// What made it.
    pub origin: RunOrigin,
    /// The instant the trigger named; of a manual run, when it was asked to run.
    pub fire_time: Timestamp,
    /// Where it stands.
    pub state: RunState,
    /// The latest attempt, from 1; 0 before the first.
    pub attempt: u32,
    /// When the first attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// When the next attempt is due, while one is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Timestamp>,
    /// Why it failed, was skipped or was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the job returned, or had to show for its last failed attempt.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub output: Value,
    /// The attempts that did not succeed, oldest first, the newest ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailedAttempt>,
    /// Parameters given when it was triggered.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub params: Map<String, Value>,
    /// The job and args of a run without a configured task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adhoc: Option<Adhoc>,
    /// The queue in which it waits or waited, where that is not the one called `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Name>,
    /// How it keeps others of its kind out, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<UniqueKey>,
    /// How far it has come, by its own account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The dead letter that this run is a replay of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<RunId>,
    /// The page where a person looks at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// What a run without a configured task runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adhoc {
    /// The job; it must allow runs without a task where the run is executed.
    pub job: Name,
    /// Its args.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub args: Value,
}

/// An attempt that did not succeed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FailedAttempt {
    /// Its number, from 1.
    pub attempt: u32,
    /// When it ended.
    pub at: Timestamp,
    /// Why.
    pub error: String,
}

impl Run {
    /// A run that waits for a worker.
    pub fn queued(id: RunId, task: Name, backend: Name, tier: Tier, fire_time: Timestamp) -> Self {
        Self {
            id,
            task,
            backend,
            tier,
            origin: RunOrigin::Schedule,
            fire_time,
            state: RunState::Queued,
            attempt: 0,
            started_at: None,
            finished_at: None,
            next_attempt_at: None,
            reason: None,
            output: Value::Null,
            failures: Vec::new(),
            params: Map::new(),
            adhoc: None,
            queue: None,
            unique: None,
            progress: None,
            replay_of: None,
            url: None,
        }
    }

    /// The same run as a note in history that it never began, and why.
    #[must_use]
    pub fn into_skipped(self, now: Timestamp, reason: impl Into<String>) -> Self {
        Self { state: RunState::Skipped, finished_at: Some(now), reason: Some(reason.into()), ..self }
    }

    /// What its job says of it in a line, if its output has a text `summary`.
    pub fn summary(&self) -> Option<&str> {
        self.output.get("summary")?.as_str().filter(|summary| !summary.is_empty())
    }

    /// Adds a failed attempt, keeping the newest ten.
    pub fn record_failure(&mut self, at: Timestamp, error: impl Into<String>) {
        if self.failures.len() == 10 {
            self.failures.remove(0);
        }
        self.failures.push(FailedAttempt { attempt: self.attempt, at, error: error.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_a_text_of_that_name_in_an_output_that_is_an_object() {
        let at = Timestamp::from_millis(0);
        let name = |text| Name::new(text).unwrap();
        let id = RunId::keyed(&name("n"), &name("t"), "k");
        let mut run = Run::queued(id, name("t"), name("b"), Tier::Local, at);
        for (output, summary) in [
            (serde_json::json!({"summary": "removed 3 files"}), Some("removed 3 files")),
            (serde_json::json!({"summary": ""}), None),
            (serde_json::json!({"summary": 3}), None),
            (serde_json::json!("summary"), None),
        ] {
            run.output = output;
            assert_eq!(run.summary(), summary);
        }
    }

    #[test]
    fn only_the_documented_transitions_exist() {
        use RunState::*;
        let allowed = [
            (Scheduled, Queued),
            (Scheduled, Skipped),
            (Queued, Running),
            (Queued, Failed),
            (Running, Succeeded),
            (Running, Failed),
            (Running, Retrying),
            (Running, Queued),
            (Retrying, Queued),
            (Scheduled, Cancelled),
            (Queued, Cancelled),
            (Running, Cancelled),
            (Retrying, Cancelled),
        ];
        for from in RunState::ALL {
            for to in RunState::ALL {
                let listed = allowed.contains(&(*from, *to));
                assert_eq!(from.successors().contains(to), listed, "{from} → {to}");
            }
        }
    }
}
