//! Checks run side by side, and none waits for another.

use std::sync::Arc;

use scheduler_core::{AttemptEnd, CancelReason, attempt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Barrier, Notify};

use crate::stage::{Stage, health_check, named, server, web};

fn http(name: &str, address: std::net::SocketAddr) -> Value {
    named(name, json!({"kind": "http", "url": format!("http://{address}/")}))
}

#[tokio::test]
async fn checks_run_side_by_side() {
    let all = Arc::new(Barrier::new(20));
    let address = server(move |mut wire| {
        let all = Arc::clone(&all);
        async move {
            let _ = wire.read(&mut [0; 4096]).await;
            all.wait().await;
            let _ = wire.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    let checks: Vec<Value> = (0..20).map(|number| http(&number.to_string(), address)).collect();

    let told = Stage::new().run(&json!({"checks": checks, "timeout": "60s"})).await;

    assert_eq!(told.output["status"], "healthy", "nobody is answered before all have asked: {told:?}");
}

#[tokio::test]
async fn checks_that_hang_fail_at_their_limit_and_hold_up_nobody() {
    let silent = server(|mut wire| async move {
        let mut said = Vec::new();
        let _ = wire.read_to_end(&mut said).await;
    })
    .await;
    let well = web("200 OK").await;
    let hanging = (0..10).map(|number| {
        let mut check = http(&format!("hanging {number}"), silent);
        check["timeout"] = json!("100ms");
        check
    });
    let answering = (0..90).map(|number| http(&format!("answering {number}"), well));
    let checks: Vec<Value> = hanging.chain(answering).collect();

    let told = Stage::new().run(&json!({"checks": checks, "timeout": "60s"})).await;

    let rows = told.output["checks"].as_array().unwrap();
    for row in rows {
        let hangs = row["name"].as_str().unwrap().starts_with("hanging");
        assert_eq!(row["status"], if hangs { "failed" } else { "healthy" }, "{row}");
        assert!(!hangs || row["message"].as_str().unwrap().contains("100ms"), "{row}");
    }
    assert!(told.error.unwrap().starts_with("10 of 100 checks: hanging 0 failed for 0s ("));
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

    let told = stage.run(&json!({"checks": checks, "timeout": "1s"})).await;

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
