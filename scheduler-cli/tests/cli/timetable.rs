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

    let fires =
        r#""fires":["2026-03-29T03:00:00+02:00","2026-03-30T02:30:00+02:00","2026-03-31T02:30:00+02:00"]"#;
    let utc = r#""fires_utc":["2026-03-29T01:00:00Z","2026-03-30T00:30:00Z","2026-03-31T00:30:00Z"]"#;
    let note = "gap: 02:30 does not exist on 2026-03-29, as the clock goes from 02:00 to 03:00";
    let expected = format!("{{\"schema_version\":1,{fires},{utc},\"notes\":[\"{note}\",\"\",\"\"]}}");
    assert_eq!((answer.code, answer.stdout.trim_end()), (0, expected.as_str()));
}

#[test]
fn next_begins_after_the_given_instant_and_not_at_it() {
    let bench = Bench::new("");

    let answer =
        bench.run(&["next", "--cron", "@daily", "--after", "2026-01-01T00:00:00Z", "-n", "1", "-o", "jsonl"]);

    let json = answer.json();
    assert_eq!((answer.stdout.lines().count(), &json["schema_version"]), (1, &1.into()));
    assert_eq!(json["fire"], "2026-01-02T00:00:00+00:00");
    assert_eq!((&json["fire_utc"], &json["note"]), (&"2026-01-02T00:00:00Z".into(), &"".into()));
}

#[test]
fn next_reads_a_task_with_its_zone() {
    let bench = Bench::new(TWO_TASKS);

    let answer = bench.run(&["next", "report", "--after", "2026-07-01T00:00:00Z", "-n", "1", "-o", "json"]);

    assert_eq!(answer.json()["fires"][0], "2026-07-01T04:30:00+02:00");
}

#[test]
fn an_expression_is_read_in_the_dialect_that_is_named() {
    let quartz = "[tasks.quartz]\njob = \"exec\"\nargs.program = \"true\"\n\
                  trigger = { cron = \"0 0 9 ? * 2\", dialect = \"quartz\" }\n";
    let bench = Bench::new(quartz);
    let after = ["--after", "2026-01-01T00:00:00Z", "-n", "1", "-o", "json"];
    let monday = "2026-01-05T09:00:00+00:00";
    let cases: [(&[&str], &str); 5] = [
        (&["next", "quartz"], monday),
        (&["next", "--cron", "0 0 9 ? * 2", "--dialect", "quartz"], monday),
        (&["next", "--cron", "0 0 9 ? * 2"], "2026-01-06T09:00:00+00:00"),
        (&["next", "--cron", "0 9 */2 * 1", "--dialect", "vixie"], monday),
        (&["next", "--cron", "@every 90s"], "2026-01-01T00:01:30+00:00"),
    ];

    for (call, fire) in cases {
        let answer = bench.run(&[call, &after].concat());

        assert_eq!(answer.code, 0, "{answer:?}");
        assert_eq!(answer.json()["fires"][0], fire, "{call:?}");
    }
}

#[test]
fn a_task_of_a_start_is_told_as_such_and_fires_once_in_a_daemon() {
    let task = "[tasks.hello]\njob = \"exec\"\ntrigger = { cron = \"@reboot\" }\n\
                args = { program = \"true\" }\ntimeout = \"10s\"\ntier = \"local\"\n";
    let bench = Bench::new(task);

    let next = bench.run(&["next", "hello"]);
    assert_eq!((next.code, next.stdout.as_str()), (0, "once at each start of the scheduler\n"));
    let check = bench.run(&["check"]);
    assert!(check.code == 0 && !check.stderr.contains("trigger/passed"), "{}", check.stderr);
    let run = bench.run(&["run", "--for", "1s"]);
    assert!(run.stderr.contains(": 1 succeeded"), "{run:?}");
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

#[test]
fn next_shows_both_times_and_marks_what_a_change_of_the_clock_does() {
    let bench = Bench::new("");
    let autumn = |cron: &str, more: &[&str]| {
        let call =
            ["next", "--cron", cron, "--timezone", "Europe/Berlin", "--after", "2026-10-25T00:30:00+02:00"];
        bench.run(&[&call, more].concat())
    };

    let hourly = autumn("30 * * * *", &["-n", "4"]);
    let rows: Vec<Vec<&str>> = hourly.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["FIRE", "TIME", "UTC", "WHEN", "NOTE"]);
    assert_eq!(rows[2][..2], ["2026-10-25T02:30:00+02:00", "2026-10-25T00:30:00Z"]);
    assert!(hourly.stdout.lines().nth(2).unwrap().ends_with("overlap: the first of two times 02:30"));
    assert_eq!(rows[3][..2], ["2026-10-25T02:30:00+01:00", "2026-10-25T01:30:00Z"]);
    assert!(hourly.stdout.lines().nth(3).unwrap().ends_with("overlap: the second of two times 02:30"));

    let daily = autumn("30 2 * * *", &["-n", "2", "-o", "json"]).json();
    let only = "overlap: 02:30 comes twice that day, and only the first fires";
    assert_eq!(daily["notes"], serde_json::json!([only, ""]));
    assert_eq!(daily["fires_utc"], serde_json::json!(["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]));

    let elsewhere = autumn("30 5 * * *", &["-n", "2"]);
    assert!(!elsewhere.stdout.contains("NOTE"), "{elsewhere:?}");
}

#[test]
fn check_says_what_a_trigger_does_that_may_not_be_meant() {
    let task = |name: &str, trigger: &str| {
        format!(
            "[tasks.{name}]\njob = \"exec\"\nargs.program = \"true\"\ntimeout = \"1m\"\ntrigger = {trigger}\n\n"
        )
    };
    let cases = [
        ("{ cron = \"30 2 * * *\", timezone = \"Europe/Berlin\" }", "cron/in_gap", "fires at 03:00 instead"),
        ("{ cron = \"*/7 * * * *\" }", "cron/uneven_step", "every = \"7m\""),
        ("{ cron = \"0 0 13 * FRI\" }", "cron/either_day", "`+FRI`"),
    ];
    for (trigger, code, text) in cases {
        let bench = Bench::new(&task("odd", trigger));
        let (check, strict) = (bench.run(&["check", "-o", "json"]), bench.run(&["check", "--strict"]));
        let found = check.json()["diagnostics"].clone();
        assert_eq!((check.code, strict.code, found.as_array().unwrap().len()), (0, 1, 1), "{check:?}");
        assert_eq!(
            (&found[0]["code"], &found[0]["severity"], &found[0]["line"]),
            (&code.into(), &"warning".into(), &5.into())
        );
        let told = format!("{} {}", found[0]["message"], found[0]["help"]).replace("\\\"", "\"");
        assert!(told.contains(text), "{told}");
    }

    let crowd: String = (0..12).map(|n| task(&format!("t_{n}"), "{ cron = \"0 2 * * *\" }")).collect();
    let found = Bench::new(&crowd).run(&["check", "-o", "json"]).json()["diagnostics"].clone();
    assert_eq!((&found[0]["code"], found.as_array().unwrap().len()), (&"trigger/same_minute".into(), 1));
    assert!(found[0]["help"].as_str().unwrap().contains("jitter"), "{found}");

    let sound: String = (0..12).map(|n| task(&format!("t_{n}"), "{ cron = \"H 2 * * *\" }")).collect();
    let sound = sound + &task("even", "{ cron = \"*/15 */6 * * MON\", timezone = \"Europe/Berlin\" }");
    let strict = Bench::new(&sound).run(&["check", "--strict"]);
    assert_eq!(strict.code, 0, "{strict:?}");
}
