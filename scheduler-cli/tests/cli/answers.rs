//! What the verbs answer that need no daemon.

use std::io::Read;
use std::process::Stdio;

use crate::bench::{Answer, Bench};

const TWO_TASKS: &str = r#"[tasks.heartbeat]
job = "exec"
args.program = "true"
trigger = { every = "30s" }

[tasks.report]
job = "exec"
args.program = "true"
trigger = { cron = "30 2 * * *", timezone = "Europe/Berlin" }
"#;

#[test]
fn classify_answers_with_the_tier_and_all_its_reasons() {
    let bench = Bench::new("");

    let answer = bench.run(&[
        "classify",
        "--frequency",
        "high",
        "--visibility",
        "internal",
        "--complexity",
        "simple",
        "--durability",
        "ephemeral",
        "--infrastructure",
        "local",
        "-o",
        "json",
    ]);

    let json = answer.json();
    assert!(answer.stdout.starts_with(r#"{"schema_version":1,"tier":"local","rule":"R4","reasons":["#));
    let excluded: Vec<&str> =
        json["rejected"].as_array().unwrap().iter().map(|tier| tier["tier"].as_str().unwrap()).collect();
    assert_eq!((answer.code, excluded), (0, vec!["queue", "workflow"]));
    assert!(json["warnings"].is_array() && json["flips"].is_array(), "{json}");
}

#[test]
fn over_all_72_combinations_38_are_workflow_27_queue_and_7_local() {
    let bench = Bench::new("");
    let words: [(&str, &[&str]); 5] = [
        ("--frequency", &["high", "medium", "low"]),
        ("--visibility", &["internal", "user_facing"]),
        ("--complexity", &["simple", "dag", "complex"]),
        ("--durability", &["ephemeral", "persistent"]),
        ("--infrastructure", &["local", "distributed"]),
    ];
    let mut calls: Vec<Vec<&str>> = vec![vec!["classify", "-o", "json"]];
    for (flag, values) in words {
        let longer = |call: &Vec<&'static str>| {
            values.iter().map(|value| [call.as_slice(), &[flag, value]].concat()).collect::<Vec<_>>()
        };
        calls = calls.iter().flat_map(longer).collect();
    }

    let tiers: Vec<String> =
        calls.iter().map(|call| bench.run(call).json()["tier"].as_str().unwrap().to_owned()).collect();

    let count = |tier: &str| tiers.iter().filter(|found| *found == tier).count();
    assert_eq!((tiers.len(), count("workflow"), count("queue"), count("local")), (72, 38, 27, 7));
}

#[test]
fn an_unknown_word_is_answered_with_the_allowed_ones() {
    let bench = Bench::new("");

    let text = bench.run(&["classify", "--visibility", "user-facing"]);
    let json = bench.run(&["classify", "--frequency", "often", "-o", "json"]);

    assert_eq!((text.code, json.code), (2, 2));
    assert!(text.stderr.contains("internal, user_facing"), "{text:?}");
    let message = json.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("high, medium, low"), "{message}");
}

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
fn explain_reads_like_an_answer() {
    let bench = Bench::new(
        "[tasks.backup]\njob = \"exec\"\nargs.program = \"true\"\ntier = \"local\"\ntimeout = \"1h\"\n\
         characteristics = { durability = \"persistent\" }\nretry = { max_attempts = 3 }\n",
    );

    let answer = bench.run(&["explain", "backup"]);

    let expected = "\
backup -> local (backend local)  rule R3
  because        tier = \"local\" is set (the classifier says queue)
  classifier     queue by R3: durability = persistent: a run must survive a restart, and a queue keeps it
  not workflow   visibility = internal, complexity = simple: nobody follows it and it has one step
  would change   durability = ephemeral -> local
  would change   visibility = user_facing -> workflow
  override       tier = \"local\", \"queue\" or \"workflow\" on the task
  facts          frequency = low (default)
                 visibility = internal (default)
                 complexity = simple (default)
                 durability = persistent (stated)
                 infrastructure = local (default)
  schedule       when asked
  next           when asked
  job            exec
  attempts       3 on local, exponential backoff from 10s to 10m with jitter
  timeout        1h
  overlap        skip (default)
  misfire        latest (default)
  priority       5 (default)
  on_unavailable error (default)
  warning        a persistent task on the local tier: a run that is under way when the process ends is lost
";
    assert!(answer.stdout.starts_with(expected), "{}", answer.stdout);
    assert_eq!(answer.code, 0);
}

#[test]
fn explain_says_why_a_task_belongs_where_nothing_can_run_it() {
    let bench = Bench::new(
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ncharacteristics.durability = \"persistent\"\n",
    );

    let answer = bench.run(&["explain", "a"]);

    assert_eq!(answer.code, 2);
    assert!(answer.stdout.contains("a -> queue (no backend runs it)  rule R3"), "{answer:?}");
    assert!(answer.stderr.contains("placement/no_backend"), "{answer:?}");
}

#[test]
fn a_task_that_does_not_exist_is_answered_with_the_closest_name() {
    let bench = Bench::new(TWO_TASKS);

    for verb in ["explain", "next", "exec", "history"] {
        let text = bench.run(&[verb, "hartbeat"]);
        let json = bench.run(&[verb, "hartbeat", "-o", "json"]);

        assert_eq!((text.code, json.code), (4, 4), "{verb}");
        assert!(text.stderr.contains("did you mean `heartbeat`?"), "{text:?}");
        assert_eq!(json.json()["error"]["code"], "task/unknown");
    }
}

