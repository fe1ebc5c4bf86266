//! Args that cannot be meant are named by their place.

use serde_json::{Value, json};

use crate::stage::{descriptor, job, sh};

#[test]
fn a_fault_in_the_args_is_named_by_its_place() {
    let of = |secret: Value| json!({"secrets": [secret]});
    let file = |more: Value| {
        let mut secret = json!({"name": "a", "kind": "file", "path": "/x"});
        secret.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        of(secret)
    };
    let rotation = |more: Value| {
        let mut rotation = json!({"generate": sh(":"), "verify": sh(":")});
        rotation.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        file(json!({"rotation": rotation}))
    };
    let commands = json!({"generate": sh(":"), "verify": sh(":")});
    let cases = [
        (json!({"secrets": []}), "/secrets"),
        (json!({"secrets": [], "timeout": "0s"}), "/timeout"),
        (json!({"secrets": [], "audit": ""}), "/audit"),
        (json!({"secrets": [], "allow": ["nonsense"]}), "/allow/0"),
        (file(json!({"unknown": 1})), "/secrets/0/unknown"),
        (file(json!({"name": " "})), "/secrets/0/name"),
        (file(json!({"path": ""})), "/secrets/0/path"),
        (file(json!({"keys": ["A"]})), "/secrets/0/keys"),
        (file(json!({"mode": "0999"})), "/secrets/0/mode"),
        (file(json!({"mode": "1777"})), "/secrets/0/mode"),
        (of(json!({"name": "a", "kind": "file"})), "/secrets/0"),
        (of(json!({"name": "a", "kind": "vault"})), "/secrets/0/kind"),
        (of(json!({"name": "a", "kind": "tls", "address": "example.com"})), "/secrets/0/address"),
        (of(json!({"name": "a", "kind": "jwt"})), "/secrets/0"),
        (of(json!({"name": "a", "kind": "jwt", "env": "A", "rotation": commands})), "/secrets/0/rotation"),
        (
            of(json!({"name": "a", "kind": "directory", "path": "/x", "rotation": commands})),
            "/secrets/0/rotation",
        ),
        (
            of(json!({"name": "a", "kind": "env_file", "path": "/x", "rotation": commands})),
            "/secrets/0/rotation",
        ),
        (rotation(json!({"generate": []})), "/secrets/0/rotation/generate"),
        (rotation(json!({"reload": [" "]})), "/secrets/0/rotation/reload"),
        (rotation(json!({"verify": ["a", "b\0"]})), "/secrets/0/rotation/verify"),
        (rotation(json!({"timeout": "0s"})), "/secrets/0/rotation/timeout"),
        (
            json!({"secrets": [{"name": "a", "kind": "file", "path": "/x"}, {"name": "a", "kind": "file", "path": "/y"}]}),
            "/secrets/1/name",
        ),
    ];
    for (args, place) in cases {
        let faults = descriptor().build(&args).err().unwrap_or_default();
        assert!(faults.iter().any(|fault| fault.pointer == place), "{args}: {faults:?}");
    }
}

#[test]
fn a_program_or_a_folder_that_is_missing_is_told_before_anything_runs() {
    let rotation = json!({"generate": ["no-such-program-x"], "verify": sh(":")});
    let args = json!({
        "audit": "/nowhere/audit.jsonl",
        "secrets": [
            {"name": "a", "kind": "file", "path": "/nowhere", "rotation": rotation},
            {"name": "b", "kind": "command", "program": "no-such-program-y"},
        ],
    });
    let found: Vec<String> = job(&args).check().into_iter().map(|fault| fault.pointer).collect();
    assert_eq!(found, ["/secrets/0/rotation/generate", "/secrets/1/program", "/audit"]);
}
