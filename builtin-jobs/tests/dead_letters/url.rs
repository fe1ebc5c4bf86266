//! What was given up is sent to a URL.

use std::sync::{Arc, Mutex};

use scheduler_core::AttemptEnd;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::stage::Stage;

/// A server that answers every request with `status`; its address and what it was sent.
async fn server(status: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/letters", listener.local_addr().unwrap());
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let given = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut wire, _)) = listener.accept().await {
            let mut request = Vec::new();
            let is_whole = |request: &[u8]| {
                let text = String::from_utf8_lossy(request);
                let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
                let length = head.to_lowercase();
                let length = length.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
                length
                    .and_then(|length| length.parse().ok())
                    .is_some_and(|length: usize| body.len() >= length)
            };
            while !is_whole(&request) {
                let mut buffer = [0; 4096];
                match wire.read(&mut buffer).await {
                    Ok(count) if count > 0 => request.extend_from_slice(&buffer[..count]),
                    _ => break,
                }
            }
            given.lock().unwrap().push(String::from_utf8(request).unwrap());
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = wire.write_all(answer.as_bytes()).await;
        }
    });
    (url, seen)
}

fn args(url: &str, token: &std::path::Path) -> Value {
    json!({
        "rules": [{"class": "never", "policy": "never", "archive_after": "0s"}],
        "archive": {"url": url, "allow": ["loopback"], "headers": {"Authorization": {"file": token}}},
    })
}

#[tokio::test]
async fn a_letter_leaves_when_the_url_took_it_and_carries_its_run_as_key() {
    let stage = Stage::new();
    let token = stage.path("token");
    std::fs::write(&token, "canary-token").unwrap();
    let (url, seen) = server("204 No Content").await;
    let run = stage.fail("import", "denied");

    let output = stage.run(&args(&url, &token)).await;

    let seen = seen.lock().unwrap().clone();
    let (head, body) = seen[0].split_once("\r\n\r\n").unwrap();
    assert!(head.to_lowercase().contains(&format!("idempotency-key: {run}")), "{head}");
    assert!(head.contains("canary-token") && !output.to_string().contains("canary-token"));
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!((&body["run_id"], &body["letter"]["run"]["reason"]), (&json!(run), &json!("denied")));
    assert_eq!((seen.len(), stage.keeper.letters().len()), (1, 0));
}

#[tokio::test]
async fn a_letter_that_is_held_while_it_is_sent_stays() {
    let stage = Stage::new();
    let token = stage.path("token");
    std::fs::write(&token, "canary-token").unwrap();
    let (url, seen) = server("204 No Content").await;
    let run = stage.fail("import", "denied");
    stage.keeper.state().held_at_discard = Some(run);

    let output = stage.run(&args(&url, &token)).await;

    assert_eq!((seen.lock().unwrap().len(), stage.keeper.letters()), (1, vec![run]));
    assert_eq!(output["actions"][0]["result"], "held", "{output:#}");
}

#[tokio::test]
async fn a_letter_stays_when_the_url_refuses_it() {
    let stage = Stage::new();
    let token = stage.path("token");
    std::fs::write(&token, "canary-token").unwrap();
    let (url, _) = server("503 Service Unavailable").await;
    stage.fail("import", "denied");

    let end = stage.end(&args(&url, &token)).await;

    let AttemptEnd::Failed(error) = end else { panic!("{end:?}") };
    assert!(
        error.to_string().contains("was not archived: POST") && error.to_string().contains("503"),
        "{error}"
    );
    assert!(!error.to_string().contains("canary"));
    assert_eq!(stage.keeper.letters().len(), 1);
}
