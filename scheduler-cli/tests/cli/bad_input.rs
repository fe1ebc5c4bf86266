//! Bad input names its place and the remedy, exits 2, and nothing has started.

use crate::bench::{Answer, Bench};

/// A task that would leave a mark at once, in the first lines of every configuration here.
const MARKING: &str = r#"[tasks.marking]
job = "exec"
args = { program = "touch", args = ["marker"] }
trigger = { every = "100ms" }
"#;

/// Expects a refusal of the configuration after which nothing has happened.
fn refuse(config: &str, expected: &[&str]) {
    let bench = Bench::new(&format!("{MARKING}{config}"));
    let answer = bench.run(&["run", "--for", "2s", "--log", "text"]);
    refused(&bench, &answer, expected);
    assert_eq!(bench.run(&["check"]).code, 2, "{config}");
}

fn refused(bench: &Bench, answer: &Answer, expected: &[&str]) {
    assert_eq!(answer.code, 2, "{answer:?}");
    for text in expected {
        assert!(answer.stderr.contains(text), "no {text:?} in:\n{}", answer.stderr);
    }
    let unexpected: Vec<String> =
        bench.files().into_iter().filter(|name| !name.starts_with("scheduler.")).collect();
    assert!(unexpected.is_empty(), "something has started: {unexpected:?}");
}

#[test]
fn the_marking_task_marks_when_nothing_is_wrong() {
    let bench = Bench::new(MARKING);

    let answer = bench.run(&["run", "--for", "1s", "--log", "text"]);

    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(bench.path("marker").exists(), "{answer:?}");
}

