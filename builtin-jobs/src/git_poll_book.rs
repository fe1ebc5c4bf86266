//! What was seen of each repository, as it is stored between runs.
//!
//! A change is written down before its task is triggered and crossed out afterwards. Whoever is killed in between
//! finds it there and triggers it again with the same key, which makes no second run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use scheduler_core::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::git_poll_change::Change;
use crate::git_poll_refs::{Refs, Watched};

/// The version of what is stored.
const FORMAT: u32 = 1;

/// What follows from what is seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub(crate) trigger_first: bool,
    pub(crate) trigger_deleted: bool,
    pub(crate) backoff: Duration,
    pub(crate) max_backoff: Duration,
}

/// Every repository of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Book {
    #[serde(deserialize_with = "known_format")]
    v: u32,
    pub(crate) repositories: BTreeMap<String, Seen>,
}

/// One repository.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// By which patterns it was looked at; `None` before it was seen.
    watched: Option<Watched>,
    refs: Refs,
    /// Counts the changes, so that one that happens again has another key.
    changes: u64,
    /// What may not have been triggered yet, at most one a ref.
    pub(crate) pending: Vec<Change>,
    pub(crate) failing: Option<Failing>,
}

/// Since when a repository cannot be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Failing {
    pub(crate) since: Timestamp,
    pub(crate) times: u32,
    /// It is left alone until then.
    pub(crate) until: Timestamp,
    pub(crate) message: String,
}

/// What a poll brought.
pub(crate) type Polled = Result<Refs, String>;

impl Default for Book {
    fn default() -> Self {
        Self { v: FORMAT, repositories: BTreeMap::new() }
    }
}

impl Book {
    /// The book without what is polled no more.
    pub(crate) fn of(mut self, names: &BTreeSet<&str>) -> Self {
        self.repositories.retain(|name, _| names.contains(name.as_str()));
        self
    }

    /// The book after these changes were triggered.
    pub(crate) fn without(mut self, triggered: &[(String, u64)]) -> Self {
        for (name, number) in triggered {
            if let Some(seen) = self.repositories.get_mut(name) {
                seen.pending.retain(|change| change.number != *number);
            }
        }
        self
    }

    /// Whether a repository is left alone now.
    pub(crate) fn rests(&self, name: &str, policy: Policy, now: Timestamp) -> bool {
        let failing = self.repositories.get(name).and_then(|seen| seen.failing.as_ref());
        // Who is told to wait longer than the longest wait was told so by a clock that has been set back.
        failing.is_some_and(|failing| failing.until > now && failing.until.since(now) <= policy.max_backoff)
    }
}

impl Seen {
    /// Whether it was ever looked at with success.
    pub(crate) fn is_known(&self) -> bool {
        self.watched.is_some()
    }

    /// What is known after a poll.
    #[must_use]
    pub(crate) fn after(
        mut self,
        polled: &Polled,
        watched: &Watched,
        policy: Policy,
        now: Timestamp,
    ) -> Self {
        match polled {
            Ok(refs) => {
                self.failing = None;
                self.compare(refs, watched, policy);
            }
            Err(message) => self.failing = Some(Failing::after(self.failing.take(), message, policy, now)),
        }
        self
    }

    fn compare(&mut self, found: &Refs, watched: &Watched, policy: Policy) {
        // A change that waits to be triggered comes first: what happened to its ref since then is seen afterwards.
        let waiting: BTreeSet<String> = self.pending.iter().map(|change| change.name.clone()).collect();
        let known = std::mem::take(&mut self.refs);
        for (name, old) in known {
            let is_kept = waiting.contains(&name) || found.contains_key(&name);
            if is_kept {
                self.refs.insert(name, old);
            } else if watched.fits(&name) && policy.trigger_deleted {
                self.change(name, Some(old), None);
            }
        }
        for (name, new) in found.iter().filter(|(name, _)| !waiting.contains(*name)) {
            let old = self.refs.insert(name.clone(), new.clone());
            let is_change = match &old {
                Some(old) => old != new,
                // What no earlier pattern fitted is seen for the first time, and may be old.
                None => {
                    policy.trigger_first || self.watched.as_ref().is_some_and(|watched| watched.fits(name))
                }
            };
            if is_change {
                self.change(name.clone(), old, Some(new.clone()));
            }
        }
        self.watched = Some(watched.clone());
    }

    fn change(&mut self, name: String, old: Option<String>, new: Option<String>) {
        self.changes += 1;
        self.pending.push(Change { number: self.changes, name, old, new });
    }
}

impl Failing {
    fn after(present: Option<Self>, message: &str, policy: Policy, now: Timestamp) -> Self {
        let times = present.as_ref().map_or(1, |failing| failing.times.saturating_add(1));
        let doubled = 1_u32.checked_shl(times - 1).unwrap_or(u32::MAX);
        let wait = policy.backoff.saturating_mul(doubled).min(policy.max_backoff);
        let since = present.map_or(now, |failing| failing.since);
        Self { since, times, until: now + wait, message: message.to_owned() }
    }
}

