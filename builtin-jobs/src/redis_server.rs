//! A Redis server that a job connects to, by a URL that may be a secret. No fault that is told holds the URL.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisError};
use scheduler_core::{ArgsError, Error};

use crate::text_or_secret::TextOrSecret;

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Unreachable {
    /// The URL is a secret that cannot be read.
    Secret(Error),
    /// The URL is none of a Redis server.
    BadUrl,
    Redis(RedisError),
}

/// Connects, with the user, the password and the TLS that the URL says.
///
/// # Errors
/// Why there is no connection.
pub(crate) async fn connect(
    url: &TextOrSecret,
    limits: &AsyncConnectionConfig,
) -> Result<MultiplexedConnection, Unreachable> {
    let url = url.read().map_err(Unreachable::Secret)?;
    let info = url.into_connection_info().map_err(|_| Unreachable::BadUrl)?;
    if let ConnectionAddr::TcpTls { .. } = info.addr() {
        // Only the first call of a process counts, and every provider will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let client = Client::open(info).map_err(|_| Unreachable::BadUrl)?;
    client.get_multiplexed_async_connection_with_config(limits).await.map_err(Unreachable::Redis)
}

/// What is wrong with a URL as it is written in the args.
pub(crate) fn url_fault(url: &TextOrSecret) -> Option<ArgsError> {
    let TextOrSecret::Text(text) = url else { return None };
    let Ok(info) = text.as_str().into_connection_info() else {
        let fault = ArgsError::new("/url", "this is no URL of a Redis server");
        return Some(fault.with_help("write `redis://HOST:PORT/NUMBER`"));
    };
    let fault = || ArgsError::new("/url", "the URL holds a password").with_help("make the URL a secret");
    info.redis_settings().password().is_some().then(fault)
}

/// The text without the password of the URL: a server may say what it was told.
pub(crate) fn without_password(url: &TextOrSecret, text: &str) -> String {
    let info = url.read().ok().and_then(|url| url.into_connection_info().ok());
    let password = info.as_ref().and_then(|info| info.redis_settings().password());
    match password.filter(|password| !password.is_empty()) {
        Some(password) => text.replace(password, "…"),
        None => text.to_owned(),
    }
}
