//! A web socket to Prefect: opened with our own connection, so that it trusts whom the calls trust.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use reqwest::Url;
use rustls::pki_types::ServerName;
use scheduler_core::{Error, Result};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::prefect_answer::hide;
use crate::prefect_exchange::Exchange;

/// When nothing was heard for so long, the other side is asked whether it is there, and counts as gone after as long
/// again.
const SILENCE: Duration = Duration::from_secs(30);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Messages of JSON in both directions.
pub(crate) struct Socket {
    inner: WebSocketStream<Box<dyn Stream>>,
    place: String,
    hidden: Vec<String>,
}

impl Socket {
    /// Opens `path` below the API, in the sub-protocol that Prefect asks for.
    ///
    /// # Errors
    /// `engine/unreachable`, `engine/untrusted`, `engine/bad_answer` when what answers speaks no web sockets.
    pub(crate) async fn open(exchange: &Exchange, path: &[&str]) -> Result<Self> {
        let mut url = exchange.base().clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let place = format!("the events at {url}");
        let opening = async {
            let stream = connect(exchange, &url, &place).await?;
            shake_hands(exchange, &url, stream, &place).await
        };
        let late = || {
            let message = format!("{place}: no connection within {:?}", exchange.connect_timeout);
            Error::unavailable("engine/unreachable", message)
        };
        let inner = timeout(exchange.connect_timeout, opening).await.map_err(|_| late())??;
        Ok(Self { inner, place, hidden: exchange.hidden() })
    }

    /// # Errors
    /// `engine/cut_short`.
    pub(crate) async fn send(&mut self, message: &Value) -> Result<()> {
        let message = Message::text(message.to_string());
        self.inner.send(message).await.map_err(|error| self.ended(&error.to_string()))
    }

    /// The next message that is JSON.
    ///
    /// # Errors
    /// `engine/cut_short`: the stream ended, or nobody is there any more.
    pub(crate) async fn receive(&mut self) -> Result<Value> {
        let mut was_asked = false;
        loop {
            let Ok(message) = timeout(SILENCE, self.inner.next()).await else {
                if was_asked {
                    return Err(self.ended("nothing was heard for a minute"));
                }
                was_asked = true;
                let asked = self.inner.send(Message::Ping(Vec::new().into())).await;
                asked.map_err(|error| self.ended(&error.to_string()))?;
                continue;
            };
            was_asked = false;
            match message {
                None => return Err(self.ended("the server closed it")),
                Some(Err(error)) => return Err(self.ended(&error.to_string())),
                Some(Ok(Message::Close(frame))) => {
                    let why = frame.map(|frame| frame.reason.as_str().escape_debug().to_string());
                    let why = why.filter(|why| !why.is_empty());
                    let why =
                        why.map_or_else(|| "the server closed it".to_owned(), |why| format!("closed: {why}"));
                    return Err(self.ended(&why));
                }
                Some(Ok(Message::Text(text))) => {
                    if let Ok(message) = serde_json::from_str(text.as_str()) {
                        return Ok(message);
                    }
                }
                Some(Ok(_)) => {}
            }
        }
    }

    fn ended(&self, why: &str) -> Error {
        // The other side may say again what it was told.
        let why = hide(why, &self.hidden);
        Error::unavailable("engine/cut_short", format!("{} ended: {why}", self.place))
    }
}

async fn connect(exchange: &Exchange, url: &Url, place: &str) -> Result<Box<dyn Stream>> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port_or_known_default().unwrap_or(80);
    let unreachable = |error: std::io::Error| {
        Error::unavailable("engine/unreachable", format!("{place}: no connection: {error}"))
    };
    let stream = TcpStream::connect((host.as_str(), port)).await.map_err(unreachable)?;
    if url.scheme() != "https" {
        return Ok(Box::new(stream));
    }
    let untrusted = |why: String| {
        let message = format!("{place}: the certificate of the engine is not trusted: {why}");
        Error::unauthorized("engine/untrusted", message)
    };
    let name = ServerName::try_from(host).map_err(|error| untrusted(error.to_string()))?;
    let connector = TlsConnector::from(exchange.tls.clone());
    let stream = connector.connect(name, stream).await.map_err(|error| untrusted(error.to_string()))?;
    Ok(Box::new(stream))
}

async fn shake_hands(
    exchange: &Exchange,
    url: &Url,
    stream: Box<dyn Stream>,
    place: &str,
) -> Result<WebSocketStream<Box<dyn Stream>>> {
    let refused = |why: String| {
        Error::unavailable("engine/bad_answer", format!("{place} cannot be listened to: {why}"))
    };
    let address = url.as_str().replacen("http", "ws", 1);
    let mut request = address.into_client_request().map_err(|error| refused(error.to_string()))?;
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("prefect"));
    let largest = Some(exchange.max_answer());
    let config = WebSocketConfig::default().max_message_size(largest).max_frame_size(largest);
    let (socket, _) = client_async_with_config(request, stream, Some(config))
        .await
        .map_err(|error| refused(error.to_string()))?;
    Ok(socket)
}
