//! A program gets the variables that were listed, and no file but its three streams.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;

use scheduler_core::{AttemptEnd, Verdict, attempt};
use serde_json::json;

use crate::stage::{DAEMON, Stage, context, exec, output, script, what_follows};

/// What `env -0` wrote.
fn variables(stage: &Stage, name: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(stage.path(name)).unwrap();
    let pairs = text.split_terminator('\0').map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_environment_is_the_allow_list_and_the_runs_variables() {
    let stage = Stage::new();
    std::fs::write(stage.path("token"), "from a file\n").unwrap();
    let mut args = script("env -0 > $1/env", &stage);
    args["env"] = json!({
        "TEXT": "a b", "LANG": "C", "TOKEN": {"env": "DAEMONS_SECRET"}, "FILE": {"file": stage.path("token")},
    });
    let mut daemon = stage.daemon(&args);
    daemon.env_clear().env(DAEMON, args.to_string());
    daemon.envs([("PATH", "/usr/bin:/bin"), ("TZ", "UTC"), ("LANG", "de_DE.UTF-8")]);
    daemon.envs([("DAEMONS_SECRET", "canary"), ("SCHEDULER_CONFIG", "other.toml")]);

    assert!(daemon.status().unwrap().success());

    let config = stage.path("").canonicalize().unwrap().join("other.toml");
    let mut found = variables(&stage, "env");
    // The shell's own.
    found.retain(|name, _| !["PWD", "OLDPWD", "SHLVL", "_"].contains(&name.as_str()));
    let expected = [
        ("FILE", "from a file"),
        ("LANG", "C"),
        ("PATH", "/usr/bin:/bin"),
        ("SCHEDULER_ATTEMPT", "2"),
        ("SCHEDULER_CONFIG", config.to_str().unwrap()),
        ("SCHEDULER_EXEC_OWNER", found["SCHEDULER_EXEC_OWNER"].as_str()),
        ("SCHEDULER_FENCE", "7"),
        ("SCHEDULER_FIRE_TIME", "2026-03-28T11:00:00Z"),
        ("SCHEDULER_IDEMPOTENCY_KEY", found["SCHEDULER_RUN_ID"].as_str()),
        ("SCHEDULER_RUN_ID", found["SCHEDULER_RUN_ID"].as_str()),
        ("SCHEDULER_TASK", "backup"),
        ("TEXT", "a b"),
        ("TOKEN", "canary"),
        ("TRACEPARENT", found["TRACEPARENT"].as_str()),
        ("TZ", "UTC"),
    ];
    let shown: Vec<(&str, &str)> =
        found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn the_variables_of_a_run_are_those_of_its_context() {
    let ctx = context();
    let text = "echo $SCHEDULER_RUN_ID $SCHEDULER_IDEMPOTENCY_KEY $TRACEPARENT";
    let job = exec(&json!({"program": text, "shell": true, "pass_env": []}));

    let end = attempt(&*job, &ctx, None).await;

    let AttemptEnd::Succeeded(output) = end else { panic!("{end:?}") };
    assert_eq!(
        output["stdout"],
        format!("{} {} {}\n", ctx.run_id(), ctx.idempotency_key(), ctx.traceparent())
    );
}

#[tokio::test]
async fn a_missing_secret_fails_the_attempt_with_its_place() {
    let stage = Stage::new();
    let text = "echo ran > $1/word";
    let mut args = script(text, &stage);
    let cases = [
        (json!({"env": "SURELY_NOT_SET"}), "environment variable `SURELY_NOT_SET`"),
        (json!({"file": "/nowhere/token"}), "file /nowhere/token"),
    ];

    for (place, part) in cases {
        args["env"] = json!({ "TOKEN": place });
        let follows = what_follows(&args).await;
        assert!(matches!(&follows, Verdict::Fail { error } if error.contains(part)), "{follows:?}");
    }
    assert_eq!(stage.word("word"), None);
}

#[tokio::test]
async fn a_secret_that_no_variable_can_hold_is_not_shown() {
    let stage = Stage::new();
    std::fs::write(stage.path("token"), "canary\0canary").unwrap();

    let follows =
        what_follows(&json!({"program": "true", "env": {"TOKEN": {"file": stage.path("token")}}})).await;

    let Verdict::Fail { error } = follows else { panic!("{follows:?}") };
    assert_eq!(error, "the secret for `TOKEN` holds a NUL byte");
}

/// Whether this process was itself started with the open file; such a one passes through, see `exec`.
fn was_inherited(number: &str) -> bool {
    let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
    let flags = about.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("0").trim();
    !about.is_empty() && i64::from_str_radix(flags, 8).unwrap() & 0o2_000_000 == 0
}

#[tokio::test]
async fn a_program_inherits_no_file_that_the_daemon_opened() {
    let stage = Stage::new();
    let open = std::fs::File::create(stage.path("open")).unwrap();
    let args = json!({"program": "ls", "args": ["-l", "/proc/self/fd"]});

    let output = output(&args).await;

    let stdout = output["stdout"].as_str().unwrap();
    let links = stdout.lines().filter_map(|line| line.split_once(" -> "));
    // `ls` itself holds the folder that it lists.
    let files = links.filter(|(_, to)| !to.starts_with("/proc/"));
    let numbers = files.map(|(left, _)| left.rsplit(' ').next().unwrap());
    let opened: Vec<&str> =
        numbers.filter(|number| matches!(*number, "0" | "1" | "2") || !was_inherited(number)).collect();
    assert_eq!(opened, ["0", "1", "2"], "{stdout} while {} is open here", open.as_raw_fd());
}
