//! The process does not run for a while, and the clock that goes too fast or too slow.

use std::time::Duration;

use rustix::process::Signal;

use crate::liar::{Liar, Lie, On, task};
use crate::seen::{Said, fires, skips};
use crate::steps::{ALL, tasks};

/// What a stall is long: more than any wait of the daemon's own.
const STALL: Duration = Duration::from_secs(10);

macro_rules! on_both {
    ($($name:ident)*) => {
        mod on_local {
            use super::On;
            $(#[test]
            #[ignore = "needs libfaketime: cargo xtask integration clocks"]
            fn $name() {
                super::$name(On::Local);
            })*
        }
        mod on_queue {
            use super::On;
            $(#[test]
            #[ignore = "needs libfaketime: cargo xtask integration clocks"]
            fn $name() {
                super::$name(On::Queue);
            })*
        }
    };
}

on_both!(a_suspend_of_ten_minutes a_stall_of_ten_seconds a_clock_that_is_slewed_forward a_clock_that_is_slewed_back);

/// The clock that is never set stands still while a machine sleeps, so that looks like a step.
fn a_suspend_of_ten_minutes(on: On) {
    let lie = Lie::beginning("2026-06-15T10:55:00Z");
    let mut liar = Liar::start("a_suspend_of_ten_minutes", on, &lie, &tasks("2026-06-15T11:02:00Z"));
    liar.wait_for_fires(0, &[("beat", 3), ("tick", 1), ("pause", 1)]);
    let before = liar.seen.len();
    liar.tell("before", 0, before, &["beat", "tick", "pause"]);

    liar.signal(Signal::STOP);
    liar.step(600);
    liar.signal(Signal::CONT);
    let (at, moved) = liar.wait_for_step(before);
    liar.wait_for_fires(at, &[("beat", 4), ("tick", 2), ("pause", 2), ("hourly", 1), ("once", 1)]);
    let after = liar.seen.len();
    liar.tell("after", before, after, &ALL);
    liar.is_calm();

    assert!((moved - 600_000).abs() < 2_000, "{moved}");
    let since = &liar.seen[at..];
    let counts = ["hourly", "once", "skipping", "making_up"].map(|name| fires(since, name).len());
    assert_eq!(counts, [1, 1, 0, 1], "{}", liar.told());
    assert!(skips(since, "beat").iter().any(|skip| skip.contains("nobody served")), "{}", liar.told());
    liar.end();
}

/// Both clocks go on, and nobody served meanwhile.
fn a_stall_of_ten_seconds(on: On) {
    let lie = Lie::beginning("2026-06-15T10:20:30Z");
    let mut liar = Liar::start("a_stall_of_ten_seconds", on, &lie, &tasks("2026-06-15T10:50:00Z"));
    liar.wait_for_fires(0, &[("beat", 3), ("tick", 1)]);
    let before = liar.seen.len();
    liar.tell("before", 0, before, &["beat", "tick", "pause"]);

    liar.mark();
    liar.signal(Signal::STOP);
    // The wait is what is done to the daemon.
    std::thread::sleep(STALL);
    liar.signal(Signal::CONT);
    let stopped = liar.seen.len();
    liar.wait("a fire that was missed", |seen| !skips(&seen[stopped..], "beat").is_empty());
    liar.wait_for_fires(stopped, &[("beat", 4), ("tick", 2), ("pause", 2)]);
    let after = liar.seen.len();
    liar.tell("after", stopped, after, &["beat", "tick", "pause"]);
    liar.is_calm();

    let steps = liar.seen.iter().filter(|seen| matches!(seen.said, Said::Stepped { .. })).count();
    assert_eq!(steps, 0, "no clock was set\n{}", liar.told());
    liar.end();
}

fn a_clock_that_is_slewed_forward(on: On) {
    slewed(on, "a_clock_that_is_slewed_forward", " x1.04");
}

fn a_clock_that_is_slewed_back(on: On) {
    slewed(on, "a_clock_that_is_slewed_back", " x0.96");
}

/// NTP moves a clock by at most a two-thousandth; this is eighty times that.
fn slewed(on: On, name: &str, rate: &'static str) {
    let lie = Lie { rate, ..Lie::beginning("2026-06-15T10:20:30Z") };
    let tasks = [task("beat", "every = \"1s\"", ""), task("tick", "cron = \"*/2 * * * * *\"", "")].concat();
    let mut liar = Liar::start(name, on, &lie, &tasks);
    liar.injected(&format!("the wall clock goes{rate} as fast as it should"));
    liar.wait_for_fires(0, &[("beat", 10), ("tick", 5)]);
    let all = liar.seen.len();
    liar.tell("all the time", 0, all, &["beat", "tick"]);
    liar.is_calm();

    let steps = liar.seen.iter().filter(|seen| matches!(seen.said, Said::Stepped { .. })).count();
    assert_eq!(steps, 0, "it was not set\n{}", liar.told());
    for name in ["beat", "tick"] {
        let fires = fires(&liar.seen, name);
        assert!(fires.is_sorted(), "{name}: {fires:?}");
    }
    liar.end();
}
