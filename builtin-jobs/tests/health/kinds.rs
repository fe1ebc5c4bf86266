//! Every kind of check tells a well target from an ill one.

use serde_json::json;

use crate::log::Log;
use crate::stage::{Stage, closed_port, named, web};

#[tokio::test]
async fn a_run_tells_how_every_check_stands() {
    let stage = Stage::new();
    let (web, closed) = (web("200 OK").await, closed_port());
    let checks = json!([
        named("site", json!({"kind": "http", "url": format!("http://{web}/?key=canary")})),
        named("port", json!({"kind": "tcp", "address": closed.to_string()})),
    ]);

    let told = stage.run(&json!({"checks": checks})).await;

    let shown = told.output["checks"].as_array().unwrap();
    assert!(shown.iter().all(|row| row["latency_ms"].is_u64()), "{told:?}");
    let message = shown[1]["message"].as_str().unwrap();
    let row = |name: &str, kind: &str, status: &str, message: &str, latency: &serde_json::Value| {
        json!({
            "name": name, "kind": kind, "status": status, "latest": status, "since": stage.began,
            "for_seconds": 0, "message": message, "latency_ms": latency,
        })
    };
    let expected = json!({
        "schema_version": 1,
        "status": "failed",
        "changes": [],
        "checks": [
            row("site", "http", "healthy", "answered 200 OK", &shown[0]["latency_ms"]),
            row("port", "tcp", "failed", message, &shown[1]["latency_ms"]),
        ],
    });
    assert_eq!(told.output, expected);
    assert_eq!(told.error.unwrap(), format!("1 of 2 checks: port failed for 0s ({message})"));
    assert!(message.contains(&format!("no connection to 127.0.0.1 at port {}", closed.port())), "{message}");
}

#[tokio::test]
async fn each_kind_knows_a_well_target_from_an_ill_one() {
    let stage = Stage::new();
    let (well, ill, closed) = (web("200 OK").await, web("500 Oops").await, closed_port());
    let gone = stage.path("gone");
    let cases = [
        (json!({"kind": "tcp", "address": well.to_string()}), "healthy", "accepts connections"),
        (json!({"kind": "tcp", "address": format!("localhost:{}", well.port())}), "healthy", "accepts"),
        (json!({"kind": "tcp", "address": closed.to_string()}), "failed", "refused"),
        (json!({"kind": "tcp", "address": "surely-not.invalid:80"}), "failed", "has no address"),
        (json!({"kind": "http", "url": format!("http://{well}/")}), "healthy", "answered 200 OK"),
        (json!({"kind": "http", "url": format!("http://{ill}/?canary")}), "failed", "expected 2xx"),
        (json!({"kind": "http", "url": format!("http://{ill}/"), "expect_status": [500]}), "healthy", "500"),
        (json!({"kind": "http", "url": format!("http://{closed}/")}), "failed", "no answer from"),
        (
            json!({"kind": "command", "program": "/bin/sh", "args": ["-c", "exit 0"]}),
            "healthy",
            "exit code 0",
        ),
        (
            json!({"kind": "command", "program": "/bin/sh", "args": ["-c", "echo ill >&2; exit 75"]}),
            "failed",
            "exit code 75: ill",
        ),
        (json!({"kind": "command", "program": "/surely/not/there"}), "failed", "does not exist"),
        (json!({"kind": "disk", "path": "/", "degraded": 0, "failed": 0}), "healthy", "free"),
        (
            json!({"kind": "disk", "path": "/", "degraded": "100%", "failed": 0}),
            "degraded",
            "on the disk of /",
        ),
        (json!({"kind": "disk", "path": "/", "degraded": "100%", "failed": "100%"}), "failed", "free"),
        (json!({"kind": "disk", "path": gone}), "failed", "cannot be looked at"),
        (json!({"kind": "memory", "degraded": 1, "failed": 1}), "healthy", "in memory"),
        (json!({"kind": "memory", "degraded": "100%", "failed": 1}), "degraded", "in memory"),
        (json!({"kind": "load", "degraded": 1e9, "failed": 1e9}), "healthy", "per core"),
        (json!({"kind": "backend"}), "failed", "has no scheduler around it"),
    ];
    for (check, status, part) in cases {
        let (found, message) = stage.look(check.clone()).await;
        assert_eq!(found, status, "{check}: {message}");
        assert!(message.contains(part) && !message.contains("canary"), "{check}: {message}");
    }
}

#[tokio::test]
async fn a_degraded_target_does_not_fail_the_run() {
    let checks = json!([
        named("disk", json!({"kind": "disk", "path": "/", "degraded": "100%", "failed": 0})),
        named("memory", json!({"kind": "memory", "degraded": 0, "failed": 0})),
    ]);
    let log = Log::default();
    // Were it the only subscriber, what a thread without one meets first would be off for all.
    std::mem::forget(tracing::Dispatch::new(log.clone()));
    let _listening = tracing::subscriber::set_default(log.clone());

    let told = Stage::new().run(&json!({"checks": checks})).await;

    assert_eq!((told.error, &told.output["status"]), (None, &json!("degraded")));
    let lines = log.lines();
    assert!(matches!(lines.as_slice(), [line] if line.starts_with("WARN disk is degraded (")), "{lines:?}");
}
