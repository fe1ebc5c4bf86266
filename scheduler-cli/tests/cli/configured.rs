//! `config show`: what the configuration comes to, and who says so.

use crate::bench::{Answer, Bench};
use crate::outside::{code, durable};

const LAYERED: &str = r#"include = ["more.yaml"]

[scheduler]
timezone = "Europe/Berlin"

[tasks.backup]
job = "exec"
args = { program = "true", args = ["a b", "c"] }
"#;

fn bench() -> Bench {
    let bench = Bench::new(LAYERED);
    bench.write("more.yaml", "scheduler:\n  timezone: UTC\n  shutdown_grace: 5s\n");
    bench
}

fn show(bench: &Bench, flags: &[&str]) -> Answer {
    let mut command = bench.command(&[&["config", "show"], flags].concat());
    command.env("SCHEDULER_TASKS__BACKUP__TIMEOUT", "5m").env("SCHEDULER_TASKS__BACKUP__PRIORITY", "7");
    Answer::of(command)
}

#[test]
fn every_value_is_shown_with_who_set_it() {
    let answer = show(&bench(), &["--origin"]);

    let expected = [
        "scheduler.shutdown_grace = \"5s\"             # more.yaml:3:19",
        "scheduler.timezone = \"Europe/Berlin\"        # scheduler.toml:4:12",
        "tasks.backup.args.args = [\"a b\", \"c\"]       # scheduler.toml:8:35",
        "tasks.backup.args.program = \"true\"          # scheduler.toml:8:20",
        "tasks.backup.job = \"exec\"                   # scheduler.toml:7:7",
        "tasks.backup.priority = 7                   # environment variable SCHEDULER_TASKS__BACKUP__PRIORITY, \
         for scheduler.toml:6:8",
        "tasks.backup.timeout = \"5m\"                 # environment variable SCHEDULER_TASKS__BACKUP__TIMEOUT, \
         for scheduler.toml:6:8",
    ];
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: Vec<String> = answer.stdout.lines().map(squeezed).collect();
    assert_eq!(shown, expected.map(squeezed), "{answer:?}");
}

