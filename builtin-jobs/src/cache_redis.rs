//! Keys of a Redis server as a cache: those that were not used for too long, or that nothing would ever remove.
//!
//! Keys are gone through with `SCAN`, which keeps no other client waiting. Whether a key is due is judged in the same
//! step that removes it, so one that is used meanwhile stays.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError, Script};
use scheduler_core::{ArgsError, Error, Result, RunContext, async_trait};

use crate::cache_args::TargetArgs;
use crate::cache_cleanup::CacheTarget;
use crate::cache_sweep::Sweep;
use crate::redis_server::{self, Unreachable};
use crate::text_or_secret::TextOrSecret;

/// How much is told of what a server says.
const LONGEST: usize = 300;

/// How long one connection attempt may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How many keys are judged at once; Redis serves nobody else meanwhile.
const AT_ONCE: u32 = 250;

/// Judges keys and removes those that are due; answers with the place, the bytes and the idle seconds of each.
const JUDGE: &str = r"
local least, without_ttl, is_dry = tonumber(ARGV[1]), ARGV[2] == '1', ARGV[3] == '1'
local gone = {}
for place, key in ipairs(KEYS) do
  local idle = 0
  local due = not without_ttl or redis.call('PTTL', key) == -1
  if due and least >= 0 then
    idle = redis.call('OBJECT', 'IDLETIME', key)
    due = idle and idle >= least
  end
  local bytes = due and redis.call('MEMORY', 'USAGE', key)
  if bytes then
    if not is_dry then redis.call('UNLINK', key) end
    gone[#gone + 1] = {place, bytes, idle}
  end
end
return gone
";

/// Keys that are like a pattern.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) url: TextOrSecret,
    pub(crate) pattern: String,
    pub(crate) max_age: Option<Duration>,
    /// Whether only keys go that never expire.
    pub(crate) without_ttl: bool,
}

impl Keys {
    /// Reads a target.
    ///
    /// # Errors
    /// Every fault of its keys.
    pub(crate) fn read(args: TargetArgs) -> Result<Self, Vec<ArgsError>> {
        let url = args.url.unwrap_or_else(|| TextOrSecret::Text(String::new()));
        let mut faults: Vec<ArgsError> = redis_server::url_fault(&url).into_iter().collect();
        let pattern = args.pattern.unwrap_or_default();
        if pattern.is_empty() {
            faults.push(ArgsError::new("/pattern", "no key is like an empty pattern"));
        }
        let without_ttl = args.without_ttl.unwrap_or_default();
        if args.max_age.is_none() && !without_ttl {
            let help = "set `max_age` or `without_ttl`";
            faults.push(ArgsError::new("", "nothing says what goes").with_help(help));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self { url, pattern, max_age: args.max_age, without_ttl })
    }

    async fn connection(&self) -> Result<MultiplexedConnection> {
        let limits = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER));
        redis_server::connect(&self.url, &limits).await.map_err(|fault| match fault {
            Unreachable::Secret(error) => error,
            Unreachable::BadUrl => bad_url(),
            Unreachable::Redis(error) => self.unusable(&error),
        })
    }

    /// A server may say what it was told.
    fn unusable(&self, error: &RedisError) -> Error {
        let said = redis_server::without_password(&self.url, &error.to_string());
        let said: String = said.escape_debug().take(LONGEST).collect();
        Error::unavailable("cache_cleanup/unusable", format!("the Redis server cannot be cleaned: {said}"))
    }

    async fn sweep(&self, connection: &mut MultiplexedConnection, sweep: &Sweep) -> Result<(), RedisError> {
        let script = Script::new(JUDGE);
        let least = self.max_age.map_or(-1, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        let mut cursor = 0_u64;
        while !sweep.is_stopped() {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&self.pattern).arg("COUNT").arg(AT_ONCE);
            let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(connection).await?;
            if !keys.is_empty() {
                let mut judge = script.prepare_invoke();
                judge.arg(least).arg(u8::from(self.without_ttl)).arg(u8::from(sweep.is_dry()));
                for key in &keys {
                    judge.key(key);
                }
                let gone: Vec<(usize, u64, u64)> = judge.invoke_async(connection).await?;
                for (place, bytes, idle) in gone {
                    let key = place.checked_sub(1).and_then(|place| keys.get(place));
                    let name = || key.map(|key| String::from_utf8_lossy(key).escape_debug().to_string());
                    sweep.removed(u128::from(u64::MAX - idle), bytes, || name().unwrap_or_default());
                }
            }
            if next == 0 {
                break;
            }
            cursor = next;
        }
        Ok(())
    }
}

#[async_trait]
impl CacheTarget for Keys {
    async fn clean(&self, _: &RunContext, sweep: &Sweep) -> Result<()> {
        let mut connection = self.connection().await?;
        self.sweep(&mut connection, sweep).await.map_err(|error| self.unusable(&error))
    }

    fn check(&self) -> Vec<ArgsError> {
        self.url.missing("/url".to_owned()).into_iter().collect()
    }
}

fn bad_url() -> Error {
    Error::invalid("cache_cleanup/unusable", "the URL is none of a Redis server")
}
