//! Args are read when a task is checked; what is wrong with them is said then.

use serde_json::{Value, json};

use crate::stage::{descriptor, health_check};

/// Where the faults are, and what they say.
fn faults(args: &Value) -> Vec<(String, String)> {
    let found = descriptor().build(args).err().unwrap_or_default();
    found.into_iter().map(|fault| (fault.pointer.clone(), fault.to_string())).collect()
}

#[test]
fn every_fault_in_the_args_is_told_at_once() {
    let args = json!({
        "timeout": "0s", "damping": {"agree": 1, "of": 2},
        "checks": [
            {"name": "a", "kind": "tcp"},
            {"name": "a", "kind": "tcp", "address": "db", "url": "x"},
            {"name": " ", "kind": "backends", "timeout": "0s"},
            {"name": "b", "kind": "http", "url": "ftp://x/"},
            {"name": "c", "kind": "http", "url": "http://169.254.169.254/"},
            {"name": "d", "kind": "tcp", "address": "[fd00:ec2::254]:80"},
            {"name": "e", "kind": "command", "program": ""},
            {"name": "f", "kind": "certificate"},
            {"name": "g", "kind": "certificate", "address": "a:1", "file": "b"},
            {"name": "h", "kind": "load", "failed": "5%"},
            {"name": "i", "kind": "disk", "path": "/", "degraded": "1%"},
            {"name": "j", "kind": "tcp", "address": "::1:80"},
            {"name": "k", "kind": "tcp", "address": "db:0"},
        ],
    });

    let found = faults(&args);

    let mut places: Vec<&str> = found.iter().map(|(place, _)| place.as_str()).collect();
    places.sort_unstable();
    let expected = [
        "/checks/0",
        "/checks/1/name",
        "/checks/1/url",
        "/checks/10/degraded",
        "/checks/11/address",
        "/checks/12/address",
        "/checks/2/name",
        "/checks/2/timeout",
        "/checks/3/url",
        "/checks/4/url",
        "/checks/5/address",
        "/checks/6/program",
        "/checks/7",
        "/checks/8",
        "/checks/9/failed",
        "/damping/agree",
        "/timeout",
    ];
    assert_eq!(places, expected, "{found:?}");
    assert!(faults(&json!({"checks": []}))[0].1.contains("there is nothing to check"));
}

#[test]
fn ones_own_network_may_be_looked_at_unless_the_task_says_otherwise() {
    let check = |address: &str| json!({"name": "a", "kind": "tcp", "address": address});
    for address in ["127.0.0.1:80", "[::1]:80", "localhost:80", "10.0.0.1:80", "100.64.0.1:80", "1.1.1.1:80"]
    {
        assert!(faults(&json!({"checks": [check(address)]})).is_empty(), "{address}");
    }
    for address in ["169.254.169.254:80", "169.254.1.1:80", "0.0.0.0:80", "224.0.0.1:80"] {
        assert_eq!(faults(&json!({"checks": [check(address)]}))[0].0, "/checks/0/address", "{address}");
    }
    let closed = faults(&json!({"checks": [check("127.0.0.1:80")], "allow": []}));
    assert_eq!(closed[0].0, "/checks/0/address");
    let wrong = faults(&json!({"checks": [check("127.0.0.1:80")], "allow": ["here"]}));
    assert_eq!(wrong.iter().map(|(place, _)| place.as_str()).collect::<Vec<_>>(), ["/allow/0"]);
}

#[test]
fn an_arg_of_the_wrong_type_is_named_with_what_belongs_there() {
    let check = |more: Value| {
        let mut check = json!({"name": "a", "kind": "disk", "path": "/"});
        check.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"checks": [check]})
    };
    let cases = [
        (json!({}), "", "missing field `checks`"),
        (check(json!({"kind": "ftp"})), "/checks/0/kind", "unknown variant `ftp`, expected one of `tcp`"),
        (check(json!({"degraded": "lots"})), "/checks/0/degraded", "a share such as \"10%\""),
        (check(json!({"timeout": 5})), "/checks/0/timeout", "expected a string"),
        (check(json!({"adress": "a:1"})), "/checks/0/adress", "unknown field `adress`"),
        (check(json!({"address": "a:1"})), "/checks/0/address", "`disk` takes `path`, `degraded`, `failed`"),
    ];
    for (args, place, part) in cases {
        let found = faults(&args);
        assert_eq!(found[0].0, place, "{found:?}");
        assert!(found[0].1.contains(part), "{found:?}");
    }
}

#[test]
fn a_missing_program_or_root_is_told_when_the_task_is_checked() {
    let checks = json!([
        {"name": "a", "kind": "disk", "path": "/surely/not/there"},
        {"name": "b", "kind": "command", "program": "/surely/not/there"},
        {"name": "c", "kind": "http", "url": "https://a.example/", "ca_file": "/surely/not/there.pem"},
        {"name": "d", "kind": "certificate", "address": "a.example:443", "ca_file": "/surely/not/there.pem"},
    ]);
    let found = health_check(&json!({"checks": checks})).check();
    let places: Vec<&str> = found.iter().map(|fault| fault.pointer.as_str()).collect();
    assert_eq!(places, ["/checks/1/program", "/checks/2/ca_file", "/checks/3/ca_file"]);
}

#[test]
fn the_schema_names_every_arg() {
    let schema = descriptor().args_schema().clone();
    assert_eq!(schema["required"], json!(["checks"]));
    let of_check = &schema["$defs"]["CheckArgs"];
    for properties in [&schema["properties"], &of_check["properties"]] {
        for (name, property) in properties.as_object().unwrap() {
            assert!(property["description"].is_string(), "{name}: {property}");
        }
    }
    assert_eq!(of_check["additionalProperties"], false);
}
