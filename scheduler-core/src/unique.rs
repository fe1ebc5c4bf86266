//! Unique runs: one of its kind at a time, or in a time.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::characteristics::words;
use crate::{Name, RunId, Spelled};

words! {
    /// Until when a run keeps out others of its kind.
    UniqueUntil {
        /// It has ended, however.
        Done = "done",
        /// Its first attempt has begun.
        Started = "started",
    }
}

/// That there is one run of a kind at a time, or in a time. A run that is asked for while another of its kind keeps it out
/// is that other one.
///
/// Without a `window` that is while the other one has not ended. With a `window` alone it lasts that long from when the
/// other one was taken, also when that has succeeded since; one that failed or was cancelled keeps nobody out. With both
/// it ends with whatever comes first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Unique {
    /// The parameter by whose value the runs of a task are told apart; all of them are of one kind without it.
    pub param: Option<String>,
    /// Until when a run keeps others out; [`UniqueUntil::Done`] unless there is a window.
    pub until: Option<UniqueUntil>,
    /// For how long at most.
    pub window: Option<Duration>,
}

impl Unique {
    /// The kind of a run of this task with these parameters.
    pub fn key_of(&self, task: &Name, params: &Map<String, Value>) -> UniqueKey {
        let kind = match &self.param {
            None => String::new(),
            Some(param) => {
                let value = params.get(param).map(Value::to_string).unwrap_or_default();
                format!("{param}={value}")
            }
        };
        let is_endless = self.until.is_none() && self.window.is_none();
        UniqueKey {
            // As long as an id, whatever the value; that a task is its own namespace here keeps tasks apart.
            key: RunId::keyed(task, task, &kind).to_string(),
            until: self.until.or(is_endless.then_some(UniqueUntil::Done)),
            window_ms: self.window.map(|window| u64::try_from(window.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

impl fmt::Display for Unique {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.param {
            Some(param) => write!(f, "by {param}")?,
            None => write!(f, "one run")?,
        }
        match (self.until, self.window) {
            (until, None) => write!(f, " until {}", until.unwrap_or(UniqueUntil::Done)),
            (None, Some(window)) => write!(f, " in {}", Spelled(window)),
            (Some(until), Some(window)) => write!(f, " until {until}, at most {}", Spelled(window)),
        }
    }
}

/// The kind of a run, and how long it keeps out others of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UniqueKey {
    /// The same for runs of one kind.
    pub key: String,
    /// Until when it keeps others out; until the window has passed where this is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UniqueUntil>,
    /// For how many milliseconds at most, from when it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn runs_are_of_one_kind_by_their_task_or_by_a_parameter() {
        let name = |text| Name::new(text).unwrap();
        let params =
            |value: Value| Map::from_iter([("customer".to_owned(), value), ("n".to_owned(), json!(1))]);
        let by_task = Unique::default();
        let by_param = Unique { param: Some("customer".into()), ..Unique::default() };
        let key = |unique: &Unique, task, value| unique.key_of(&name(task), &params(value)).key;

        assert_eq!(key(&by_task, "a", json!(1)), key(&by_task, "a", json!(2)));
        assert_ne!(key(&by_task, "a", json!(1)), key(&by_task, "b", json!(1)));
        assert_eq!(key(&by_param, "a", json!("x")), key(&by_param, "a", json!("x")));
        for other in [json!("y"), json!(1), json!("1"), json!(null), json!({"x": 1})] {
            assert_ne!(key(&by_param, "a", json!("x")), key(&by_param, "a", other.clone()), "{other}");
        }
        assert_ne!(key(&by_param, "a", json!(1)), key(&by_param, "a", json!("1")));
        assert_ne!(key(&by_param, "a", json!("x")), key(&by_task, "a", json!("x")));
    }

    #[test]
    fn a_window_alone_does_not_end_with_the_run() {
        let name = Name::new("a").unwrap();
        let of = |until, window| Unique { param: None, until, window }.key_of(&name, &Map::new());
        let minute = Some(Duration::from_secs(60));
        assert_eq!((of(None, None).until, of(None, None).window_ms), (Some(UniqueUntil::Done), None));
        assert_eq!((of(None, minute).until, of(None, minute).window_ms), (None, Some(60_000)));
        assert_eq!(of(Some(UniqueUntil::Started), minute).until, Some(UniqueUntil::Started));
    }
}
