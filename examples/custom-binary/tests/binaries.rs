//! Runs the four binaries with the configuration that ships beside them, as their users do.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

const EXPLICIT: &str = env!("CARGO_BIN_EXE_custom-binary");
const BY_MACRO: &str = env!("CARGO_BIN_EXE_by_macro");
const FORGOTTEN_LINE: &str = env!("CARGO_BIN_EXE_forgotten_line");
const SAME_NAME_TWICE: &str = env!("CARGO_BIN_EXE_same_name_twice");

#[test]
fn jobs_names_the_crate_of_each_job_and_the_way_it_came_in() {
    let bench = Bench::new();
    for (binary, way) in [(EXPLICIT, "explicit"), (BY_MACRO, "macro")] {
        let rows = bench.json(binary, &["jobs"]);
        assert_eq!(row(&rows, "jobs", "exec")["way"], "feature");
        assert_eq!(row(&rows, "jobs", "log_watch")["way"], way);
        assert_eq!(row(&rows, "jobs", "log_watch")["crate"], "custom-job");
        assert_eq!(row(&rows, "jobs", "log_watch")["version"], "1.0.0");
    }
}

#[test]
fn backends_names_the_crate_of_each_kind_and_the_way_it_came_in() {
    let bench = Bench::new();
    for (binary, way) in [(EXPLICIT, "explicit"), (BY_MACRO, "macro")] {
        let rows = bench.json(binary, &["backends"]);
        assert_eq!(row(&rows, "backends", "local")["way"], "feature");
        assert_eq!(row(&rows, "backends", "custom_backend")["way"], way);
        assert_eq!(row(&rows, "backends", "custom_backend")["crate"], "custom-backend");
    }
}

#[test]
fn explain_says_that_the_task_runs_on_the_outside_backend() {
    let bench = Bench::new();

    let answer = bench.run(EXPLICIT, &["explain", "watch_app"]);

    assert!(answer.stdout.contains("backend memory"), "{answer:?}");
}

#[test]
fn a_fault_in_the_section_of_the_outside_backend_is_shown_where_it_stands() {
    let bench = Bench::new();
    bench.edit("live_runs = 100", "live_runs = 0\nended = 5");

    let answer = bench.run(EXPLICIT, &["check"]);

    assert_eq!(answer.code, 2, "{answer:?}");
    assert!(answer.stderr.contains("live_runs = 0"), "{answer:?}");
    assert!(answer.stderr.contains("unknown key `ended`"), "{answer:?}");
}

#[test]
fn check_finds_nothing_wrong_with_the_configuration() {
    let bench = Bench::new();
    for binary in [EXPLICIT, BY_MACRO] {
        let answer = bench.run(binary, &["check"]);
        assert_eq!((answer.code, answer.stderr.as_str()), (0, ""), "{answer:?}");
        assert!(answer.stdout.starts_with("OK 2 tasks"), "{answer:?}");
    }
}

#[test]
fn the_jobs_own_faults_are_shown_where_they_stand_in_the_file() {
    let bench = Bench::new();
    bench.edit("words = [\"ERROR\"], max_lines = 5", "words = [\"ERROR\", \"\"], max_lines = 5000");

    let answer = bench.run(EXPLICIT, &["check"]);

    assert_eq!(answer.code, 2, "{answer:?}");
    for fault in ["an empty word is in every line", "5000 is not between 1 and 1000", "2 errors"] {
        assert!(answer.stderr.contains(fault), "{fault}: {answer:?}");
    }
}

#[test]
fn the_schema_knows_the_outside_job_and_the_outside_backend() {
    let bench = Bench::new();
    let schema = bench.run(EXPLICIT, &["config", "schema"]);
    let validator = jsonschema::validator_for(&serde_json::from_str(&schema.stdout).unwrap()).unwrap();
    let document = scheduler_cli::layers::Document::load(&bench.config(), [], &[], &[]).unwrap();
    let tree = document.value("").unwrap().clone();
    // A key, a type, an argument of the job, a setting of the backend.
    let mutations = [
        ("/tasks/watch_app", "retires", json!(3)),
        ("/tasks/watch_app", "timeout", json!(1)),
        ("/tasks/watch_app/args", "words", json!([])),
        ("/tasks/watch_app/args", "lines", json!(5)),
        ("/backends/memory", "live_runs", json!("many")),
    ];

    assert!(validator.is_valid(&tree), "{:?}", validator.iter_errors(&tree).next());
    for (table, key, value) in mutations {
        let mut mutant = tree.clone();
        mutant.pointer_mut(table).unwrap()[key] = value;
        assert!(!validator.is_valid(&mutant), "{table}/{key}");
    }
}

