//! The wall clock is set: by an hour and a day both ways, to 1970, and past the ends of 32 bits.

use std::ops::RangeInclusive;

use scheduler_core::Timestamp;

use crate::liar::{Liar, Lie, On, task};
use crate::seen::{Said, Seen, fires, skips};

/// When every row but one begins: twenty past ten in the morning of London and Berlin's noon.
pub(crate) const BEGIN: &str = "2026-06-15T10:20:30Z";

/// Where the clock goes.
#[derive(Clone, Copy, Debug)]
enum To {
    By(i64),
    Instant(&'static str),
}

/// A lie, and what is to be seen of it.
#[derive(Clone, Debug)]
struct Row {
    begin: &'static str,
    to: To,
    /// Whether what names times of the wall clock goes on at once, or waits until the clock has caught up.
    goes_on: bool,
    /// How often what fires on the hour does, and what fires once a day.
    hourly: RangeInclusive<usize>,
    daily: RangeInclusive<usize>,
    /// How often a one-off does whose time lies half an hour after the beginning.
    once: RangeInclusive<usize>,
    /// How many fires that were missed are made up for, where at most three may be.
    made_up: RangeInclusive<usize>,
    /// Which fire has to be seen.
    past: Option<&'static str>,
}

const FORWARD: Row = Row {
    begin: BEGIN,
    to: To::By(0),
    goes_on: true,
    hourly: 1..=1,
    daily: 0..=0,
    once: 1..=1,
    made_up: 3..=3,
    past: None,
};
const BACK: Row = Row { hourly: 0..=0, daily: 0..=0, once: 0..=0, made_up: 0..=1, goes_on: true, ..FORWARD };

/// A row on each tier.
macro_rules! rows {
    ($($name:ident: $row:expr;)*) => {
        mod on_local {
            use super::*;
            $(#[test]
            #[ignore = "needs libfaketime: cargo xtask integration clocks"]
            fn $name() {
                take(On::Local, stringify!($name), &$row);
            })*
        }
        mod on_queue {
            use super::*;
            $(#[test]
            #[ignore = "needs libfaketime: cargo xtask integration clocks"]
            fn $name() {
                take(On::Queue, stringify!($name), &$row);
            })*
        }
    };
}

rows! {
    an_hour_forward: Row { to: To::By(3_600), ..FORWARD };
    a_day_forward: Row { to: To::By(86_400), daily: 1..=1, ..FORWARD };
    an_hour_back: Row { to: To::By(-3_600), goes_on: false, ..BACK };
    a_day_back: Row { to: To::By(-86_400), ..BACK };
    to_1970: Row { to: To::Instant("1970-01-01T00:00:30Z"), ..BACK };
    across_the_end_of_32_bits_in_2038: Row {
        to: To::Instant("2038-01-19T03:14:04Z"),
        daily: 1..=1,
        past: Some("2038-01-19T03:14:08Z"),
        ..FORWARD
    };
    across_the_end_of_32_bits_without_a_sign: Row {
        to: To::Instant("2106-02-07T06:28:12Z"),
        daily: 1..=1,
        past: Some("2106-02-07T06:28:16Z"),
        ..FORWARD
    };
    back_from_2040: Row { begin: "2040-02-29T10:20:30Z", to: To::Instant(BEGIN), ..BACK };
}

/// One of each kind of rule and of each policy.
pub(crate) fn tasks(once: &str) -> String {
    let skip = "misfire = { policy = \"skip\" }";
    let three = "misfire = { policy = \"all\", max = 3 }";
    [
        task("beat", "every = \"1s\"", ""),
        task("pause", "every = \"2s\", after = \"finish\"", ""),
        task("tick", "cron = \"*/2 * * * * *\"", ""),
        task("hourly", "cron = \"0 * * * *\"", ""),
        task("skipping", "cron = \"0 * * * *\"", skip),
        task("making_up", "every = \"10m\"", three),
        task("daily", "cron = \"30 4 * * *\", timezone = \"Europe/Berlin\"", ""),
        task("once", &format!("at = \"{once}\""), ""),
    ]
    .concat()
}

pub(crate) const ALL: [&str; 8] =
    ["beat", "pause", "tick", "hourly", "skipping", "making_up", "daily", "once"];

fn take(on: On, name: &str, row: &Row) {
    let begin: Timestamp = row.begin.parse().unwrap();
    let once = begin + std::time::Duration::from_secs(1_800);
    let mut liar = Liar::start(name, on, &Lie::beginning(row.begin), &tasks(&once.to_string()));
    liar.wait_for_fires(0, &[("beat", 3), ("tick", 1), ("pause", 1)]);
    let before = liar.seen.len();
    liar.tell("before", 0, before, &["beat", "tick", "pause"]);

    match row.to {
        To::By(seconds) => liar.step(seconds),
        To::Instant(instant) => liar.set(instant),
    }
    let (at, moved) = liar.wait_for_step(before);
    if let To::By(seconds) = row.to {
        assert!((moved - seconds * 1_000).abs() < 1_000, "{moved}");
    }
    let mut wanted = vec![("beat", 4), ("pause", 2)];
    let ticks = if row.goes_on { 2 } else { 0 };
    let expected = [("hourly", &row.hourly), ("daily", &row.daily), ("once", &row.once)];
    wanted.push(("tick", ticks));
    wanted.extend(expected.iter().map(|(name, count)| (*name, *count.start())));
    wanted.push(("making_up", *row.made_up.start()));
    liar.wait_for_fires(at, &wanted);
    if let Some(past) = row.past {
        let past = past.parse().unwrap();
        liar.wait("a fire past the end", |seen| fires(&seen[at..], "beat").iter().any(|fire| *fire >= past));
    }
    let after = liar.seen.len();
    liar.tell("after", before, after, &ALL);
    liar.is_calm();
    judge(&liar, row, at);

    if !row.goes_on {
        // The clock catches up: what waited for it goes on.
        liar.step(3_600);
        let (caught_up, _) = liar.wait_for_step(after);
        liar.wait_for_fires(caught_up, &[("beat", 2), ("tick", 2), ("pause", 1)]);
        let end = liar.seen.len();
        liar.tell("caught up", after, end, &["beat", "tick", "pause"]);
    }
    liar.end();
}

/// No burst and no fire too many since the step.
fn judge(liar: &Liar, row: &Row, at: usize) {
    let seen: &[Seen] = &liar.seen[at..];
    let Said::Stepped { from, .. } = liar.seen[at].said else { unreachable!() };
    // What was due just before the step and went on beside it.
    let was_under_way = |fire: &Timestamp| *fire <= from && *fire > from - std::time::Duration::from_secs(10);
    let elapsed = seen.last().map_or(0.0, |last| last.at.duration_since(seen[0].at).as_secs_f64()) as usize;
    let expected = [
        ("beat", 0..=elapsed + 3),
        ("pause", 0..=elapsed / 2 + 3),
        ("tick", if row.goes_on { 0..=elapsed / 2 + 3 } else { 0..=0 }),
        ("hourly", row.hourly.clone()),
        ("skipping", 0..=0),
        ("daily", row.daily.clone()),
        ("once", row.once.clone()),
        ("making_up", row.made_up.clone()),
    ];
    for (name, expected) in expected {
        let mut fired = fires(seen, name);
        if name == "tick" && !row.goes_on {
            fired.retain(|fire| !was_under_way(fire));
        }
        let fired = fired.len();
        assert!(expected.contains(&fired), "{name} fired {fired} times, not {expected:?}\n{}", liar.told());
        assert!(skips(seen, name).len() <= 2 + elapsed, "{name}: a flood of skips\n{}", liar.told());
    }
}
