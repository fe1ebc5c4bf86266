//! What a Redis server tells of itself.

use std::collections::HashMap;

use anyhow::{Context, Result};
use redis::aio::MultiplexedConnection;

/// A server that nobody else uses.
#[derive(Clone, Debug)]
pub(crate) struct Server(MultiplexedConnection);

/// What it has done up to a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counters {
    /// Microseconds of processor time.
    pub(crate) cpu: f64,
    /// Bytes.
    pub(crate) memory: f64,
    /// Commands, those of scripts too.
    pub(crate) commands: f64,
}

impl Server {
    /// # Errors
    /// It does not answer.
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let connection = redis::Client::open(url)?.get_multiplexed_async_connection().await;
        Ok(Self(connection.with_context(|| format!("no server answers at {url}"))?))
    }

    /// Empties it.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        redis::cmd("FLUSHALL").arg("SYNC").query_async::<()>(&mut self.0).await?;
        Ok(())
    }

    /// # Errors
    /// It does not answer.
    pub(crate) async fn counters(&mut self) -> Result<Counters> {
        let info = self.info().await?;
        let number = |name: &str| -> Result<f64> {
            let text = info.get(name).with_context(|| format!("INFO tells no {name}"))?;
            text.parse().with_context(|| format!("INFO tells {name} as `{text}`"))
        };
        let commands = redis::cmd("INFO").arg("commandstats").query_async::<String>(&mut self.0).await?;
        let calls = commands
            .lines()
            .filter_map(|line| line.split_once("calls=")?.1.split(',').next()?.parse::<f64>().ok());
        Ok(Counters {
            cpu: (number("used_cpu_user")? + number("used_cpu_sys")?) * 1e6,
            memory: number("used_memory")?,
            commands: calls.sum(),
        })
    }

    /// # Errors
    /// It does not answer.
    pub(crate) async fn keys(&mut self) -> Result<f64> {
        Ok(redis::cmd("DBSIZE").query_async(&mut self.0).await?)
    }

    /// # Errors
    /// It does not answer.
    pub(crate) async fn version(&mut self) -> Result<String> {
        Ok(self.info().await?.remove("redis_version").unwrap_or_default())
    }

    /// When it writes to its append-only file.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) async fn append_only(&mut self) -> Result<String> {
        let told: HashMap<String, String> =
            redis::cmd("CONFIG").arg("GET").arg("append*").query_async(&mut self.0).await?;
        let is_on = told.get("appendonly").is_some_and(|value| value == "yes");
        let when = told.get("appendfsync").cloned().unwrap_or_default();
        Ok(if is_on { when } else { "no".to_owned() })
    }

    async fn info(&mut self) -> Result<HashMap<String, String>> {
        let text = redis::cmd("INFO").query_async::<String>(&mut self.0).await?;
        let pairs = text.lines().filter_map(|line| line.trim().split_once(':'));
        Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}
