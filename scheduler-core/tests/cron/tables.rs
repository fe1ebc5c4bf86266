//! What single expressions mean, in tables.

use scheduler_core::Timestamp;
use scheduler_core::cron::{Cron, in_zone};

fn fires(expression: &str, zone: &str, after: &str, n: usize) -> Vec<String> {
    let cron = Cron::parse(expression, zone, "").unwrap();
    let mut at: Timestamp = after.parse().unwrap();
    (0..n)
        .map_while(|_| {
            at = cron.next_after(at)?;
            in_zone(at, zone).ok()
        })
        .collect()
}

#[test]
fn fire_times_keep_the_rules_of_daylight_saving() {
    let cases: &[(&str, &str, &str, &[&str])] = &[
        // A fixed time in the gap fires once, at the first instant after it.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00+01:00",
            &["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"],
        ),
        // A fixed time that exists twice fires at the first.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00+02:00",
            &["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
        ),
        // A wildcard follows real time through the overlap.
        (
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-10-25T02:00:00+02:00",
            &["2026-10-25T02:30:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T02:30:00+01:00"],
        ),
        // Times that fall into the same gap make one fire.
        (
            "0,30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00+01:00",
            &["2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"],
        ),
        // A wildcard time that falls into a gap does not exist that day.
        (
            "*/30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00+01:00",
            &["2026-03-30T02:00:00+02:00", "2026-03-30T02:30:00+02:00"],
        ),
        // The gap of Lord Howe is half an hour, its overlap too.
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T12:00:00+10:30",
            &["2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"],
        ),
        (
            "0 * * * *",
            "Australia/Lord_Howe",
            "2026-04-05T01:00:00+11:00",
            &["2026-04-05T02:00:00+10:30", "2026-04-05T03:00:00+10:30"],
        ),
        // A day that a zone skipped whole is a gap like any other.
        (
            "0 12 * * *",
            "Pacific/Apia",
            "2011-12-29T12:00:00-10:00",
            &["2011-12-31T00:00:00+14:00", "2011-12-31T12:00:00+14:00"],
        ),
    ];
    for (expression, zone, after, expected) in cases {
        assert_eq!(fires(expression, zone, after, expected.len()), *expected, "{expression} {zone}");
    }
}

#[test]
fn the_dialect_is_that_of_the_specification() {
    let cases: &[(&str, &[&str])] = &[
        ("0 0 13 * 5", &["2026-01-02", "2026-01-09", "2026-01-13"]),
        ("0 0 13 * +5", &["2026-02-13", "2026-03-13"]),
        ("0 0 L * *", &["2026-01-31", "2026-02-28"]),
        ("0 0 * * 7", &["2026-01-04", "2026-01-11"]),
        ("0 0 * * SUN", &["2026-01-04", "2026-01-11"]),
        ("0 0 * * 1#2", &["2026-01-12", "2026-02-09"]),
        ("0 0 15W * *", &["2026-01-15", "2026-02-16"]),
        ("0 0 0 1 1 * 2028", &["2028-01-01"]),
        ("@daily", &["2026-01-02", "2026-01-03"]),
    ];
    for (expression, days) in cases {
        let found = fires(expression, "UTC", "2026-01-01T00:00:00Z", days.len());
        let found: Vec<&str> = found.iter().map(|fire| &fire[..10]).collect();
        assert_eq!(found, *days, "{expression}");
    }
}

#[test]
fn a_bad_expression_reaches_no_terminal_as_it_is() {
    for expression in ["0\u{1b}[2J * * * *", "H(\u{7}) * * * *", "* * * * \u{9b}2J", "\u{1b} * * * *"] {
        let error = Cron::parse(expression, "UTC", "a").unwrap_err().to_string();
        assert!(!error.contains(char::is_control), "{error:?}");
    }
    let spaced = Cron::parse(" 1\t2 *\u{b}* * ", "UTC", "a").unwrap();
    assert_eq!(spaced.expression(), "1 2 * * *");
}

#[test]
fn a_bad_expression_names_the_field_and_the_reason() {
    let cases = [
        ("61 * * * *", "minute `61`"),
        ("* 25 * * *", "hour `25`"),
        ("* * 32 * *", "day of month `32`"),
        ("* * * 13 *", "month `13`"),
        ("* * * * MOM", "day of week `MOM`"),
        ("99 * * * * *", "second `99`"),
        ("*/90 * * * *", "step 90"),
        ("* * *", "3 fields"),
        ("", "empty"),
        ("@fortnightly", "nicknames"),
        ("1,,2 * * * *", "minute `1,,2` at character 3: a list has an empty item"),
        ("61 25 * * 9", "minute `61` at character 1: it takes 0-59"),
        ("61 25 * * 9", "hour `25` at character 4: it takes 0-23"),
        ("61 25 * * 9", "day of week `9` at character 11: it takes 0-7"),
        ("@Daily", "@daily"),
        ("H(5-99) * * * *", "0-59"),
    ];
    for (expression, part) in cases {
        let error = Cron::parse(expression, "UTC", "").unwrap_err();
        assert_eq!(error.code(), "cron/bad_expression");
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(Cron::parse("* * * * *", "Mars/Olympus", "").unwrap_err().code(), "cron/unknown_zone");
    assert_eq!(Cron::parse("0 0 31 2 *", "UTC", "").unwrap_err().code(), "trigger/never_fires");
}

#[test]
fn h_is_fixed_by_the_name_and_differs_between_names() {
    let minute = |key: &str| {
        let cron = Cron::parse("H * * * *", "UTC", key).unwrap();
        cron.next_after(Timestamp::from_millis(0)).unwrap().as_millis() / 60_000 % 60
    };
    assert_eq!(minute("backup"), minute("backup"));
    let distinct: std::collections::BTreeSet<_> = (0..40).map(|i| minute(&format!("task_{i}"))).collect();
    assert!(distinct.len() > 15, "{distinct:?}");
    assert!(Cron::parse("H(0-29)/10 H/6 * * *", "UTC", "x").is_ok());
    let hashed = Cron::parse("H  H * * THU", "UTC", "x").unwrap();
    assert_eq!(hashed.expression(), "H H * * THU");
    assert!(hashed.plain().ends_with(" * * THU") && !hashed.plain().starts_with('H'));
    assert_eq!(hashed.plain().parse::<Cron>().unwrap().mean_period(), hashed.mean_period());
}

#[test]
fn the_mean_period_comes_from_28_days() {
    let seconds = |expression: &str| Cron::parse(expression, "UTC", "").unwrap().mean_period().as_secs();
    assert_eq!(seconds("* * * * *"), 60);
    assert_eq!(seconds("*/10 * * * * *"), 10);
    assert_eq!(seconds("30 2 * * *"), 86_400);
    assert_eq!(seconds("0 * * * *"), 3_600);
    assert_eq!(seconds("0 0 29 2 *"), 28 * 86_400);
}

#[test]
fn times_end_with_the_first_and_the_last_year_from_both_sides() {
    // At the first instant in UTC it is the year before in Brazil, and at the last one the year after in Nepal.
    for (zone, edge) in [("America/Sao_Paulo", Timestamp::MIN), ("Asia/Kathmandu", Timestamp::MAX)] {
        let cron = Cron::parse("29 * * * *", zone, "").unwrap();
        let (first, last) =
            (cron.next_after(Timestamp::MIN).unwrap(), cron.previous_before(Timestamp::MAX).unwrap());
        assert_eq!(cron.previous_before(first), None, "{zone} {edge}");
        assert_eq!(cron.next_after(last), None, "{zone} {edge}");
    }
}
