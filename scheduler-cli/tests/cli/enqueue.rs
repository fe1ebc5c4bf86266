//! `enqueue`: tasks and jobs without one, one by one and many at once.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::bench::{Bench, lines_of};
use crate::letters::serve;
use crate::outside::{code, durable, json_of};

const ALLOWED: &str = "[jobs.exec]\nadhoc = true\n";

/// Waits until a run shows what is looked for.
fn until(bench: &Bench, run: &str, is_there: impl Fn(&Value) -> bool) -> Value {
    loop {
        let shown = json_of(bench, &["show", run]);
        if is_there(&shown["run"]) {
            return shown["run"].clone();
        }
        assert!(!["succeeded", "failed"].iter().any(|end| shown["run"]["state"] == *end), "{shown}");
    }
}

#[test]
fn a_job_runs_without_a_task_only_where_the_configuration_allows_it() {
    let args = r#"{"program":"touch","args":["made"]}"#;
    let bench = Bench::new("");

    let refused = bench.run(&["enqueue", "exec", "--args", args, "-o", "json"]);
    assert_eq!(code(&refused), (2, "job/not_adhoc".to_owned()));
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("[jobs.exec]"), "{refused:?}");
    assert_eq!(bench.files(), ["scheduler.toml"]);

    bench.write("scheduler.toml", ALLOWED);
    let asked = json_of(&bench, &["enqueue", "exec", "--args", args, "--key", "once"]);
    let again = json_of(&bench, &["enqueue", "exec", "--args", args, "--key", "once"]);
    serve(&bench);

    assert_eq!((&asked["adhoc"], &asked["enqueued"]), (&json!(true), &json!("inserted")));
    assert_eq!((&again["run_id"], &again["enqueued"]), (&asked["run_id"], &json!("duplicate")));
    assert!(bench.path("made").exists());
    let run = asked["run_id"].as_str().unwrap();
    let shown = json_of(&bench, &["show", run])["run"].clone();
    assert_eq!((&shown["state"], &shown["adhoc"]["job"]), (&json!("succeeded"), &json!("exec")));
    assert!(bench.run(&["show", run]).stdout.contains("exec, without a task"));
    let jobs = json_of(&bench, &["jobs"]);
    let exec = jobs["jobs"].as_array().unwrap().iter().find(|job| job["name"] == "exec").unwrap().clone();
    assert_eq!(exec["adhoc"], true);
}

