//! Unique runs: one of a kind, whoever asks.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::letters::serve;
use crate::outside::{durable, json_of};

fn bench(name: &str, more: &str) -> Bench {
    let script = "until [ -e go ]; do sleep 0.05; done; echo x >> done";
    Bench::new(&format!(
        "[tasks.{name}]\njob = \"exec\"\ntimeout = \"60s\"\ntier = \"queue\"\noverlap = \"allow\"\n{more}\n\
         args = {{ shell = true, program = '{script}' }}\n"
    ))
}

#[test]
fn a_trigger_of_a_kind_that_is_there_is_answered_with_its_run() {
    let bench = bench("invoice", "unique = { param = \"customer\" }");
    let ask = |customer: &str, more: &[&str]| {
        let param = format!("customer={customer}");
        json_of(&bench, &[&["trigger", "invoice", "--param", &param][..], more].concat())
    };

    let (ana, again, bo) = (ask("ana", &[]), ask("ana", &[]), ask("bo", &[]));
    assert_eq!((&ana["enqueued"], &again["enqueued"]), (&json!("inserted"), &json!("duplicate")));
    assert_eq!((&again["run_id"], &bo["enqueued"]), (&ana["run_id"], &json!("inserted")));
    let by_task = ask("eve", &["--unique"]);
    assert_eq!(by_task["enqueued"], "inserted", "a kind of its own: nobody asked for one of the whole task");
    assert_eq!(ask("fay", &["--unique"])["run_id"], by_task["run_id"]);
    bench.write("lines", "{\"task\": \"invoice\", \"params\": {\"customer\": \"ana\"}}\n");
    let lines = json_of(&bench, &["enqueue", "--file", "lines"]);
    assert_eq!((&lines["duplicates"], &lines["runs"][0]["run_id"]), (&json!(1), &ana["run_id"]), "{lines}");

    bench.write("lines", "{\"task\": \"invoice\", \"unique\": {\"param\": \"\"}}\n");
    let nameless = bench.run(&["enqueue", "--file", "lines"]);
    assert!(nameless.code == 2 && nameless.stderr.contains("`param` of `unique` is empty"), "{nameless:?}");

    json_of(&bench, &["cancel", ana["run_id"].as_str().unwrap()]);
    assert_eq!(ask("ana", &[])["enqueued"], "inserted", "it was cancelled");
    let explained = bench.run(&["explain", "invoice"]).stdout;
    assert!(explained.contains("by customer until done"), "{explained}");
}

/// What becomes of a trigger whose kind a run has that was forgotten, on a durable tier with these settings.
fn meet_a_forgotten_run(settings: &str) {
    let bench = Bench::new(&format!(
        "{settings}[tasks.clean]\njob = \"cache_cleanup\"\ntimeout = \"60s\"\n\
         args = {{ targets = [{{ kind = \"history\", backend = \"queue\", max_runs = 0 }}] }}\n{}",
        durable("invoice", "true", "unique = { for = \"1h\" }")
    ));
    let first = json_of(&bench, &["trigger", "invoice"])["run_id"].clone();
    serve(&bench);
    assert_eq!(bench.run(&["exec", "clean"]).code, 0);
    let id = first.as_str().unwrap();
    assert_eq!(bench.run(&["show", id]).code, 4, "it is forgotten");

    let again = json_of(&bench, &["trigger", "invoice"]);
    assert_eq!((&again["enqueued"], &again["run_id"]), (&json!("duplicate"), &first), "{again}");
    let waited = bench.run(&["trigger", "invoice", "--wait", "-o", "json"]);
    let error = &waited.json()["error"];
    assert_eq!((waited.code, &error["code"]), (4, &json!("run/unknown")), "{waited:?}");
    let told = error["message"].as_str().unwrap();
    assert_eq!(told, format!("run {id} was there already, and history has forgotten how it ended"));
    assert!(error["help"].as_str().unwrap().contains("nothing was added"), "{waited:?}");
}

#[test]
fn who_meets_a_run_that_was_forgotten_is_told_so() {
    meet_a_forgotten_run("[backends.local]\n[backends.queue]\n");
}

#[cfg(feature = "queue-redis")]
#[test]
fn who_meets_a_run_that_was_forgotten_on_redis_is_told_so() {
    let redis = crate::redis::Redis::start();
    meet_a_forgotten_run(&redis.settings());
}

#[test]
fn a_fire_of_a_kind_that_is_there_is_skipped_and_says_why() {
    let bench = bench("beat", "unique = {}\ntrigger = { every = \"200ms\" }");
    let mut daemon = bench.daemon(&[]);
    daemon.line(&["beat", "started"]);
    daemon.line(&["beat", "skipped", "unique: run"]);
    bench.write("go", "");
    daemon.line(&["beat", "succeeded"]);
    daemon.line(&["beat", "succeeded"]);
    daemon.signal(Signal::TERM);
    let (code, log) = daemon.end();

    assert_eq!(code, 0, "{log}");
    let runs = json_of(&bench, &["history", "-n", "500"])["runs"].as_array().unwrap().clone();
    let first = runs.iter().rfind(|run| run["state"] == "succeeded").unwrap();
    let reason = format!("unique: run {} is of the same kind", first["id"].as_str().unwrap());
    let is_skip = |run: &&Value| run["state"] == "skipped" && run["reason"] == reason.as_str();
    assert!(runs.iter().any(|run| is_skip(&run)), "{runs:?}");
}

#[test]
fn what_cannot_keep_runs_unique_says_so() {
    let bench = bench("t", "unique = { until = \"soon\" }");
    assert!(
        bench.run(&["check"]).stderr.contains("choices: `done`, `started`"),
        "{:?}",
        bench.run(&["check"])
    );
    bench.write(
        "scheduler.toml",
        "[tasks.t]\njob = \"exec\"\nargs.program = \"true\"\ntimeout = \"5s\"\nunique = {}\n",
    );
    let checked = bench.run(&["check"]);
    assert!(checked.stderr.contains("task/unique_ignored"), "{checked:?}");
}
