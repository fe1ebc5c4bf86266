//! What history learns of a run: its output, and what its exit code means.

use std::os::unix::fs::PermissionsExt;

use scheduler_core::Verdict;
use serde_json::json;

use crate::stage::{Stage, output, script, what_follows};

#[tokio::test]
async fn both_streams_and_the_exit_code_are_the_output() {
    let output = output(&json!({"program": "echo out; echo err >&2", "shell": true})).await;

    assert_eq!(output["exit_code"], 0);
    assert_eq!(output["stdout"], "out\n");
    assert_eq!(output["stderr"], "err\n");
    assert!(output["duration_ms"].is_u64());
}

#[tokio::test]
async fn a_megabyte_of_output_keeps_head_and_tail() {
    let text = "echo first; head -c 1048576 /dev/zero | tr '\\0' x; echo; echo last";
    let output = output(&json!({"program": text, "shell": true, "max_output": 1000})).await;

    let stdout = output["stdout"].as_str().unwrap();
    let dropped = 1_048_576 + "first\n\nlast\n".len() - 1000;
    assert!(stdout.starts_with("first\nxxx") && stdout.ends_with("xxx\nlast\n"));
    assert!(stdout.contains(&format!("x\n[{dropped} bytes dropped]\nx")), "{stdout}");
    assert_eq!(stdout.len(), 1000 + format!("\n[{dropped} bytes dropped]\n").len());
}

#[tokio::test]
async fn a_full_pipe_nobody_wants_does_not_block_the_program() {
    let text = "head -c 10000000 /dev/zero >&2; echo done";
    let output = output(&json!({"program": text, "shell": true, "max_output": 0})).await;

    assert_eq!(output["stderr"], "\n[10000000 bytes dropped]\n");
    assert_eq!(output["stdout"], "\n[5 bytes dropped]\n");
}

#[tokio::test]
async fn bytes_that_are_no_text_do_no_harm() {
    let text = r"printf '\377\376\000\033[31mred\033[0m\n'; printf '\033[2J\377bad\000\n' >&2; exit $1";
    let args = |code: &str| json!({"program": text, "shell": true, "args": [code]});

    let output = output(&args("0")).await;
    let failed = what_follows(&args("9")).await;

    assert_eq!(output["stdout"], "\u{fffd}\u{fffd}\0\u{1b}[31mred\u{1b}[0m\n");
    let Verdict::Retry { error, .. } = failed else { panic!("{failed:?}") };
    assert_eq!(error, "exit code 9: \\u{1b}[2J\u{fffd}bad\\u{0}");
}

#[tokio::test]
async fn an_exit_code_decides_what_follows() {
    let args = |code: &str| {
        json!({
            "program": "echo why >&2; exit $1", "shell": true, "args": [code],
            "snooze": "3m", "exit_codes": {"abort": [2], "snooze": [3], "success": [4]},
        })
    };
    let cases = [
        ("0", "Succeed"),
        ("1", "Retry exit code 1: why"),
        ("2", "Fail exit code 2: why"),
        ("3", "Snooze 180s"),
        ("4", "Succeed"),
        ("64", "Fail exit code 64: why"),
        ("75", "Snooze 180s"),
        ("78", "Fail exit code 78: why"),
        ("79", "Retry exit code 79: why"),
    ];

    for (code, expected) in cases {
        let follows = match what_follows(&args(code)).await {
            Verdict::Succeed(output) if output["exit_code"].as_u64() == code.parse().ok() => {
                "Succeed".to_owned()
            }
            Verdict::Retry { error, .. } => format!("Retry {error}"),
            Verdict::Fail { error } => format!("Fail {error}"),
            Verdict::Snooze { after } => format!("Snooze {after:?}"),
            other => format!("{other:?}"),
        };
        assert_eq!(follows, expected);
    }
}

#[tokio::test]
async fn death_by_a_signal_names_it_and_means_retry() {
    let follows = what_follows(&json!({"program": "kill -SEGV $$", "shell": true})).await;

    let Verdict::Retry { error, .. } = follows else { panic!("{follows:?}") };
    assert_eq!(error, "killed by SIGSEGV");
}

#[tokio::test]
async fn a_program_that_cannot_start_is_not_tried_again() {
    let stage = Stage::new();
    let no_program = stage.path("no_program").to_str().unwrap().to_owned();
    std::fs::write(&no_program, "no first line\n").unwrap();
    std::fs::set_permissions(&no_program, PermissionsExt::from_mode(0o755)).unwrap();
    let cases = [
        (json!({"program": "surely_no_such_program"}), "`surely_no_such_program` is not in PATH"),
        (json!({"program": "/dev/null"}), "`/dev/null` is no file"),
        (json!({"program": "/etc/passwd"}), "`/etc/passwd` is not executable"),
        (json!({"program": no_program}), "or a script without a line `#!`"),
        (json!({"program": "true", "cwd": "/nowhere"}), "folder /nowhere does not exist"),
    ];

    for (args, part) in cases {
        let follows = what_follows(&args).await;
        assert!(matches!(&follows, Verdict::Fail { error } if error.contains(part)), "{args}: {follows:?}");
    }
}

#[tokio::test]
async fn a_relative_program_counts_from_the_folder_it_runs_in() {
    let stage = Stage::new();
    std::fs::write(stage.path("here"), "#!/bin/sh\necho $0; pwd\n").unwrap();
    std::fs::set_permissions(stage.path("here"), PermissionsExt::from_mode(0o755)).unwrap();

    let output = output(&json!({"program": "./here", "cwd": stage.folder()})).await;

    assert_eq!(output["stdout"], format!("./here\n{}\n", stage.path("").canonicalize().unwrap().display()));
}

#[tokio::test]
async fn standard_input_is_empty() {
    let stage = Stage::new();
    let output = output(&script("cat; echo end", &stage)).await;

    assert_eq!(output["stdout"], "end\n");
}
