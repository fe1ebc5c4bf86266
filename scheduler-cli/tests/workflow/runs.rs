//! A deployment of somebody else as a task of ours: triggered, waited for, read and cancelled by our verbs.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::records::until;
use crate::site::Site;

#[test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
fn a_real_flow_is_triggered_waited_for_and_its_log_is_read() {
    let site = Site::new("");
    let deployment = site.demo(&json!({}));
    site.configure(&site.task_on_demo("who = \"you\"", ""));

    let done = site.run(&["trigger", "words", "--key", "only", "--wait", "--timeout", "3m", "-o", "json"]);

    assert_eq!(done.code, 0, "{done:?}");
    let recorded = site.records.runs_of(&deployment);
    assert_eq!(recorded.len(), 1, "{recorded:?}");
    assert_eq!(recorded[0]["state_type"], "COMPLETED");
    assert_eq!(recorded[0]["parameters"]["who"], "you");
    site.records.logs(&recorded[0], "goodbye you");
    let run = done.json()["run_id"].as_str().unwrap().to_owned();
    let logs = site.run(&["logs", &run]);
    assert_eq!(logs.code, 0, "{logs:?}");
    assert!(logs.stdout.contains("hello you") && logs.stdout.contains("goodbye you"), "{logs:?}");
    let shown = site.run(&["show", &run]);
    assert!(shown.stdout.contains(recorded[0]["id"].as_str().unwrap()), "{shown:?}");
    let history = site.history("words");
    assert_eq!(history.len(), 1);
    assert_eq!((&history[0]["state"], &history[0]["id"]), (&json!("succeeded"), &json!(run)));
}

#[test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
fn the_same_key_twice_is_one_run_whatever_process_asks() {
    let site = Site::new("");
    let deployment = site.demo(&json!({}));
    site.configure(&site.task_on_demo("", ""));

    let first = site.run(&["trigger", "words", "--key", "invoice-7", "--in", "1h", "-o", "json"]);
    let again = site.run(&["trigger", "words", "--key", "invoice-7", "--in", "1h", "-o", "json"]);

    assert_eq!((first.code, again.code), (0, 0), "{first:?} {again:?}");
    assert_eq!(first.json()["run_id"], again.json()["run_id"]);
    assert_eq!(site.records.runs_of(&deployment).len(), 1);
}

#[test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
fn a_run_under_way_is_cancelled_in_prefect_and_in_history() {
    let site = Site::new("");
    let deployment = site.demo(&json!({}));
    site.configure(&site.task_on_demo("seconds = 600.0", ""));
    let asked = site.run(&["trigger", "words", "--key", "only", "-o", "json"]);
    let run = asked.json()["run_id"].as_str().unwrap().to_owned();
    let recorded = site.records.runs_of(&deployment)[0].clone();
    site.records.becomes(&recorded, &["RUNNING"]);

    let cancelled = site.run(&["cancel", &run]);

    assert_eq!(cancelled.code, 0, "{cancelled:?}");
    let ended = site.records.becomes(&recorded, &["CANCELLED", "COMPLETED", "CRASHED", "FAILED"]);
    assert_eq!(ended["state_type"], "CANCELLED", "{ended}");
    let is_cancelled = |run: &Value| run["state"] == "cancelled";
    until("the cancelled run in history", || site.history("words").into_iter().find(is_cancelled));
}

#[test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
fn a_log_is_followed_while_the_run_goes_on_and_to_its_end() {
    let site = Site::new("");
    let deployment = site.demo(&json!({}));
    site.configure(&site.task_on_demo("who = \"you\", seconds = 600.0", ""));
    let asked = site.run(&["trigger", "words", "--key", "only", "-o", "json"]);
    let run = asked.json()["run_id"].as_str().unwrap().to_owned();
    let recorded = site.records.runs_of(&deployment)[0].clone();
    site.records.becomes(&recorded, &["RUNNING"]);

    let mut following =
        site.bench.command(&["logs", &run, "--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("hello you")), "it ended before the run said a word");
    let meanwhile = site.records.becomes(&recorded, &["RUNNING", "CANCELLED", "COMPLETED", "FAILED"]);
    assert_eq!(site.run(&["cancel", &run]).code, 0);
    // It ends by itself with the run.
    let rest: Vec<String> = lines.map_while(Result::ok).collect();

    assert_eq!(meanwhile["state_type"], "RUNNING");
    assert!(following.wait().unwrap().success(), "{rest:?}");
    site.records.becomes(&recorded, &["CANCELLED"]);
}
