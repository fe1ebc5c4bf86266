//! What a Redis server tells of itself.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;

/// How long an answer may take: emptying a full server takes long.
const PATIENCE: Duration = Duration::from_secs(60);

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
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        let client = redis::Client::open(url)?;
        let connection = client.get_multiplexed_async_connection_with_config(&config).await;
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
            // What connections, scripts and the append-only file need comes and goes with who is connected.
            memory: number("used_memory")?
                - number("mem_clients_normal")?
                - number("mem_aof_buffer")?
                - number("used_memory_scripts")?,
            commands: calls.sum(),
        })
    }

    /// # Errors
    /// It does not answer.
    pub(crate) async fn keys(&mut self) -> Result<f64> {
        Ok(redis::cmd("DBSIZE").query_async(&mut self.0).await?)
    }

    /// How much memory all keys take, with what is in them.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) async fn bytes_of_keys(&mut self) -> Result<f64> {
        let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query_async(&mut self.0).await?;
        let mut bytes = 0.0;
        for key in keys {
            let mut usage = redis::cmd("MEMORY");
            usage.arg("USAGE").arg(&key).arg("SAMPLES").arg(0);
            let of_key: Option<f64> = usage.query_async(&mut self.0).await?;
            bytes += of_key.unwrap_or(0.0);
        }
        Ok(bytes)
    }

    /// Begins to note the calls of scripts that take long.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) async fn watch_scripts(&mut self) -> Result<()> {
        for (name, value) in [("slowlog-log-slower-than", 500), ("slowlog-max-len", 100_000)] {
            redis::cmd("CONFIG").arg("SET").arg(name).arg(value).query_async::<()>(&mut self.0).await?;
        }
        redis::cmd("SLOWLOG").arg("RESET").query_async::<()>(&mut self.0).await?;
        Ok(())
    }

    /// How long the longest call of a script took since then, in milliseconds.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) async fn slowest_script(&mut self) -> Result<f64> {
        let told: Vec<redis::Value> =
            redis::cmd("SLOWLOG").arg("GET").arg(-1).query_async(&mut self.0).await?;
        let mut slowest = 0;
        for entry in told {
            let redis::Value::Array(fields) = entry else { continue };
            let (Some(redis::Value::Int(micros)), Some(redis::Value::Array(words))) =
                (fields.get(2), fields.get(3))
            else {
                continue;
            };
            let is_script =
                matches!(words.first(), Some(redis::Value::BulkString(word)) if word.starts_with(b"EVAL"));
            if is_script {
                slowest = slowest.max(*micros);
            }
        }
        Ok(slowest as f64 / 1e3)
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
