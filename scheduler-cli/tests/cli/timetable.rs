//! When a task or an expression fires.

use crate::answers::TWO_TASKS;
use crate::bench::Bench;

#[test]
fn next_prints_the_fire_times_with_the_offset_of_the_zone() {
    let bench = Bench::new("");

    let answer = bench.run(&[
        "next",
        "--cron",
        "30 2 * * *",
        "--timezone",
        "Europe/Berlin",
        "--after",
        "2026-03-28T12:00:00+01:00",
        "-n",
        "3",
        "-o",
        "json",
    ]);

    let expected = r#"{"schema_version":1,"fires":["2026-03-29T03:00:00+02:00","2026-03-30T02:30:00+02:00","2026-03-31T02:30:00+02:00"]}"#;
    assert_eq!((answer.code, answer.stdout.trim_end()), (0, expected));
}

#[test]
fn next_begins_after_the_given_instant_and_not_at_it() {
    let bench = Bench::new("");

    let answer =
        bench.run(&["next", "--cron", "@daily", "--after", "2026-01-01T00:00:00Z", "-n", "1", "-o", "jsonl"]);

    assert_eq!(answer.stdout, "{\"schema_version\":1,\"fire\":\"2026-01-02T00:00:00+00:00\"}\n");
}

#[test]
fn next_reads_a_task_with_its_zone() {
    let bench = Bench::new(TWO_TASKS);

    let answer = bench.run(&["next", "report", "--after", "2026-07-01T00:00:00Z", "-n", "1", "-o", "json"]);

    assert_eq!(answer.json()["fires"][0], "2026-07-01T02:30:00+02:00");
}

#[test]
fn next_refuses_a_bad_expression_zone_or_time_and_says_why() {
    let bench = Bench::new("");
    let cases: [(&[&str], &str); 5] = [
        (&["next", "--cron", "0 25 * * *"], "hour `25`"),
        (&["next", "--cron", "* * *"], "3 fields"),
        (&["next", "--cron", "0 0 31 2 *"], "no such date"),
        (&["next", "--cron", "@daily", "--timezone", "Mars/Olympus"], "Mars/Olympus"),
        (&["next", "--cron", "@daily", "--after", "yesterday"], "RFC 3339"),
    ];

    for (call, reason) in cases {
        let text = bench.run(call);
        let json = bench.run(&[call, &["-o", "json"]].concat());

        assert_eq!((text.code, json.code), (2, 2), "{call:?}");
        assert!(text.stderr.contains(reason), "{text:?}");
        assert!(json.json()["error"]["message"].as_str().unwrap().contains(reason), "{json:?}");
    }
}

#[test]
fn next_shows_at_least_one_fire_and_a_bounded_number() {
    let bench = Bench::new("");

    for count in ["0", "10001", "-1"] {
        let answer = bench.run(&["next", "--cron", "* * * * * *", "-n", count]);
        assert_eq!(answer.code, 2, "{count}: {answer:?}");
    }
    let most = bench.run(&["next", "--cron", "* * * * * *", "-n", "10000", "-o", "jsonl"]);
    assert_eq!(most.stdout.lines().count(), 10_000);
}
