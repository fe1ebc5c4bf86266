//! Which secrets are due, and which others may read.

use serde_json::{Value, json};

use crate::stage::{OLD, Stage};

/// A token with these claims, in the form of RFC 7519.
pub(crate) fn token(claims: &Value) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let encoded: String = claims
        .to_string()
        .as_bytes()
        .chunks(3)
        .flat_map(|bytes| {
            let bits = bytes.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
            let bits = bits << (8 * (3 - bytes.len()));
            let letter = move |place: usize| char::from(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize]);
            (0..=bytes.len()).map(letter)
        })
        .collect();
    format!("{OLD}.{encoded}.{OLD}")
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn a_file_is_due_by_its_age() {
    let stage = Stage::new();
    let (fresh, old) = (stage.file("fresh", OLD, 0o600, 10), stage.file("old", OLD, 0o600, 91));

    let current = stage.look(json!({"kind": "file", "path": fresh})).await;
    let due = stage.look(json!({"kind": "file", "path": old})).await;
    let own = stage.look(json!({"kind": "file", "path": fresh, "max_age": "9d"})).await;

    assert_eq!((current.error.clone(), &current.first()["status"]), (None, &json!("current")), "{current:?}");
    assert_eq!((&due.first()["status"], &own.first()["status"]), (&json!("due"), &json!("due")));
    let error = due.error.unwrap();
    assert!(
        error.contains("1 of 1 secrets: it due (") && error.contains("it is 91d old, and 90d"),
        "{error}"
    );
}

#[tokio::test]
async fn a_file_that_others_may_read_is_a_finding_unless_it_is_meant() {
    let stage = Stage::new();
    let key = stage.file("key", OLD, 0o644, 1);

    let open = stage.look(json!({"kind": "file", "path": key})).await;
    let group = stage.look(json!({"kind": "file", "path": key, "mode": "0640"})).await;
    let meant = stage.look(json!({"kind": "file", "path": key, "mode": "0644"})).await;

    for told in [&open, &group] {
        assert!(told.error.as_ref().unwrap().contains("its mode is 0644"), "{told:?}");
        assert_eq!((&told.first()["status"], &told.first()["findings"]), (&json!("current"), &json!(1)));
    }
    assert_eq!(meant.error, None);
}

#[tokio::test]
async fn what_is_missing_empty_or_no_file_is_told() {
    let stage = Stage::new();
    stage.file("empty", "", 0o600, 1);
    std::fs::create_dir(stage.path("folder")).unwrap();
    for (kind, name, words) in [
        ("file", "nowhere", "cannot look at"),
        ("file", "folder", "is no file"),
        ("file", "empty", "its file is empty"),
        ("directory", "folder", "there is no file in"),
        ("env_file", "empty", "sets nothing"),
        ("certificate", "empty", "no certificates in"),
        ("jwt", "empty", "it is no JWT"),
    ] {
        let told = stage.look(json!({"kind": kind, "path": stage.path(name)})).await;
        assert!(told.error.as_ref().is_some_and(|error| error.contains(words)), "{kind} {name}: {told:?}");
    }
}