fn known_format<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let v = u32::deserialize(deserializer)?;
    let fault = || D::Error::custom(format!("format {v} is none that this version knows, which is {FORMAT}"));
    if v == FORMAT { Ok(v) } else { Err(fault()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn policy() -> Policy {
        Policy { trigger_first: false, trigger_deleted: false, backoff: MINUTE, max_backoff: MINUTE * 5 }
    }

    fn watched(branches: &[&str]) -> Watched {
        let branches: Vec<String> = branches.iter().map(|text| (*text).to_owned()).collect();
        Watched::new((&branches, ""), (&[], "")).unwrap()
    }

    fn refs(text: &str) -> Refs {
        let pairs = text.split_whitespace().map(|pair| pair.split_once('=').unwrap());
        pairs.map(|(name, commit)| (format!("refs/heads/{name}"), commit.to_owned())).collect()
    }

    fn told(seen: &Seen) -> Vec<String> {
        let commit = |commit: &Option<String>| commit.clone().unwrap_or_else(|| "-".to_owned());
        let told = seen.pending.iter().map(|change| {
            let name = change.name.trim_start_matches("refs/heads/");
            format!("{} {name} {}>{}", change.number, commit(&change.old), commit(&change.new))
        });
        told.collect()
    }

    fn polled(seen: Seen, text: &str, patterns: &[&str], policy: Policy) -> Seen {
        seen.after(&Ok(refs(text)), &watched(patterns), policy, Timestamp::default())
    }

    fn settled(seen: Seen) -> Seen {
        Seen { pending: Vec::new(), ..seen }
    }

    #[test]
    fn the_first_sight_is_remembered_and_each_later_change_counts_once() {
        let seen = polled(Seen::default(), "main=a", &["*"], policy());
        assert!(told(&seen).is_empty() && seen.is_known());
        let seen = polled(seen, "main=b new=c", &["*"], policy());
        assert_eq!(told(&seen), ["1 main a>b", "2 new ->c"]);
        let seen = polled(settled(seen), "main=b new=c", &["*"], policy());
        assert!(told(&seen).is_empty());
        let back = polled(seen, "main=a new=c", &["*"], policy());
        let again = polled(settled(back), "main=b new=c", &["*"], policy());
        assert_eq!(told(&again), ["4 main a>b"], "another key than the first time");
    }

    #[test]
    fn what_is_asked_for_triggers_too() {
        let policy = Policy { trigger_first: true, trigger_deleted: true, ..policy() };
        let seen = polled(Seen::default(), "main=a", &["*"], policy);
        assert_eq!(told(&seen), ["1 main ->a"]);
        let seen = polled(settled(seen), "", &["*"], policy);
        assert_eq!(told(&seen), ["2 main a>-"]);
        assert!(seen.refs.is_empty());
        let seen = polled(settled(seen), "main=a", &["*"], policy);
        assert_eq!(told(&seen), ["3 main ->a"]);
    }

    #[test]
    fn another_pattern_is_a_first_sight_of_what_it_adds() {
        let seen = polled(Seen::default(), "main=a", &["main"], policy());
        let seen = polled(seen, "main=b old=c", &["*"], policy());
        assert_eq!(told(&seen), ["1 main a>b"]);
        let narrow = Policy { trigger_deleted: true, ..policy() };
        let seen = polled(settled(seen), "main=b", &["main"], narrow);
        assert!(told(&seen).is_empty(), "what is watched no more is not gone");
    }

    #[test]
    fn a_change_that_waits_is_neither_replaced_nor_lost() {
        let seen = polled(Seen::default(), "main=a", &["*"], policy());
        let seen = polled(seen, "main=b", &["*"], policy());
        let seen = polled(seen, "main=c", &["*"], policy());
        assert_eq!(told(&seen), ["1 main a>b"]);
        let seen = polled(settled(seen), "main=c", &["*"], policy());
        assert_eq!(told(&seen), ["2 main b>c"]);
    }

    #[test]
    fn a_failure_is_remembered_with_longer_and_longer_waits_and_ends_with_a_success() {
        let failed = |seen: Seen, now: Timestamp| seen.after(&Err("no".into()), &watched(&[]), policy(), now);
        let mut seen = polled(Seen::default(), "main=a", &["*"], policy());
        let mut waits = Vec::new();
        let now = Timestamp::from_millis(1_000);
        for _ in 0..40 {
            seen = failed(seen, now);
            waits.push(seen.failing.as_ref().unwrap().until.since(now).as_secs());
        }
        assert_eq!(waits[..5], [60, 120, 240, 300, 300]);
        assert_eq!(waits.last(), Some(&300));
        let book = Book { repositories: [("r".to_owned(), seen.clone())].into(), ..Book::default() };
        let rests = |later: i64| book.rests("r", policy(), Timestamp::from_millis(1_000 + later));
        assert!(rests(299_999) && !rests(300_000) && !rests(-60_000), "nor after the clock was set back");
        assert!(polled(seen, "main=a", &["*"], policy()).failing.is_none());
    }

    #[test]
    fn a_book_of_another_format_is_not_read() {
        let stored = serde_json::to_value(Book::default()).unwrap();
        assert_eq!(serde_json::from_value::<Book>(stored).unwrap(), Book::default());
        let newer = serde_json::json!({"v": 2, "repositories": {}});
        assert!(serde_json::from_value::<Book>(newer).is_err());
    }
}
