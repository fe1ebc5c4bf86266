//! The queues on Redis: which are paused, and how they stand. What is taken from each is decided in the step.

use std::collections::{HashMap, HashSet};

use scheduler_core::{Name, Pause, Result, Timestamp};

use crate::redis_link::Link;
use crate::redis_script;
use crate::store::{DEFAULT_QUEUE, QueueState, called};

/// How a queue stands: its name, how many runs wait and are under way, since when the oldest is due or nothing,
/// whether it is paused, and the pause.
type Stands = (String, usize, usize, String, u8, String);

/// As [`Store::pause_queue`](crate::store::Store::pause_queue).
pub(crate) async fn pause_queue(link: &Link, queue: Option<&Name>, pause: Option<&Pause>) -> Result<bool> {
    let script = &redis_script::PAUSE_QUEUE;
    let mut call = link.call(script);
    call.arg(called(queue));
    if let Some(pause) = pause {
        call.arg(pause.until.map(|until| until.as_millis().to_string()).unwrap_or_default());
        call.arg(serde_json::to_string(pause).unwrap_or_default());
    }
    Ok(link.send::<u8>(script, &call).await? == 1)
}

/// As [`Store::queues`](crate::store::Store::queues).
pub(crate) async fn queues(link: &Link) -> Result<Vec<QueueState>> {
    let script = &redis_script::QUEUES;
    let (is_counted, mut found): (u8, Vec<Stands>) = link.send(script, &link.call(script)).await?;
    if is_counted == 0 {
        let mut call = link.call(script);
        call.arg(1);
        for (place, running) in under_way(link).await? {
            call.arg(place).arg(running);
        }
        (_, found) = link.send::<(u8, _)>(script, &call).await?;
    }
    let mut queues: Vec<QueueState> = found.into_iter().filter_map(read).collect();
    queues.sort_by(|one, other| one.queue.cmp(&other.queue));
    Ok(queues)
}

/// How many runs are under way, by where those of their queue are that are ready. They are counted in many calls, so that
/// none is long; what is under way from the first to the last is counted, and nothing twice.
async fn under_way(link: &Link) -> Result<HashMap<Vec<u8>, usize>> {
    let script = &redis_script::UNDER_WAY;
    let (mut running, mut seen, mut cursor) = (HashMap::new(), HashSet::new(), "0".to_owned());
    loop {
        let mut call = link.call(script);
        call.arg(&cursor);
        let found: Vec<(Vec<u8>, Vec<u8>)>;
        (cursor, found) = link.send(script, &call).await?;
        for (delivery, place) in found {
            if seen.insert(delivery) {
                *running.entry(place).or_default() += 1;
            }
        }
        if cursor == "0" {
            return Ok(running);
        }
    }
}

/// A queue; nothing where its name is none.
fn read((name, waiting, running, oldest, is_paused, pause): Stands) -> Option<QueueState> {
    let queue = if name == DEFAULT_QUEUE { None } else { Some(Name::new(&name).ok()?) };
    let oldest = oldest.parse().ok().map(Timestamp::from_millis);
    // A pause that cannot be read is still one.
    let paused = (is_paused == 1).then(|| serde_json::from_str(&pause).unwrap_or_default());
    Some(QueueState { queue, waiting, running, oldest, paused })
}
