//! The job as a scheduler calls it, without a scheduler: a context made by hand and a clock that stands still.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use scheduler_core::{
    CancelReason, Job, JobDescriptor, Name, RunContext, RunHost, RunId, RunIdentity, TestClock, Tier,
    Timestamp,
};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

#[tokio::test]
async fn each_run_reports_what_was_appended_since_the_last_one() {
    let bench = Bench::new();
    let job = bench.job(json!({ "words": ["ERROR", "panic"] }));

    bench.append("start\nERROR disk full\n");
    let first = job.run(&bench.attempt()).await.unwrap();
    bench.append("fine\nworker panicked\nERROR again\n");
    let second = job.run(&bench.attempt()).await.unwrap();
    let third = job.run(&bench.attempt()).await.unwrap();

    assert_eq!(first, json!({ "read": 2, "found": 1, "lines": ["ERROR disk full"] }));
    assert_eq!(second, json!({ "read": 3, "found": 2, "lines": ["worker panicked", "ERROR again"] }));
    assert_eq!(third, json!({ "read": 0, "found": 0, "lines": [] }));
}

#[tokio::test]
async fn lines_beyond_the_limit_are_counted_and_not_reported() {
    let bench = Bench::new();
    bench.append(&"ERROR\n".repeat(50));

    let output =
        bench.job(json!({ "words": ["ERROR"], "max_lines": 3 })).run(&bench.attempt()).await.unwrap();

    assert_eq!(output, json!({ "read": 50, "found": 50, "lines": ["ERROR", "ERROR", "ERROR"] }));
}

#[tokio::test]
async fn a_run_that_is_told_to_stop_reads_nothing_away_from_the_next_one() {
    let bench = Bench::new();
    let job = bench.job(json!({ "words": ["ERROR"] }));
    bench.append("ERROR\n");

    let told = bench.attempt();
    told.cancel(CancelReason::Shutdown);
    let stopped = job.run(&told).await;
    let next = job.run(&bench.attempt()).await.unwrap();

    // The read may have been over when the word to stop arrived; its lines are reported once either way.
    let reports = [stopped.ok(), Some(next)].into_iter().flatten();
    assert_eq!(reports.map(|report| report["found"].as_u64().unwrap()).sum::<u64>(), 1);
}

#[tokio::test]
async fn a_folder_instead_of_a_file_is_not_tried_again() {
    let bench = Bench::new();
    fs::create_dir(bench.file()).unwrap();

    let error = bench.job(json!({ "words": ["ERROR"] })).run(&bench.attempt()).await.unwrap_err();

    assert!(format!("{error:?}").starts_with("Abort"), "{error:?}");
}

#[test]
fn every_fault_of_the_args_is_told_at_once_with_its_place() {
    let args = json!({ "file": "/", "words": ["ok", "", ""], "max_lines": 0 });

    let faults = custom_job::job().build(&args).err().unwrap();

    let places: Vec<&str> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
    assert_eq!(places, ["/file", "/words/1", "/words/2", "/max_lines"]);
}

#[test]
fn an_unknown_key_and_a_wrong_type_are_named() {
    let unknown = json!({ "file": "/var/log/app.log", "words": ["x"], "colour": "red" });
    let wrong = json!({ "file": "/var/log/app.log", "words": ["x", 3] });

    let fault = |args: &Value| custom_job::job().build(args).err().unwrap().remove(0).to_string();

    assert!(fault(&unknown).contains("colour"), "{}", fault(&unknown));
    assert!(fault(&wrong).starts_with("args.words.1: "), "{}", fault(&wrong));
}

#[test]
fn the_folder_of_the_file_has_to_exist() {
    let bench = Bench::new();
    let build = |file: &Path| custom_job::job().build(&json!({ "file": file, "words": ["x"] })).unwrap();

    assert!(build(&bench.file()).check().is_empty());
    assert!(build(Path::new("app.log")).check().is_empty());
    let lost = bench.folder.path().join("lost").join("app.log");
    assert!(build(&lost).check()[0].message.contains("there is no folder"));
}

#[test]
fn the_schema_knows_every_key_and_no_other() {
    let job: JobDescriptor = custom_job::job();
    let keys: Vec<&String> = job.args_schema()["properties"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["file", "max_lines", "words"]);
    assert_eq!(job.args_schema()["additionalProperties"], json!(false));
}

/// A folder with a log file, and the host that keeps the task's state between runs.
struct Bench {
    folder: TempDir,
    host: RunHost,
}

impl Bench {
    fn new() -> Self {
        let clock = TestClock::at("2026-03-01T08:00:00Z".parse().expect("this is an instant"));
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        Self { folder, host: RunHost::standalone(Arc::new(clock)) }
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("app.log")
    }

    fn append(&self, text: &str) {
        let file = OpenOptions::new().create(true).append(true).open(self.file());
        file.and_then(|mut file| file.write_all(text.as_bytes())).expect("the log can be written");
    }

    fn job(&self, mut args: Value) -> Arc<dyn Job> {
        args["file"] = json!(self.file());
        custom_job::job().build(&args).expect("these are good args")
    }

    fn attempt(&self) -> RunContext {
        let name = |text| Name::new(text).expect("this is a name");
        let fire_time: Timestamp = self.host.clock.now();
        let identity = RunIdentity {
            namespace: name("default"),
            task: name("watch_app"),
            tier: Tier::Local,
            backend: name("local"),
            run_id: RunId::scheduled(&name("default"), &name("watch_app"), fire_time),
            fire_time,
            attempt: 1,
            fence: 1,
            params: Map::new(),
        };
        RunContext::new(identity, self.host.clone())
    }
}
