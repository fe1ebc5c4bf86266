//! The row of payloads that nobody can read or run, written straight into the store among sound work.
//!
//! The product enqueues sound runs for later, and what it stored of them is changed from outside before they are due.
//! So no more is known here of how a store keeps a run than where its task and its envelope stand.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::faults::account::{TooSlow, some};
use crate::faults::beat::Beat;
use crate::faults::file::sql;
use crate::faults::instant;
use crate::faults::loss::Attempts;
use crate::faults::settled::{ends_well, settle};
use crate::faults::trial::{PATIENCE, Store, Trial};
use crate::resp::Reply;

/// The hash that holds the runs of the default namespace on Redis.
const RUNS: &str = "hybrid:{default}:run";

/// The task that the runs are asked for of. No other text in a stored run is its name.
pub(crate) const VICTIM: &str = "victim_of_poison";

/// How long before it is due a run is enqueued, at least.
pub(crate) const AHEAD: u64 = 3_000;

/// What becomes of a stored run.
#[derive(Clone, Debug)]
pub(crate) enum Poison {
    Envelope(Vec<u8>),
    Task(&'static [u8]),
    /// On Redis, where numbers have their size.
    Attempts(u32),
    /// A column of SQLite and what is written into it.
    Column(&'static str, &'static str),
}

fn envelopes() -> Vec<(&'static str, Vec<u8>)> {
    let deep = |open: &str, close: &str| {
        let (open, close) = (open.repeat(100_000), close.repeat(100_000));
        format!(r#"{{"v":1,"params":{{"a":{open}1{close}}}}}"#).into_bytes()
    };
    vec![
        ("bad JSON", b"{".to_vec()),
        ("nothing", Vec::new()),
        ("no object", br#""text""#.to_vec()),
        ("null", b"null".to_vec()),
        ("a wrong type", br#"{"v":1,"params":[]}"#.to_vec()),
        ("a version in words", br#"{"v":"one"}"#.to_vec()),
        ("a negative version", br#"{"v":-1}"#.to_vec()),
        ("a future version", br#"{"v":99}"#.to_vec()),
        ("deep lists", deep("[", "]")),
        ("deep objects", deep(r#"{"a":"#, "}")),
        ("1e400", br#"{"v":1,"params":{"a":1e400}}"#.to_vec()),
        ("duplicate keys", br#"{"v":1,"v":1}"#.to_vec()),
        ("no UTF-8", b"{\"v\":1,\"reason\":\"\xff\xfe\xc0\"}".to_vec()),
        ("trailing text", br#"{"v":1} {"v":1}"#.to_vec()),
    ]
}

/// Every kind that this store can hold, with what is wrong with it.
fn poison(store: Store) -> Vec<(&'static str, Poison)> {
    let envelopes = envelopes().into_iter().map(|(what, envelope)| (what, Poison::Envelope(envelope)));
    let mut all: Vec<_> = envelopes.collect();
    all.push(("an unknown task", Poison::Task(b"nobody")));
    all.push(("a task that is no name", Poison::Task(b"Not A Name!")));
    all.push(("a task that is no UTF-8", Poison::Task(b"\xff\xfe")));
    match store {
        Store::Redis => all.push(("attempts beyond any number", Poison::Attempts(u32::MAX))),
        Store::Sqlite => all.extend([
            ("attempts beyond any number", Poison::Column("attempt", "4294967295")),
            ("negative attempts", Poison::Column("attempt", "-7")),
            ("attempts of 64 bits", Poison::Column("attempt", "9223372036854775806")),
            ("negative attempts at most", Poison::Column("max_attempts", "-1")),
            ("an id that is none", Poison::Column("id", "'no id at all'")),
        ]),
    }
    all
}

/// Poison of every kind comes due, half of it before the daemon starts and half while it runs.
pub(crate) fn payloads(trial: &mut Trial<'_>) -> Result<()> {
    let beat = Beat::soon(trial, "beat", 100, 100);
    let tasks = [trial.task(beat.task, "sleep 0.05", &beat.trigger()), trial.task(VICTIM, "", "")];
    trial.configure("lease = \"2s\"", &tasks)?;
    trial.first_daemon("one", &beat)?.stop()?;

    let all = poison(trial.store);
    let (before, after) = all.split_at(all.len() / 2);
    let mut runs = plant(trial, before)?;
    let mut daemon = trial.daemon("one")?;
    runs.extend(plant(trial, after)?);

    trial.until(PATIENCE / 2, |trial| states(trial, &runs).is_ok_and(|(failed, _)| failed == runs.len()));
    let (failed, waiting) = states(trial, &runs)?;
    let kinds: Vec<&str> = all.iter().map(|(what, _)| *what).collect();
    trial.injected(format!("{} stored runs changed from outside: {}", all.len(), kinds.join(", ")));
    trial.expected("each fails and none is started; the sound work among them is done, the daemon lives");
    let started = trial.recorder.of(VICTIM);
    let letters = trial.verb(&["dlq", "list", "-o", "json", "-n", "1000"])?;
    trial.counted(format!(
        "in the store: {failed} of {} failed, {waiting} wait or run; recorder: {} started; `dlq list` answers {}",
        runs.len(),
        started.len(),
        letters.code
    ));
    trial.must(failed == runs.len(), || format!("{failed} of {} have failed, {waiting} wait", runs.len()));
    trial.must(started.is_empty(), || format!("started: {}", some(started.iter().map(|note| &note.run))));
    trial.must(letters.code == 0, || format!("`dlq list` answers {letters:?}"));
    settle(trial, &beat, &Attempts::Counted)?;
    ends_well(trial, &mut daemon)
}

/// Has so many sound runs of the task enqueued, due at one instant; answers their ids.
pub(crate) fn enqueued(trial: &Trial<'_>, count: usize, due: u64) -> Result<Vec<String>> {
    let line = format!("{{\"task\":\"{VICTIM}\",\"at\":\"{}\"}}\n", instant::written(due));
    std::fs::write(trial.path("poison.jsonl"), line.repeat(count))?;
    let answer = trial.verb(&["enqueue", "--from", "poison.jsonl", "-o", "json"])?;
    let told: Value = serde_json::from_str(&answer.stdout).context("`enqueue` answers no JSON")?;
    let ids = told["runs"].as_array().into_iter().flatten().filter_map(|run| run["run_id"].as_str());
    let ids: Vec<String> = ids.map(str::to_owned).collect();
    if ids.len() != count {
        bail!("`enqueue` answers {answer:?}");
    }
    Ok(ids)
}

/// Has sound runs enqueued and spoils them before they are due; answers where each is found in the store.
fn plant(trial: &Trial<'_>, kinds: &[(&str, Poison)]) -> Result<Vec<String>> {
    let lead = u64::try_from(trial.lead.as_millis())?;
    let due = instant::now() + AHEAD.max(2 * lead);
    let ids = enqueued(trial, kinds.len(), due)?;
    let found = ids.iter().zip(kinds).map(|(id, (_, poison))| spoil(trial, id, poison));
    let found = found.collect::<Result<Vec<String>>>()?;
    TooSlow::unless_before(due - 200)?;
    std::thread::sleep(Duration::from_millis(due.saturating_sub(instant::now())));
    Ok(found)
}

pub(crate) fn spoil(trial: &Trial<'_>, id: &str, poison: &Poison) -> Result<String> {
    match trial.store {
        Store::Sqlite => {
            let (column, value) = match poison {
                Poison::Envelope(bytes) => ("envelope", text_of(bytes)),
                Poison::Task(bytes) => ("task", text_of(bytes)),
                Poison::Column(column, value) => (*column, (*value).to_owned()),
                Poison::Attempts(_) => bail!("SQLite has columns"),
            };
            let statement = format!("UPDATE run SET {column} = {value} WHERE id = '{id}' RETURNING seq;");
            sql(&trial.file(), &statement)
        }
        Store::Redis => {
            let mut client = trial.connect()?;
            let Reply::Bytes(stored) = client.command(&["HGET", RUNS, id])? else {
                bail!("Redis has no run {id}");
            };
            let packed = repacked(&stored, poison).context("a stored run names no task")?;
            client.command(&[b"HSET", RUNS.as_bytes(), id.as_bytes(), &packed])?;
            Ok(id.to_owned())
        }
    }
}

/// Any bytes as a text of SQLite.
fn text_of(bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("CAST(x'{hex}' AS TEXT)")
}

/// A packed run with something else in it. It begins with its state and its attempts; the length of its task's name,
/// that name and the envelope are its end.
fn repacked(stored: &[u8], poison: &Poison) -> Option<Vec<u8>> {
    let task = stored.windows(VICTIM.len()).position(|window| window == VICTIM.as_bytes())?;
    let (mut head, envelope) = (stored[..task].to_vec(), &stored[task + VICTIM.len()..]);
    match poison {
        Poison::Envelope(bytes) => Some([&head, VICTIM.as_bytes(), bytes].concat()),
        Poison::Task(bytes) => {
            *head.last_mut()? = u8::try_from(bytes.len()).ok()?;
            Some([&head, *bytes, envelope].concat())
        }
        Poison::Attempts(number) => {
            head.get_mut(1..5)?.copy_from_slice(&number.to_be_bytes());
            Some([&head, VICTIM.as_bytes(), envelope].concat())
        }
        Poison::Column(..) => None,
    }
}

/// How many of these runs have failed, and how many have not ended, by looking into the store.
fn states(trial: &Trial<'_>, runs: &[String]) -> Result<(usize, usize)> {
    let states: Vec<i64> = match trial.store {
        Store::Sqlite => {
            let told =
                sql(&trial.file(), &format!("SELECT state FROM run WHERE seq IN ({});", runs.join(", ")))?;
            told.lines().map(str::parse).collect::<std::result::Result<_, _>>()?
        }
        Store::Redis => {
            let words = ["HMGET", RUNS].into_iter().chain(runs.iter().map(String::as_str));
            let rows = trial.connect()?.command(&words.collect::<Vec<_>>())?.items();
            let state = |reply: &Reply| match reply {
                Reply::Bytes(bytes) => bytes.first().copied().map(i64::from),
                _ => None,
            };
            rows.iter().filter_map(state).collect()
        }
    };
    let count = |wanted: fn(i64) -> bool| states.iter().filter(|state| wanted(**state)).count();
    Ok((count(|state| state == 11), count(|state| state < 10)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_run_is_spoiled_in_one_place() {
        let stored = [b"\x00\x00\x00\x00\x01rest\x10", VICTIM.as_bytes(), b"{}"].concat();
        let spoiled = |poison: &Poison| repacked(&stored, poison).unwrap();

        assert_eq!(spoiled(&Poison::Task(b"ab")), b"\x00\x00\x00\x00\x01rest\x02ab{}");
        let attempts = spoiled(&Poison::Attempts(u32::MAX));
        assert_eq!(attempts[..9], *b"\x00\xff\xff\xff\xffrest");
        assert!(spoiled(&Poison::Envelope(b"{".to_vec())).ends_with(b"poison{"));
        assert_eq!(repacked(b"nothing", &Poison::Task(b"ab")), None);
    }
}
