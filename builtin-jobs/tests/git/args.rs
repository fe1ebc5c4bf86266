//! Args that cannot be meant are faults with a place.

use serde_json::{Value, json};

use crate::stage::{args, descriptor, git_poll};

#[test]
fn what_cannot_be_meant_has_a_place_and_a_message() {
    let url = "https://example.com/a.git";
    let repositories = |list: Value| json!({"repositories": list});
    let cases = [
        (repositories(json!([])), "/repositories", "nothing to poll"),
        (
            repositories(json!([{"url": "https://u:canary@example.com/"}])),
            "/repositories/0/url",
            "a password",
        ),
        (repositories(json!([{"url": "--upload-pack=canary"}])), "/repositories/0/url", "an option of git"),
        (repositories(json!([{"url": {"env": "URL"}}])), "/repositories/0", "needs a `name`"),
        (repositories(json!([{"url": url}, {"url": url}])), "/repositories/1", "of an earlier repository"),
        (repositories(json!([{"url": url, "name": "a\nb"}])), "/repositories/0/name", "no name"),
        (repositories(json!([{"url": url, "branches": [""]}])), "/repositories/0/branches/0", "fits no name"),
        (repositories(json!([{"url": url, "task": "a b"}])), "/repositories/0/task", "a b"),
        (repositories(json!([{"url": url, "timeout": "0s"}])), "/repositories/0/timeout", "limit of nothing"),
        (json!({"branches": ["refs/heads/main"]}), "/branches/0", "would be looked for below"),
        (json!({"tags": ["v1", "v 2"]}), "/tags/1", "fits no name"),
        (json!({"task": "a b"}), "/task", "a b"),
        (json!({"timeout": "0s"}), "/timeout", "limit of nothing"),
        (json!({"at_once": 1000}), "/at_once", "more than 256"),
        (json!({"git": " "}), "/git", "no program"),
        (json!({"backoff": "2h"}), "/max_backoff", "shorter than the first"),
        (json!({"env": {"A=B": "x"}}), "/env/A=B", "no name of a variable"),
        (json!({"pass_env": [""]}), "/pass_env/0", "is empty"),
    ];
    for (more, place, part) in cases {
        let faults = descriptor().build(&args(url, more)).err().unwrap_or_default();
        let told: Vec<String> = faults.iter().map(|fault| format!("{} {fault}", fault.pointer)).collect();
        assert!(told.len() == 1 && faults[0].pointer == place && told[0].contains(part), "{place}: {told:?}");
        assert!(!told[0].contains("canary"), "{told:?}");
    }
}

#[test]
fn what_is_missing_on_this_machine_is_told_by_the_check() {
    let args = json!({
        "repositories": [{"url": {"env": "SURELY_NOT_SET"}, "name": "r"}],
        "task": "deploy",
        "git": "surely-no-git",
    });
    let places: Vec<String> = git_poll(&args).check().into_iter().map(|fault| fault.pointer).collect();
    assert_eq!(places, ["/git", "/repositories/0/url"]);
}
