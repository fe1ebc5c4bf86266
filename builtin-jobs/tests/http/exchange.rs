//! A request arrives as it was written, and its answer decides what follows.

use std::io::Write;
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use scheduler_core::{AttemptEnd, CancelReason, attempt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use crate::server::{Server, answer};
use crate::stage::{args, args_with, context, failed, fails, http, output};

#[tokio::test]
async fn an_answer_becomes_the_output() {
    let headers = [("Content-Type", "text/plain"), ("ETag", "\"7\""), ("Set-Cookie", "a=canary")];
    let server = Server::saying(answer("200 OK", &headers, "hello")).await;

    let output = output(&args(&server.url("/a/b?key=value"))).await;

    assert!(output["duration_ms"].is_u64());
    let expected = json!({
        "status": 200,
        "headers": {"content-type": "text/plain", "etag": "\"7\""},
        "body": "hello",
        "body_bytes": 5,
        "truncated": false,
        "duration_ms": output["duration_ms"],
        "url": server.url("/a/b?…"),
        "redirects": 0,
    });
    assert_eq!(output, expected);
    assert_eq!(server.seen()[0].first_line(), "GET /a/b?key=value HTTP/1.1");
}

#[tokio::test]
async fn a_method_headers_and_a_body_arrive_as_they_were_written() {
    let server = Server::saying(answer("204 No Content", &[], "")).await;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("token");
    std::fs::write(&secret, "Bearer token\n").unwrap();
    let headers = json!({"X-Text": "a b", "Authorization": {"file": secret}, "User-Agent": "mine"});
    let more = json!({"method": "PUT", "headers": headers, "body": "text é"});

    output(&args_with(&server.url("/"), more)).await;

    let seen = &server.seen()[0];
    assert_eq!((seen.first_line(), seen.body.as_str()), ("PUT / HTTP/1.1", "text é"));
    assert_eq!(seen.header("x-text"), Some("a b"));
    assert_eq!(seen.header("authorization"), Some("Bearer token"));
    assert_eq!(seen.header("user-agent"), Some("mine"));
    assert_eq!(seen.header("content-type"), Some("text/plain; charset=utf-8"));
}

#[tokio::test]
async fn a_body_may_be_any_value_or_a_secret() {
    let server = Server::saying(answer("200 OK", &[], "")).await;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("form");
    std::fs::write(&secret, "key=value").unwrap();

    output(&args_with(&server.url("/"), json!({"method": "POST", "json": {"a": [1, null]}}))).await;
    let kind = json!({"Content-Type": "application/x-www-form-urlencoded"});
    let more = json!({"method": "POST", "headers": kind, "body": {"file": secret}});
    output(&args_with(&server.url("/"), more)).await;

    let seen = server.seen();
    assert_eq!(
        (seen[0].header("content-type"), &*seen[0].body),
        (Some("application/json"), "{\"a\":[1,null]}")
    );
    assert_eq!(seen[1].header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(seen[1].body, "key=value");
}

#[tokio::test]
async fn a_receiver_can_tell_a_repetition_and_follow_a_trace() {
    let server = Server::saying(answer("200 OK", &[], "")).await;
    let ctx = context();
    let job = http(&args(&server.url("/")));

    attempt(&*job, &ctx, None).await;
    attempt(&*job, &ctx, None).await;
    output(&args_with(&server.url("/"), json!({"headers": {"idempotency-key": "mine"}}))).await;

    let seen = server.seen();
    let key = ctx.idempotency_key();
    assert_eq!(seen[0].header("idempotency-key"), Some(&*key));
    assert_eq!(seen[1].header("idempotency-key"), Some(&*key));
    assert_eq!(seen[2].header("idempotency-key"), Some("mine"));
    assert_eq!(seen[0].header("traceparent"), Some(&*ctx.traceparent()));
    let version = concat!("hybrid-scheduler/", env!("CARGO_PKG_VERSION"));
    assert_eq!(seen[0].header("user-agent"), Some(version));
}

#[tokio::test]
async fn a_status_decides_what_follows() {
    let cases = [
        ("400 Bad Request", None, "Abort", "http/unexpected_status"),
        ("404 Not Found", None, "Abort", "http/unexpected_status"),
        ("304 Not Modified", None, "Abort", "http/unexpected_status"),
        ("408 Request Timeout", None, "Retry", "http/unexpected_status"),
        ("425 Too Early", None, "Retry", "http/unexpected_status"),
        ("429 Too Many Requests", None, "Retry", "http/unexpected_status"),
        ("429 Too Many Requests", Some("7"), "Snooze(7s)", ""),
        ("500 Internal Server Error", Some("7"), "Retry", "http/unexpected_status"),
        ("503 Service Unavailable", Some("86400"), "Snooze(3600s)", ""),
    ];
    for (status, wait, wish, code) in cases {
        let headers: Vec<(&str, &str)> = wait.map(|wait| ("Retry-After", wait)).into_iter().collect();
        let server = Server::saying(answer(status, &headers, "")).await;

        let failed = failed(&args(&server.url("/"))).await;

        assert_eq!((&*failed.wish, &*failed.code), (wish, code), "{status}: {failed:?}");
        let number: u16 = status[..3].parse().unwrap();
        assert_eq!(failed.output["status"], number);
    }
}

#[tokio::test]
async fn an_unexpected_status_is_told_with_what_was_expected_and_what_was_said() {
    let server = Server::saying(answer("404 Not Found", &[], "no such thing")).await;
    let more = json!({"method": "DELETE", "expect_status": [200, "3xx"]});

    let failed = failed(&args_with(&server.url("/thing?a=b"), more)).await;

    let place = server.url("/thing?…");
    assert_eq!(failed.message, format!("DELETE {place} answered 404 Not Found, expected 200, 3xx"));
    assert_eq!(failed.output["body"], "no such thing");
}

#[tokio::test]
async fn an_expected_status_is_a_success_whatever_it_is() {
    for (status, expected) in [("404 Not Found", json!([404])), ("503 Service Unavailable", json!(["5xx"]))] {
        let server = Server::saying(answer(status, &[("Retry-After", "7")], "")).await;
        let more = json!({"expect_status": expected});
        assert_eq!(output(&args_with(&server.url("/"), more)).await["body"], "");
    }
}

#[tokio::test]
async fn a_compressed_answer_is_read_and_one_that_is_no_text_is_counted() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all("many words ".repeat(1000).as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", packed.len());
    let server = Server::saying([head.as_bytes(), &packed].concat()).await;
    let binary = Server::saying(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\xff\xfe\x00".as_slice()).await;

    let unpacked = output(&args_with(&server.url("/"), json!({"max_output": 10}))).await;
    let counted = output(&args(&binary.url("/"))).await;

    assert_eq!((&unpacked["body"], &unpacked["body_bytes"]), (&json!("many words"), &json!(11_000)));
    assert_eq!(unpacked["truncated"], true);
    assert_eq!((&counted["body"], &counted["body_bytes"]), (&json!(null), &json!(3)));
    assert_eq!(server.seen()[0].header("accept-encoding"), Some("gzip"));
}

#[tokio::test]
async fn a_head_request_has_no_body_whatever_its_headers_say() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\nContent-Encoding: gzip\r\n\r\n";
    let server = Server::saying(head).await;
    assert_eq!(output(&args_with(&server.url("/"), json!({"method": "HEAD"}))).await["body_bytes"], 0);
}

#[test]
fn proxies_of_the_environment_are_not_used() {
    let nowhere = "http://127.0.0.1:1/";
    let mut copy = Command::new(std::env::current_exe().unwrap());
    copy.args(["--exact", "exchange::an_answer_becomes_the_output"]);
    copy.envs(["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"].map(|name| (name, nowhere)));
    let ended = copy.env_remove("no_proxy").env_remove("NO_PROXY").output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
async fn nobody_there_is_worth_another_attempt() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fails(&args(&format!("http://{gone}/")), "Retry", "http/no_answer", "Connection refused").await;
    let server = Server::saying("").await;
    fails(&args(&server.url("/")), "Retry", "http/no_answer", "no answer from").await;
    let garbage = Server::saying("SSH-2.0-OpenSSH_9.6\r\n\r\n").await;
    fails(&args(&garbage.url("/")), "Retry", "http/no_answer", "no answer from").await;
    let unknown = args("http://surely-no-such-host.invalid/");
    fails(&unknown, "Retry", "http/no_answer", "http://surely-no-such-host.invalid/").await;
}

#[tokio::test]
async fn a_cancelled_run_closes_its_connection_in_the_middle_of_an_answer() {
    let (half, left) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (said, gone) = (Arc::clone(&half), Arc::clone(&left));
    let server = Server::with("127.0.0.1", move |_, mut wire| {
        let (said, gone) = (Arc::clone(&said), Arc::clone(&gone));
        async move {
            wire.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await.unwrap();
            said.notify_one();
            // Nothing more comes from a client that is there; one that left ends the stream.
            let _ = wire.read(&mut [0; 1]).await;
            gone.notify_one();
        }
    })
    .await;
    let (ctx, job) = (context(), http(&args(&server.url("/"))));

    let (end, ()) = tokio::join!(attempt(&*job, &ctx, None), async {
        half.notified().await;
        ctx.cancel(CancelReason::Requested);
    });

    assert!(matches!(end, AttemptEnd::Cancelled { .. }), "{end:?}");
    left.notified().await;
}
