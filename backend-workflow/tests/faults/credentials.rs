//! Who asks: what is sent to whom, and that no word of it comes back in a message or a log.

use std::error::Error as _;
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backend_workflow::{Auth, PrefectEngine, PrefectSettings, WorkflowEngine};
use scheduler_core::{ErrorKind, Secret};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::rows::launch;
use crate::server::{Fault, Server};

const CANARY: &str = "canary-4711";

/// `user:canary-4711`, as it is sent.
const ENCODED: &str = "dXNlcjpjYW5hcnktNDcxMQ==";

fn secret() -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    writeln!(file, "{CANARY}").unwrap();
    file
}

fn engine(url: &str, auth: Auth) -> PrefectEngine {
    let mut settings = PrefectSettings::new(url);
    settings.auth = auth;
    settings.attempts = 2;
    settings.backoff = Duration::from_millis(10);
    PrefectEngine::new(settings).unwrap()
}

/// What was logged, in one text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn credentials_and_what_was_sent_stand_in_no_message_and_no_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // Were it the only subscriber, what a thread without one meets first would be off for all.
    std::mem::forget(tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default()));
    let _guard = tracing::subscriber::set_default(subscriber);
    let file = secret();
    let password = || Secret::file(file.path());
    let basic = Auth::Basic { user: "user".to_owned(), password: password() };
    for (auth, sent) in [(Auth::Bearer(password()), CANARY), (basic, ENCODED)] {
        for status in [302, 401, 403, 409, 418, 422, 429, 500, 503] {
            // A server that repeats what it got, in each of the shapes that an error has.
            let echo = json!({
                "detail": format!("bad credentials {CANARY}, {sent}"),
                "exception_message": CANARY,
                "exception_detail": [{ "loc": ["body", CANARY], "msg": sent, "input": CANARY }],
                "request_body": { "parameters": { "word": "sent-word" } },
            });
            let location = format!("location: http://127.0.0.1:1/login?token={CANARY}\r\n");
            let faults = vec![Fault::Status(status, location, echo.to_string()); 2];
            let server = Server::start(faults).await;

            let engine = engine(&server.url, auth.clone());
            let error = engine.trigger(&launch(&json!({ "word": "sent-word" }))).await.unwrap_err();

            let told = format!("{error} {error:?} {:?} {engine:?}", error.source());
            for word in [CANARY, ENCODED, "sent-word"] {
                assert!(!told.contains(word), "{status}: {told}");
            }
            let seen = server.seen.lock().unwrap();
            assert!(seen.requests.iter().all(|(_, headers, _)| headers.contains(sent)));
        }
    }
    let logged = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(logged.contains("sent again"), "{logged}");
    for word in [CANARY, ENCODED, "sent-word"] {
        assert!(!logged.contains(word), "{logged}");
    }
}

#[tokio::test]
async fn a_server_of_the_cloud_is_known_by_what_it_answers_to_the_key() {
    let server = Server::start_with(vec![], None, json!({ "cloud": true })).await;
    let file = secret();

    let info = engine(&server.url, Auth::Bearer(Secret::file(file.path()))).probe().await.unwrap();
    let keyless = engine(&server.url, Auth::None).probe().await.unwrap_err();

    assert_eq!((info.kind.as_str(), info.version.as_str()), ("prefect", "cloud"));
    assert_eq!(keyless.code(), "engine/bad_answer");
    let seen = server.seen.lock().unwrap();
    let with_key = |(_, headers, _): &&(String, String, Value)| headers.contains(&format!("Bearer {CANARY}"));
    assert!(seen.requests.iter().filter(with_key).any(|(line, ..)| line.contains("/deployments/count")));
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_credentials() {
    let elsewhere = Server::start(vec![]).await;
    let location = format!("location: {}/\r\n", elsewhere.url);
    let server = Server::start(vec![Fault::Status(302, location, String::new())]).await;
    let file = secret();

    let engine = engine(&server.url, Auth::Bearer(Secret::file(file.path())));
    let error = engine.trigger(&launch(&json!({}))).await.unwrap_err();

    assert_eq!(error.code(), "engine/bad_answer");
    assert!(error.to_string().contains(&elsewhere.url), "{error}");
    assert!(elsewhere.seen.lock().unwrap().requests.is_empty());
}

#[tokio::test]
async fn a_secret_is_read_anew_for_each_request_and_one_that_is_gone_is_named() {
    let server = Server::start(vec![]).await;
    let file = secret();
    let engine = engine(&server.url, Auth::Bearer(Secret::file(file.path())));

    engine.probe().await.unwrap();
    std::fs::write(file.path(), "rotated").unwrap();
    engine.probe().await.unwrap();
    let path = file.path().to_owned();
    drop(file);
    let gone = engine.probe().await.unwrap_err();

    assert_eq!((gone.code(), gone.kind()), ("secret/missing", ErrorKind::NotFound));
    assert!(gone.to_string().contains(path.to_str().unwrap()));
    let seen = server.seen.lock().unwrap();
    let sent: Vec<bool> =
        seen.requests.iter().map(|(_, headers, _)| headers.contains("Bearer rotated")).collect();
    assert_eq!(sent, [false, true]);
}

#[tokio::test]
async fn a_token_against_forged_requests_is_fetched_once_and_renewed_when_it_is_refused() {
    let server = Server::start_with(vec![], Some("t-1"), json!({})).await;
    let client = engine(&server.url, Auth::None);

    assert!(client.trigger(&launch(&json!({}))).await.unwrap().created);
    assert!(!client.trigger(&launch(&json!({}))).await.unwrap().created);
    let asked = |server: &Server| {
        let seen = server.seen.lock().unwrap();
        seen.requests.iter().filter(|(line, ..)| line.contains("csrf-token")).count()
    };
    assert_eq!(asked(&server), 1);

    // The server answers that once as if it had forgotten the token.
    let stale =
        Fault::Status(403, String::new(), r#"{"detail":"Invalid CSRF token or client identifier."}"#.into());
    let server = Server::start_with(vec![stale.clone()], Some("t-2"), json!({})).await;
    assert!(engine(&server.url, Auth::None).trigger(&launch(&json!({}))).await.unwrap().created);
    assert_eq!((asked(&server), server.starts(), server.runs()), (2, 2, 1));

    // It is renewed once for a call, and not for ever.
    let server = Server::start_with(vec![stale; 9], Some("t-3"), json!({})).await;
    let error = engine(&server.url, Auth::None).trigger(&launch(&json!({}))).await.unwrap_err();
    assert_eq!((error.code(), server.starts()), ("engine/forbidden", 2));
}

#[tokio::test]
async fn a_server_that_wants_no_token_is_asked_for_one_once() {
    let server = Server::start(vec![]).await;
    let engine = engine(&server.url, Auth::None);

    for _ in 0..3 {
        engine.trigger(&launch(&json!({}))).await.unwrap();
    }

    let seen = server.seen.lock().unwrap();
    assert_eq!(seen.requests.iter().filter(|(line, ..)| line.contains("csrf-token")).count(), 1);
}
