//! How a check stands over time, damped: one odd result changes nothing.
//!
//! The status changes when `agree` of the last `of` results are at least as bad, or at most as bad, as the new
//! one. What is looked at for the first time stands as it was found.

use std::collections::BTreeMap;
use std::time::Duration;

use scheduler_core::{ArgsError, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most results that are looked back at.
const MOST_RESULTS: usize = 100;

/// The version of what is stored.
const FORMAT: u32 = 1;

/// How a target is, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Healthy,
    Degraded,
    Failed,
}

/// How many results must agree before a status changes.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Damping {
    /// So many results, more than half of `of`. 2 by default; 1 of 1 damps nothing.
    agree: usize,
    /// Out of so many, the latest ones, at most 100. 2 by default: two in a row, so that what flaps from run to
    /// run changes nothing.
    of: usize,
}

impl Default for Damping {
    fn default() -> Self {
        Self { agree: 2, of: 2 }
    }
}

/// How a check stands, as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub(crate) status: Status,
    pub(crate) since: Timestamp,
    /// What the latest result changed.
    #[serde(default)]
    pub(crate) change: Option<Change>,
    /// The latest results, the newest last.
    recent: Vec<Status>,
}

/// What a status was before it changed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) from: Status,
    /// Since when it was so.
    since: Timestamp,
}

/// How every check stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Book {
    v: u32,
    pub(crate) checks: BTreeMap<String, Standing>,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }
}

impl Change {
    /// How long the former status lasted, when it changed at `end`.
    pub(crate) fn lasted(self, end: Timestamp) -> Duration {
        end.since(self.since)
    }
}

impl Damping {
    /// What cannot be meant.
    pub(crate) fn faults(self) -> Option<ArgsError> {
        let Self { agree, of } = self;
        let fault = |name: &str, text: String| Some(ArgsError::new(format!("/damping/{name}"), text));
        if of == 0 || of > MOST_RESULTS {
            return fault("of", format!("{of} results are not from 1 to {MOST_RESULTS}"));
        }
        if agree > of || agree * 2 <= of {
            return fault("agree", format!("{agree} is not more than half of {of} results, and at most all"));
        }
        None
    }
}

impl Book {
    /// The book after one more result of each check; what is checked no more is forgotten, and so is a book that
    /// cannot be read.
    pub(crate) fn after(
        present: Option<&serde_json::Value>,
        results: &[(&str, Status)],
        damping: Damping,
        now: Timestamp,
    ) -> Self {
        let present = present.and_then(|value| Self::deserialize(value).ok());
        let present = present.filter(|book| book.v == FORMAT).map(|book| book.checks).unwrap_or_default();
        let standings = results.iter().map(|(name, latest)| {
            let standing = Standing::after(present.get(*name), *latest, damping, now);
            ((*name).to_owned(), standing)
        });
        Self { v: FORMAT, checks: standings.collect() }
    }
}

impl Standing {
    /// Whether this is the first sight of it.
    pub(crate) fn is_new(&self, now: Timestamp) -> bool {
        self.change.is_none() && self.since == now
    }

    fn after(present: Option<&Self>, latest: Status, damping: Damping, now: Timestamp) -> Self {
        let Some(present) = present else {
            return Self { status: latest, since: now, change: None, recent: vec![latest] };
        };
        let mut recent = present.recent.clone();
        recent.push(latest);
        recent.drain(..recent.len().saturating_sub(damping.of));
        let status = settled(present.status, &recent, damping.agree);
        if status == present.status {
            return Self { change: None, recent, ..present.clone() };
        }
        let change = Change { from: present.status, since: present.since };
        Self { status, since: now, change: Some(change), recent }
    }
}

