//! Servers that say exactly what a test tells them to.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A connection, plain or encrypted.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Wire for T {}

/// A server that lives as long as its test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _accepting: Accepting,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The first line and the headers, as sent.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Server {
    /// Answers each request by calling `answer`, which gets its number, from 0.
    pub(crate) async fn with<F, R>(host: &str, answer: F) -> Self
    where
        F: Fn(usize, TcpStream) -> R + Clone + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let given = Arc::clone(&seen);
        let server = Self::raw(host, move |mut wire| {
            let (seen, answer) = (Arc::clone(&given), answer.clone());
            async move {
                let Some(request) = Seen::read(&mut wire).await else { return };
                let number = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(request);
                    seen.len() - 1
                };
                answer(number, wire).await;
            }
        });
        Self { seen, ..server.await }
    }

    /// Hands each connection to `serve` as it comes.
    pub(crate) async fn raw<F, R>(host: &str, serve: F) -> Self
    where
        F: Fn(TcpStream) -> R + Clone + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((wire, _)) = listener.accept().await {
                connections.spawn(serve(wire));
            }
        });
        Self { address, seen: Arc::default(), _accepting: Accepting(accepting) }
    }

    /// Answers every request with these bytes and closes the connection.
    pub(crate) async fn saying(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<Vec<u8>> = Arc::new(answer.into());
        Self::with("127.0.0.1", move |_, mut wire| {
            let answer = Arc::clone(&answer);
            async move { say(&mut wire, &answer).await }
        })
        .await
    }

    /// The URL of a path on this server.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What arrived so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// Ends with its server.
struct Accepting(JoinHandle<()>);

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Seen {
    /// Reads a request; `None` when the client left before it was whole.
    pub(crate) async fn read(wire: &mut impl Wire) -> Option<Self> {
        let mut text = Vec::new();
        let end = loop {
            if let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if wire.read_buf(&mut text).await.ok()? == 0 {
                return None;
            }
        };
        let mut body = text.split_off(end);
        let head = String::from_utf8(text).unwrap();
        let seen = Self { head, body: String::new() };
        let length = seen.header("content-length").map_or(0, |length| length.parse().unwrap());
        while body.len() < length {
            if wire.read_buf(&mut body).await.ok()? == 0 {
                return None;
            }
        }
        Some(Self { body: String::from_utf8(body).unwrap(), ..seen })
    }

    /// The value of a header, by its name in small letters.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let pairs = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        pairs.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The method, the path and the version.
    pub(crate) fn first_line(&self) -> &str {
        self.head.lines().next().unwrap()
    }
}

/// Writes and closes; a client that left is no fault.
pub(crate) async fn say(wire: &mut impl Wire, bytes: &[u8]) {
    let _ = wire.write_all(bytes).await;
    let _ = wire.shutdown().await;
}

/// A whole answer.
pub(crate) fn answer(status: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}