#[test]
fn a_task_goes_on_in_the_next_process_where_it_was() {
    let bench = Bench::new();

    bench.log("ERROR the disk is full\n");
    let first = bench.run(EXPLICIT, &["exec", "watch_app", "--output", "json"]);
    bench.log("fine\nERROR still full\n");
    let second = bench.run(EXPLICIT, &["exec", "watch_app", "--output", "json"]);

    assert!(first.stdout.contains("the disk is full"), "{first:?}");
    assert!(second.stdout.contains("still full"), "{second:?}");
    assert!(!second.stdout.contains("the disk is full"), "{second:?}");
}

#[test]
fn run_ends_by_itself_after_the_time_it_was_given() {
    let bench = Bench::new();

    let answer = bench.run(EXPLICIT, &["run", "--for", "2s", "--log", "text"]);

    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.stderr.contains("the time given by --for is over"), "{answer:?}");
    assert!(answer.stderr.contains("drained: "), "{answer:?}");
}

#[test]
fn the_daemon_runs_the_outside_job_on_the_outside_backend_until_it_is_told_to_stop() {
    let bench = Bench::new();
    let mut command = bench.command(BY_MACRO, &["run", "--for", "1m", "--log", "json"]);
    let mut daemon = command.stderr(Stdio::piped()).spawn().unwrap();

    let mut lines = BufReader::new(daemon.stderr.take().unwrap()).lines().map_while(Result::ok);
    let ended = lines.find(|line| line.contains("\"task\":\"watch_app\"") && line.contains("succeeded"));
    let told = Command::new("kill").arg(daemon.id().to_string()).status().unwrap();
    let rest: Vec<String> = lines.collect();

    assert!(ended.is_some_and(|line| line.contains("\"backend\":\"memory\"")), "{rest:#?}");
    assert!(told.success());
    assert_eq!(daemon.wait().unwrap().code(), Some(0), "{rest:#?}");
    assert!(rest.iter().any(|line| line.contains("drained: ")), "{rest:#?}");
}

#[test]
fn a_forgotten_use_line_is_what_the_error_asks_for() {
    let bench = Bench::new();

    let answer = bench.run(FORGOTTEN_LINE, &["check"]);

    assert_eq!(answer.code, 2, "{answer:?}");
    assert!(answer.stderr.contains("error[job/unknown]: no job `log_watch` is registered"), "{answer:?}");
    assert!(answer.stderr.contains("scheduler.toml:"), "{answer:?}");
    assert!(answer.stderr.contains("`use that_crate as _;`"), "{answer:?}");
}

#[test]
fn two_crates_that_take_one_name_are_both_named() {
    let bench = Bench::new();

    let answer = bench.run(SAME_NAME_TWICE, &["jobs"]);

    assert_ne!(answer.code, 0);
    assert!(answer.stderr.contains("error[registry/duplicate_job]: job `log_watch`"), "{answer:?}");
    assert!(answer.stderr.contains("by custom-binary 1.0.0 (explicit)"), "{answer:?}");
    assert!(answer.stderr.contains("by custom-job 1.0.0 (macro)"), "{answer:?}");
}

/// The row of this name in a list.
fn row<'a>(answer: &'a Value, list: &str, name: &str) -> &'a Value {
    let key = if list == "backends" { "kind" } else { "name" };
    answer[list].as_array().unwrap().iter().find(|row| row[key] == name).unwrap()
}

/// A folder that looks like the repository as far as the configuration sees it.
struct Bench(TempDir);

#[derive(Debug)]
struct Answer {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(bench.0.path().join("target")).unwrap();
        fs::create_dir_all(bench.config().parent().unwrap()).unwrap();
        fs::write(bench.config(), include_str!("../scheduler.toml")).unwrap();
        bench
    }

    fn config(&self) -> PathBuf {
        self.0.path().join("examples/custom-binary/scheduler.toml")
    }

    fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(self.config(), text.replace(from, to)).unwrap();
    }

    fn log(&self, text: &str) {
        let file = self.0.path().join("target/custom-binary.log");
        let before = fs::read_to_string(&file).unwrap_or_default();
        fs::write(file, before + text).unwrap();
    }

    fn command(&self, binary: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary);
        command.args(arguments).arg("--config").arg(self.config()).current_dir(self.0.path());
        // Settings of whoever runs the tests would be read as layers of the configuration.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SCHEDULER_") || name == "RUST_LOG" || name == "NO_COLOR" {
                command.env_remove(name);
            }
        }
        command
    }

    fn run(&self, binary: &str, arguments: &[&str]) -> Answer {
        let output = self.command(binary, arguments).output().unwrap();
        Answer {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn json(&self, binary: &str, arguments: &[&str]) -> Value {
        let answer = self.run(binary, &[arguments, &["--output", "json"]].concat());
        serde_json::from_str(&answer.stdout).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
    }
}
