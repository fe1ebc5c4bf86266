//! What a zone's changes of its clock do to fire times, in words for people.
//!
//! Pure. Which times fire is decided by [`Cron`] alone; this only recognises, for a fire that was computed, that a
//! time does not exist on its day (a gap) or exists twice (an overlap).

use std::fmt;
use std::time::Duration;

use crate::cron::{Change, Cron, next_change};
use crate::{Rule, Timestamp, Trigger};

/// How many times that do not exist are named one by one.
const MOST_NAMED: usize = 3;
/// A change further from a fire than this has nothing to do with it: more than any zone ever moved.
const REACH: Duration = Duration::from_secs(26 * 3_600);
/// How many changes between two fires are looked at.
const MOST_CHANGES: usize = 16;

/// What a change of the clock did to a fire.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// A fixed time that does not exist that day: it fires when the gap ends.
    Moved(Gap),
    /// Times that do not exist, and so did not fire before this one.
    Lost(Gap),
    /// The wall clock shows this time twice that day, and this is the first.
    First {
        /// The time on the wall.
        wall: String,
        /// Whether the second one does not fire.
        is_only: bool,
    },
    /// The wall clock shows this time twice that day, and this is the second.
    Second {
        /// The time on the wall.
        wall: String,
    },
}

/// A stretch that the wall clock leaves out, and what a rule names in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The change.
    pub change: Change,
    /// The first times named in it, as the wall clock would show them; at least one.
    pub named: Vec<String>,
    /// Whether there are more.
    pub more: bool,
}

impl Gap {
    /// What the wall clock shows when the gap begins and when it ends.
    pub fn edges(&self) -> (String, String) {
        let Change { at, before, after } = self.change;
        (clock(wall(at, before)), clock(wall(at, after)))
    }

    /// The day on which it begins.
    pub fn day(&self) -> String {
        day(wall(self.change.at, self.change.before))
    }

    /// The times that do not exist, joined.
    pub fn times(&self) -> String {
        let mut times = self.named.join(", ");
        if self.more {
            times.push_str(" and others");
        }
        times
    }
}

/// What is to be said of a fire of `trigger`, seen in `zone`, that follows `previous`.
pub fn note(trigger: &Trigger, zone: &str, previous: Timestamp, fire: Timestamp) -> Option<Note> {
    match trigger.rule() {
        Rule::Cron(cron) if cron.is_fixed() => {
            let at_end = changes(before(fire), fire, cron.zone()).find_map(|change| gap(cron, change));
            at_end.map(Note::Moved).or_else(|| twice(cron.zone(), fire, true))
        }
        Rule::Cron(cron) => {
            let between = changes(previous, fire, cron.zone()).find_map(|change| gap(cron, change));
            between.map(Note::Lost).or_else(|| twice(cron.zone(), fire, false))
        }
        Rule::Every(_) => twice(zone, fire, false),
        Rule::At(_) | Rule::AfterFinish(_) | Rule::AtStart => None,
    }
}

/// The first gap after `after` and up to `until` in which `cron` names a time.
pub fn first_gap(cron: &Cron, after: Timestamp, until: Timestamp) -> Option<Gap> {
    changes(after, until, cron.zone()).find_map(|change| gap(cron, change))
}

/// The changes after `after` and up to `until`.
fn changes(after: Timestamp, until: Timestamp, zone: &str) -> impl Iterator<Item = Change> {
    let next = |after| next_change(after, zone).ok().flatten();
    let all = std::iter::successors(next(after), move |change| next(change.at));
    all.take_while(move |change| change.at <= until).take(MOST_CHANGES)
}

/// What `cron` names in the stretch that a change leaves out, if it does and there is any.
fn gap(cron: &Cron, change: Change) -> Option<Gap> {
    let (begin, end) = (wall(change.at, change.before), wall(change.at, change.after));
    if begin >= end {
        return None;
    }
    // The wall clock of a day without changes is that of UTC.
    let on_wall = cron.in_utc()?;
    let named = std::iter::successors(on_wall.next_after(before(begin)), |at| on_wall.next_after(*at));
    let mut named: Vec<String> = named.take_while(|at| *at < end).take(MOST_NAMED + 1).map(clock).collect();
    let more = named.len() > MOST_NAMED;
    named.truncate(MOST_NAMED);
    (!named.is_empty()).then_some(Gap { change, named, more })
}

/// Whether the wall clock shows the time of `fire` twice.
fn twice(zone: &str, fire: Timestamp, is_only: bool) -> Option<Note> {
    changes(fire - REACH, fire + REACH, zone).find_map(|Change { at, before, after }| {
        let length = Duration::from_secs(u64::try_from(before - after).ok()?);
        if fire < at && at - length <= fire {
            return Some(Note::First { wall: clock(wall(fire, before)), is_only });
        }
        (at <= fire && fire < at + length).then(|| Note::Second { wall: clock(wall(fire, after)) })
    })
}