#[test]
fn what_is_shown_is_a_configuration_of_the_same_meaning() {
    let bench = bench();
    let shown = show(&bench, &["--defaults"]);
    bench.write("scheduler.toml", &shown.stdout);

    let again = bench.run(&["config", "show"]);
    let check = bench.run(&["check"]);

    let values = |text: &str| {
        text.lines().map(|line| line.split("  # ").next().unwrap().trim().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(values(&again.stdout), values(&shown.stdout));
    assert_eq!(check.code, 0, "{check:?}\n{}", shown.stdout);
}

#[test]
fn a_default_is_told_from_what_was_set() {
    let rows = show(&bench(), &["--defaults", "-o", "json"]).json();

    let row = |key: &str| {
        let rows = rows["settings"].as_array().unwrap();
        rows.iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("no {key} in {rows:?}")).clone()
    };
    assert_eq!(row("tasks.backup.overlap")["from"], "default");
    assert_eq!(row("tasks.backup.overlap")["value"], "skip");
    assert_eq!(row("tasks.backup.args.grace")["value"], "5s");
    assert_eq!(row("backends.local.concurrency")["value"], 1000);
    assert_eq!(row("tasks.backup.priority")["from"], "environment");
    assert_eq!(row("tasks.backup.priority")["variable"], "SCHEDULER_TASKS__BACKUP__PRIORITY");
    assert_eq!(row("scheduler.timezone")["line"], 4);
}

/// Every verb that reads the configuration, on one that holds secrets and on one that has faults around them.
#[test]
fn a_secret_is_shown_by_no_verb() {
    use std::os::unix::fs::PermissionsExt;
    let sound = r#"[tasks.a]
job = "exec"
timeout = "1s"
[tasks.a.args]
program = "true"
args = ["--token", "hunter2", "--api-key=hunter2"]
env = { DB_PASSWORD = "hunter2", URL = "redis://me:hunter2@db/0" }
"#;
    let faulty = sound.replace(
        "timeout = \"1s\"",
        "timeout = 1\nurl = \"redis://:hunter2@db\"\nbackend = \"http://x:hunter2@y\"",
    );
    let faulty = faulty.replace("env = {", "envs = { A_TOKEN = \"hunter2\" }\nenv = { \"\" = \"x\",");
    for config in [sound, &faulty] {
        let bench = Bench::new(config);
        std::fs::set_permissions(bench.path("scheduler.toml"), std::fs::Permissions::from_mode(0o600))
            .unwrap();
        for verb in [
            &["check"][..],
            &["config", "show", "--origin", "--defaults"],
            &["config", "show", "-o", "json"],
            &["explain", "a"],
            &["explain", "a", "-o", "json"],
            &["list"],
            &["run", "--for", "1s", "--log", "text"],
            &["run", "--for", "1s", "--log", "json"],
            &["exec", "a"],
            &["history", "-o", "json"],
        ] {
            let answer = bench.run(verb);
            assert!(
                !answer.stdout.contains("hunter2") && !answer.stderr.contains("hunter2"),
                "{verb:?}: {answer:?}"
            );
            assert!(!answer.stderr.contains("config/syntax"), "{answer:?}");
        }
    }
}

#[test]
fn a_secret_in_a_file_that_everybody_reads_starts_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new(
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\nargs.env.API_TOKEN = \"hunter2\"\ntimeout = \"1s\"\n",
    );
    std::fs::set_permissions(bench.path("scheduler.toml"), std::fs::Permissions::from_mode(0o644)).unwrap();

    let refused = bench.run(&["run", "--for", "1s", "--log", "text"]);
    std::fs::set_permissions(bench.path("scheduler.toml"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let taken = bench.run(&["run", "--for", "1s", "--log", "text"]);

    assert_eq!((refused.code, taken.code), (2, 0), "{refused:?} {taken:?}");
    for text in
        ["config/readable_secret", "scheduler.toml:4:10", "`args.env.API_TOKEN` in task `a`", "chmod o= "]
    {
        assert!(refused.stderr.contains(text), "{refused:?}");
    }
}

/// An override that is no TOML is taken as a text, and then its keys are no keys any more.
#[test]
fn a_secret_in_an_override_that_does_not_parse_is_not_shown() {
    let bench = Bench::new("[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntimeout = \"1s\"\n");
    for broken in ["{ env = { DB_PASSWORD = \"hunter2\"", "[\"--token\", \"hunter2\""] {
        for verb in [&["config", "show"][..], &["config", "show", "-o", "json"], &["check"]] {
            let mut command = bench.command(verb);
            command.env("SCHEDULER_TASKS__A__ARGS", broken);

            let answer = Answer::of(command);

            assert!(!answer.stdout.contains("hunter2") && !answer.stderr.contains("hunter2"), "{answer:?}");
        }
    }
}

#[test]
fn a_secret_of_a_backend_that_is_not_there_is_warned_of_and_missed_when_it_is_needed() {
    let section =
        "[backends.queue]\nurl = \"redis://127.0.0.1:1/0\"\npassword = { env = \"NOT_SET_HERE\" }\n";
    let bench =
        Bench::new(&format!("{section}{}", durable("invoice", "true", "retry = { max_attempts = 3 }")));

    let (checked, strict) = (bench.run(&["check"]), bench.run(&["check", "--strict"]));
    let asked = bench.run(&["queues", "-o", "json"]);

    assert_eq!((checked.code, strict.code), (0, 1), "{checked:?}");
    for text in ["secret/missing", "`password` in backend `queue`", "NOT_SET_HERE", "scheduler.toml:3:1"] {
        assert!(checked.stderr.contains(text), "{text}: {checked:?}");
    }
    assert_eq!(code(&asked), (2, "secret/missing".to_owned()));
    assert!(asked.json()["error"]["help"].is_string(), "{asked:?}");
}

#[test]
fn unique_runs_by_a_parameter_without_a_name_are_refused() {
    let bench = Bench::new(&durable("invoice", "true", "unique = { param = \"\" }"));
    let answer = bench.run(&["check"]);
    assert_eq!(answer.code, 2, "{answer:?}");
    assert!(answer.stderr.contains("`unique.param` in task `invoice` is empty"), "{answer:?}");
}
