//! What the verbs answer that need no daemon.

use std::io::Read;
use std::process::Stdio;

use serde_json::Value;

use crate::bench::{Answer, Bench};

pub(crate) const TWO_TASKS: &str = r#"[tasks.heartbeat]
job = "exec"
args.program = "true"
timeout = "10s"
trigger = { every = "30s" }

[tasks.report]
job = "exec"
args.program = "true"
timeout = "1h"
trigger = { cron = "30 4 * * *", timezone = "Europe/Berlin" }
"#;

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
    let warned = Bench::new(&format!("{TWO_TASKS}characteristics.complexity = \"dag\"\ntier = \"local\"\n"));

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
    let trigger = "{ cron = \"30 2 * * *\", timezone = \"America/Argentina/Buenos_Aires\", max_runs = 10 }";
    let bench = Bench::new(&format!(
        "[tasks.{name}]\njob = \"exec\"\nargs.program = \"true\"\ntrigger = {trigger}\n"
    ));

    for columns in (20..200).step_by(10) {
        let mut command = bench.command(&["list"]);
        command.env("COLUMNS", columns.to_string());
        let answer = Answer::of(command);

        assert!(answer.stdout.contains(name), "{columns}: {}", answer.stdout);
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
    let mut command = bench.command(&["next", "--cron", "* * * * *", "-n", "10000"]);
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
    let features: Vec<&str> =
        version["features"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(features.starts_with(&["local"]) && features.ends_with(&["builtin-jobs"]), "{features:?}");
    assert_eq!(features.contains(&"workflow-prefect"), cfg!(feature = "workflow-prefect"));
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
