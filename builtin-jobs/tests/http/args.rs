//! Args are read when a task is checked; what is wrong with them is said then.

use scheduler_core::ArgsError;
use serde_json::{Value, json};

use crate::stage::http;

fn descriptor() -> scheduler_core::JobDescriptor {
    builtin_jobs::all().into_iter().find(|job| *job.name() == "http").unwrap()
}

fn faults(args: &Value) -> Vec<ArgsError> {
    descriptor().build(args).err().unwrap_or_default()
}

#[test]
fn every_fault_in_the_args_is_told_at_once() {
    let args = json!({
        "url": "http://127.1/?canary", "method": "get", "expect_status": [], "redirects": 99,
        "headers": {
            "fine": "x", "bad name": "x", "X-Break": "a\r\nX-Canary: b", "X-Nul": "\0", "Content-Length": "9",
            "same": "x", "SAME": "y", "a/b~": "x",
        },
        "body": "x", "json": {}, "timeout": "0s", "idle_timeout": "0s", "connect_timeout": "0s",
        "max_output": 99_999_999,
    });

    let found = faults(&args);

    let mut places: Vec<&str> = found.iter().map(|fault| fault.pointer.as_str()).collect();
    places.sort_unstable();
    let expected = [
        "/connect_timeout",
        "/expect_status",
        "/headers/Content-Length",
        "/headers/X-Break",
        "/headers/X-Nul",
        "/headers/a~1b~0",
        "/headers/bad name",
        "/headers/same",
        "/idle_timeout",
        "/json",
        "/max_output",
        "/method",
        "/redirects",
        "/timeout",
        "/url",
    ];
    assert_eq!(places, expected, "{found:?}");
    assert!(!format!("{found:?}").to_lowercase().contains("canary"), "{found:?}");
    let faulty = faults(&json!({"url": "http://127.1/", "allow": ["loopback", "10.0.0.0/99", "here"]}));
    let places: Vec<&str> = faulty.iter().map(|fault| fault.pointer.as_str()).collect();
    assert_eq!(places, ["/allow/1", "/allow/2"], "whether the URL is allowed is not known then");
}

#[test]
fn an_inner_address_is_refused_with_its_place_and_the_way_to_allow_it() {
    let found = faults(&json!({"url": "http://2130706433/?key=canary"}));

    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].to_string(),
        "args.url: address 127.0.0.1 is refused: it leads to this machine \
         (if it is meant, write `allow = [\"loopback\"]` or the address itself)"
    );
    let allowed = json!({"url": "http://2130706433/", "allow": ["127.0.0.0/8"]});
    assert!(faults(&allowed).is_empty());
}

#[test]
fn an_arg_of_the_wrong_type_is_named_with_what_belongs_there() {
    let with = |name: &str, value: Value| json!({"url": "https://example.com/", name: value});
    let cases = [
        (json!({}), "", "missing field `url`"),
        (with("verify", json!(false)), "/verify", "unknown field `verify`"),
        (with("headers", json!({"a": 7})), "/headers/a", "expected a string, or a secret"),
        (with("expect_status", json!([200, "oops"])), "/expect_status/1", "a class such as \"2xx\""),
        (with("timeout", json!("5min")), "/timeout", "no unit of time"),
        (with("method", json!("GE T")), "/method", "`GE T` is no method"),
        (with("method", json!("CONNECT")), "/method", "opens a tunnel"),
        (with("max_response", json!(-1)), "/max_response", "-1"),
    ];

    for (args, pointer, part) in cases {
        let found = faults(&args);
        assert_eq!(found[0].pointer, pointer, "{args}: {found:?}");
        assert!(found[0].message.contains(part), "{args}: {found:?}");
    }
}

#[test]
fn a_file_of_roots_is_looked_at_when_the_task_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "no certificate").unwrap();
    let missing = folder.path().join("missing.pem");

    for file in [&empty, &missing] {
        let found = http(&json!({"url": "https://example.com/", "ca_file": file})).check();
        assert_eq!(found[0].pointer, "/ca_file");
        assert!(found[0].message.contains(file.to_str().unwrap()), "{found:?}");
    }
}

#[test]
fn the_schema_names_every_arg() {
    let schema = descriptor().args_schema().clone();

    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["required"], json!(["url"]));
    let names: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 14, "{names:?}");
    for (name, property) in schema["properties"].as_object().unwrap() {
        assert!(property["description"].is_string(), "{name}: {property}");
    }
}

#[test]
fn a_secret_that_cannot_be_read_is_found_when_the_task_is_checked() {
    let args = json!({
        "url": "https://example.com/", "method": "POST",
        "headers": { "Authorization": { "env": "SURELY_NOT_SET" }, "Accept": "*/*" },
        "body": { "file": "/no/such/file" },
    });

    let found = descriptor().build(&args).unwrap().check();

    let places: Vec<&str> = found.iter().map(|fault| fault.pointer.as_str()).collect();
    assert_eq!(places, ["/headers/Authorization", "/body"], "{found:?}");
}
