//! Checks run side by side, and none waits for another.

use std::sync::Arc;

use scheduler_core::{AttemptEnd, CancelReason, attempt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Barrier, Notify};

use crate::stage::{Stage, health_check, named, server};

fn http(name: &str, address: std::net::SocketAddr) -> Value {
    named(name, json!({"kind": "http", "url": format!("http://{address}/")}))
}

#[tokio::test]
async fn a_hundred_checks_run_side_by_side_and_ten_that_hang_fail_at_their_limit_and_hold_up_nobody() {
    let all = Arc::new(Barrier::new(100));
    let address = server(move |mut wire| {
        let all = Arc::clone(&all);
        async move {
            let mut said = [0; 4096];
            let count = wire.read(&mut said).await.unwrap_or_default();
            // Nobody is answered before all have asked.
            all.wait().await;
            if said[..count].starts_with(b"GET /hang") {
                let _ = wire.read(&mut said).await;
                return;
            }
            let _ = wire.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    let hanging = (0..10).map(|number| {
        let url = format!("http://{address}/hang");
        named(&format!("hanging {number}"), json!({"kind": "http", "url": url, "timeout": "4s"}))
    });
    let answering = (0..90).map(|number| http(&format!("answering {number}"), address));
    let checks: Vec<Value> = hanging.chain(answering).collect();

    let told = Stage::new().run(&json!({"checks": checks, "timeout": "60s"})).await;

    for row in told.output["checks"].as_array().unwrap() {
        let hangs = row["name"].as_str().unwrap().starts_with("hanging");
        assert_eq!(row["status"], if hangs { "failed" } else { "healthy" }, "{row}");
        assert!(!hangs || row["message"] == "no answer within 4s", "{row}");
    }
    assert!(told.error.unwrap().starts_with("10 of 100 checks: hanging 0 failed for 0s ("));
}

#[tokio::test]
async fn of_many_targets_that_failed_the_message_names_some() {
    let closed = crate::stage::closed_port();
    let check =
        |number| named(&format!("port {number}"), json!({"kind": "tcp", "address": closed.to_string()}));
    let checks: Vec<Value> = (0..50).map(check).collect();

    let told = Stage::new().run(&json!({"checks": checks})).await;

    let error = told.error.unwrap();
    assert!(
        error.starts_with("50 of 50 checks: port 0 failed") && error.ends_with("; and 30 more"),
        "{error}"
    );
}

#[tokio::test]
async fn what_failed_is_told_before_what_is_degraded() {
    let degraded = |number| {
        named(
            &format!("disk {number}"),
            json!({"kind": "disk", "path": "/", "degraded": "99.9%", "failed": 0}),
        )
    };
    let failed = named("port", json!({"kind": "tcp", "address": crate::stage::closed_port().to_string()}));
    let checks: Vec<Value> = (0..30).map(degraded).chain([failed]).collect();

    let error = Stage::new().run(&json!({"checks": checks})).await.error.unwrap();

    assert!(error.starts_with("31 of 31 checks: port failed"), "{error}");
}

#[tokio::test]
async fn looks_that_nothing_can_end_do_not_pile_up() {
    let stage = Stage::new();
    let pipe = stage.path("certificate.pem");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let check = named("pipe", json!({"kind": "certificate", "file": pipe}));
    let job = health_check(&json!({"checks": [check], "timeout": "50ms"}));
    let look = async || {
        let end = attempt(&*job, &stage.context(), None).await;
        end.output()["checks"][0]["message"].as_str().unwrap().to_owned()
    };

    let mut messages = Vec::new();
    for _ in 0..6 {
        messages.push(look().await);
    }
    // Opened to be written, it has an end for whoever reads.
    drop(std::fs::OpenOptions::new().write(true).open(&pipe).unwrap());

    assert!(messages[..4].iter().all(|message| message == "no answer within 50ms"), "{messages:?}");
    assert!(messages[4..].iter().all(|message| message == "looks from before still hang"), "{messages:?}");
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_and_the_others_are_not() {
    let stage = Stage::new();
    let pid = stage.path("pid");
    let hangs =
        json!({"kind": "command", "program": "/bin/sh", "args": ["-c", "echo $$ > $0; exec sleep 600", pid]});
    let waits =
        "until [ -s $0 ]; do sleep 0.02; done; while kill -0 $(cat $0); do sleep 0.02; done 2>/dev/null";
    let waits =
        json!({"kind": "command", "program": "/bin/sh", "args": ["-c", waits, pid], "timeout": "60s"});
    let checks = json!([named("hangs", hangs), named("waits", waits)]);

    let told = stage.run(&json!({"checks": checks, "timeout": "2s"})).await;

    let statuses: Vec<&Value> =
        told.output["checks"].as_array().unwrap().iter().map(|row| &row["status"]).collect();
    assert_eq!(statuses, ["failed", "healthy"], "{told:?}");
}

#[tokio::test]
async fn a_cancelled_run_looks_no_further() {
    let asked = Arc::new(Notify::new());
    let heard = Arc::clone(&asked);
    let silent = server(move |mut wire| {
        let heard = Arc::clone(&heard);
        async move {
            let _ = wire.read(&mut [0; 4096]).await;
            heard.notify_one();
            let _ = wire.read(&mut [0; 1]).await;
        }
    })
    .await;
    let stage = Stage::new();
    let job = health_check(&json!({"checks": [http("silent", silent)], "timeout": "1h"}));
    let ctx = stage.context();

    let (end, ()) = tokio::join!(attempt(&*job, &ctx, None), async {
        asked.notified().await;
        ctx.cancel(CancelReason::Requested);
    });

    assert!(matches!(end, AttemptEnd::Cancelled { .. }), "{end:?}");
    assert!(!stage.path("state").exists(), "a look that was broken off is no result");
}
