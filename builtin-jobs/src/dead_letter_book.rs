//! What is kept between runs: what was replayed and how that went, and which groups of letters are stopped.
//!
//! A replay is written down before it is asked for, so whoever is killed in between leaves a note by which the
//! next run finds out what became of it. The book is bounded: a replay that it forgets is counted by its origins.

use std::collections::{BTreeMap, BTreeSet};

use scheduler_core::{Name, ReplayFate, RunId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dead_letter_rule::Rules;

/// The version of what is stored.
const FORMAT: u32 = 1;

/// The most replays that are kept track of.
pub(crate) const MOST_REPLAYS: usize = 5_000;

/// What is known of earlier replays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Book {
    v: u32,
    /// By the letter that was replayed.
    pub(crate) replays: BTreeMap<RunId, Replay>,
    /// The groups of which a canary has told something.
    pub(crate) gates: BTreeMap<String, Gate>,
    /// What is being written into the archive.
    #[serde(default)]
    pub(crate) archiving: Option<Archiving>,
}

/// A letter that was replayed, or was about to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Replay {
    pub(crate) group: String,
    pub(crate) class: String,
    pub(crate) task: Name,
    pub(crate) fire_time: Timestamp,
    /// How often it was replayed, this time included.
    pub(crate) count: u32,
    /// Whether its group waits for how it goes.
    pub(crate) is_canary: bool,
    /// The run of this job that did it.
    pub(crate) by: RunId,
    pub(crate) at: Timestamp,
    /// The run that it became, once that is known.
    #[serde(default)]
    pub(crate) new_run: Option<RunId>,
    /// Whether that failed as well.
    #[serde(default)]
    pub(crate) has_failed: bool,
}

/// What the last canary of a group told.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Gate {
    /// How many replays in a row failed.
    pub(crate) failed: u32,
    /// When the next canary may go.
    pub(crate) not_before: Timestamp,
    /// Whether the canary came through, so that the others may follow.
    pub(crate) is_open: bool,
}

/// Letters that are being moved into a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Archiving {
    /// Where the file ended before.
    pub(crate) from: u64,
    pub(crate) runs: BTreeSet<RunId>,
}

impl Book {
    /// The book in the state of the task; one that cannot be read is begun anew.
    pub(crate) fn read(stored: Option<&Value>) -> Self {
        let read = stored.and_then(|value| Self::deserialize(value).ok());
        read.filter(|book| book.v == FORMAT).unwrap_or(Self {
            v: FORMAT,
            replays: BTreeMap::new(),
            gates: BTreeMap::new(),
            archiving: None,
        })
    }

    /// Takes down what became of replays.
    pub(crate) fn settle(&mut self, fates: &[(RunId, ReplayFate)], rules: &Rules, now: Timestamp) {
        for (letter, fate) in fates {
            let Some(replay) = self.replays.get_mut(letter) else { continue };
            match *fate {
                ReplayFate::UnderWay(run) => replay.new_run = Some(run),
                ReplayFate::Succeeded => {
                    if replay.is_canary {
                        let gate = Gate { failed: 0, not_before: now, is_open: true };
                        self.gates.insert(replay.group.clone(), gate);
                    }
                    self.replays.remove(letter);
                }
                ReplayFate::Failed(run) if !replay.has_failed => {
                    (replay.new_run, replay.has_failed) = (Some(run), true);
                    let (group, class) = (replay.group.clone(), replay.class.clone());
                    let failed = self.gates.get(&group).map_or(0, |gate| gate.failed).saturating_add(1);
                    let wait = rules.named(&class).map(|rule| rule.wait(failed)).unwrap_or_default();
                    self.gates.insert(group, Gate { failed, not_before: now + wait, is_open: false });
                }
                ReplayFate::Failed(_) => {}
                ReplayFate::Gone | ReplayFate::NotReplayed => drop(self.replays.remove(letter)),
            }
        }
    }

    /// Notes that a letter is about to be replayed. Not where the book is full, or another canary of the group is
    /// under way.
    pub(crate) fn reserve(&mut self, letter: RunId, replay: Replay) {
        let is_taken = self.replays.contains_key(&letter);
        let is_second = replay.is_canary && self.has_canary(&replay.group);
        if is_taken || is_second || !self.has_room() {
            return;
        }
        self.replays.insert(letter, replay);
    }

