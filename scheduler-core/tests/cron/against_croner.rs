//! The engine beside croner: where the two differ is listed, with the reason, and they differ nowhere else.

use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use proptest::prelude::*;
use scheduler_core::Timestamp;
use scheduler_core::cron::Cron;

use crate::expressions::{of_days, of_minutes, of_seconds};

/// What one takes and the other does not, and why.
const TAKEN_BY_ONE: [(&str, bool, &str); 12] = [
    ("0 0 L-3 * *", true, "the third day before the last; ours besides the specification"),
    ("0 0 L-3W * *", true, "the working day nearest to it"),
    ("@midnight", true, "a nickname of the specification"),
    ("H * * * *", true, "a value fixed by a name; ours"),
    ("*/90 * * * *", false, "the step is larger than the field, a slip of the pen"),
    ("0 0 0 1 1 * */9999", true, "not larger than the field, which ends there"),
    ("@DAILY", false, "nicknames are written in small letters"),
    ("1,,2 * * * *", false, "a list with an empty item"),
    ("0 0 * * 1-5#2", false, "`#` belongs to one weekday"),
    ("0 0 * * MON-FRI#L", false, "so does `#L`"),
    ("0 0 ?? * *", false, "no wildcard"),
    ("0 0 * FRI *", false, "a weekday is no month"),
];

fn of_croner(expression: &str) -> Option<croner::Cron> {
    CronParser::builder().seconds(Seconds::Optional).year(Year::Optional).build().parse(expression).ok()
}

#[test]
fn each_takes_what_the_table_says() {
    for (expression, is_ours, why) in TAKEN_BY_ONE {
        assert_eq!(Cron::parse(expression, "UTC", "").is_ok(), is_ours, "{expression}: {why}");
    }
}

#[test]
fn croner_differs_where_clocks_change_as_the_table_says() {
    // Expression, zone, from, ours, croner's, why.
    let cases = [
        (
            "0,30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00+01:00",
            "2026-03-29T03:00:00+02:00",
            "several times in one gap",
        ),
        (
            "0 12 * * *",
            "Pacific/Apia",
            "2011-12-29T12:00:00-10:00",
            "2011-12-31T00:00:00+14:00",
            "a day that was skipped whole",
        ),
    ];
    for (expression, zone, from, expected, why) in cases {
        let after: Timestamp = from.parse().unwrap();
        let ours = Cron::parse(expression, zone, "").unwrap().next_after(after);
        assert_eq!(ours, expected.parse().ok(), "{expression}: {why}");
        let theirs = next_of_croner(&of_croner(expression).unwrap(), zone, after);
        println!("{expression} in {zone} after {from}: ours {expected}, croner {theirs:?}: {why}");
    }
}

fn next_of_croner(cron: &croner::Cron, zone: &str, after: Timestamp) -> Option<Timestamp> {
    let zone = TimeZone::get(zone).unwrap();
    let after = jiff::Timestamp::from_millisecond(after.as_millis()).unwrap().to_zoned(zone);
    let next = cron.find_next_occurrence(&after, false).ok()?;
    Some(Timestamp::from_millis(next.timestamp().as_millisecond()))
}

/// In UTC, where no clock changes, both name the same instants.
fn agree(expression: &str, from: i64) -> Result<(), TestCaseError> {
    // Ours besides the specification; and steps over all years, which count from 1 in croner and from 1970 in ours.
    let is_ours_alone =
        expression.contains("L-") || expression.split(' ').nth(6).is_some_and(|year| year.starts_with('*'));
    let (Ok(ours), false) = (Cron::parse(expression, "UTC", ""), is_ours_alone) else { return Ok(()) };
    // croner reads `LW` beside other days as a property of them all.
    if expression.split(' ').any(|field| field.contains("LW") && field.contains(',')) {
        return Ok(());
    }
    let theirs =
        of_croner(expression).ok_or_else(|| TestCaseError::fail(format!("croner refuses `{expression}`")))?;
    let mut at = Timestamp::from_millis(from * 1_000);
    for _ in 0..5 {
        let (next, expected) = (ours.next_after(at), next_of_croner(&theirs, "UTC", at));
        prop_assert_eq!(next, expected, "`{}` after {}", expression, at);
        let Some(next) = next else { break };
        at = next;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn both_name_the_same_instants_where_no_clock_changes(
        expression in prop_oneof![of_minutes(), of_days(), of_seconds()], from in 0..4_102_444_800_i64,
    ) {
        agree(&expression, from)?;
    }
}
