//! The dead letters on Redis, and what is forgotten there.

use redis::{Arg, Cmd};
use scheduler_core::{HeldLetters, Replayed, Result, Run, RunId, RunOrigin, Tier, Timestamp};

use crate::redis_link::Link;
use crate::redis_row::Row;
use crate::redis_script;
use crate::redis_store::{MOST, Peeked, RedisStore, millis};
use crate::redis_wire;
use crate::store::{Pushed, Replay, Retention};

/// As [`Store::replay`](crate::store::Store::replay).
pub(crate) async fn replay(store: &RedisStore, letters: &[Replay]) -> Result<Vec<Replayed>> {
    let script = &redis_script::REPLAY;
    let mut answers = Vec::with_capacity(letters.len());
    // Some at a time: each is read and written, with its parameters.
    for some in letters.chunks(MOST / 10) {
        let ids: Vec<RunId> = some.iter().map(|replay| replay.letter).collect();
        let (at, found) = store.peek(&ids).await?;
        let mut call = store.link.call(script);
        let (first, mut asked) = (answers.len(), Vec::new());
        for (replay, found) in some.iter().zip(&found) {
            match replayed(store, replay, found, at) {
                Ok(pushed) => {
                    asked.push(answers.len());
                    let mut run = Cmd::new();
                    redis_wire::add_runs(&mut run, &[&pushed]);
                    call.arg(replay.letter.to_string()).arg(run.args_iter().count());
                    for word in run.args_iter() {
                        if let Arg::Simple(word) = word {
                            call.arg(word);
                        }
                    }
                }
                Err(answer) => {
                    answers.push(answer);
                    continue;
                }
            }
            answers.push(Replayed::As(replay.run));
        }
        if asked.is_empty() {
            continue;
        }
        let done: Vec<u64> = store.link.send(script, &call).await?;
        for (index, done) in asked.into_iter().zip(done) {
            answers[index] = match done {
                1 => Replayed::As(some[index - first].run),
                2 => Replayed::Held,
                _ => Replayed::Unknown,
            };
        }
    }
    Ok(answers)
}

/// The run that replays a letter.
fn replayed(
    store: &RedisStore,
    replay: &Replay,
    found: &Peeked,
    due: Timestamp,
) -> std::result::Result<Pushed, Replayed> {
    if !found.is_letter() {
        return Err(Replayed::Unknown);
    }
    if !found.held.is_empty() {
        return Err(Replayed::Held);
    }
    let (Ok(run), Some(row)) = (store.read(replay.letter, &found.packed), Row::parse(&found.packed)) else {
        return Err(Replayed::Unreadable);
    };
    let mut again = Run::queued(replay.run, run.task, run.backend, Tier::Queue, run.fire_time);
    again.origin = RunOrigin::Manual;
    again.params = replay.params.clone().unwrap_or(run.params);
    again.adhoc = run.adhoc;
    again.queue = run.queue;
    again.replay_of = Some(replay.letter);
    Ok(Pushed {
        run: again,
        due,
        priority: row.priority,
        max_attempts: row.max_attempts,
        alone: row.is_alone,
    })
}

/// As [`Store::hold`](crate::store::Store::hold).
pub(crate) async fn hold(link: &Link, run: RunId, reason: Option<&str>) -> Result<bool> {
    let script = &redis_script::HOLD;
    let mut call = link.call(script);
    call.arg(run.to_string()).arg(reason);
    Ok(link.send::<u64>(script, &call).await? == 1)
}

/// As [`Store::discard`](crate::store::Store::discard).
pub(crate) async fn discard(link: &Link, runs: &[RunId], held: HeldLetters) -> Result<Vec<bool>> {
    let script = &redis_script::DISCARD;
    let mut answers = Vec::with_capacity(runs.len());
    for some in runs.chunks(MOST) {
        let mut call = link.call(script);
        call.arg(u8::from(held == HeldLetters::Stay));
        for run in some {
            call.arg(run.to_string());
        }
        let gone: Vec<u64> = link.send(script, &call).await?;
        answers.extend(gone.into_iter().map(|is_gone| is_gone == 1));
    }
    Ok(answers)
}

/// As [`Store::forget`](crate::store::Store::forget).
pub(crate) async fn forget(link: &Link, retention: &Retention, limit: u32) -> Result<usize> {
    let script = &redis_script::FORGET;
    let mut call = link.call(script);
    call.arg(retention.runs)
        .arg(millis(retention.age))
        .arg(retention.letters)
        .arg(millis(retention.letter_age))
        .arg(limit);
    link.send(script, &call).await
}
