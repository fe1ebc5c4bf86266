//! The engine answers as the oracle does, wherever the oracle can be asked.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::expressions::{of_days, of_minutes, of_seconds};
use crate::judged::{Case, ZONES, changes};

const DAY: i64 = 86_400;
/// 2200-01-01T00:00:00Z.
const END: i64 = 7_258_118_400;

/// A stretch of so many seconds that mostly lies around a change of the zone's clock.
fn stretch(length: i64) -> impl Strategy<Value = (&'static str, i64)> {
    let near = (any::<Index>(), 0.2..0.8_f64);
    (select(&ZONES), prop::option::weighted(0.8, near), 0..END - length).prop_map(
        move |(zone, near, anywhere)| {
            let changes = changes(zone);
            let from = near
                .filter(|_| !changes.is_empty())
                .map(|(index, share)| changes[index.index(changes.len())] - (share * length as f64) as i64);
            (zone, from.unwrap_or(anywhere).clamp(0, END - length) / 900 * 900)
        },
    )
}

fn judge(
    expression: String,
    zone: &'static str,
    from: i64,
    length: i64,
    step: i64,
) -> Result<(), TestCaseError> {
    let case = Case { expression, zone, from, to: from + length, step };
    case.difference().map_or(Ok(()), |difference| Err(TestCaseError::fail(difference)))
}

/// So many cases, unless `PROPTEST_CASES` says otherwise.
fn cases(usual: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(usual), max_shrink_iters: 200, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(250))]

    #[test]
    fn every_minute_around_a_change_of_the_clock(expression in of_minutes(), (zone, from) in stretch(2 * DAY)) {
        judge(expression, zone, from, 2 * DAY, 60)?;
    }
}

proptest! {
    #![proptest_config(cases(80))]

    #[test]
    fn every_second_around_a_change_of_the_clock(expression in of_seconds(), (zone, from) in stretch(DAY / 6)) {
        judge(expression, zone, from, DAY / 6, 1)?;
    }

    #[test]
    fn every_quarter_of_an_hour_of_a_year(expression in of_days(), (zone, from) in stretch(400 * DAY)) {
        judge(expression, zone, from, 400 * DAY, 900)?;
    }
}

#[test]
fn leap_days_and_rare_days_are_found_over_all_years() {
    let rare =
        ["0 0 29 2 *", "0 12 29 2 +MON", "0 0 31 * +5#5", "0 0 29 2 +5L", "0 0 1 1 +1#1", "0 0 31W 1,4 *"];
    for expression in rare {
        let case = Case { expression: expression.to_owned(), zone: "UTC", from: 0, to: END, step: DAY / 2 };
        assert_eq!(case.difference(), None);
    }
    for expression in ["30 2 L-2 3 +SUN", "*/30 2 * 3 SUN#L"] {
        let (from, to) = (1_767_225_600, 2_713_910_400);
        let case = Case { expression: expression.to_owned(), zone: "Europe/Berlin", from, to, step: 1_800 };
        assert_eq!(case.difference(), None);
    }
}