#[tokio::test]
async fn every_file_of_a_folder_is_looked_at_and_the_worst_comes_first() {
    let stage = Stage::new();
    stage.file("all/a", OLD, 0o600, 1);
    stage.file("all/b", OLD, 0o600, 100);
    stage.file("all/b.rotation-next", OLD, 0o644, 100);
    std::os::unix::fs::symlink("nowhere", stage.path("all/broken")).unwrap();

    let told = stage.look(json!({"kind": "directory", "path": stage.path("all")})).await;

    let items = told.first()["items"].as_array().unwrap();
    let statuses: Vec<&str> = items.iter().map(|item| item["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["unknown", "due", "current"]);
    assert!(items[1]["name"].as_str().unwrap().ends_with("all/b"), "{items:?}");
}

#[tokio::test]
async fn of_a_folder_with_many_files_a_hundred_are_told_the_worst_first() {
    let stage = Stage::new();
    (0..120).for_each(|number| drop(stage.file(&format!("many/{number}"), "canary", 0o600, 1)));
    stage.file("many/old", "canary", 0o600, 100);

    let told = stage
        .run(&json!({"secrets": [{"name": "a", "kind": "directory", "path": stage.path("many")}]}))
        .await;

    let (first, items) = (told.first(), told.first()["items"].as_array().unwrap());
    assert_eq!((items.len(), &first["items_not_shown"]), (100, &json!(21)));
    assert_eq!(items[0]["status"], "due", "{}", items[0]);
}

#[tokio::test]
async fn names_of_an_environment_file_are_looked_at_one_by_one() {
    let stage = Stage::new();
    let file = stage.file(".env", &format!("# keys\nexport A={OLD}\nB=\nC='{OLD}'\n"), 0o600, 1);
    let told = stage.look(json!({"kind": "env_file", "path": file, "keys": ["A", "B", "D"]})).await;

    let items = told.first()["items"].as_array().unwrap();
    let shown: Vec<String> =
        items.iter().map(|item| format!("{} {}", item["name"], item["status"])).collect();
    assert_eq!(shown, ["\"D\" \"unknown\"", "\"A\" \"current\"", "\"B\" \"current\""]);
    assert_eq!(items[2]["findings"], json!(["it has no value"]));
}

#[tokio::test]
async fn a_token_is_due_before_its_end_and_by_its_age_without_one() {
    let stage = Stage::new();
    let (day, now) = (86_400, now());
    let cases = [
        (json!({"iat": now - 200 * day, "exp": now + 8 * day}), "current"),
        (json!({"iat": now - 200 * day, "exp": now + 6 * day}), "due"),
        (json!({"iat": now - 600, "exp": now + 3_000}), "current"),
        (json!({"exp": now - 1}), "expired"),
        (json!({"iat": now - 91 * day}), "due"),
        (json!({"sub": "x"}), "unknown"),
    ];
    for (claims, status) in cases {
        let file = stage.file("token", &token(&claims), 0o600, 1);
        let told = stage.look(json!({"kind": "jwt", "path": file})).await;
        assert_eq!(told.first()["status"], status, "{claims}: {told:?}");
        assert!(!format!("{told:?}").contains("canary"), "{told:?}");
    }
}

#[tokio::test]
async fn a_program_says_when_a_secret_was_made_and_nothing_else_it_prints_is_told() {
    let stage = Stage::new();
    let script = |text: &str| json!({"kind": "command", "program": "sh", "args": ["-c", text]});
    let old = format!("echo value={OLD}; echo {OLD} >&2; echo created_at=1500000000");
    let cases = [
        (old.as_str(), "due", "it is"),
        ("printf '{\"expires_at\": \"2000-01-01T00:00:00Z\"}'", "expired", "it ended"),
        ("echo canary-x >&2; echo canary-x; exit 3", "unknown", "`sh` ended with exit code 3"),
        ("echo canary-x", "unknown", "neither `created_at` nor"),
        ("kill -9 $$", "unknown", "`sh` was killed"),
    ];
    for (text, status, words) in cases {
        let told = stage.look(script(text)).await;
        assert_eq!(told.first()["status"], status, "{told:?}");
        assert!(
            told.error.as_ref().unwrap().contains(words) && !format!("{told:?}").contains("canary"),
            "{told:?}"
        );
    }
}

#[tokio::test]
async fn a_program_that_hangs_is_ended_at_the_limit_and_the_others_are_told() {
    let stage = Stage::new();
    let fresh = stage.file("fresh", OLD, 0o600, 1);
    let args = json!({"timeout": "200ms", "secrets": [
        {"name": "hangs", "kind": "command", "program": "sh", "args": ["-c", "sleep 600"]},
        {"name": "fresh", "kind": "file", "path": fresh},
    ]});

    let began = std::time::Instant::now();
    let told = stage.run(&args).await;

    assert!(told.error.unwrap().contains("did not end within 200ms"));
    assert_eq!(told.output["secrets"][1]["status"], "current");
    assert!(began.elapsed().as_secs() < 20);
}
