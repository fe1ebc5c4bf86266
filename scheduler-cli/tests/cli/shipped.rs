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
