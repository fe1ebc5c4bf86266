//! Args that cannot be meant are faults with a place.

use serde_json::{Value, json};

use crate::stage::descriptor;

#[cfg(all(feature = "redis", feature = "sqlite"))]
#[test]
fn what_cannot_be_meant_of_a_store_has_a_place_and_a_message() {
    let redis = |more: Value| {
        let mut target =
            json!({"kind": "redis", "url": "redis://127.0.0.1/", "pattern": "x:*", "without_ttl": true});
        target.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"targets": [target]})
    };
    let sqlite = |more: Value| {
        let mut target =
            json!({"kind": "sqlite", "path": "x.db", "table": "t", "column": "c", "max_age": "1h"});
        target.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"targets": [target]})
    };
    let cases = [
        (redis(json!({"url": "http://x/"})), "/targets/0/url", "no URL of a Redis server"),
        (redis(json!({"url": "redis://:canary@x/"})), "/targets/0/url", "holds a password"),
        (redis(json!({"pattern": ""})), "/targets/0/pattern", "empty pattern"),
        (redis(json!({"without_ttl": false})), "/targets/0", "nothing says what goes"),
        (redis(json!({"table": "t"})), "/targets/0/table", "of no use for `redis`"),
        (sqlite(json!({"table": " "})), "/targets/0/table", "no name"),
        (sqlite(json!({"column": "a\0"})), "/targets/0/column", "no name"),
        (sqlite(json!({"unit": "days"})), "/targets/0/unit", "unknown variant `days`"),
        (sqlite(json!({"chunk": 0})), "/targets/0/chunk", "nonzero"),
    ];
    for (args, place, part) in cases {
        let faults = descriptor().build(&args).err().unwrap_or_default();
        let told: Vec<String> = faults.iter().map(|fault| format!("{} {fault}", fault.pointer)).collect();
        assert!(told.len() == 1 && faults[0].pointer == place && told[0].contains(part), "{place}: {told:?}");
        assert!(!told[0].contains("canary"), "{told:?}");
    }
}

#[test]
fn what_cannot_be_meant_has_a_place_and_a_message() {
    let directory = |more: Value| {
        let mut target = json!({"kind": "directory", "path": "/var/cache/x", "max_age": "1d"});
        target.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"targets": [target]})
    };
    let cases = [
        (json!({"targets": []}), "/targets", "nothing to clean"),
        (directory(json!({"path": ""})), "/targets/0/path", "no path"),
        (directory(json!({"confirm_path": "/var/cache"})), "/targets/0/confirm_path", "another path"),
        (directory(json!({"url": "http://x/"})), "/targets/0/url", "of no use for `directory`"),
        (directory(json!({"timeout": "0s"})), "/targets/0/timeout", "limit of nothing"),
        (directory(json!({"name": "a\nb"})), "/targets/0/name", "no name"),
        (json!({"targets": [{"kind": "directory", "path": "/x"}]}), "/targets/0", "nothing says what goes"),
        (json!({"targets": [{"kind": "directory", "max_age": "1d"}]}), "/targets/0", "needs `path`"),
        (json!({"targets": [{"kind": "http"}]}), "/targets/0", "needs `url`"),
        (json!({"targets": [{"kind": "http", "url": "ftp://x/"}]}), "/targets/0/url", "scheme `ftp`"),
        (json!({"targets": [{"kind": "http", "url": {"env": "X"}}]}), "/targets/0/url", "is a text"),
        (json!({"targets": [{"kind": "floppy"}]}), "/targets/0/kind", "unknown variant `floppy`"),
        (
            json!({"targets": [{"kind": "http", "url": "http://x/"}], "timeout": "0s"}),
            "/timeout",
            "of nothing",
        ),
        (
            json!({"targets": [{"kind": "http", "url": "http://x/"}], "max_listed": 99999}),
            "/max_listed",
            "more than history takes",
        ),
    ];
    for (args, place, part) in cases {
        let faults = descriptor().build(&args).err().unwrap_or_default();
        let told: Vec<String> = faults.iter().map(|fault| format!("{} {fault}", fault.pointer)).collect();
        assert!(told.len() == 1 && faults[0].pointer == place && told[0].contains(part), "{place}: {told:?}");
    }
}
