//! Unique runs on Redis: a script looks whether another run of a kind keeps one out, adds it, and gives it its kind.
//! And how far runs have come.

use redis::{Arg, Cmd};
use scheduler_core::{Result, Run, RunId, UniqueKey, UniqueUntil};

use crate::envelope;
use crate::redis_row::lease_member;
use crate::redis_script;
use crate::redis_store::{LARGEST, RedisStore};
use crate::redis_wire;
use crate::store::Pushed;

/// How many runs one script adds, each of which it looks at alone.
const MOST: usize = 100;

/// As [`Store::push_unique`](crate::store::Store::push_unique).
pub(crate) async fn push(store: &RedisStore, runs: &[Pushed]) -> Result<Vec<Option<RunId>>> {
    let script = &redis_script::PUSH_UNIQUE;
    let mut answers = Vec::with_capacity(runs.len());
    while answers.len() < runs.len() {
        let mut call = store.link.call(script);
        let mut bytes = 0;
        for pushed in runs[answers.len()..].iter().take(MOST) {
            if bytes >= LARGEST {
                break;
            }
            let mut described = Cmd::new();
            redis_wire::add_runs(&mut described, &[pushed]);
            call.arg(pushed.run.id.to_string());
            add_kind(&mut call, pushed.run.unique.as_ref());
            call.arg(described.args_iter().count());
            for word in described.args_iter() {
                if let Arg::Simple(word) = word {
                    bytes += word.len();
                    call.arg(word);
                }
            }
        }
        let before = answers.len();
        let some: Vec<String> = store.link.send(script, &call).await?;
        answers.extend(some.into_iter().map(|owner| owner.parse().ok()));
        if answers.len() == before {
            // A script that says nothing of what it was given is none of ours.
            return Err(crate::redis_store::restless("what is added"));
        }
    }
    Ok(answers)
}

/// Adds a kind to the arguments: its key, until when and for how long it keeps others out.
pub(crate) fn add_kind(call: &mut Cmd, unique: Option<&UniqueKey>) {
    let Some(UniqueKey { key, until, window_ms, .. }) = unique else {
        call.arg("").arg("").arg("");
        return;
    };
    let window = window_ms.map(|window| window.min(1 << 50).to_string()).unwrap_or_default();
    call.arg(key).arg(until.map(UniqueUntil::as_str).unwrap_or_default()).arg(window);
}

/// The run that keeps others of this kind out.
pub(crate) async fn owner_of(store: &RedisStore, unique: &UniqueKey) -> Result<Option<RunId>> {
    let script = &redis_script::OWNER;
    let mut call = store.link.call(script);
    call.arg(&unique.key);
    let owner: String = store.link.send(script, &call).await?;
    Ok(owner.parse().ok())
}

/// As [`Store::tell_progress`](crate::store::Store::tell_progress).
pub(crate) async fn tell_progress(store: &RedisStore, runs: &[(Run, u64)]) -> Result<()> {
    let script = &redis_script::PROGRESS;
    let mut rest = runs;
    while !rest.is_empty() {
        let mut call = store.link.call(script);
        let (mut bytes, mut count) = (0, 0);
        for (run, fence) in rest.iter().take(MOST) {
            if bytes >= LARGEST {
                break;
            }
            let envelope = envelope::seal(run);
            bytes += envelope.len();
            call.arg(lease_member(*fence, run.id)).arg(envelope);
            count += 1;
        }
        store.link.send::<u64>(script, &call).await?;
        rest = &rest[count..];
    }
    Ok(())
}
