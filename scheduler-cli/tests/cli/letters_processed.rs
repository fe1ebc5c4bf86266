//! The job `dead_letter_processing` on the durable tier, by the commands of its section in `docs/jobs.md`.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::bench::{Answer, Bench};
use crate::letters::serve;
use crate::outside::{durable, json_of};

const PAGE: &str = include_str!("../../../docs/jobs.md");

/// The commands of a section of the page, each as a shell runs it.
pub(crate) fn commands_of(section: &str) -> Vec<&'static str> {
    let section = PAGE.split("\n## ").find(|text| text.starts_with(section)).unwrap();
    let block = section.split("```console\n").nth(1).unwrap().split("```").next().unwrap();
    block.lines().filter_map(|line| line.strip_prefix("$ ")).collect()
}

/// Runs a line of the page in the folder of `bench`, where `scheduler` is the binary.
pub(crate) fn shell(bench: &Bench, line: &str) -> Answer {
    let programs = bench.path("bin");
    if !programs.exists() {
        std::fs::create_dir(&programs).unwrap();
        symlink(env!("CARGO_BIN_EXE_scheduler"), programs.join("scheduler")).unwrap();
    }
    let mut command = bench.command(&[]);
    let variables: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
    command = std::process::Command::new("sh");
    command.args(["-c", line]).current_dir(bench.path(""));
    for name in variables {
        command.env_remove(name);
    }
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", programs.display()));
    Answer::of(command)
}

fn bench(store: &str, more: &str) -> Bench {
    let once = "retry = { max_attempts = 1 }";
    let picky = "[ -e mended ] || { echo connection refused by 10.0.0.$$ >&2; exit 3; }";
    Bench::new(&format!(
        "{store}{}{}[tasks.dead_letters]\njob = \"dead_letter_processing\"\ntimeout = \"1m\"\n[tasks.dead_letters.args]\n{more}",
        durable("picky", picky, once),
        durable("hopeless", "echo no such order >&2; exit 4", once),
    ))
}

fn fail(bench: &Bench, tasks: &[&str]) {
    tasks.iter().for_each(|task| drop(json_of(bench, &["trigger", task])));
    serve(bench);
}

fn letters(bench: &Bench) -> Vec<Value> {
    json_of(bench, &["dlq", "list"])["letters"].as_array().unwrap().clone()
}

fn succeeded(bench: &Bench) -> usize {
    let runs = json_of(bench, &["history", "picky", "-n", "100"])["runs"].as_array().unwrap().clone();
    runs.iter().filter(|run| run["state"] == "succeeded").count()
}

#[test]
fn the_commands_of_the_page_show_a_dry_run_the_run_and_a_kill_that_costs_nothing() {
    the_commands_of_the_page("");
}

#[cfg(feature = "queue-redis")]
#[test]
fn the_commands_of_the_page_do_the_same_on_redis() {
    the_commands_of_the_page(&crate::redis::Redis::start().settings());
}

fn the_commands_of_the_page(store: &str) {
    let rules = r#"[{ class = "network", errors = ["connection refused"], policy = "immediate" }]"#;
    let bench = bench(store, &format!("rate = 1\nrules = {rules}\n"));
    fail(&bench, &["picky", "picky", "picky", "picky", "hopeless"]);
    let held =
        letters(&bench).iter().find(|letter| letter["run"]["task"] == "picky").unwrap()["run"]["id"].clone();
    json_of(&bench, &["dlq", "hold", held.as_str().unwrap(), "--reason", "asked"]);
    fail(&bench, &["picky"]);
    let [dry, real, killed] = commands_of("dead_letter_processing").try_into().unwrap();

    let listed = shell(&bench, &format!("{dry} -o json")).json()["output"].clone();
    let untouched = letters(&bench).len();
    let done = shell(&bench, &format!("{real} -o json")).json()["output"].clone();
    bench.write("mended", "");
    serve(&bench);
    let after_kill = shell(&bench, killed);

    assert_eq!((untouched, &listed["dry_run"]), (6, &json!(true)));
    assert_eq!(listed["actions"].as_array().unwrap().len(), 1, "{listed:#}");
    for key in ["action", "run_id"] {
        assert_eq!(listed["actions"][0][key], done["actions"][0][key]);
    }
    assert_eq!((&done["totals"]["replayed"], &done["totals"]["held"]), (&json!(1), &json!(1)), "{done:#}");
    assert!(after_kill.code == 0 && after_kill.stdout.contains("\"replayed\""), "{after_kill:?}");
    serve(&bench);
    assert_eq!(succeeded(&bench), 4, "each letter ran again once");
    let left: Vec<Value> = letters(&bench).iter().map(|letter| letter["run"]["task"].clone()).collect();
    assert_eq!(
        (left.len(), left.contains(&json!("hopeless"))),
        (2, true),
        "the held one and that of no rule"
    );
}

#[test]
fn a_letter_that_fails_too_often_is_archived_whole_and_leaves() {
    a_letter_is_archived("");
}

#[cfg(feature = "queue-redis")]
#[test]
fn a_letter_that_fails_too_often_is_archived_from_redis() {
    a_letter_is_archived(&crate::redis::Redis::start().settings());
}

fn a_letter_is_archived(store: &str) {
    let rules = r#"[{ class = "orders", errors = ["no such order"], policy = "immediate", replays = 1 }]"#;
    let bench = bench(store, &format!("archive = {{ file = \"letters.jsonl\" }}\nrules = {rules}\n"));
    fail(&bench, &["hopeless"]);
    json_of(&bench, &["exec", "dead_letters"]);
    serve(&bench);

    let output = json_of(&bench, &["exec", "dead_letters"])["output"].clone();

    let line: Value =
        serde_json::from_str(&std::fs::read_to_string(bench.path("letters.jsonl")).unwrap()).unwrap();
    assert_eq!((&line["replays"], &line["letter"]["run"]["task"]), (&json!(1), &json!("hopeless")));
    assert_eq!((&output["totals"]["archived"], letters(&bench).len()), (&json!(1), 0));
}

#[test]
fn without_a_durable_backend_the_job_says_so() {
    let bench = Bench::new(
        "[backends.local]\n[tasks.dead_letters]\njob = \"dead_letter_processing\"\ntimeout = \"1m\"\n",
    );
    let answer = bench.run(&["exec", "dead_letters", "-o", "json"]);
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(answer.json()["reason"].as_str().unwrap().contains("keeps dead letters"), "{answer:?}");
}
