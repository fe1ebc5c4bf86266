//! The configurations that ship with the program are sound.

use std::path::Path;

use crate::bench::{Answer, Bench};

/// A path counted from the root of the repository.
fn shipped(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join(path).to_str().unwrap().to_owned()
}

#[test]
fn the_file_that_lists_every_setting_loads_without_a_word() {
    let bench = Bench::new("");

    let answer = bench.run(&["--config", &shipped("scheduler.example.toml"), "check", "--strict"]);

    assert_eq!((answer.code, answer.stderr.as_str()), (0, ""), "{answer:?}");
}

#[test]
fn what_that_file_calls_a_default_is_one() {
    let bench = Bench::new("[tasks.nightly_backup]\njob = \"exec\"\nargs.program = \"true\"\n");

    let explain = |answer: Answer| {
        let policies = answer.json()["policies"].as_array().unwrap().clone();
        policies.into_iter().filter(|policy| policy["name"] != "timeout").collect::<Vec<_>>()
    };
    let listed = bench.run(&[
        "--config",
        &shipped("scheduler.example.toml"),
        "explain",
        "nightly_backup",
        "-o",
        "json",
    ]);
    let default = bench.run(&["explain", "nightly_backup", "-o", "json"]);

    assert_eq!(explain(listed), explain(default));
}

#[test]
fn the_quickstart_is_sound() {
    let bench = Bench::new("");

    let answer = bench.run(&["--config", &shipped("examples/quickstart.toml"), "check"]);

    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.stdout.starts_with("OK 6 tasks: 5 local, 1 queue"), "{answer:?}");
}

#[cfg(all(feature = "queue-sqlite", feature = "workflow-prefect"))]
#[test]
fn the_example_for_prefect_is_sound_and_one_word_moves_its_task() {
    let example = std::fs::read_to_string(shipped("examples/prefect/scheduler.toml")).unwrap();
    let (words, tidy) = example.split_once("[tasks.tidy]").unwrap();

    for (tier, placed) in [
        ("workflow", "OK 3 tasks: 1 local, 2 workflow"),
        ("queue", "OK 3 tasks: 1 local, 1 queue, 1 workflow"),
        ("local", "OK 3 tasks: 2 local, 1 workflow"),
    ] {
        let moved = tidy.replacen("tier = \"workflow\"", &format!("tier = \"{tier}\""), 1);
        let answer = Bench::new(&format!("{words}[tasks.tidy]{moved}")).run(&["check"]);

        assert_eq!(answer.code, 0, "{answer:?}");
        assert!(answer.stdout.starts_with(placed), "{answer:?}");
        assert!(!answer.stderr.contains("`words`"), "nothing to be warned of: {answer:?}");
    }
}
