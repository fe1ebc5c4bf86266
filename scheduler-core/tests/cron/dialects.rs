//! What is read in each dialect, what is refused, and how a foreign expression is said in ours.

use scheduler_core::Timestamp;
use scheduler_core::cron::{Cron, Dialect};

fn days(cron: &Cron, count: usize) -> Vec<String> {
    let from: Timestamp = "2025-12-31T23:59:59Z".parse().unwrap();
    cron.fires_after(from).take(count).map(|fire| fire.to_string()[..10].to_owned()).collect()
}

#[test]
fn a_dialect_reads_the_same_text_in_its_own_way() {
    let cases: &[(Dialect, &str, &[&str])] = &[
        (Dialect::Ocps, "0 0 0 ? * 1", &["2026-01-05", "2026-01-12"]),
        (Dialect::Quartz, "0 0 0 ? * 1", &["2026-01-04", "2026-01-11"]),
        (Dialect::Quartz, "0 0 0 ? * MON", &["2026-01-05", "2026-01-12"]),
        (Dialect::Quartz, "0 0 0 13 * 6", &["2026-02-13", "2026-03-13"]),
        (Dialect::Quartz, "0 0 0 ? * 6L", &["2026-01-30", "2026-02-27"]),
        (Dialect::Quartz, "0 0 0 ? * L", &["2026-01-03", "2026-01-10"]),
        (Dialect::Quartz, "0 0 0 ? * 2#1", &["2026-01-05", "2026-02-02"]),
        (
            Dialect::Quartz,
            "0 0 0 ? * FRI-MON",
            &["2026-01-02", "2026-01-03", "2026-01-04", "2026-01-05", "2026-01-09"],
        ),
        (Dialect::Quartz, "0 0 0 LW * ?", &["2026-01-30", "2026-02-27", "2026-03-31"]),
        (Dialect::Quartz, "0 0 0 28/2 * ?", &["2026-01-28", "2026-01-30", "2026-02-28"]),
        (Dialect::Quartz, "0 0 0 1 1 ? 2026/3", &["2026-01-01", "2029-01-01"]),
        (Dialect::Ocps, "0 0 */2 * 1", &["2026-01-01", "2026-01-03", "2026-01-05", "2026-01-07"]),
        (Dialect::Vixie, "0 0 */2 * 1", &["2026-01-05", "2026-01-19"]),
        (Dialect::Vixie, "0 0 13 * 5", &["2026-01-02", "2026-01-09", "2026-01-13"]),
        (Dialect::Vixie, "@weekly", &["2026-01-04", "2026-01-11"]),
    ];
    for (dialect, expression, expected) in cases {
        let cron = Cron::parse_in(*dialect, expression, "UTC", "").unwrap();
        assert_eq!(days(&cron, expected.len()), *expected, "{expression} in {dialect}");
        assert_eq!(cron.expression(), *expression);

        let plain =
            Cron::parse(cron.plain(), "UTC", "").unwrap_or_else(|error| panic!("{expression}: {error}"));
        assert_eq!(days(&plain, 40), days(&cron, 40), "{expression} in {dialect} is {}", cron.plain());
        assert_eq!(plain.is_fixed(), cron.is_fixed());
    }
}

#[test]
fn a_foreign_expression_is_said_in_ours() {
    let cases = [
        (Dialect::Quartz, "0 0/15 22-2 ? * MON-FRI", "0 0,15,30,45 0,1,2,22,23 * * 1,2,3,4,5"),
        (Dialect::Quartz, "0 0 12 13 * 6", "0 0 12 13 * +5"),
        (Dialect::Quartz, "*/10 * * * * ?", "*/10 * * * * *"),
        (Dialect::Quartz, "0 0 12 L-3 * ? 2030", "0 0 12 L-3 * * 2030"),
        (Dialect::Quartz, "0 0 12 ? * 6#3,2L", "0 0 12 * * 1L,5#3"),
        (Dialect::Vixie, "*/5 0 */2 * mon", "*/5 0 */2 * +mon"),
        (Dialect::Vixie, "0 0 13 * 5", "0 0 13 * 5"),
        (Dialect::Vixie, "@daily", "0 0 * * *"),
        (Dialect::Ocps, "@daily", "@daily"),
    ];
    for (dialect, expression, plain) in cases {
        assert_eq!(Cron::parse_in(dialect, expression, "UTC", "").unwrap().plain(), plain);
    }
}