#[test]
fn check_sums_up_and_is_strict_on_request() {
    let sound = Bench::new(TWO_TASKS);
    let warned = Bench::new(&format!(
        "{TWO_TASKS}timeout = \"1h\"\ncharacteristics.complexity = \"dag\"\ntier = \"local\"\n"
    ));

    let good = sound.run(&["check", "--strict"]);
    let lax = warned.run(&["check"]);
    let strict = warned.run(&["check", "--strict"]);

    assert!(good.stdout.starts_with("OK 2 tasks: 2 local; next: heartbeat in "), "{good:?}");
    assert_eq!((good.code, lax.code, strict.code), (0, 0, 1));
    assert!(lax.stderr.contains("warning[classify/steps_without_state]"), "{lax:?}");
    assert!(lax.stdout.ends_with("; 2 warnings\n"), "{lax:?}");
}

#[test]
fn a_task_whose_time_has_passed_is_warned_about() {
    let bench = Bench::new(
        "[tasks.old]\njob = \"exec\"\nargs.program = \"true\"\ntrigger = { at = \"2020-01-01T00:00:00Z\" }\n",
    );

    let (check, list) = (bench.run(&["check"]), bench.run(&["list"]));

    assert_eq!(check.code, 0);
    assert!(check.stderr.contains("warning[trigger/passed]"), "{check:?}");
    assert!(list.stdout.contains("passed"), "{list:?}");
}

#[test]
fn list_never_cuts_a_name_however_narrow_the_terminal_is() {
    let name = "a_name_that_is_as_long_as_names_may_be_which_is_64_characters_or";
    let bench = Bench::new(&format!("[tasks.{name}]\njob = \"exec\"\nargs.program = \"true\"\n"));

    for columns in ["20", "40", "80", "100", "200"] {
        let mut command = bench.command(&["list"]);
        command.env("COLUMNS", columns);
        let answer = Answer::of(command);

        assert!(answer.stdout.contains(name), "{columns}: {}", answer.stdout);
        assert!(answer.stdout.contains("when asked"), "{columns}: {}", answer.stdout);
    }
}

#[test]
fn a_table_fits_the_terminal() {
    let bench = Bench::new(TWO_TASKS);
    let mut command = bench.command(&["list"]);
    command.env("COLUMNS", "60");

    let answer = Answer::of(command);

    let widest = answer.stdout.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(60) && answer.stdout.contains("Europe/Berlin"), "{}", answer.stdout);
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_output_and_nothing_else() {
    let bench = Bench::new("");
    let mut command = bench.command(&["next", "--cron", "* * * * *", "-n", "20000"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();

    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();

    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn what_is_compiled_in_is_listed_with_its_crate_and_how_it_came_in() {
    let bench = Bench::new("");

    let jobs = bench.run(&["jobs", "-o", "json"]).json();
    let backends = bench.run(&["backends", "-o", "json"]).json();
    let version = bench.run(&["version", "-o", "json"]).json();

    let exec = jobs["jobs"].as_array().unwrap().iter().find(|job| job["name"] == "exec").unwrap().clone();
    assert_eq!((&exec["crate"], &exec["way"]), (&"builtin-jobs".into(), &"feature".into()));
    let local = &backends["backends"][0];
    assert_eq!(
        (&local["kind"], &local["crate"], &local["tier"]),
        (&"local".into(), &"backend-local".into(), &"local".into())
    );
    assert_eq!(local["configured"][0], "local");
    assert_eq!(version["features"], serde_json::json!(["local", "builtin-jobs"]));
}

#[test]
fn backends_are_listed_without_a_configuration() {
    let bench = Bench::new("");

    let answer = bench.run(&["--config", "none.toml", "backends"]);

    assert_eq!(answer.code, 0);
    assert!(answer.stdout.contains("schedules"), "{answer:?}");
}

#[test]
fn a_verb_that_does_not_exist_is_answered_with_the_closest_one() {
    let bench = Bench::new("");

    let text = bench.run(&["lst"]);
    let json = bench.run(&["lst", "-o", "json"]);

    assert_eq!((text.code, json.code, json.json()["error"]["code"].as_str()), (2, 2, Some("usage")));
    assert!(text.stderr.contains("'list'"), "{text:?}");
}

#[test]
fn no_colour_goes_where_no_terminal_is() {
    let bench = Bench::new("[tasks.a]\njob = \"exce\"\n");

    for call in [&["check"][..], &["list"], &["run", "--log", "text"], &["nonsense"], &["--help"]] {
        let answer = bench.run(call);
        assert!(!format!("{}{}", answer.stdout, answer.stderr).contains('\x1b'), "{answer:?}");
    }
}

#[test]
fn yaml_is_read_by_its_ending() {
    let bench = Bench::new("");
    bench.write(
        "jobs.yaml",
        "tasks:\n  beat:\n    job: exec\n    args: {program: 'true'}\n    trigger: {every: 30s}\n",
    );

    let answer = bench.run(&["--config", "jobs.yaml", "list", "-o", "json"]);

    assert_eq!(answer.json()["tasks"][0]["schedule"], "every 30s");
}