/// The status that follows: as it is, unless `agree` results lie on the same side of it.
fn settled(status: Status, recent: &[Status], agree: usize) -> Status {
    let mut ordered = recent.to_vec();
    ordered.sort_unstable();
    let at_most = ordered.get(agree.wrapping_sub(1)).copied().unwrap_or(Status::Failed);
    let at_least = ordered.iter().rev().nth(agree.wrapping_sub(1)).copied().unwrap_or(Status::Healthy);
    // Whoever asks for more than half of the results makes the bounds meet from the right sides.
    status.min(at_most).max(at_least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn second(number: i64) -> Timestamp {
        Timestamp::from_millis(number * 1000)
    }

    /// The letters of statuses after each of these results, one a second.
    fn story(agree: usize, of: usize, results: &str) -> String {
        let (mut book, mut told) = (None, String::new());
        for (now, letter) in (0..).zip(results.chars()) {
            let latest = match letter {
                'h' => Status::Healthy,
                'd' => Status::Degraded,
                _ => Status::Failed,
            };
            let next = Book::after(book.as_ref(), &[("a", latest)], Damping { agree, of }, second(now));
            told.push_str(&next.checks["a"].status.as_str()[..1]);
            book = Some(serde_json::to_value(next).unwrap());
        }
        told
    }

    #[test]
    fn a_status_changes_when_enough_results_agree() {
        let cases = [
            (2, 3, "hfhfhhh", "hhhfhhh"),
            (2, 3, "hffhh", "hhffh"),
            (2, 3, "hfdfd", "hhdfd"),
            (2, 3, "ffhfhh", "ffffhh"),
            (2, 3, "fhh", "ffh"),
            (2, 3, "hfhhfhh", "hhhhhhh"),
            (3, 5, "hfhfhf", "hhhhhf"),
            (3, 3, "hffhfff", "hhhhhhf"),
            (2, 2, "hfhfhffh", "hhhhhhff"),
            (1, 1, "hfhd", "hfhd"),
        ];
        for (agree, of, results, expected) in cases {
            assert_eq!(story(agree, of, results), expected, "{agree} of {of}: {results}");
        }
    }

    #[test]
    fn a_status_stands_since_its_change_and_only_that_run_tells_it_and_how_long_the_former_lasted() {
        let damping = Damping { agree: 1, of: 1 };
        let mut book = None;
        let mut told = Vec::new();
        for (now, latest) in (0..).zip([Status::Healthy, Status::Failed, Status::Failed, Status::Healthy]) {
            let next = Book::after(book.as_ref(), &[("a", latest)], damping, second(now));
            let stands = &next.checks["a"];
            told.push((stands.since, stands.change.map(|change| (change.from, change.lasted(stands.since)))));
            book = Some(serde_json::to_value(next).unwrap());
        }
        let expected = [
            (second(0), None),
            (second(1), Some((Status::Healthy, Duration::from_secs(1)))),
            (second(1), None),
            (second(3), Some((Status::Failed, Duration::from_secs(2)))),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_checked_no_more_is_forgotten_and_what_cannot_be_read_begins_anew() {
        let damping = Damping { agree: 2, of: 3 };
        let first = Book::after(None, &[("a", Status::Failed), ("b", Status::Failed)], damping, second(0));
        let stored = serde_json::to_value(first).unwrap();
        let next = Book::after(Some(&stored), &[("b", Status::Healthy)], damping, second(1));
        assert_eq!(next.checks.len(), 1);
        assert_eq!(next.checks["b"].status, Status::Failed);
        for odd in [json!(7), json!({"v": 2, "checks": stored["checks"]}), json!({"v": 1})] {
            let next = Book::after(Some(&odd), &[("b", Status::Healthy)], damping, second(1));
            assert_eq!(next.checks["b"].status, Status::Healthy, "{odd}");
        }
    }

    #[test]
    fn damping_that_could_never_settle_is_a_fault() {
        for (agree, of, place) in [
            (2, 3, None),
            (1, 1, None),
            (100, 100, None),
            (1, 2, Some("/damping/agree")),
            (4, 3, Some("/damping/agree")),
            (0, 1, Some("/damping/agree")),
            (1, 0, Some("/damping/of")),
            (60, 101, Some("/damping/of")),
        ] {
            let fault = Damping { agree, of }.faults();
            assert_eq!(fault.as_ref().map(|fault| &*fault.pointer), place, "{agree} of {of}: {fault:?}");
        }
    }
}
