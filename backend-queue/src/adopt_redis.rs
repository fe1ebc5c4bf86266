//! Taking jobs of apalis over on Redis: some are read, a run is made of each, and one script lets those that still wait
//! become their runs.
//!
//! Whoever else takes from that queue, a worker of apalis or another daemon, gets other jobs: each leaves it once.

use std::sync::Arc;

use redis::{Arg, Cmd};
use scheduler_core::{Result, RunState, Timestamp};
use serde_json::Map;

use crate::adopt_task::{Adopted, Adoption, Offered};
use crate::redis_misuse::Kept;
use crate::redis_script;
use crate::redis_store::RedisStore;
use crate::redis_wire;
use crate::requests::LARGEST_PARAMS;
use crate::store::TakenOver;

/// How many jobs are taken over in one go.
pub(crate) const MANY: usize = 200;

/// A job as the script shows it: its id, score, size, payload, attempts, most attempts and notes.
type Shown = (Vec<u8>, String, i64, Vec<u8>, String, String, Vec<Vec<u8>>);

/// As [`Store::adopt`](crate::store::Store::adopt).
pub(crate) async fn adopt(store: &RedisStore, adoption: &Arc<Adoption>) -> Result<TakenOver> {
    let script = &redis_script::ADOPT_LOOK;
    let mut call = store.link.call(script);
    call.arg(&adoption.from).arg(MANY).arg(LARGEST_PARAMS);
    let theirs = theirs(&adoption.from);
    let (at, shown): (i64, Vec<Shown>) = store.link.send_beside(script, &call, &theirs).await?;
    if shown.is_empty() {
        return Ok(TakenOver::default());
    }
    let script = &redis_script::ADOPT;
    let (call, adoption) = (store.link.call(script), Arc::clone(adoption));
    // The loop that holds the leases is on this thread, and what others have pushed may be large, or take a job long.
    let made = move || made(&adoption, shown, Timestamp::from_millis(at), call);
    let (adopted, call) = match tokio::task::spawn_blocking(made).await {
        Ok(made) => made,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // It ends early only with the runtime, which is ours.
            Err(_) => std::future::pending().await,
        },
    };
    let answers: Vec<u8> = store.link.send_beside(script, &call, &theirs).await?;
    Ok(taken(adopted, &answers))
}

/// What becomes of these jobs, and the call that lets them.
fn made(adoption: &Adoption, shown: Vec<Shown>, now: Timestamp, mut call: Cmd) -> (Vec<Adopted>, Cmd) {
    let offered: Vec<Offered> = shown.into_iter().map(offered).collect();
    let adopted: Vec<Adopted> = offered.iter().map(|offered| adoption.adopt(offered, now)).collect();
    call.arg(&adoption.from);
    for (offered, adopted) in offered.iter().zip(&adopted) {
        call.arg(&offered.id).arg(offered.score.as_deref().unwrap_or_default());
        call.arg(u8::from(adopted.payload_stays));
        let mut run = Cmd::new();
        redis_wire::add_runs(&mut run, &[&adopted.run]);
        call.arg(run.args_iter().count());
        for word in run.args_iter() {
            if let Arg::Simple(word) = word {
                call.arg(word);
            }
        }
    }
    (adopted, call)
}

/// The keys of a queue of apalis that are used.
fn theirs(from: &str) -> [Kept; 3] {
    let kinds = [("active", "list"), ("scheduled", "zset"), ("data", "hash")];
    kinds.map(|(end, kind)| (format!("{from}:{end}"), kind))
}

fn taken(adopted: Vec<Adopted>, answers: &[u8]) -> TakenOver {
    let mut taken = TakenOver { has_more: true, ..TakenOver::default() };
    for (Adopted { run, .. }, answer) in adopted.into_iter().zip(answers) {
        match answer {
            1 if run.run.state == RunState::Failed => taken.dead.push(run.run),
            1 => taken.runs += 1,
            _ => {}
        }
    }
    taken
}

fn offered(shown: Shown) -> Offered {
    let (id, score, size, payload, attempts, max_attempts, notes) = shown;
    let mut metadata = Map::new();
    for [name, value] in notes.as_chunks::<2>().0 {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        metadata.insert(text(name), text(value).into());
    }
    Offered {
        id,
        score: Some(score).filter(|score| !score.is_empty()),
        size: usize::try_from(size).ok(),
        payload,
        attempts: attempts.parse().ok(),
        max_attempts: max_attempts.parse().ok(),
        metadata,
    }
}