/// Each case stands in line 5 and after; its code, its place and its remedy.
const CASES: &[(&str, &[&str])] = &[
    (
        "[scheduler]\nnamspace = \"x\"\n",
        &["config/unknown_key", "scheduler.toml:6:1", "did you mean `namespace`?"],
    ),
    (
        "[scheduler]\ntimezone = \"Europe/Berln\"\n",
        &["cron/unknown_zone", "scheduler.toml:6:12", "Europe/Berln", "did you mean `Europe/Berlin`?"],
    ),
    ("[scheduler]\nshutdown_grace = \"30\"\n", &["config/bad_duration", "scheduler.toml:6:18", "30s"]),
    ("[scheduler]\ndata_dir = \"\"\n", &["config/out_of_range", "scheduler.toml:6:12", "write a folder"]),
    ("[scheduler]\nnamespace = \"A b\"\n", &["name/invalid", "scheduler.toml:6:13", "a-z"]),
    ("[backends.lokal]\n", &["backend/unknown", "scheduler.toml:5:11", "did you mean `local`?"]),
    (
        "[backends.queue]\nurl = \"mysql:x\"\n",
        &["backend/bad_config", "6:7", "names no store", "sqlite:queue.db"],
    ),
    ("[backends.queue]\nlease = \"1ms\"\n", &["backend/bad_config", "6:9", "shorter than 300ms"]),
    (
        "[backends.queue]\nurl = \"redis://h\"\n[backends.queue.adopt.emails]\njob = \"exce\"\n",
        &["job/unknown", "scheduler.toml:8:7", "did you mean `exec`?"],
    ),
    (
        "[backends.queue]\nurl = \"redis://h\"\nadopt.\"app::Email\".job = \"exec\"\n",
        &["job/not_adhoc", "scheduler.toml:7:26", "set adhoc = true in [jobs.exec]"],
    ),
    (
        "[backends.queue]\nurl = \"redis://h\"\n[backends.queue.adopt.emails]\njob = \"exec\"\nqeue = \"x\"\n",
        &["backend/bad_config", "scheduler.toml:9:1", "did you mean `queue`?"],
    ),
    (
        "[backends.queue]\nurl = \"redis://h\"\n[backends.queue.adopt.emails]\nqueue = \"default\"\n",
        &["backend/bad_config", "scheduler.toml:7:23", "write `job`"],
    ),
    (
        "[backends.queue]\nurl = \"redis://h\"\n[backends.queue.adopt.emails]\njob = \"exec\"\nqueue = \"male\"\n",
        &["backend/bad_config", "scheduler.toml:9:9", "there is no queue `male`"],
    ),
    (
        "[backends.queue]\n[backends.queue.adopt.emails]\njob = \"exec\"\n",
        &["backend/bad_config", "scheduler.toml:6:23", "within one Redis", "redis://"],
    ),
    ("[backends.local]\nconcurency = 1\n", &["backend/bad_config", "scheduler.toml:6:", "concurrency"]),
    ("[backends.local]\nconcurrency = 0\n", &["backend/bad_config", "scheduler.toml:6:15", "1 or more"]),
    (
        "[backends.local]\ndefault = true\n[backends.other]\nkind = \"local\"\ndefault = true\n",
        &["config/two_defaults", "scheduler.toml:9:11", "keep one"],
    ),
    ("[jobs.exce]\nadhoc = true\n", &["job/unknown", "scheduler.toml:5:7", "did you mean `exec`?"]),
    ("[jobs.exec]\nadhoc = 1\n", &["config/wrong_type", "scheduler.toml:6:9"]),
    ("[jobs.exec]\ntimeout = \"0s\"\n", &["config/out_of_range", "scheduler.toml:6:11", "one hour"]),
    ("[tasks.a]\n", &["config/missing_key", "scheduler.toml:5:8", "write `job`"]),
    ("[tasks.A]\njob = \"exec\"\n", &["config/bad_name", "scheduler.toml:5:8", "a to z"]),
    (
        "[tasks.a]\njob = \"exce\"\n",
        &["job/unknown", "scheduler.toml:6:7", "did you mean `exec`?", "use that_crate as _;"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs = [1]\n",
        &["config/wrong_type", "scheduler.toml:7:8", "expected a table"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs = {}\n",
        &["task/bad_args", "`args.program` in task `a` is missing", "scheduler.toml:7:1"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs = { program = \"true\", argz = [] }\n",
        &["task/bad_args", "scheduler.toml:7:28", "did you mean `args`?"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs = { program = \"no_such_program\" }\n",
        &["task/bad_args", "no_such_program", "scheduler.toml:7:20", "give the full path"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\nretires = 3\n",
        &["config/unknown_key", "`retires` in task `a`", "scheduler.toml:8:1", "did you mean `retry`?"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\noverlap = \"skp\"\n",
        &["config/unknown_word", "8:11", "did you mean `skip`?"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\nmisfire = \"al\"\n",
        &["config/unknown_word", "8:11", "did you mean `all`?"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\npriority = 12\n",
        &["config/out_of_range", "8:12", "0 to 9"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntimeout = 30\n",
        &["config/wrong_type", "8:11", "\"30s\""],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntimeout = \"0s\"\n",
        &["config/out_of_range", "8:11", "leave it out"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\nretry = { max_attempts = 0 }\n",
        &["config/out_of_range", "8:26", "from 1"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\nretry = { initial = \"1h\" }\n",
        &["retry/initial_above_max", "8:21", "set `max`"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\non_unavailable = \"spool\"\n",
        &["config/not_available", "8:18", "fallback"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\nfired_by = \"cron\"\n",
        &["config/unknown_word", "8:12", "`engine`, `scheduler`"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\nbackend = \"lokal\"\n",
        &["placement/unknown_backend", "8:11", "there are: local"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntier = \"workflow\"\n",
        &["placement/no_backend", "8:8", "[backends.workflow]"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ncharacteristics = { durability = \"durable\" }\n",
        &["config/unknown_word", "8:34", "`ephemeral`, `persistent`"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntrigger = \"30s\"\n",
        &["config/wrong_type", "8:11", "every = \"30s\""],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntrigger = {}\n",
        &["trigger/no_rule", "scheduler.toml:8:1", "every = \"30s\""],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntrigger = { every = \"5 s\" }\n",
        &["config/bad_duration", "8:21", "1h30m"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntrigger = { every = \"0s\" }\n",
        &["trigger/bad_period", "8:21", "1ms"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntrigger = { every = \"5s\", at = \"2030-01-01T00:00:00Z\" }\n",
        &["trigger/several_rules", "scheduler.toml:8:1", "keep one"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntrigger = { every = \"5s\", timezone = \"UTC\" }\n",
        &["config/no_effect", "8:38"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntrigger = { every = \"5s\", jitter = \"9s\" }\n",
        &["trigger/bad_jitter", "8:36"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntrigger = { cron = \"61 * * * *\" }\n",
        &["cron/bad_expression", "8:20", "minute `61`"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntrigger = { cron = \"0 0 31 2 *\" }\n",
        &["trigger/never_fires", "8:20"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntrigger = { cron = \"@every 5x\" }\n",
        &["cron/bad_expression", "8:20", "`x`"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntrigger = { cron = \"0 0 * * 1\", dialect = \"quartz\" }\n",
        &["cron/bad_expression", "8:20", "it has 5 fields; the dialect quartz has 6"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntrigger = { cron = \"0 0 * * 1\", dialect = \"quarz\" }\n",
        &["config/unknown_word", "8:43", "quartz"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntrigger = { every = \"5s\", dialect = \"vixie\" }\n",
        &["config/no_effect", "8:37"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntrigger = { cron = \"@reboot\", jitter = \"5s\" }\n",
        &["trigger/start_in_bounds", "8:20", "@reboot"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntrigger = { cron = \"@daily\", timezone = \"Mars/Olympus\" }\n",
        &["cron/unknown_zone", "8:41", "Mars/Olympus"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntrigger = { at = \"2026-13-01T00:00:00Z\" }\n",
        &["time/bad_timestamp", "8:18", "RFC 3339"],
    ),
    (
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntrigger = { every = \"5s\", end = \"tomorrow\" }\n",
        &["time/bad_timestamp", "8:33"],
    ),
    (
        "[tasks.marking]\njob = \"exec\"\n",
        &["config/duplicate_key", "scheduler.toml:5:8", "first defined in line 1"],
    ),
    ("[tasks.a\n", &["config/syntax", "scheduler.toml:5:"]),
];

#[test]
fn each_slip_names_its_place_and_the_remedy_and_nothing_starts() {
    for (config, expected) in CASES {
        refuse(config, expected);
    }
}

#[test]
fn a_task_defined_in_two_files_is_refused() {
    let bench = Bench::new(&format!("include = [\"scheduler.more.toml\"]\n{MARKING}"));
    bench.write("scheduler.more.toml", MARKING);

    let answer = bench.run(&["run", "--for", "2s", "--log", "text"]);

    refused(
        &bench,
        &answer,
        &["config/duplicate_name", "task `marking` is defined twice", "rename or remove"],
    );
}

#[test]
fn an_override_for_a_task_that_does_not_exist_is_refused() {
    let bench = Bench::new(MARKING);
    let mut command = bench.command(&["run", "--for", "2s", "--log", "text"]);
    command.env("SCHEDULER_TASKS__MARKNG__TIMEOUT", "3s");

    let answer = Answer::of(command);

    refused(
        &bench,
        &answer,
        &["SCHEDULER_TASKS__MARKNG__TIMEOUT", "task `markng`", "did you mean `marking`?"],
    );
}

#[test]
fn an_override_with_a_bad_value_names_the_variable() {
    let bench = Bench::new(MARKING);
    let mut command = bench.command(&["check"]);
    command.env("SCHEDULER_TASKS__MARKING__TIMEOUT", "soon");

    let answer = Answer::of(command);

    refused(
        &bench,
        &answer,
        &["config/bad_duration", "environment variable SCHEDULER_TASKS__MARKING__TIMEOUT"],
    );
}

#[test]
fn several_faults_are_told_at_once_in_the_order_of_the_file() {
    let config = "[scheduler]\ntimezone = \"x\"\n[tasks.a]\njob = \"exce\"\ntrigger = { cron = \"x\" }\n\
                  [tasks.b]\njob = \"exec\"\nargs.program = \"no_such_program\"\noverlap = \"x\"\ntimeout = 3\n";
    let bench = Bench::new(config);

    let answer = bench.run(&["check", "-o", "json"]);

    let report = answer.json();
    let codes: Vec<&str> = report["error"]["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| fault["code"].as_str().unwrap())
        .collect();
    let expected = [
        "cron/unknown_zone",
        "job/unknown",
        "cron/bad_expression",
        "task/bad_args",
        "config/unknown_word",
        "config/wrong_type",
    ];
    assert_eq!((answer.code, codes.as_slice()), (2, expected.as_slice()), "{answer:?}");
    assert_eq!(report["error"]["diagnostics"][1]["line"], 4);
    assert_eq!(report["schema_version"], 1);
}

/// Faults of five kinds that no syntax error hides: a key, a value, an argument, a name and the environment.
#[test]
fn five_faults_of_five_kinds_are_five_diagnostics_each_with_its_line_and_column() {
    let config = r#"[scheduler]
namspace = "x"

[tasks.Backup]
job = "exec"
args = { program = "true" }

[tasks.report]
job = "exec"
args = { program = "true", argz = ["-h"] }
overlap = "skp"
timeout = "5m"

[tasks.mail]
job = "exec"
args.program = "true"
args.env = { SMTP_PASSWORD = { env = "SURELY_NOT_SET" } }
"#;
    let bench = Bench::new(config);

    let text = bench.run(&["check"]);
    let report = bench.run(&["check", "-o", "json"]).json();

    let found: Vec<(&str, u64, u64)> = report["error"]["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|fault| fault["severity"] == "error")
        .map(|fault| {
            let at = |key: &str| fault[key].as_u64().unwrap_or_else(|| panic!("no {key}: {fault}"));
            (fault["code"].as_str().unwrap(), at("line"), at("column"))
        })
        .collect();
    let expected = [
        ("config/unknown_key", 2, 1),
        ("config/bad_name", 4, 8),
        ("task/bad_args", 10, 28),
        ("config/unknown_word", 11, 11),
        ("task/bad_args", 17, 14),
    ];
    assert_eq!(found, expected, "{}", text.stderr);
    for (code, line, column) in expected {
        assert!(text.stderr.contains(&format!("error[{code}]")), "{}", text.stderr);
        assert!(text.stderr.contains(&format!("--> scheduler.toml:{line}:{column}")), "{}", text.stderr);
    }
    assert!(text.stderr.contains("no secret in environment variable `SURELY_NOT_SET`"), "{}", text.stderr);
    assert!(text.stderr.contains("scheduler.toml has 5 errors"), "{}", text.stderr);
    assert!(!text.stderr.contains("unnamed"), "a name that nobody wrote: {}", text.stderr);
}

#[test]
fn a_bad_override_is_shown_over_the_line_that_it_stands_over() {
    let bench = Bench::new(&format!("{MARKING}timeout = \"1s\"\n"));
    let mut command = bench.command(&["check", "-o", "json"]);
    command.env("SCHEDULER_TASKS__MARKING__TIMEOUT", "soon");

    let report = Answer::of(command).json();

    let fault = &report["error"]["diagnostics"][0];
    assert_eq!(fault["variable"], "SCHEDULER_TASKS__MARKING__TIMEOUT");
    assert_eq!(
        (&fault["file"], &fault["line"], &fault["column"]),
        (&"scheduler.toml".into(), &5.into(), &11.into())
    );
}

#[test]
fn a_missing_configuration_says_how_to_name_one() {
    let bench = Bench::new("");

    let answer = bench.run(&["--config", "elsewhere.toml", "run", "--for", "1s", "--log", "text"]);

    refused(&bench, &answer, &["config/file_not_found", "elsewhere.toml", "--config FILE"]);
}

#[test]
fn who_reads_json_lines_gets_faults_as_json_lines() {
    let bench = Bench::new("[tasks.a]\njob = \"exce\"\n");

    let answer = bench.run(&["run", "--for", "1s", "--log", "json"]);

    let lines: Vec<serde_json::Value> =
        answer.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((answer.code, lines[0]["code"].as_str()), (2, Some("job/unknown")));
    assert_eq!(lines[0]["place"], "scheduler.toml:2:7");
}

#[test]
fn a_filter_of_the_log_that_makes_no_sense_is_refused() {
    let bench = Bench::new(MARKING);
    let mut command = bench.command(&["run", "--for", "1s", "--log", "text"]);
    command.env("RUST_LOG", "scheduler=loud");

    let answer = Answer::of(command);

    refused(&bench, &answer, &["log/bad_filter", "RUST_LOG"]);
}

#[cfg(unix)]
#[test]
fn a_setting_in_the_environment_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let bench = Bench::new(MARKING);
    let mut command = bench.command(&["run", "--for", "2s", "--log", "text"]);
    command.env("SCHEDULER_TASKS__MARKING__TIMEOUT", std::ffi::OsStr::from_bytes(b"5s\xff"));
    command.env("OTHER", std::ffi::OsStr::from_bytes(b"\xff"));

    let answer = Answer::of(command);

    refused(&bench, &answer, &["config/not_utf8", "SCHEDULER_TASKS__MARKING__TIMEOUT", "unset it"]);
    assert!(!answer.stderr.contains("OTHER"), "{answer:?}");
}
