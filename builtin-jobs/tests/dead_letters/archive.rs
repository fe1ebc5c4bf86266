//! What was given up moves into a file: each letter once, whatever happens.

use std::io::Write;
use std::path::Path;

use scheduler_core::AttemptEnd;
use serde_json::{Value, json};

use crate::stage::{Stage, actions};

/// Everything is given up at once.
fn args(file: &Path) -> Value {
    json!({
        "rules": [{"class": "never", "policy": "never", "archive_after": "0s"}],
        "archive": {"file": file},
    })
}

fn archived(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.ends_with('\n'), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_letter_that_failed_too_often_moves_into_the_file_whole() {
    let stage = Stage::new();
    let file = stage.path("archive.jsonl");
    let run = stage.fail("import", "lost");
    let rules = json!([{"class": "all", "policy": "immediate", "replays": 1}]);
    let args = json!({"rules": rules, "archive": {"file": file}});

    stage.run(&args).await;
    stage.keeper.work(Some("lost again"), stage.now());
    let output = stage.run(&args).await;

    let lines = archived(&file);
    let line = &lines[0];
    assert_eq!((lines.len(), &line["schema_version"], &line["replays"]), (1, &json!(1), &json!(1)));
    assert_eq!((&line["class"], &line["letter"]["run"]["reason"]), (&json!("all"), &json!("lost again")));
    assert_eq!(line["letter"]["run"]["replay_of"], json!(run));
    assert_eq!(line["run_id"], line["letter"]["run"]["id"]);
    assert_eq!(output["totals"]["archived"], 1);
    assert!(stage.keeper.letters().is_empty());
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_run_that_is_killed_between_writing_and_discarding_leaves_no_double() {
    let stage = Stage::new();
    let file = stage.path("archive.jsonl");
    stage.fail_many(3, "import", "denied");
    stage.keeper.state().discard_hangs = true;
    let lines = || std::fs::read_to_string(&file).unwrap_or_default().lines().count();
    stage.kill_when(&args(&file), || lines() == 3).await;
    assert_eq!(stage.keeper.letters().len(), 3);

    stage.keeper.state().discard_hangs = false;
    stage.fail("import", "denied later");
    stage.run(&args(&file)).await;

    assert_eq!((archived(&file).len(), stage.keeper.letters().len()), (4, 0));
}

#[tokio::test]
async fn a_line_that_was_cut_short_is_written_anew() {
    let stage = Stage::new();
    let file = stage.path("archive.jsonl");
    stage.fail("import", "denied early");
    stage.run(&args(&file)).await;
    stage.fail_many(2, "import", "denied");
    stage.keeper.state().discard_hangs = true;
    stage.kill_when(&args(&file), || std::fs::read_to_string(&file).unwrap().lines().count() == 3).await;
    let length = std::fs::metadata(&file).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length - 20).unwrap();

    stage.keeper.state().discard_hangs = false;
    stage.run(&args(&file)).await;

    let mut runs: Vec<String> = archived(&file).iter().map(|line| line["run_id"].to_string()).collect();
    runs.sort();
    runs.dedup();
    assert_eq!((runs.len(), archived(&file).len(), stage.keeper.letters().len()), (3, 3, 0));
}

#[tokio::test]
async fn a_file_that_was_moved_away_meanwhile_loses_nothing() {
    let stage = Stage::new();
    let file = stage.path("archive.jsonl");
    stage.fail("import", "denied early");
    stage.run(&args(&file)).await;
    stage.fail("import", "denied");
    stage.keeper.state().discard_hangs = true;
    stage.kill_when(&args(&file), || std::fs::read_to_string(&file).unwrap().lines().count() == 2).await;
    std::fs::rename(&file, stage.path("archive.jsonl.1")).unwrap();

    stage.keeper.state().discard_hangs = false;
    stage.run(&args(&file)).await;

    assert_eq!((archived(&file).len(), stage.keeper.letters().len()), (1, 0));
}

#[tokio::test]
async fn a_last_line_of_somebody_else_stays_whole() {
    let stage = Stage::new();
    let file = stage.path("archive.jsonl");
    std::fs::File::create(&file).unwrap().write_all(b"{\"mine\":1}").unwrap();
    stage.fail("import", "denied");

    stage.run(&args(&file)).await;

    assert_eq!(archived(&file)[0], json!({"mine": 1}));
    assert_eq!(archived(&file).len(), 2);
}

#[tokio::test]
async fn runs_side_by_side_archive_each_letter_once() {
    let stage = Stage::new();
    let file = stage.path("archive.jsonl");
    stage.fail_many(120, "import", "denied");
    let args = args(&file);

    let outputs = tokio::join!(stage.run(&args), stage.run(&args), stage.run(&args));

    let archived_by = |output: &Value| output["totals"]["archived"].as_u64().unwrap();
    let sum = archived_by(&outputs.0) + archived_by(&outputs.1) + archived_by(&outputs.2);
    assert_eq!(archived(&file).len() as u64, sum);
    stage.run(&args).await;
    let mut runs: Vec<String> = archived(&file).iter().map(|line| line["run_id"].to_string()).collect();
    assert_eq!(runs.len(), 120);
    runs.sort();
    runs.dedup();
    assert_eq!(runs.len(), 120);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_keeps_the_letters_and_fails_the_run_with_its_report() {
    let stage = Stage::new();
    stage.fail("import", "denied");
    stage.fail("export", "denied");
    let rules = json!([
        {"class": "never", "tasks": ["import"], "policy": "never", "archive_after": "0s"},
        {"class": "all", "policy": "immediate"},
    ]);
    // A full disk: every write fails.
    let end = stage.end(&json!({"rules": rules, "archive": {"file": "/dev/full"}})).await;

    let AttemptEnd::Failed(error) = end else { panic!("{end:?}") };
    assert!(error.to_string().contains("no dead letter was archived in /dev/full: "), "{error}");
    assert_eq!(error.output()["totals"]["replayed"], 1, "the rest goes on: {:#}", error.output());
    assert_eq!(stage.keeper.letters().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_read_or_is_its_own_is_not_archived() {
    let stage = Stage::new();
    let file = stage.path("archive.jsonl");
    let (own, unreadable) = (stage.fail("dead_letters", "denied"), stage.fail("import", "denied"));
    stage.keeper.make_unreadable(unreadable);
    stage.fail("import", "denied");

    let output = stage.run(&args(&file)).await;

    let left: std::collections::BTreeSet<_> = stage.keeper.letters().into_iter().collect();
    assert_eq!((archived(&file).len(), left), (1, [own, unreadable].into()), "{output:#}");
    assert_eq!(output["totals"]["left"], 2);
}

#[tokio::test]
async fn a_run_archives_no_more_than_its_limit_and_the_oldest_first() {
    let stage = Stage::new();
    let file = stage.path("archive.jsonl");
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(json!(stage.fail("import", "denied")));
        stage.pass(std::time::Duration::from_secs(1)).await;
    }
    let mut limited = args(&file);
    limited["limit"] = json!(2);

    stage.run(&limited).await;

    let lines: Vec<Value> = archived(&file).iter().map(|line| line["run_id"].clone()).collect();
    assert_eq!((lines, stage.keeper.letters().len()), (runs[..2].to_vec(), 3));
}

#[tokio::test]
async fn what_is_held_meanwhile_is_not_archived() {
    let stage = Stage::new();
    let file = stage.path("archive.jsonl");
    let run = stage.fail("import", "denied");
    assert_eq!(actions(&stage.dry_run(&args(&file)).await), [("archive".to_owned(), run.to_string())]);
    stage.keeper.hold_now(run);

    stage.run(&args(&file)).await;

    assert_eq!((std::fs::read_to_string(&file).unwrap(), stage.keeper.letters()), (String::new(), vec![run]));
}

#[tokio::test]
async fn what_is_held_in_the_moment_in_which_it_is_archived_stays() {
    let stage = Stage::new();
    let file = stage.path("archive.jsonl");
    stage.fail_many(2, "import", "denied");
    let run = stage.fail("import", "denied");
    stage.keeper.state().held_at_discard = Some(run);

    let output = stage.run(&args(&file)).await;

    let told = output["actions"].as_array().unwrap().iter().find(|action| action["run_id"] == json!(run));
    assert_eq!(told.unwrap()["result"], "held", "{output:#}");
    assert_eq!((&output["totals"]["archived"], stage.keeper.letters()), (&json!(2), vec![run]));
}

#[tokio::test]
async fn what_is_held_before_an_earlier_run_is_finished_stays() {
    let stage = Stage::new();
    let file = stage.path("archive.jsonl");
    let run = stage.fail("import", "denied");
    stage.keeper.state().discard_hangs = true;
    stage
        .kill_when(&args(&file), || std::fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n')))
        .await;
    {
        let mut state = stage.keeper.state();
        (state.discard_hangs, state.held_at_discard) = (false, Some(run));
    }

    stage.run(&args(&file)).await;

    assert_eq!(stage.keeper.letters(), [run]);
}
