//! What of a run only we read, as a store keeps it.

use std::borrow::Cow;

use scheduler_core::{
    Adhoc, FailedAttempt, Name, Progress, Run, RunId, RunOrigin, RunState, Tier, Timestamp, UniqueKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The version of envelopes that are written.
const VERSION: u32 = 1;

/// How many levels of arrays and objects a value may have: whoever reads an envelope stops at 128.
pub(crate) const DEEPEST: usize = 100;

/// What an index needs not know of a run.
#[derive(Debug, Deserialize)]
pub(crate) struct Envelope {
    v: u32,
    #[serde(default)]
    origin: Option<RunOrigin>,
    #[serde(default)]
    started: Option<i64>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    output: Value,
    #[serde(default)]
    failures: Vec<FailedAttempt>,
    #[serde(default)]
    params: Map<String, Value>,
    #[serde(default)]
    adhoc: Option<Adhoc>,
    #[serde(default)]
    replay_of: Option<RunId>,
    #[serde(default)]
    unique: Option<UniqueKey>,
    #[serde(default)]
    progress: Option<Progress>,
}

/// What an index knows of a run.
#[derive(Debug)]
pub(crate) struct Indexed {
    pub(crate) id: RunId,
    pub(crate) task: Name,
    pub(crate) queue: Option<Name>,
    pub(crate) state: RunState,
    pub(crate) attempt: u32,
    pub(crate) fire_time: Timestamp,
    pub(crate) due: Timestamp,
    pub(crate) finished: Option<Timestamp>,
}

fn is_schedule(origin: &Option<RunOrigin>) -> bool {
    origin.is_none_or(|origin| origin == RunOrigin::Schedule)
}

/// An envelope that is about to be written.
#[derive(Debug, Serialize)]
struct Sealed<'a> {
    v: u32,
    #[serde(skip_serializing_if = "is_schedule")]
    origin: Option<RunOrigin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "is_null")]
    output: Cow<'a, Value>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    failures: &'a [FailedAttempt],
    #[serde(skip_serializing_if = "Map::is_empty")]
    params: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adhoc: Option<&'a Adhoc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay_of: Option<RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique: Option<&'a UniqueKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<&'a Progress>,
}

fn is_null(value: &Value) -> bool {
    value.is_null()
}

/// The envelope of a run as text.
pub(crate) fn seal(run: &Run) -> String {
    let envelope = Sealed {
        v: VERSION,
        origin: Some(run.origin),
        started: run.started_at.map(Timestamp::as_millis),
        reason: run.reason.as_deref(),
        output: readable(&run.output),
        failures: &run.failures,
        params: &run.params,
        adhoc: run.adhoc.as_ref(),
        replay_of: run.replay_of,
        unique: run.unique.as_ref(),
        progress: run.progress.as_ref(),
    };
    serde_json::to_string(&envelope).expect("an envelope has text keys only")
}

/// The value, or its text where it is nested too deep to be read again.
fn readable(value: &Value) -> Cow<'_, Value> {
    if is_deeper(value, DEEPEST) {
        Cow::Owned(Value::String(value.to_string()))
    } else {
        Cow::Borrowed(value)
    }
}

