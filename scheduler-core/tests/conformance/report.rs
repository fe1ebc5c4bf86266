//! The report says the same as the tests, to programs.

use std::process::Command;

use scheduler_core::Capability;
use scheduler_core::conformance::{PROMISES, report};
use serde_json::Value;

use crate::breaks::Break;
use crate::subject::Disk;

#[test]
fn the_report_names_the_backend_and_what_became_of_each_promise() {
    let undeclared = Break::Undeclared(Capability::Priorities);
    let report = serde_json::to_value(report(|| Disk::new(Some(undeclared)))).unwrap();

    assert_eq!(report["backend"]["name"], "reference");
    assert_eq!(report["backend"]["contract"], scheduler_core::CONTRACT);
    let declared = report["backend"]["capabilities"].as_array().unwrap().len();
    assert_eq!(declared, Capability::ALL.len() - 1);
    // Three are for those who do not declare what it declares, two for those who declare what it does not.
    let count = |key: &str| report[key].as_u64().unwrap() as usize;
    assert_eq!((count("broken"), count("not_applicable")), (1, 5));
    assert_eq!(count("kept") + 6, PROMISES.len());
    let promises = report["promises"].as_array().unwrap();
    let broken = promises.iter().find(|promise| promise["result"] == "broken").unwrap();
    assert_eq!(broken["name"], "who_goes_by_priority_says_so");
    assert_eq!(broken["sentence"], "who goes by priority says so");
    assert_eq!(broken["chapter"], "priorities");
    assert!(broken["message"].as_str().unwrap().contains("declare Capability::Priorities"));
}

#[test]
fn an_author_gets_the_report_by_naming_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");

    let this = std::env::current_exe().unwrap();
    let run = Command::new(this)
        .args(["--exact", "the_report_is_written"])
        .env("SCHEDULER_CONFORMANCE_REPORT", &file)
        .output()
        .unwrap();

    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
    let report: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(report["broken"], 0);
    assert_eq!(report["promises"].as_array().unwrap().len(), PROMISES.len());
}
