//! Which key it is that holds something else than a queue has there: Redis does not say.
//!
//! A Redis that is shared may have millions of keys, so they are not searched: those are looked at that a queue has by
//! itself, then some of those that it has by the names of queues and tasks.

use std::collections::BTreeSet;

use redis::RedisResult;
use redis::aio::MultiplexedConnection;

use crate::redis_row::Row;
use crate::store::DEFAULT_QUEUE;

/// A key, and the type of what it is for.
pub(crate) type Kept = (String, &'static str);

/// The keys of which a queue has one each.
const OF_ALL: [(&str, &str); 24] = [
    ("run", "hash"),
    ("big", "hash"),
    ("ready", "zset"),
    ("fresh", "list"),
    ("delayed", "zset"),
    ("lease", "zset"),
    ("ended", "zset"),
    ("shown", "zset"),
    ("unshown", "list"),
    ("letters", "zset"),
    ("died", "zset"),
    ("hold", "hash"),
    ("count", "hash"),
    ("odd", "hash"),
    ("gone", "hash"),
    ("limited", "hash"),
    ("unique", "hash"),
    ("windows", "zset"),
    ("beat", "hash"),
    ("queues", "set"),
    ("paused", "hash"),
    ("seq", "string"),
    ("fence", "string"),
    ("version", "string"),
];
/// Those that are followed by the name of a queue, of a task, or of a queue of which it is counted what is under way.
const OF_QUEUE: [(&str, &str); 4] =
    [("ready", "zset"), ("fresh", "list"), ("pace", "zset"), ("lines", "zset")];
const OF_TASK: [(&str, &str); 5] =
    [("task", "hash"), ("live", "set"), ("held", "zset"), ("shown", "zset"), ("letters", "zset")];
const OF_LIMITED: [(&str, &str); 2] = [("under", "hash"), ("counts", "hash")];
/// How many such names are looked at.
const NAMES: isize = 1_000;
/// Of how many runs the tasks are looked at: of those that take turns it is counted nowhere how many there are.
const RUNS: isize = 200;

/// The first key that holds something else: one of theirs, or one of a queue whose keys begin with `base`.
pub(crate) async fn misused_key(
    connection: &mut MultiplexedConnection,
    base: &str,
    theirs: &[Kept],
) -> RedisResult<Option<String>> {
    let ours = OF_ALL.map(|(name, kind)| (format!("{base}{name}"), kind));
    let keys: Vec<Kept> = theirs.iter().cloned().chain(ours).collect();
    let found = first_misused(connection, keys).await?;
    if found.is_some() {
        return Ok(found);
    }
    // All of these are what they are for, so they can be asked.
    let names: (Vec<String>, BTreeSet<String>, Vec<String>) = redis::pipe()
        .cmd("SRANDMEMBER")
        .arg(format!("{base}queues"))
        .arg(NAMES)
        .cmd("HRANDFIELD")
        .arg(format!("{base}count"))
        .arg(NAMES)
        .cmd("HRANDFIELD")
        .arg(format!("{base}limited"))
        .arg(NAMES)
        .query_async(connection)
        .await?;
    let (mut queues, mut tasks, limited) = names;
    let mut some_runs = redis::cmd("HRANDFIELD");
    some_runs.arg(format!("{base}run")).arg(RUNS).arg("WITHVALUES");
    let runs: Vec<(String, Vec<u8>)> = some_runs.query_async(connection).await?;
    // Every queue but this one is listed where something waits.
    queues.push(DEFAULT_QUEUE.to_owned());
    tasks.extend(runs.iter().filter_map(|(_, run)| Some(Row::parse(run)?.task()?.to_string())));
    let mut keys = Vec::new();
    let mut add = |kinds: &[(&str, &'static str)], name: &str| {
        keys.extend(kinds.iter().map(|(start, kind)| (format!("{base}{start}:{name}"), *kind)));
    };
    queues.iter().for_each(|name| add(&OF_QUEUE, name));
    tasks.iter().for_each(|name| add(&OF_TASK, name));
    limited.iter().for_each(|name| add(&OF_LIMITED, name));
    first_misused(connection, keys).await
}

async fn first_misused(
    connection: &mut MultiplexedConnection,
    keys: Vec<Kept>,
) -> RedisResult<Option<String>> {
    if keys.is_empty() {
        return Ok(None);
    }
    let mut asked = redis::pipe();
    for (key, _) in &keys {
        asked.cmd("TYPE").arg(key);
    }
    let found: Vec<String> = asked.query_async(connection).await?;
    let is_misused = |(kept, found): &(Kept, String)| found != kept.1 && found != "none";
    Ok(keys.into_iter().zip(found).find(is_misused).map(|((key, _), _)| key))
}
