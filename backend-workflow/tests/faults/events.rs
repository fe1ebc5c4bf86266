//! The stream of events where the other side will have none of it: it ends with a reason, at once, and repeats no secret.

use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backend_workflow::{Auth, PrefectEngine, PrefectSettings, Told, WorkflowEngine};
use futures_util::{SinkExt, StreamExt};
use scheduler_core::{Error, Secret};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

const CANARY: &str = "canary-4711";

/// What becomes of who asks for the stream.
#[derive(Clone, Copy)]
enum Door {
    /// It gets this answer instead of a web socket.
    Answers(&'static str),
    /// It is let in, and sent away with this reason once it has said who it is.
    Closes(&'static str),
    /// It is told that it may listen, and nothing more.
    Admits,
}

/// A server of events, and what it was sent: the head of the request, and the first message.
async fn server(door: Door) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api", listener.local_addr().unwrap());
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let sent = Arc::clone(&seen);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream, door, &sent).await;
    });
    (url, seen)
}

async fn serve(mut stream: TcpStream, door: Door, seen: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let named = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let key = named("sec-websocket-key").unwrap();
    seen.lock().unwrap().push(head);
    if let Door::Answers(answer) = door {
        stream.write_all(answer.as_bytes()).await.unwrap();
        return;
    }
    let accepted = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-protocol: prefect\r\nsec-websocket-accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(accepted.as_bytes()).await.unwrap();
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    let first = socket.next().await.unwrap().unwrap();
    seen.lock().unwrap().push(first.into_text().unwrap().to_string());
    if let Door::Closes(reason) = door {
        let frame = CloseFrame { code: CloseCode::Policy, reason: reason.into() };
        socket.send(Message::Close(Some(frame))).await.unwrap();
        return;
    }
    socket.send(Message::text(json!({ "type": "auth_success" }).to_string())).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
}

/// Listens until the stream ends, or until it has begun.
async fn listen(url: &str, auth: Auth) -> Result<Told, Error> {
    let mut settings = PrefectSettings::new(url);
    settings.auth = auth;
    let engine = PrefectEngine::new(settings).unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let tell = move |news| tell.send(news).unwrap();
    let heard = async {
        tokio::select! {
            ended = engine.watch("tag", &tell) => Err(ended.unwrap_err()),
            Some(news) = told.recv() => Ok(news),
        }
    };
    tokio::time::timeout(Duration::from_secs(20), heard).await.expect("it begins or ends")
}

#[tokio::test]
async fn a_stream_that_is_refused_ends_with_a_reason() {
    let closed = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";
    let page = "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>";
    let blind = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>";
    let cases = [
        (Door::Answers(closed), "engine/bad_answer", "403"),
        (Door::Answers(page), "engine/bad_answer", "404"),
        (Door::Answers(blind), "engine/bad_answer", "200"),
        (Door::Answers("SSH-2.0-x\r\n"), "engine/bad_answer", "cannot be listened to"),
        (Door::Answers(""), "engine/bad_answer", "cannot be listened to"),
        (Door::Closes("Invalid token"), "engine/unauthorized", "Invalid token"),
        (Door::Closes("Auth required but no token provided"), "engine/unauthorized", "no token"),
        (Door::Closes("going away"), "engine/cut_short", "going away"),
        (Door::Closes(""), "engine/cut_short", "the server closed it"),
    ];
    for (door, code, words) in cases {
        let (url, _) = server(door).await;

        let ended = listen(&url, Auth::None).await.unwrap_err();

        assert_eq!(ended.code(), code, "{ended}");
        let address = url.trim_start_matches("http://");
        assert!(ended.to_string().contains(words) && ended.to_string().contains(address), "{words}: {ended}");
    }
}

#[tokio::test]
async fn who_asks_is_said_in_the_first_message_and_nowhere_else() {
    let mut file = NamedTempFile::new().unwrap();
    writeln!(file, "{CANARY}").unwrap();
    let secret = || Secret::file(file.path());
    let basic = || Auth::Basic { user: "user".to_owned(), password: secret() };
    let token = format!("user:{CANARY}");
    for (auth, said) in
        [(Auth::None, Value::Null), (basic(), json!(token)), (Auth::Bearer(secret()), json!(CANARY))]
    {
        let (url, seen) = server(Door::Admits).await;

        assert_eq!(listen(&url, auth).await.unwrap(), Told::Begun);

        let seen = seen.lock().unwrap();
        let first: Value = serde_json::from_str(&seen[1]).unwrap();
        assert_eq!(first, json!({ "type": "auth", "token": said }));
        assert!(!seen[0].contains(CANARY), "{seen:?}");
    }

    let (url, _) = server(Door::Closes("Invalid token user:canary-4711")).await;
    let ended = listen(&url, basic()).await.unwrap_err();
    assert_eq!(ended.code(), "engine/unauthorized");
    assert!(!format!("{ended} {ended:?}").contains(CANARY), "{ended:?}");
}
