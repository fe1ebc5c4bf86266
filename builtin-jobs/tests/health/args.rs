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
            {"name": " ", "kind": "backend", "timeout": "0s"},
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
            {"name": "l", "kind": "process", "max": 1},
            {"name": "m", "kind": "process", "process": "a", "min": 2, "max": 1},
            {"name": "n", "kind": "process", "pid_file": "a", "command_line": " ", "max": 1},
            {"name": "o", "kind": "process", "process": "a", "min": 0},
            {"name": "p", "kind": "backend", "backend": "No"},
            {"name": "q", "kind": "http", "url": {"env": "URL"}},
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
        "/checks/13",
        "/checks/14/max",
        "/checks/15/command_line",
        "/checks/15/max",
        "/checks/16/min",
        "/checks/17/backend",
        "/checks/18/url",
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
    let many: Vec<Value> =
        (0..1_001).map(|name| json!({"name": name.to_string(), "kind": "memory"})).collect();
    assert!(faults(&json!({"checks": many}))[0].1.contains("more than 1000"));
}

#[cfg(feature = "redis")]
#[test]
fn a_url_of_redis_shows_no_password_and_is_one() {
    let check = |url: Value| json!({"checks": [{"name": "a", "kind": "redis", "url": url}]});
    for (url, part) in [
        (json!("redis://:canary@127.0.0.1/"), "the URL holds a password"),
        (json!("http://127.0.0.1/"), "no URL of a Redis server"),
    ] {
        let found = faults(&check(url));
        assert_eq!(found[0].0, "/checks/0/url");
        assert!(found[0].1.contains(part) && !found[0].1.contains("canary"), "{found:?}");
    }
    let job = health_check(&check(json!({"env": "SURELY_NOT_SET"})));
    assert_eq!(job.check()[0].pointer, "/checks/0/url");
    assert!(faults(&check(json!("rediss://user@db.example:6380/1"))).is_empty());
}

/// What a build can do without a library is the same; what it cannot says which feature is missing.
#[cfg(not(all(feature = "redis", feature = "sqlite")))]
#[test]
fn a_kind_that_was_not_built_names_its_feature() {
    let kinds = [
        (
            cfg!(feature = "redis"),
            json!({"name": "a", "kind": "redis", "url": "redis://127.0.0.1/"}),
            "`queue-redis`",
        ),
        (cfg!(feature = "sqlite"), json!({"name": "a", "kind": "sqlite", "path": "/a"}), "`queue-sqlite`"),
    ];
    for (_, check, feature) in kinds.into_iter().filter(|(is_built, ..)| !is_built) {
        let found = faults(&json!({"checks": [check]}));
        assert_eq!(found[0].0, "/checks/0/kind", "{found:?}");
        assert!(found[0].1.contains("was built without") && found[0].1.contains(feature), "{found:?}");
    }
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
