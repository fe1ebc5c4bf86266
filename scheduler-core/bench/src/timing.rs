//! How long a call takes.

use std::hint::black_box;
use std::time::Instant;

use crate::contender::{Contender, Zone};

/// What many people write, and what few do.
pub(crate) const MIXED: [&str; 10] = [
    "* * * * *",
    "*/5 * * * *",
    "0 9 * * MON-FRI",
    "30 2 * * *",
    "0 */6 * * *",
    "15,45 8-18 * * *",
    "0 0 1 * *",
    "0 0 29 2 *",
    "15 10 L * *",
    "0 12 * * FRI#3",
];

/// What no calendar has.
pub(crate) const IMPOSSIBLE: [&str; 3] = ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *"];

/// 2026-01-01T00:00:00Z.
const FROM: i64 = 1_767_225_600;
/// 2046-01-01T00:00:00Z, where a walk begins anew.
const TO: i64 = 2_398_377_600;

/// How often, and how often that again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) calls: u32,
    pub(crate) rounds: u32,
}

/// The mean time of a call for the next time, over the mixed expressions that are taken, each walked along.
pub(crate) fn next<C: Contender>(zone: Zone, effort: Effort) -> Option<f64> {
    let rules: Vec<C::Rule> = MIXED.iter().filter_map(|expression| C::parse(expression, zone)).collect();
    let each = rules.iter().map(|rule| {
        best(effort, |calls| {
            let mut at = FROM;
            for _ in 0..calls {
                at = match C::next(rule, black_box(at)) {
                    // One of them goes back, and none may walk on for ever.
                    Some(next) if next > at && next < TO => next,
                    Some(_) | None => FROM,
                };
            }
        })
    });
    mean(each.collect())
}

/// The mean time to read one of the mixed expressions that are taken.
pub(crate) fn parse<C: Contender>(effort: Effort) -> Option<f64> {
    let taken = MIXED.iter().filter(|expression| C::parse(expression, Zone::Berlin).is_some());
    let each = taken.map(|expression| {
        best(effort, |calls| {
            for _ in 0..calls {
                black_box(C::parse(black_box(expression), Zone::Berlin).is_some());
            }
        })
    });
    mean(each.collect())
}

/// The mean time from reading an impossible expression to knowing that it is one.
pub(crate) fn impossible<C: Contender>(effort: Effort) -> Option<f64> {
    // It takes some of them milliseconds.
    let effort = Effort { calls: effort.calls.div_ceil(100), rounds: effort.rounds };
    let each = IMPOSSIBLE.iter().map(|expression| {
        best(effort, |calls| {
            for _ in 0..calls {
                let rule = C::parse(black_box(expression), Zone::Berlin);
                black_box(rule.and_then(|rule| C::next(&rule, FROM)));
            }
        })
    });
    mean(each.collect())
}

/// The shortest time of a call over the rounds, in nanoseconds.
fn best(effort: Effort, work: impl Fn(u32)) -> f64 {
    let round = |_| {
        let start = Instant::now();
        work(effort.calls);
        start.elapsed().as_secs_f64() * 1e9 / f64::from(effort.calls)
    };
    (0..effort.rounds).map(round).fold(f64::INFINITY, f64::min)
}

fn mean(values: Vec<f64>) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
