//! Git never asks anybody, and no credentials of a URL are told, whatever goes wrong.

use serde_json::{Value, json};

use crate::answering::answering;
use crate::stage::{Stage, args};

/// What a server says that wants a password for everything.
const LOCKED: &str = "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"canary\"";

#[tokio::test]
async fn a_repository_that_needs_a_password_fails_at_once_and_asks_nobody() {
    let stage = Stage::new().await;
    let (address, _) = answering(LOCKED);
    let home = stage.path("home");
    std::fs::create_dir(&home).unwrap();
    let asked = stage.path("asked");
    let configured = format!("[core]\n\taskPass = touch {}; false\n", asked.display());
    std::fs::write(home.join(".gitconfig"), configured).unwrap();

    let more = json!({"env": {"HOME": home}, "timeout": "60s"});
    let told = stage.run(&args(&format!("http://{address}/a.git"), more)).await;

    let error = told.error.unwrap();
    assert!(error.contains("terminal prompts disabled"), "{error}");
    assert!(!asked.exists(), "the program in git's own configuration was not asked either");
}

#[tokio::test]
async fn credentials_reach_the_server_and_are_told_nowhere() {
    let stage = Stage::new().await;
    let (address, seen) = answering(LOCKED);
    let file = stage.path("url");
    std::fs::write(&file, format!("http://canary-user:canary%2Dword@{address}/canary.git?key=canary-query"))
        .unwrap();
    let home = stage.path("home");
    std::fs::create_dir(&home).unwrap();
    let rewrite =
        format!("[url \"http://canary-a:canary-b@{address}/\"]\n\tinsteadOf = https://rewritten.invalid/\n");
    std::fs::write(home.join(".gitconfig"), rewrite).unwrap();
    let repositories = json!([
        {"url": {"file": file}, "name": "secret"},
        {"url": "https://rewritten.invalid/a.git", "name": "rewritten"},
        {"url": "http://127.0.0.1:1/a.git?key=canary-query", "name": "closed"},
    ]);
    let args = json!({"repositories": repositories, "task": "deploy", "spread": "0s", "env": {"HOME": home}});

    let told = stage.run(&args).await;

    assert_eq!(told.output["failing_count"], 3, "{told:?}");
    let stored = std::fs::read_to_string(stage.path("state/poll.json")).unwrap();
    let all = format!("{told:?} {stored}");
    assert!(!all.contains("canary"), "{all}");
    // Basic credentials of both URLs, as base64.
    let seen = seen.lock().unwrap().concat();
    let sent = |text: &str| seen.contains(text);
    assert!(sent("Y2FuYXJ5LXVzZXI6Y2FuYXJ5LXdvcmQ=") && sent("Y2FuYXJ5LWE6Y2FuYXJ5LWI="), "{seen}");
}

#[tokio::test]
async fn a_secret_that_cannot_be_a_url_is_not_shown() {
    let stage = Stage::new().await;
    for text in ["--upload-pack=canary", "ext::canary", "a\ncanary"] {
        let file = stage.path("url");
        std::fs::write(&file, text).unwrap();
        let repositories = json!([{"url": {"file": file}, "name": "r"}]);
        let args = json!({"repositories": repositories, "task": "deploy", "spread": "0s", "backoff": "0s"});
        let told = stage.run(&args).await;
        let error = told.error.clone().unwrap();
        assert!(
            error.contains("the URL cannot be used") && !format!("{told:?}").contains("canary"),
            "{told:?}"
        );
    }
}

#[tokio::test]
async fn git_is_told_to_ask_nobody_and_gets_only_what_is_listed() {
    let stage = Stage::new().await;
    let text = "case \"$1\" in config) exit 1 ;; esac\nenv >&2 > \"$(dirname \"$0\")/env\"";
    let path = stage.git_that(text);

    let told = stage.run(&args("file:///a", json!({"git": path}))).await;

    assert_eq!(told.error, None);
    let env = std::fs::read_to_string(stage.path("env")).unwrap();
    let has = |line: &str| env.lines().any(|found| found == line);
    for line in [
        "GIT_TERMINAL_PROMPT=0",
        "GIT_ASKPASS=",
        "SSH_ASKPASS_REQUIRE=force",
        "GIT_SSH_COMMAND=ssh -o BatchMode=yes",
        "GCM_INTERACTIVE=never",
    ] {
        assert!(has(line), "{line} in {env}");
    }
    assert!(!env.contains("CARGO_"), "{env}");
    let own: Value = json!({"git": path, "env": {"GIT_SSH_COMMAND": "my-ssh"}});
    stage.run(&args("file:///a", own)).await;
    let env = std::fs::read_to_string(stage.path("env")).unwrap();
    assert!(env.lines().any(|line| line == "GIT_SSH_COMMAND=my-ssh"), "{env}");
}
