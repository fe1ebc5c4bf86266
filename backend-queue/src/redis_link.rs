//! How the store reaches Redis: connections with time limits of our own, made anew after any fault.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind as RedisKind,
    FromRedisValue, IntoConnectionInfo, RedisError, RedisResult, Script, ServerErrorKind, TlsCertificates,
};
use scheduler_core::{Error, Name, Result};
use tokio::runtime::{Handle, Id};
use tokio::time::timeout;

use crate::QueueConfig;
use crate::redis_error::{ends_connection, failed};
use crate::redis_misuse::{Kept, misused_key};

/// How long one connection attempt may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an answer may take. Redis does one thing at a time, so somebody else's slow command counts as well.
const ANSWER: Duration = Duration::from_secs(5);

/// The way to one Redis, for one namespace.
pub(crate) struct Link {
    client: Client,
    /// Where it is, without user and password.
    pub(crate) place: String,
    /// What every key begins with; the braces keep them together in a cluster.
    pub(crate) base: String,
    /// A connection lives on the runtime that made it, so each has its own.
    connections: Mutex<HashMap<Id, MultiplexedConnection>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({} {})", self.place, self.base)
    }
}

/// What a URL says, without anything that would weaken it.
///
/// # Errors
/// What is wrong with it, without repeating it.
pub(crate) fn parse(url: &str) -> std::result::Result<ConnectionInfo, String> {
    if url.contains(['?', '#']) {
        return Err("nothing may follow the database's number".to_owned());
    }
    url.into_connection_info().map_err(|error| error.to_string())
}

fn place_of(info: &ConnectionInfo) -> String {
    match info.addr() {
        ConnectionAddr::TcpTls { host, port, .. } => {
            format!("rediss://{host}:{port}/{}", info.redis_settings().db())
        }
        addr => format!("redis://{addr}/{}", info.redis_settings().db()),
    }
}

impl Link {
    /// Prepares the way; nothing is sent yet.
    ///
    /// # Errors
    /// `queue/bad_url`, `queue/unreadable` for the file of certificates, `secret/missing`.
    pub(crate) fn new(config: &QueueConfig, namespace: &Name) -> Result<Self> {
        let bad = |fault: String| Error::invalid("queue/bad_url", format!("the queue's URL: {fault}"));
        let mut info = parse(&config.url).map_err(bad)?;
        if let Some(secret) = &config.password {
            let settings = info.redis_settings().clone().set_password(secret.resolve()?.expose());
            info = info.set_redis_settings(settings);
        }
        info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let place = place_of(&info);
        let client = if let ConnectionAddr::TcpTls { .. } = info.addr() {
            // Only the first call of a process counts, and every provider will do.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let root_cert = config.ca_file.as_ref().map(std::fs::read).transpose().map_err(|error| {
                let file = config.ca_file.as_deref().unwrap_or_else(|| std::path::Path::new(""));
                let message = format!("cannot read the certificates in {}", file.display());
                Error::invalid("queue/unreadable", message).with_source(error)
            })?;
            Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })
        } else {
            Client::open(info)
        };
        let client = client.map_err(|error| bad(error.to_string()))?;
        let base = format!("hybrid:{{{namespace}}}:");
        Ok(Self { client, place, base, connections: Mutex::default() })
    }

    /// Begins a call of a script.
    pub(crate) fn call(&self, script: &Script) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(script.get_hash()).arg(1).arg(&self.base);
        call
    }

    /// Sends a call of a script, which Redis may have to learn first.
    pub(crate) async fn send<T: FromRedisValue>(&self, script: &Script, call: &Cmd) -> Result<T> {
        self.send_beside(script, call, &[]).await
    }

    /// As [`send`](Self::send), of a script that uses keys of somebody else too.
    pub(crate) async fn send_beside<T: FromRedisValue>(
        &self,
        script: &Script,
        call: &Cmd,
        theirs: &[Kept],
    ) -> Result<T> {
        let sent = async {
            let mut connection = self.connection().await?;
            match call.query_async(&mut connection).await {
                Err(error) if error.kind() == RedisKind::Server(ServerErrorKind::NoScript) => {
                    script.load_async(&mut connection).await?;
                    call.query_async(&mut connection).await
                }
                answer => answer,
            }
        };
        self.judged(sent.await, theirs).await
    }

    /// Sends any other command.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        let sent = async { command.query_async(&mut self.connection().await?).await };
        self.judged(sent.await, &[]).await
    }

    /// A connection that hears what is published on the queue's channel.
    pub(crate) async fn listen(&self) -> Result<PubSub> {
        let opened = timeout(CONNECT, async {
            let mut heard = self.client.get_async_pubsub().await?;
            heard.subscribe(format!("{}wake", self.base)).await?;
            Ok(heard)
        });
        let late = || Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)));
        opened.await.unwrap_or_else(|_| late()).map_err(|error| failed(&error, &self.place))
    }

    async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let runtime = Handle::current().id();
        let open = lock(&self.connections).get(&runtime).cloned();
        if let Some(connection) = open {
            return Ok(connection);
        }
        let limits = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER));
        let connection = self.client.get_multiplexed_async_connection_with_config(&limits).await?;
        lock(&self.connections).insert(runtime, connection.clone());
        Ok(connection)
    }

    async fn judged<T>(&self, answer: RedisResult<T>, theirs: &[Kept]) -> Result<T> {
        let error = match answer {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if ends_connection(&error) {
            lock(&self.connections).remove(&Handle::current().id());
        }
        if error.code() == Some("WRONGTYPE")
            && let Some(key) = self.misused_key(theirs).await
        {
            let message = format!("the key {key} of Redis at {} is no part of a queue", self.place);
            return Err(Error::invalid("queue/wrong_type", message).with_source(error.to_string()));
        }
        Err(failed(&error, &self.place))
    }

    async fn misused_key(&self, theirs: &[Kept]) -> Option<String> {
        misused_key(&mut self.connection().await.ok()?, &self.base, theirs).await.ok()?
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
