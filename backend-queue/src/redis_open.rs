//! What is looked at when a store on Redis is opened: whether it is one that keeps what it is given.

use redis::Cmd;
use scheduler_core::{Error, ErrorKind, Result};

use crate::redis_link::Link;

/// The oldest Redis whose scripts can do what ours must.
const OLDEST: u32 = 7;
/// The version of what is stored; a newer one is refused.
const VERSION: u32 = 1;

/// Looks at a Redis before it is used.
///
/// # Errors
/// `queue/old_redis`, `queue/newer_store`, and those of reaching it.
pub(crate) async fn examine(link: &Link) -> Result<()> {
    let info: String = link.ask(&info("server")).await?;
    let version = field(&info, "redis_version").unwrap_or_default();
    let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    if major < OLDEST {
        let message =
            format!("Redis at {} has version {version}, and a queue needs {OLDEST}.0 or later", link.place);
        return Err(Error::unsupported("queue/old_redis", message));
    }
    note_version(link).await?;
    warn_of_loss(link).await
}

fn info(section: &str) -> Cmd {
    let mut info = redis::cmd("INFO");
    info.arg(section);
    info
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

async fn note_version(link: &Link) -> Result<()> {
    let key = format!("{}version", link.base);
    let mut read = redis::cmd("GET");
    read.arg(&key);
    match link.ask::<Option<u32>>(&read).await? {
        None => {
            let mut write = redis::cmd("SET");
            write.arg(&key).arg(VERSION).arg("NX");
            match link.ask::<Option<String>>(&write).await {
                // A Redis that takes nothing now may still be read, and says so when it is written to.
                Err(error) if error.kind() != ErrorKind::Unavailable => Err(error),
                _ => Ok(()),
            }
        }
        Some(newer) if newer > VERSION => {
            let message = format!(
                "the queue in Redis at {} has version {newer}, and this program knows up to {VERSION}",
                link.place
            );
            Err(Error::invalid("queue/newer_store", message))
        }
        Some(_) => Ok(()),
    }
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
