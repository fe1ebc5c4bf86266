//! Args that cannot be meant are named by their place.

use scheduler_core::AttemptEnd;
use serde_json::json;

use crate::stage::{Stage, descriptor, job};

#[test]
fn a_fault_in_the_args_is_named_by_its_place() {
    let rule = |more: serde_json::Value| {
        let mut rule = json!({"class": "a", "policy": "linear"});
        rule.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        json!({"rules": [rule]})
    };
    let cases = [
        (json!({"rate": 0}), "/rate"),
        (json!({"rate": 2000}), "/rate"),
        (json!({"limit": 0}), "/limit"),
        (json!({"limit": 10_001}), "/limit"),
        (json!({"unknown": 1}), "/unknown"),
        (json!({"archive": {}}), "/archive"),
        (json!({"archive": {"file": "a", "url": "https://example.com/"}}), "/archive"),
        (json!({"archive": {"file": ""}}), "/archive/file"),
        (json!({"archive": {"file": "a", "allow": ["loopback"]}}), "/archive"),
        (json!({"archive": {"url": "ftp://example.com/"}}), "/archive/url"),
        (json!({"archive": {"url": "http://127.0.0.1/"}}), "/archive/url"),
        (rule(json!({"class": "other"})), "/rules/0/class"),
        (rule(json!({"class": " "})), "/rules/0/class"),
        (rule(json!({"replays": 0})), "/rules/0/replays"),
        (rule(json!({"replays": 101})), "/rules/0/replays"),
        (rule(json!({"archive_after": "1d"})), "/rules/0/archive_after"),
        (rule(json!({"delay": "2h"})), "/rules/0/delay"),
        (rule(json!({"tasks": ["Not a name"]})), "/rules/0/tasks/0"),
        (rule(json!({"errors": ["*"]})), "/rules/0/errors/0"),
        (rule(json!({"policy": "often"})), "/rules/0/policy"),
        (
            json!({"rules": [{"class": "a", "policy": "never"}, {"class": "a", "policy": "never"}]}),
            "/rules/1/class",
        ),
    ];
    for (args, place) in cases {
        let faults = descriptor().build(&args).err().unwrap_or_default();
        assert!(faults.iter().any(|fault| fault.pointer == place), "{args}: {faults:?}");
    }
}

#[test]
fn a_folder_that_is_missing_is_told_before_anything_runs() {
    let found = job(&json!({"archive": {"file": "/nowhere/letters.jsonl"}})).check();
    assert_eq!((found.len(), found[0].pointer.as_str()), (1, "/archive/file"));
    assert!(job(&json!({})).check().is_empty());
}

#[tokio::test]
async fn a_parameter_that_is_neither_true_nor_false_changes_nothing() {
    let stage = Stage::new();
    stage.fail("import", "connection refused");
    let context = stage.context(&json!({"dry_run": "yes"}));
    let end = scheduler_core::attempt(&*job(&json!({})), &context, None).await;
    assert!(matches!(&end, AttemptEnd::Failed(error) if error.to_string().contains("`\"yes\"`")), "{end:?}");
}
