//! What is looked at when a store on Redis is opened: whether it is one that keeps what it is given.

use redis::Cmd;
use scheduler_core::{Error, ErrorKind, Result};

use crate::redis_error::is_unanswered;
use crate::redis_link::Link;
use crate::redis_script;

/// The oldest Redis whose scripts can do what ours must.
const OLDEST: u32 = 7;
/// The version of what is stored; a newer one is refused. What the one before stored is read as it is: it had no lists
/// of fresh runs, and showed every run from the beginning.
const VERSION: u32 = 3;

/// Looks at a Redis before it is used.
///
/// # Errors
/// `queue/old_redis`, `queue/newer_store`, and those of reaching it.
pub(crate) async fn examine(link: &Link) -> Result<()> {
    let info: String = link.ask(&info("server")).await?;
    check_age(&info, &link.place)?;
    probe(link).await?;
    warn_of_loss(link).await
}

fn check_age(info: &str, place: &str) -> Result<()> {
    let version = field(info, "redis_version").unwrap_or("no version");
    let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    if major >= OLDEST {
        return Ok(());
    }
    let message = format!("Redis at {place} has version {version}, and a queue needs {OLDEST}.0 or later");
    Err(Error::unsupported("queue/old_redis", message))
}

fn info(section: &str) -> Cmd {
    let mut info = redis::cmd("INFO");
    info.arg(section);
    info
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Tries what a queue needs, and compares the versions.
async fn probe(link: &Link) -> Result<()> {
    let script = &redis_script::PROBE;
    let mut call = link.call(script);
    call.arg(VERSION);
    let stored: u32 = match link.send(script, &call).await {
        Ok(stored) => stored,
        // A Redis that takes nothing now may still be read, and says so whenever it is written to.
        Err(error) if error.kind() == ErrorKind::Unavailable && !is_unanswered(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    if stored <= VERSION {
        return Ok(());
    }
    let place = &link.place;
    let message =
        format!("the queue in Redis at {place} has version {stored}, and this program knows up to {VERSION}");
    Err(Error::invalid("queue/newer_store", message))
}

/// Says what such a Redis may lose.
async fn warn_of_loss(link: &Link) -> Result<()> {
    let place = &link.place;
    let memory: String = link.ask(&info("memory")).await?;
    if let Some(policy) = field(&memory, "maxmemory_policy").filter(|policy| *policy != "noeviction") {
        tracing::error!(
            "Redis at {place} throws data away when its memory is full (maxmemory-policy {policy}), runs among \
             it; set maxmemory-policy noeviction"
        );
    }
    let persistence: String = link.ask(&info("persistence")).await?;
    if field(&persistence, "aof_enabled") == Some("0") {
        tracing::warn!(
            "Redis at {place} keeps no append-only file: when it stops, everything since its last snapshot is \
             lost; with appendonly yes it is at most 2 s, with appendfsync always nothing"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_redis_is_refused_by_name() {
        for (info, is_taken) in [
            ("# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n", true),
            ("redis_version:10.1.0\r\n", true),
            ("redis_version:6.2.7\r\n", false),
            ("", false),
        ] {
            assert_eq!(check_age(info, "here").is_ok(), is_taken, "{info}");
        }
        let error = check_age("redis_version:6.2.7\r\n", "redis://h:1/0").unwrap_err();
        assert_eq!(error.code(), "queue/old_redis");
        assert!(error.to_string().contains("redis://h:1/0 has version 6.2.7"), "{error}");
    }
}