/// Whether a value has more levels of arrays and objects than that.
pub(crate) fn is_deeper(value: &Value, levels: usize) -> bool {
    let Some(below) = levels.checked_sub(1) else { return value.is_array() || value.is_object() };
    match value {
        Value::Array(values) => values.iter().any(|value| is_deeper(value, below)),
        Value::Object(values) => values.values().any(|value| is_deeper(value, below)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The run that an index and an envelope make.
///
/// # Errors
/// The run without what could not be read, failed, saying why.
pub(crate) fn open(indexed: Indexed, envelope: &str, backend: &Name) -> Result<Run, Box<Run>> {
    let Indexed { id, task, queue, state, attempt, fire_time, due, finished } = indexed;
    let mut run = Run::queued(id, task, backend.clone(), Tier::Queue, fire_time);
    run.state = state;
    run.queue = queue;
    run.attempt = attempt;
    run.finished_at = finished;
    let opened: Result<Envelope, String> = serde_json::from_str(envelope).map_err(|error| error.to_string());
    match opened.and_then(|envelope| match envelope.v {
        0..=VERSION => Ok(envelope),
        newer => Err(format!("it has version {newer}, and this program knows up to {VERSION}")),
    }) {
        Ok(envelope) => {
            run.origin = envelope.origin.unwrap_or(RunOrigin::Schedule);
            run.started_at = envelope.started.map(Timestamp::from_millis);
            run.reason = envelope.reason;
            run.output = envelope.output;
            run.failures = envelope.failures;
            run.params = envelope.params;
            run.adhoc = envelope.adhoc;
            run.replay_of = envelope.replay_of;
            run.unique = envelope.unique;
            run.progress = envelope.progress;
            run.next_attempt_at =
                Some(due).filter(|_| attempt > 0 && matches!(state, RunState::Retrying | RunState::Queued));
            Ok(run)
        }
        Err(fault) => Err(cannot_be_read(run, &fault)),
    }
}

/// The run that is shown where an index does not say what it should.
#[cfg(feature = "sqlite")]
pub(crate) fn unreadable(indexed: Indexed, fault: &str, backend: &Name) -> Box<Run> {
    let Indexed { id, task, attempt, fire_time, finished, .. } = indexed;
    let mut run = Run::queued(id, task, backend.clone(), Tier::Queue, fire_time);
    run.attempt = attempt;
    run.finished_at = finished;
    cannot_be_read(run, fault)
}

fn cannot_be_read(mut run: Run, fault: &str) -> Box<Run> {
    run.state = RunState::Failed;
    run.reason = Some(format!("what was stored cannot be read: {fault}"));
    Box::new(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indexed() -> Indexed {
        Indexed {
            id: RunId::manual(Timestamp::from_millis(5)),
            task: Name::new("t").unwrap(),
            queue: None,
            state: RunState::Queued,
            attempt: 0,
            fire_time: Timestamp::from_millis(1),
            due: Timestamp::from_millis(2),
            finished: None,
        }
    }

    #[test]
    fn a_run_comes_out_of_its_envelope_as_it_went_in() {
        let backend = Name::new("queue").unwrap();
        let mut run = open(indexed(), r#"{"v":1}"#, &backend).unwrap();
        run.origin = RunOrigin::Manual;
        run.params.insert("k".into(), "日\u{0}".into());
        run.output = serde_json::json!({"a": [1.5, null]});
        run.record_failure(Timestamp::from_millis(3), "no");
        run.adhoc = Some(Adhoc { job: Name::new("j").unwrap(), args: serde_json::json!([1]) });
        run.replay_of = Some(RunId::manual(Timestamp::from_millis(7)));
        let again = open(Indexed { id: run.id, ..indexed() }, &seal(&run), &backend).unwrap();
        assert_eq!(again, run);
    }

    #[test]
    fn an_output_that_is_nested_too_deep_is_kept_as_its_text() {
        let backend = Name::new("queue").unwrap();
        let nested = |levels| (0..levels).fold(Value::Null, |value, _| Value::Array(vec![value]));
        let mut run = open(indexed(), r#"{"v":1}"#, &backend).unwrap();

        for levels in [DEEPEST, DEEPEST + 1, 500] {
            run.output = nested(levels);
            let again = open(Indexed { id: run.id, ..indexed() }, &seal(&run), &backend).unwrap();
            let expected =
                if levels > DEEPEST { Value::String(run.output.to_string()) } else { nested(levels) };
            assert_eq!(again.output, expected, "{levels}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_a_failed_run_that_says_why() {
        let backend = Name::new("queue").unwrap();
        for (text, part) in [("{", "EOF"), (r#"{"v":2}"#, "version 2"), (r#"{"v":1,"params":[]}"#, "params")]
        {
            let run = open(indexed(), text, &backend).unwrap_err();
            assert_eq!(run.state, RunState::Failed);
            assert!(
                run.reason.as_ref().is_some_and(|reason| reason.contains("cannot be read")),
                "{part} {run:?}"
            );
        }
    }
}
