//! Args are read when a task is checked, and a fault names its place.

use serde_json::{Value, json};

use crate::stage::descriptor;

/// The places and the messages of all faults.
fn faults(args: &Value) -> Vec<(String, String)> {
    match descriptor().build(args) {
        Ok(job) => job.check(),
        Err(faults) => faults,
    }
    .into_iter()
    .map(|fault| (fault.pointer, fault.message))
    .collect()
}

#[test]
fn each_fault_is_told_with_its_place() {
    let cases = [
        (json!({"sources": []}), "/sources", "there is nothing to collect from"),
        (json!({"sources": [{"kind": "disk"}]}), "", "unknown variant `disk`"),
        (json!({"sources": [{"kind": "scrape"}]}), "/sources/0", "needs `url`"),
        (json!({"sources": [{"kind": "command"}]}), "/sources/0", "needs `program`"),
        (
            json!({"sources": [{"kind": "system", "url": "http://x/"}]}),
            "/sources/0/url",
            "of no use for `system`",
        ),
        (json!({"sources": [{"kind": "scrape", "url": "ftp://x/"}]}), "/sources/0/url", "scheme `ftp`"),
        (
            json!({"sources": [{"kind": "scrape", "url": "http://u:p@x/"}]}),
            "/sources/0/url",
            "a user or a password",
        ),
        (
            json!({"sources": [{"kind": "scrape", "url": "http://127.0.0.1/"}], "allow": []}),
            "/sources/0/url",
            "127.0.0.1",
        ),
        (
            json!({"sources": [{"kind": "system"}, {"kind": "system"}]}),
            "/sources/1/name",
            "an earlier source",
        ),
        (json!({"sources": [{"kind": "system", "name": "a b"}]}), "/sources/0/name", "no name of a source"),
        (
            json!({"sources": [{"kind": "system", "timeout": "0s"}]}),
            "/sources/0/timeout",
            "a limit of nothing",
        ),
        (json!({"sources": [{"kind": "system", "only": []}]}), "/sources/0/only", "nothing would be wanted"),
        (json!({"sources": [{"kind": "system", "max_series": 0}]}), "/sources/0/max_series", "not from 1 to"),
        (json!({"max_series": 1_000_000}), "/max_series", "not from 1 to 100000"),
        (json!({"max_age": "1h", "full_for": "2h"}), "/full_for", "longer than anything is kept"),
        (json!({"max_bytes": 10}), "/max_bytes", "262144 bytes at least"),
        (json!({"file": ""}), "/file", "the path is empty"),
        (
            json!({"sources": [{"kind": "command", "program": "surely-not-there"}]}),
            "/sources/0/program",
            "not in PATH",
        ),
        (
            json!({"sources": [{"kind": "scrape", "url": "http://x/", "headers": {"A": {"env": "SURELY_NOT_SET"}}}]}),
            "/sources/0/headers/A",
            "SURELY_NOT_SET",
        ),
    ];
    for (args, place, message) in cases {
        let found = faults(&args);
        assert!(
            found.iter().any(|(pointer, text)| pointer.starts_with(place) && text.contains(message)),
            "{args}: {found:?}"
        );
    }
}

#[test]
fn without_args_the_machine_and_the_scheduler_are_looked_at() {
    assert_eq!(faults(&json!({})), []);
    assert!(descriptor().build(&json!({})).unwrap().reads_tally());
    assert!(!descriptor().build(&json!({"sources": [{"kind": "system"}]})).unwrap().reads_tally());
}