#[test]
fn what_a_dialect_does_not_know_is_refused() {
    let cases: &[(Dialect, &[&str])] = &[
        (
            Dialect::Ocps,
            &[
                "60 0 * * *",
                "0 0 10-5 * *",
                "0 0 /30 * *",
                "5/15 * * * *",
                "@Daily",
                "@daily 0 0 * * *",
                "0 12 1-15W * *",
                "0 12 +1 * MON",
                "? 12 * * *",
                "* * * * 1-5#2",
                "* * * * 1#6",
                "* * * * 1#0",
                "* * 0 * *",
                "* * L-31 * *",
                "* * L- * *",
                "* * LWW * *",
                "* * W * *",
                "* * 32W * *",
                "* * * * L",
                "* * * * ++1",
                "*/0 * * * *",
                "1- * * * *",
                "-1 * * * *",
                "1-2-3 * * * *",
                "1/2/3 * * * *",
                "* * * FRI *",
                "* * * * JAN",
                "* * * * * * 10000",
                "* * * * * * 0",
                "* * * * * * *",
                "H,5 * * * *",
                "h * * * *",
                "１ * * * *",
            ][..],
        ),
        (
            Dialect::Vixie,
            &["* * * * * *", "* * L * *", "* * ? * *", "* * * * +1", "* * * * 1#2", "H * * * *", "@Daily"],
        ),
        (
            Dialect::Quartz,
            &[
                "0 0 * * *",
                "0 0 0 ? * 0",
                "0 0 0 ? * 8",
                "0 0 0 ? * ?",
                "@daily",
                "H * * * * ?",
                "0 0 0 ? * +1",
                "0 0 0 C * ?",
            ],
        ),
    ];
    for (dialect, expressions) in cases {
        for expression in *expressions {
            // Seven stars are seven fields and fine; it stands here to show that the list is looked at.
            let is_fine = *expression == "* * * * * * *";
            let read = Cron::parse_in(*dialect, expression, "UTC", "");
            assert_eq!(read.is_ok(), is_fine, "{expression} in {dialect}");
            assert_eq!(Cron::faults(*dialect, expression).is_empty(), is_fine, "{expression} in {dialect}");
        }
    }
    let reboot = Cron::parse("@reboot", "UTC", "").unwrap_err();
    assert_eq!(reboot.code(), "cron/no_start");
    assert_eq!("cobol".parse::<Dialect>().unwrap_err().code(), "cron/unknown_dialect");
}

#[test]
fn all_faulty_fields_are_told_at_once_each_with_its_place() {
    let faults = Cron::faults(Dialect::Ocps, "  0,61 */90 32 * ♥ ");
    let told: Vec<(&str, &str, usize)> =
        faults.iter().map(|fault| (fault.field, fault.value.as_str(), fault.position)).collect();
    let expected =
        [("minute", "0,61", 5), ("hour", "*/90", 8), ("day of month", "32", 13), ("day of week", "♥", 18)];
    assert_eq!(told, expected);
}

#[test]
fn a_rule_is_told_in_words() {
    let cases = [
        ("* * * * *", "every minute (UTC)"),
        ("*/5 * * * *", "every 5 minutes (UTC)"),
        ("30 2 * * *", "at 02:30 every day (UTC)"),
        ("0 9,18 * * MON-FRI", "at 09:00 and 18:00 on Monday to Friday (UTC)"),
        ("0 0 1,15 * *", "at 00:00 on the 1st and the 15th (UTC)"),
        ("0 0 13 * +FRI", "at 00:00 on the 13th where that is Friday (UTC)"),
        ("0 0 13 * FRI", "at 00:00 on the 13th and on Friday (UTC)"),
        ("0 0 L * *", "at 00:00 on the last day of the month (UTC)"),
        (
            "0 12 15W 1,6-8 *",
            "at 12:00 on the working day nearest to the 15th in January and June to August (UTC)",
        ),
        (
            "0 12 * * TUE#2,5L",
            "at 12:00 on the last Friday of the month and the second Tuesday of the month (UTC)",
        ),
        ("*/15 9-17 * * *", "every 15 minutes in hours 9 to 17 every day (UTC)"),
        ("*/10 * * * * *", "every 10 seconds (UTC)"),
        ("15 30 2 29 2 * 2028", "at 02:30:15 on the 29th in February in 2028 (UTC)"),
        ("5,35 * * * *", "at minutes 5 and 35 of every hour (UTC)"),
        ("0 0 * * SAT,SUN", "at 00:00 on Saturday and Sunday (UTC)"),
    ];
    for (expression, words) in cases {
        assert_eq!(Cron::parse(expression, "UTC", "").unwrap().describe(), words, "{expression}");
    }
}
