//! A secret and a query appear in nothing that this job says, even when the server sends them back.

use serde_json::{Value, json};

use crate::server::{Server, answer, say};
use crate::stage::{args_with, run};

/// Sends three canaries to a server that says `answer` and returns all that was told of it.
async fn told(said: String, more: Value) -> String {
    let server = Server::saying(said).await;
    told_of(&server, more).await
}

async fn told_of(server: &Server, more: Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (header, body) = (folder.path().join("header"), folder.path().join("body"));
    std::fs::write(&header, "canary-header").unwrap();
    std::fs::write(&body, "canary-body").unwrap();
    let mut args = args_with(&server.url("/?key=canary-query"), more);
    args["method"] = json!("POST");
    args["headers"] = json!({"X-Key": {"file": header}});
    args["body"] = json!({"file": body});
    let end = run(&args).await;
    let seen = format!("{:?}", server.seen());
    for canary in ["canary-header", "canary-body", "canary-query"] {
        assert!(seen.contains(canary), "the server got {canary}: {seen}");
    }
    format!("{end:?} {}", end.output())
}

#[tokio::test]
async fn no_canary_is_told_whatever_goes_wrong() {
    let echo = "canary-header/canary-body?canary-query";
    let location = format!("/{echo}/canary-query");
    let elsewhere = format!("http://127.0.0.2/{location}");
    let named = "http://canary-header.canary-query.localhost:1/canary-body";
    let inner = "http://canary-query.other.invalid/canary-header";
    let echoes = [("Location", &*location), ("ETag", echo), ("Content-Type", echo), ("X-Other", echo)];
    let followed = || json!({"redirects": 1});
    let strict = json!({"allow": ["127.0.0.1"], "redirects": 1});
    let all = [
        told(answer("200 OK", &echoes, ""), json!({})).await,
        told(answer("404 Not Found", &echoes, ""), json!({})).await,
        told(answer("404 canary-header", &echoes, ""), json!({})).await,
        told(answer("500 Oops", &echoes, ""), json!({})).await,
        told(answer("429 Too Many Requests", &[("Retry-After", "9"), echoes[0]], ""), json!({})).await,
        told(answer("302 Found", &echoes, ""), json!({})).await,
        told(answer("302 Found", &echoes, ""), followed()).await,
        told(answer("302 Found", &[("Location", &*elsewhere)], ""), strict.clone()).await,
        told(answer("302 Found", &[("Location", named)], ""), followed()).await,
        told(answer("302 Found", &[("Location", named)], ""), strict).await,
        told(answer("302 Found", &[("Location", inner)], ""), followed()).await,
        told(
            answer("302 Found", &[("Location", "/%63anary-header/canary%2Dbody/%63%61nary-query")], ""),
            followed(),
        )
        .await,
        told(answer("307 Away", &[("Location", inner)], ""), followed()).await,
        told(answer("200 OK", &[("Content-Encoding", echo)], ""), json!({})).await,
        told(answer("200 OK", &[], "too long"), json!({"max_response": 1})).await,
        told(format!("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}", ""), json!({})).await,
        told(format!("HTTP/1.1 {echo}\r\n\r\n"), json!({})).await,
        told(format!("HTTP/1.1 200 OK\r\n{echo}\r\n\r\n"), json!({})).await,
    ];
    for (number, told) in all.iter().enumerate() {
        assert!(!told.contains("canary"), "{number}: {told}");
    }
}

#[tokio::test]
async fn a_redirect_that_echoes_them_leaves_none_in_the_output() {
    let server = Server::with("127.0.0.1", |number, mut wire| async move {
        let said = match number {
            0 => answer(
                "302 Found",
                &[("Location", "/canary-header/canary-body/canary-query?canary-query")],
                "",
            ),
            _ => answer("404 Not Found", &[], ""),
        };
        say(&mut wire, said.as_bytes()).await;
    })
    .await;

    let told = told_of(&server, json!({"redirects": 1})).await;

    assert!(!told.contains("canary") && told.contains("/[secret]/[secret]/[secret]?…"), "{told}");
}

#[test]
fn a_secret_that_no_header_can_hold_is_named_by_its_header() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "canary\r\nX-Injected: canary").unwrap();
    let args = args_with("http://127.0.0.1:9/", json!({"headers": {"x-key": {"file": file}}}));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let told = format!("{:?}", runtime.block_on(run(&args)));

    assert!(told.contains("Abort(the secret for header `x-key` holds what no header can"), "{told}");
    assert!(!told.contains("canary"), "{told}");
}