    /// Whether a canary of a group is under way.
    pub(crate) fn has_canary(&self, group: &str) -> bool {
        self.replays.values().any(|replay| replay.is_canary && !replay.has_failed && replay.group == group)
    }

    /// Whether one more can be kept track of. What failed again is forgotten for it, as its origins are counted.
    fn has_room(&mut self) -> bool {
        if self.replays.len() < MOST_REPLAYS {
            return true;
        }
        let failed = self.replays.iter().filter(|(_, replay)| replay.has_failed);
        let oldest = failed.min_by_key(|(_, replay)| replay.at).map(|(letter, _)| *letter);
        oldest.is_some_and(|oldest| self.replays.remove(&oldest).is_some())
    }

    /// Forgets what concerns no letter any more.
    pub(crate) fn tidy(&mut self, letters: &BTreeSet<RunId>, groups: &BTreeSet<String>) {
        self.replays.retain(|_, replay| {
            !replay.has_failed || replay.new_run.is_some_and(|run| letters.contains(&run))
        });
        let replays = &self.replays;
        self.gates.retain(|group, _| {
            groups.contains(group) || replays.values().any(|replay| replay.group == *group)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: i64) -> RunId {
        RunId::keyed(&Name::new("n").unwrap(), &Name::new("t").unwrap(), &number.to_string())
    }

    fn replay(group: &str, number: i64, is_canary: bool) -> Replay {
        Replay {
            group: group.to_owned(),
            class: "network".to_owned(),
            task: Name::new("t").unwrap(),
            fire_time: Timestamp::from_millis(0),
            count: 1,
            is_canary,
            by: id(-1),
            at: Timestamp::from_millis(number),
            new_run: None,
            has_failed: false,
        }
    }

    #[test]
    fn one_canary_of_a_group_is_under_way_at_a_time() {
        let mut book = Book::read(None);
        for number in 0..3 {
            book.reserve(id(number), replay("a", number, true));
        }
        book.reserve(id(7), replay("b", 7, true));
        assert_eq!(book.replays.keys().collect::<BTreeSet<_>>(), BTreeSet::from([&id(0), &id(7)]));
    }

    #[test]
    fn a_failure_closes_its_group_for_longer_each_time_and_counts_once() {
        let rules = Rules::read(None).unwrap();
        let mut book = Book::read(None);
        let now = Timestamp::from_millis(0);
        book.reserve(id(1), replay("a", 1, true));
        let failed = [(id(1), ReplayFate::Failed(id(2)))];
        book.settle(&failed, &rules, now);
        book.settle(&failed, &rules, now);
        let first = book.gates["a"];
        assert_eq!((first.failed, first.is_open, first.not_before.as_millis()), (1, false, 120_000));

        book.reserve(id(3), replay("a", 3, true));
        book.settle(&[(id(3), ReplayFate::Failed(id(4)))], &rules, now);
        assert_eq!((book.gates["a"].failed, book.gates["a"].not_before.as_millis()), (2, 240_000));

        book.reserve(id(5), replay("a", 5, true));
        book.settle(&[(id(5), ReplayFate::Succeeded)], &rules, now);
        assert!(book.gates["a"].is_open && !book.replays.contains_key(&id(5)));
    }

    #[test]
    fn a_book_stays_bounded_and_forgets_what_failed_first() {
        let mut book = Book::read(None);
        for number in 0..i64::try_from(MOST_REPLAYS).unwrap() {
            book.reserve(id(number), replay("a", number, false));
        }
        book.reserve(id(-5), replay("a", 0, false));
        assert!(!book.replays.contains_key(&id(-5)), "what is under way is not forgotten");
        book.replays.get_mut(&id(9)).unwrap().has_failed = true;
        book.reserve(id(-5), replay("a", 0, false));
        assert!(book.replays.contains_key(&id(-5)) && !book.replays.contains_key(&id(9)));
        assert_eq!(book.replays.len(), MOST_REPLAYS);
    }

    #[test]
    fn a_book_of_another_shape_is_begun_anew() {
        for stored in [serde_json::json!({"v": 9}), serde_json::json!("x"), Value::Null] {
            assert_eq!(Book::read(Some(&stored)), Book::read(None));
        }
        let mut book = Book::read(None);
        book.reserve(id(1), replay("a", 1, true));
        assert_eq!(Book::read(Some(&serde_json::to_value(&book).unwrap())), book);
    }
}
