//! Redirects are followed when the task says so, never to where it may not go, and never with its secrets.

use serde_json::json;

use crate::server::{Server, answer, say};
use crate::stage::{args, args_with, failed, fails, output};

/// Redirects every request, with this status, to what follows.
async fn redirecting(status: &str, location: &str) -> Server {
    Server::saying(answer(status, &[("Location", location)], "")).await
}

#[tokio::test]
async fn no_redirect_is_followed_unless_the_task_says_so() {
    let target = Server::saying(answer("200 OK", &[], "")).await;
    let server = redirecting("302 Found", &target.url("/?key=canary")).await;

    let failed = failed(&args(&server.url("/"))).await;

    assert_eq!((&*failed.wish, &*failed.code), ("Abort", "http/unexpected_status"));
    assert!(failed.message.contains("`redirects` says how many are followed"), "{failed:?}");
    assert_eq!(failed.output["headers"]["location"], target.url("/"));
    assert!(target.seen().is_empty());
    output(&args_with(&server.url("/"), json!({"expect_status": [302]}))).await;
}

#[tokio::test]
async fn redirects_are_followed_up_to_their_number() {
    let server = Server::with("127.0.0.1", |number, mut wire| async move {
        let next = format!("/{}", number + 1);
        let said = match number {
            3 => answer("200 OK", &[], "here"),
            _ => answer("302 Found", &[("Location", &*next)], "away"),
        };
        say(&mut wire, said.as_bytes()).await;
    })
    .await;

    let output = output(&args_with(&server.url("/0"), json!({"redirects": 3}))).await;

    assert_eq!(output["body"], "here");
    assert_eq!(output["redirects"], 3);
    assert_eq!(output["url"], server.url("/3"));
    let endless = redirecting("302 Found", "/again").await;
    let args = args_with(&endless.url("/"), json!({"redirects": 1}));
    fails(&args, "Abort", "http/redirect_refused", "more often than 1 times (`redirects`)").await;
}

#[tokio::test]
async fn a_circle_is_left() {
    let server = redirecting("302 Found", "/").await;
    let args = args_with(&server.url("/"), json!({"redirects": 20}));
    fails(&args, "Abort", "http/redirect_refused", "redirects in a circle").await;
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_redirect_to_a_refused_address_is_refused() {
    let inner = Server::with("127.0.0.2", |_, mut wire| async move {
        say(&mut wire, answer("200 OK", &[], "inner").as_bytes()).await;
    })
    .await;
    for host in ["127.0.0.2", "0x7f.2", "[::ffff:127.0.0.2]"] {
        let server =
            redirecting("302 Found", &format!("http://{host}:{}/canary", inner.address.port())).await;
        let args = json!({"url": server.url("/"), "allow": ["127.0.0.1"], "redirects": 5});
        fails(&args, "Abort", "http/address_refused", "it leads to this machine").await;
    }
    assert!(inner.seen().is_empty());
}

#[tokio::test]
async fn another_origin_sees_nothing_that_identifies_the_task() {
    let target = Server::saying(answer("200 OK", &[], "")).await;
    let server = redirecting("302 Found", &target.url("/")).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "canary").unwrap();
    let headers = json!({
        "Authorization": "Basic canary", "Cookie": "canary", "X-Key": {"file": file}, "X-Plain": "canary",
        "Accept-Language": "de", "Host": "canary.example",
    });
    let more = json!({"headers": headers, "redirects": 1, "method": "POST", "body": "canary"});

    output(&args_with(&server.url("/"), more)).await;

    let (first, second) = (&server.seen()[0], &target.seen()[0]);
    assert_eq!(first.header("x-key"), Some("canary"));
    assert_eq!(first.header("host"), Some("canary.example"));
    assert_eq!(second.first_line(), "GET / HTTP/1.1");
    assert_eq!(second.header("accept-language"), Some("de"));
    assert!(second.header("content-type").is_none());
    assert!(!format!("{second:?}").contains("canary"), "{second:?}");
}

#[tokio::test]
async fn the_same_origin_gets_everything_again() {
    let server = Server::with("127.0.0.1", |number, mut wire| async move {
        let said = match number {
            0 => answer("307 Temporary Redirect", &[("Location", "/b")], ""),
            _ => answer("200 OK", &[], ""),
        };
        say(&mut wire, said.as_bytes()).await;
    })
    .await;
    let more = json!({"headers": {"X-Key": "k"}, "redirects": 1, "method": "POST", "body": "b"});

    output(&args_with(&server.url("/a"), more)).await;

    let second = &server.seen()[1];
    assert_eq!(second.first_line(), "POST /b HTTP/1.1");
    assert_eq!((second.header("x-key"), &*second.body), (Some("k"), "b"));
}

#[tokio::test]
async fn a_body_is_not_sent_to_another_origin() {
    let target = Server::saying(answer("200 OK", &[], "")).await;
    let server = redirecting("308 Permanent Redirect", &target.url("/")).await;
    let more = json!({"redirects": 1, "method": "POST", "body": "canary"});
    fails(&args_with(&server.url("/"), more), "Abort", "http/redirect_refused", "with the body").await;
    assert!(target.seen().is_empty());
}