fn before(instant: Timestamp) -> Timestamp {
    instant - Duration::from_millis(1)
}

/// What the wall clock shows, as if it were UTC.
fn wall(instant: Timestamp, offset: i32) -> Timestamp {
    Timestamp::from_millis(instant.as_millis() + i64::from(offset) * 1_000)
}

fn day(wall: Timestamp) -> String {
    wall.to_string().split('T').next().unwrap_or_default().to_owned()
}

/// `02:30`, with seconds where there are any.
fn clock(wall: Timestamp) -> String {
    let text = wall.to_string();
    let time = text.split_once('T').map_or("", |(_, time)| time.trim_end_matches('Z'));
    time.strip_suffix(":00").unwrap_or(time).to_owned()
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Moved(gap) => {
                let ((from, to), day) = (gap.edges(), gap.day());
                write!(
                    f,
                    "gap: {} does not exist on {day}, as the clock goes from {from} to {to}",
                    gap.times()
                )
            }
            Self::Lost(gap) => {
                let ((from, to), day) = (gap.edges(), gap.day());
                write!(f, "gap: the clock went from {from} to {to} on {day}, without {}", gap.times())
            }
            Self::First { wall, is_only: true } => {
                write!(f, "overlap: {wall} comes twice that day, and only the first fires")
            }
            Self::First { wall, is_only: false } => write!(f, "overlap: the first of two times {wall}"),
            Self::Second { wall } => write!(f, "overlap: the second of two times {wall}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The notes of the fires of an expression, in words.
    fn notes(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let trigger = Trigger::cron(expression, zone).unwrap();
        let mut previous: Timestamp = after.parse().unwrap();
        let mut found = Vec::new();
        for _ in 0..count {
            let fire = trigger.next_after(previous).unwrap();
            found.push(note(&trigger, zone, previous, fire).map(|note| note.to_string()).unwrap_or_default());
            previous = fire;
        }
        found
    }

    #[test]
    fn a_change_of_the_clock_is_noted_at_the_fire_that_it_touches() {
        let gap = "gap: 02:30 does not exist on 2026-03-29, as the clock goes from 02:00 to 03:00";
        let lost = "gap: the clock went from 02:00 to 03:00 on 2026-03-29, without";
        let only = "overlap: 02:30 comes twice that day, and only the first fires";
        let (first, second) =
            ("overlap: the first of two times 02:30", "overlap: the second of two times 02:30");
        let (spring, autumn) = ("2026-03-28T12:00:00+01:00", "2026-10-24T12:00:00+02:00");
        let day = "gap: 12:00 does not exist on 2011-12-30, as the clock goes from 00:00 to 00:00";
        let cases: &[(&str, &str, &str, &[&str])] = &[
            ("30 2 * * *", "Europe/Berlin", spring, &[gap, "", ""]),
            ("30 2 * * *", "Europe/Berlin", autumn, &[only, ""]),
            ("30 2 * * *", "UTC", autumn, &["", ""]),
            ("30 3 * * *", "Europe/Berlin", spring, &["", ""]),
            ("0 3 * * *", "Europe/Berlin", spring, &["", ""]),
            ("30 * * * *", "Europe/Berlin", "2026-03-29T01:00:00+01:00", &["", &format!("{lost} 02:30"), ""]),
            ("30 * * * *", "Europe/Berlin", "2026-10-25T01:00:00+02:00", &["", first, second, ""]),
            (
                "*/10 2 * * *",
                "Europe/Berlin",
                "2026-03-28T02:45:00+01:00",
                &["", &format!("{lost} 02:00, 02:10, 02:20 and others"), ""],
            ),
            ("0 12 * * *", "Pacific/Apia", "2011-12-29T12:00:00-10:00", &[day, ""]),
            (
                "15 2 * * *",
                "Australia/Lord_Howe",
                "2026-10-03T12:00:00+10:30",
                &["gap: 02:15 does not exist on 2026-10-04, as the clock goes from 02:00 to 02:30"],
            ),
        ];
        for (expression, zone, after, expected) in cases {
            assert_eq!(notes(expression, zone, after, expected.len()), *expected, "{expression} {zone}");
        }
    }

    #[test]
    fn an_interval_shows_the_same_time_twice() {
        let every = Trigger::every(Duration::from_secs(3_600)).unwrap();
        let autumn: Timestamp = "2026-10-25T00:00:00Z".parse().unwrap();
        let seen = |fire| note(&every, "Europe/Berlin", autumn, fire).map(|note| note.to_string());
        assert_eq!(seen(autumn).as_deref(), Some("overlap: the first of two times 02:00"));
        assert_eq!(
            seen(autumn + Duration::from_secs(3_600)).as_deref(),
            Some("overlap: the second of two times 02:00")
        );
        assert_eq!(seen(autumn + Duration::from_secs(7_200)), None);
    }
}