#[test]
fn a_process_that_does_not_allow_it_runs_no_job_without_a_task_whoever_asked() {
    let bench = Bench::new(ALLOWED);
    let run = json_of(&bench, &["enqueue", "exec", "--args", r#"{"program":"touch","args":["made"]}"#]);
    bench.write("scheduler.toml", "");

    serve(&bench);

    let shown = json_of(&bench, &["show", run["run_id"].as_str().unwrap()]);
    assert!(shown["run"]["reason"].as_str().unwrap().contains("may not run without a task"), "{shown}");
    assert_eq!((&shown["run"]["attempt"], shown["dead_letter"].is_object()), (&json!(1), true));
    assert!(!bench.path("made").exists());
}

#[test]
fn a_job_without_a_task_has_a_time_limit() {
    let bench = Bench::new(&format!("{ALLOWED}timeout = \"200ms\"\n"));
    let asked = json_of(&bench, &["enqueue", "exec", "--args", r#"{"program":"sleep","args":["600"]}"#]);
    let _daemon = bench.daemon(&[]);

    let run = until(&bench, asked["run_id"].as_str().unwrap(), |run| run["failures"].is_array());

    assert_eq!(run["failures"][0]["error"], "timed out after 200ms");
}

#[test]
fn what_makes_no_sense_is_refused_when_it_is_asked_for() {
    let bench = Bench::new(&format!("{ALLOWED}{}", durable("invoice", "true", "")));
    let cases: &[(&[&str], i32, &str)] = &[
        (&["exec", "--args", r#"{"programme":"x"}"#], 2, "task/bad_args"),
        (&["exec"], 2, "task/bad_args"),
        (&["http", "--args", "{}"], 2, "job/not_adhoc"),
        (&["exce"], 4, "task/unknown"),
        (&["invoice", "--args", "{}"], 2, "enqueue/args_of_task"),
    ];

    for (arguments, exit, slug) in cases {
        let answer = bench.run(&[&["enqueue", "-o", "json"], *arguments].concat());
        assert_eq!(code(&answer), (*exit, (*slug).to_owned()), "{arguments:?}");
    }
    let unread: [&[&str]; 6] = [
        &["exec", "--args", "[1]"],
        &["exec", "--args", "{"],
        &[],
        &["a", "--file", "b"],
        // As of a variable that is not set.
        &["invoice", "--key", ""],
        &["invoice", "--unique-by", ""],
    ];
    for arguments in unread {
        assert_eq!(bench.run(&[&["enqueue"], arguments].concat()).code, 2, "{arguments:?}");
    }
    assert_eq!(bench.files(), ["scheduler.toml"]);
    let asked = json_of(&bench, &["enqueue", "invoice", "--param", "n=1"]);
    assert_eq!((&asked["adhoc"], &asked["task"]), (&json!(false), &json!("invoice")));
}

#[test]
fn many_are_enqueued_at_once_and_each_key_once() {
    let bench = Bench::new(&format!("{ALLOWED}{}", durable("invoice", "echo x >> attempts", "")));
    bench.write(
        "orders.jsonl",
        "{\"task\":\"invoice\",\"key\":\"a\",\"params\":{\"n\":1},\"priority\":9}\n\n\
         {\"task\":\"invoice\",\"key\":\"b\"}\n{\"task\":\"invoice\",\"key\":\"a\"}\n\
         {\"job\":\"exec\",\"args\":{\"program\":\"touch\",\"args\":[\"made\"]}}\n\
         {\"task\":\"invoice\",\"at\":\"2100-01-01T00:00:00Z\"}\n",
    );

    let first = json_of(&bench, &["enqueue", "--file", "orders.jsonl"]);
    let mut command = bench.command(&["enqueue", "--from", "-"]);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"{\"task\":\"invoice\",\"key\":\"b\"}").unwrap();
    let second = child.wait_with_output().unwrap();
    bench.run(&["run", "--for", "2s"]);

    assert_eq!((&first["inserted"], &first["duplicates"]), (&json!(4), &json!(1)));
    let runs = first["runs"].as_array().unwrap();
    let lines: Vec<u64> = runs.iter().map(|run| run["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [1, 3, 4, 5, 6]);
    assert_eq!(runs[2], json!({"line": 4, "run_id": runs[0]["run_id"], "enqueued": "duplicate"}));
    assert_eq!(String::from_utf8_lossy(&second.stdout), "enqueued 0 runs, 1 there already\n");
    assert!(bench.path("made").exists());
    assert_eq!(lines_of(&bench.path("attempts")), 2);
}

#[test]
fn every_faulty_line_is_named_and_then_nothing_is_enqueued() {
    let bench = Bench::new(&format!("{ALLOWED}{}", durable("invoice", "true", "")));
    let large = format!("{{\"task\":\"invoice\",\"params\":{{\"x\":\"{}\"}}}}", "y".repeat(1_100_000));
    let lines = [
        "{\"task\":\"invoice\"}",
        "{\"task\":\"invoise\"}",
        "{",
        "{\"job\":\"http\"}",
        "{\"job\":\"exec\",\"args\":{\"programme\":1}}",
        "{\"task\":\"invoice\",\"job\":\"exec\"}",
        "{\"task\":\"invoice\",\"priority\":12}",
        "{\"task\":\"invoice\",\"kei\":\"x\"}",
        "{\"task\":\"invoice\",\"at\":\"noon\"}",
        "{\"task\":\"invoice\",\"args\":{}}",
        &large,
    ];
    bench.write("orders.jsonl", &lines.join("\n"));

    let json = bench.run(&["enqueue", "--file", "orders.jsonl", "-o", "json"]);
    let text = bench.run(&["enqueue", "--file", "orders.jsonl"]);

    assert_eq!(code(&json), (2, "enqueue/bad_lines".to_owned()));
    let faults = json.json()["error"]["diagnostics"].as_array().unwrap().clone();
    let fault = |fault: &Value| (fault["line"].as_u64().unwrap(), fault["code"].as_str().unwrap().to_owned());
    let found: Vec<(u64, String)> = faults.iter().map(fault).collect();
    let expected = [
        (2, "task/unknown"),
        (3, "enqueue/bad_line"),
        (4, "job/not_adhoc"),
        (5, "task/bad_args"),
        (6, "enqueue/bad_line"),
        (7, "enqueue/bad_line"),
        (8, "enqueue/bad_line"),
        (9, "enqueue/bad_line"),
        (10, "enqueue/args_of_task"),
        (11, "queue/params_too_large"),
    ];
    assert_eq!(found, expected.map(|(line, slug)| (line, slug.to_owned())));
    for part in ["orders.jsonl:2:1", "did you mean `invoice`?", "10 faulty lines: nothing was enqueued"] {
        assert!(text.stderr.contains(part), "{part} in {}", text.stderr);
    }
    assert_eq!(bench.files(), ["orders.jsonl", "scheduler.toml"]);
    let gone = bench.run(&["enqueue", "--file", "none.jsonl", "-o", "json"]);
    assert_eq!(code(&gone), (2, "enqueue/unreadable".to_owned()));
}
