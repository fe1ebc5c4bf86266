//! A Redis server: whether it answers, is what it should be, and has memory left.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::FutureExt;
use redis::aio::MultiplexedConnection;
use redis::io::AsyncDNSResolver;
use redis::{AsyncConnectionConfig, ErrorKind, RedisError, RedisFuture};
use scheduler_core::ArgsError;

use crate::address::Allowed;
use crate::health_kind::Role;
use crate::health_machine;
use crate::health_probe::Found;
use crate::health_standing::Status;
use crate::health_threshold::Thresholds;
use crate::redis_server::{self, Unreachable};
use crate::resolve::{Guarded, System, Unresolved};
use crate::text_or_secret::TextOrSecret;

/// How much is told of what a server says.
const LONGEST: usize = 300;

/// A server, and what it should be like.
#[derive(Debug)]
pub(crate) struct Redis {
    pub(crate) url: TextOrSecret,
    resolver: Guarded,
    role: Option<Role>,
    memory: Option<Thresholds>,
}

/// What the server says of itself.
struct Info(String);

impl Redis {
    /// # Errors
    /// A URL that is none, or that shows a password.
    pub(crate) fn new(
        url: TextOrSecret,
        allowed: Allowed,
        role: Option<Role>,
        memory: Option<Thresholds>,
    ) -> Result<Self, Vec<ArgsError>> {
        match redis_server::url_fault(&url) {
            Some(fault) => Err(vec![fault]),
            None => Ok(Self { url, resolver: Guarded { lookup: Arc::new(System), allowed }, role, memory }),
        }
    }

    /// Asks it; whoever calls keeps the time.
    pub(crate) async fn look(&self) -> Found {
        self.asked().await.unwrap_or_else(|fault| {
            let fault = redis_server::without_password(&self.url, &fault);
            Found::failed(fault.escape_debug().take(LONGEST).collect())
        })
    }

    async fn asked(&self) -> Result<Found, String> {
        let limits = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_dns_resolver(Resolver(self.resolver.clone()));
        let connected = redis_server::connect(&self.url, &limits).await;
        let mut connection = connected.map_err(|fault| match fault {
            Unreachable::Secret(error) => error.to_string(),
            Unreachable::BadUrl => "the URL is none of a Redis server".to_owned(),
            Unreachable::Redis(error) => format!("no connection to the server: {error}"),
        })?;
        let answer: String = asked(&mut connection, "PING").await?;
        if answer != "PONG" {
            return Err(format!("`PING` was answered with `{answer}`"));
        }
        let mut found = Found::healthy("answered PONG");
        if self.role.is_none() && self.memory.is_none() {
            return Ok(found);
        }
        let info = Info(asked(&mut connection, "INFO").await?);
        if let Some(role) = self.role {
            found = found.and(&info.judged_by_role(role)?);
        }
        if let Some(thresholds) = self.memory {
            found = found.and(&info.judged_by_memory(thresholds)?);
        }
        Ok(found)
    }
}

impl Info {
    fn value(&self, key: &str) -> Result<&str, String> {
        let found = self.0.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        found.ok_or_else(|| format!("`INFO` does not say `{key}`"))
    }

    fn number(&self, key: &str) -> Result<u64, String> {
        let text = self.value(key)?;
        text.parse().map_err(|_| format!("`INFO` says `{key}` in an unknown way"))
    }

    /// A replica without its master answers, and what it answers gets older and older.
    fn judged_by_role(&self, wanted: Role) -> Result<Found, String> {
        let (role, word) = match self.value("role")? {
            "master" => (Some(Role::Master), "master"),
            "slave" => (Some(Role::Replica), "replica"),
            other => (None, other),
        };
        if role != Some(wanted) {
            return Err(format!("it is a {word}"));
        }
        if wanted == Role::Replica && self.value("master_link_status")? != "up" {
            let message = "it is a replica without its master".to_owned();
            return Ok(Found { status: Status::Degraded, message });
        }
        Ok(Found::healthy(format!("is a {word}")))
    }

    fn judged_by_memory(&self, thresholds: Thresholds) -> Result<Found, String> {
        let (used, limit) = (self.number("used_memory")?, self.number("maxmemory")?);
        let whole = if limit == 0 { self.number("total_system_memory")? } else { limit };
        Ok(health_machine::left(whole.saturating_sub(used), whole, "in its memory", thresholds))
    }
}

async fn asked(connection: &mut MultiplexedConnection, command: &str) -> Result<String, String> {
    let answer: Result<String, RedisError> = redis::cmd(command).query_async(connection).await;
    answer.map_err(|error| match error.kind() {
        // What it said instead may be as long as it likes.
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
            format!("`{command}` was answered with something unknown")
        }
        _ => format!("`{command}`: {error}"),
    })
}

/// Answers with nothing but what may be connected to.
struct Resolver(Guarded);

impl AsyncDNSResolver for Resolver {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        host: &'b str,
        port: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let found = self.0.addresses_of(host).map(move |found| match found {
            Ok(found) => {
                let found = found.into_iter().map(move |address| SocketAddr::new(address.ip(), port));
                Ok(Box::new(found) as Box<dyn Iterator<Item = SocketAddr> + Send>)
            }
            Err(Unresolved::Refused(refused)) => Err(refused_as(&format!("{refused}; {}", refused.help()))),
            Err(Unresolved::Unknown(error)) => Err(error.into()),
        });
        Box::pin(found)
    }
}

fn refused_as(fault: &dyn fmt::Display) -> RedisError {
    std::io::Error::new(std::io::ErrorKind::PermissionDenied, fault.to_string()).into()
}
