//! `exec`: one attempt, here and now.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use rustix::process::Signal;

use crate::bench::{Answer, Bench, Daemon};

fn task(script: &str, more: &str) -> Bench {
    Bench::new(&format!(
        "[tasks.one]\njob = \"exec\"\nargs = {{ program = '{script}', shell = true }}\n{more}\n"
    ))
}

#[test]
fn the_exit_code_tells_the_outcome() {
    let cases = [
        ("echo out; echo err >&2", "", 0, "succeeded"),
        ("exit 3", "retry.max_attempts = 5", 1, "failed"),
        ("exit 64", "", 1, "failed"),
        ("exit 75", "", 1, "snoozed"),
        ("exec sleep 600", "timeout = \"200ms\"", 1, "failed"),
    ];

    for (script, more, code, outcome) in cases {
        let answer = task(script, more).run(&["exec", "one", "-o", "json"]);

        assert_eq!((answer.code, answer.json()["outcome"].as_str()), (code, Some(outcome)), "{answer:?}");
    }
}

#[test]
fn what_the_program_prints_is_passed_on() {
    let answer = task("echo to stdout; echo to stderr >&2", "").run(&["exec", "one"]);

    assert!(answer.stdout.starts_with("to stdout\none succeeded after "), "{answer:?}");
    assert_eq!(answer.stderr, "to stderr\n");
}

#[test]
fn the_program_learns_which_run_it_is() {
    let bench = task("echo $SCHEDULER_RUN_ID $SCHEDULER_FIRE_TIME $SCHEDULER_ATTEMPT", "");
    let run_id = "01kdn4xt2v8d5q0z9w7r3y6mba";

    let answer = bench.run(&[
        "exec",
        "one",
        "--run-id",
        run_id,
        "--fire-time",
        "2026-01-01T01:00:00+01:00",
        "--attempt",
        "2",
    ]);

    assert!(answer.stdout.starts_with(&format!("{run_id} 2026-01-01T00:00:00Z 2\n")), "{answer:?}");
}

#[test]
fn the_same_fire_time_is_the_same_run() {
    let bench = task("true", "");
    let call = ["exec", "one", "--fire-time", "2026-01-01T00:00:00Z", "-o", "json"];

    let (first, second) = (bench.run(&call).json(), bench.run(&call).json());
    let other = bench.run(&["exec", "one", "-o", "json"]).json();

    assert_eq!(first["run_id"], second["run_id"]);
    assert_ne!(first["run_id"], other["run_id"]);
}

#[test]
fn bad_flags_are_refused() {
    let bench = task("touch marker", "");

    for flags in [["--run-id", "short"], ["--fire-time", "now"], ["--attempt", "0"], ["--param", "novalue"]] {
        let answer = bench.run(&["exec", "one", flags[0], flags[1]]);

        assert_eq!(answer.code, 2, "{answer:?}");
        assert!(answer.stderr.contains(flags[0]), "{answer:?}");
    }
    assert!(!bench.path("marker").exists());
}

#[test]
fn a_signal_cancels_it() {
    let bench = task("echo ready >&2; echo x > began; exec sleep 600", "");
    let daemon = Daemon::of(bench.command(&["exec", "one"]));
    crate::daemon::appears(&bench.path("began"));

    daemon.signal(Signal::TERM);
    let (code, _) = daemon.end();

    assert_eq!(code, 1);
}

#[test]
fn it_runs_beside_a_daemon() {
    let bench = task("echo x >> runs", "trigger = { every = \"100ms\" }");
    let mut daemon = bench.daemon(&[]);
    daemon.line(&["one", "succeeded"]);

    let answer = bench.run(&["exec", "one"]);

    assert_eq!(answer.code, 0, "{answer:?}");
}

#[test]
fn the_program_sees_the_parameters_of_its_run() {
    let bench = task("echo \"$SCHEDULER_PARAM_WHO $SCHEDULER_PARAMS\"; scheduler --version", "");
    let folder = std::path::Path::new(env!("CARGO_BIN_EXE_scheduler")).parent().unwrap();
    let mut command = bench.command(&["exec", "one", "--param", "who=Ana", "--param", "n=1"]);
    command.env("PATH", format!("{}:/usr/bin:/bin", folder.display()));

    let answer = Answer::of(command);

    assert!(answer.stdout.starts_with("Ana {\"n\":1,\"who\":\"Ana\"}\nscheduler "), "{answer:?}");
}

#[test]
fn what_the_program_prints_is_passed_on_while_it_runs() {
    let bench = task("echo first; until test -e go; do sleep 0.01; done; echo second >&2; echo third", "");
    let mut child =
        bench.command(&["exec", "one"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());

    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    bench.write("go", "");

    assert_eq!(line, "first\n");
    let (mut rest, mut talk) = (String::new(), String::new());
    stdout.read_to_string(&mut rest).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut talk).unwrap();
    assert!(rest.starts_with("third\none succeeded after "), "{rest}");
    assert_eq!((child.wait().unwrap().code(), talk.as_str()), (Some(0), "second\n"));
}

#[test]
fn everything_that_the_program_prints_is_passed_on_not_only_what_history_keeps() {
    let bench = task("seq 1 60000", "");

    let answer = bench.run(&["exec", "one"]);

    let lines: Vec<&str> = answer.stdout.lines().collect();
    assert_eq!((lines.len(), lines[59_999]), (60_001, "60000"));
    let json = bench.run(&["exec", "one", "-o", "json"]).json();
    assert!(json["output"]["stdout"].as_str().unwrap().contains("bytes dropped"), "one object, bounded");
}

#[test]
fn the_report_is_a_line_of_its_own_behind_what_was_printed() {
    let bench = task("printf no-newline; printf talk >&2; exit 3", "");
    let mut command = bench.command(&["exec", "one"]);
    let (mut both, ours) = std::io::pipe().unwrap();
    command.stdout(ours.try_clone().unwrap()).stderr(ours);
    let mut child = command.spawn().unwrap();
    drop(command);

    let mut text = String::new();
    both.read_to_string(&mut text).unwrap();

    assert_eq!(child.wait().unwrap().code(), Some(1));
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("one failed after ") && last.contains("exit code 3"), "{text}");
}
