//! The row of payloads that nobody can read or run, written straight into the store among sound work.

use anyhow::{Context, Result};

use crate::faults::account::some;
use crate::faults::beat::Beat;
use crate::faults::file::sql;
use crate::faults::instant;
use crate::faults::settled::{Attempts, ends_well, settle};
use crate::faults::trial::{PATIENCE, Store, Trial};
use crate::resp::Client;

/// What every key of the default namespace begins with on Redis.
const BASE: &str = "hybrid:{default}:";

/// A run as it is written into the store.
#[derive(Clone, Debug)]
pub(crate) struct Planted {
    pub(crate) id: String,
    pub(crate) task: Vec<u8>,
    pub(crate) attempt: i64,
    pub(crate) most: i64,
    pub(crate) priority: i64,
    pub(crate) due: i64,
    pub(crate) envelope: Vec<u8>,
}

impl Planted {
    /// A sound run of a task, due now.
    pub(crate) fn sound(index: u64, task: &str) -> Self {
        Self {
            // Crockford's digits are among those of base 16.
            id: format!("{index:026x}"),
            task: task.as_bytes().to_vec(),
            attempt: 0,
            most: 3,
            priority: 5,
            due: i64::try_from(instant::now()).unwrap_or(0),
            envelope: br#"{"v":1}"#.to_vec(),
        }
    }
}

/// Every kind of poison, with what is wrong with it.
fn poison() -> Vec<(&'static str, Planted)> {
    let deep = |open: &str, close: &str, depth: usize| {
        format!(r#"{{"v":1,"params":{{"a":{}1{}}}}}"#, open.repeat(depth), close.repeat(depth)).into_bytes()
    };
    let envelopes: [(&str, Vec<u8>); 14] = [
        ("bad JSON", b"{".to_vec()),
        ("empty", Vec::new()),
        ("no object", br#""text""#.to_vec()),
        ("null", b"null".to_vec()),
        ("a wrong type", br#"{"v":1,"params":[]}"#.to_vec()),
        ("a wrong type of version", br#"{"v":"one"}"#.to_vec()),
        ("a negative version", br#"{"v":-1}"#.to_vec()),
        ("a future version", br#"{"v":99}"#.to_vec()),
        ("deep lists", deep("[", "]", 100_000)),
        ("deep objects", deep(r#"{"a":"#, "}", 100_000)),
        ("1e400", br#"{"v":1,"params":{"a":1e400}}"#.to_vec()),
        ("duplicate keys", br#"{"v":1,"v":1}"#.to_vec()),
        ("no UTF-8", b"{\"v\":1,\"reason\":\"\xff\xfe\xc0\"}".to_vec()),
        ("trailing text", br#"{"v":1} {"v":1}"#.to_vec()),
    ];
    let mut all: Vec<(&'static str, Planted)> = Vec::new();
    for (what, envelope) in envelopes {
        all.push((what, Planted { envelope, ..Planted::sound(0, "beat") }));
    }
    all.push(("an unknown task", Planted::sound(0, "nobody")));
    all.push(("a task that is no name", Planted { task: b"Not A Name!".to_vec(), ..Planted::sound(0, "") }));
    all.push(("a task that is no UTF-8", Planted { task: b"\xff\xfe".to_vec(), ..Planted::sound(0, "") }));
    all.push((
        "attempts beyond any number",
        Planted { attempt: i64::from(u32::MAX), ..Planted::sound(0, "nobody") },
    ));
    for (index, (_, planted)) in all.iter_mut().enumerate() {
        planted.id = format!("{:026x}", index + 1);
    }
    all
}

/// Poison that only a store with columns can hold.
fn columns() -> Vec<(&'static str, Planted)> {
    let mut all = vec![
        ("a negative attempt", Planted { attempt: -7, ..Planted::sound(0, "nobody") }),
        ("an attempt of 64 bits", Planted { attempt: i64::MAX - 1, ..Planted::sound(0, "nobody") }),
        ("negative attempts at most", Planted { most: -1, ..Planted::sound(0, "nobody") }),
        ("a priority beyond any", Planted { priority: i64::MAX, ..Planted::sound(0, "nobody") }),
        ("a due time before any", Planted { due: i64::MIN, ..Planted::sound(0, "nobody") }),
    ];
    for (index, (_, planted)) in all.iter_mut().enumerate() {
        planted.id = format!("{:026x}", index + 0x100);
    }
    all.push((
        "an id that is none",
        Planted { id: "no id at all".to_owned(), ..Planted::sound(0, "nobody") },
    ));
    all
}

/// Poison of every kind lies in the queue before the daemon starts, and more comes while it runs.
pub(crate) fn payloads(trial: &mut Trial<'_>) -> Result<()> {
    let beat = Beat::soon(trial, "beat", 100, 40);
    let task = trial.task(beat.task, "sleep 0.05", &beat.trigger());
    trial.configure("lease = \"2s\"", &[task])?;
    // Somebody makes the tables first.
    let mut first = trial.first_daemon("one", &beat)?;
    trial.await_that("the daemon starts", |_| first.log().contains("1 task"))?;
    first.stop()?;

    let mut all = poison();
    if trial.store == Store::Sqlite {
        all.extend(columns());
    }
    let (before, after) = all.split_at(all.len() / 2);
    plant(trial, before.iter().map(|(_, planted)| planted))?;
    let mut daemon = trial.daemon("one")?;
    std::thread::sleep(trial.chance.millis(500, 1_500));
    plant(trial, after.iter().map(|(_, planted)| planted))?;

    let states = |trial: &Trial<'_>| states(trial).unwrap_or_default();
    trial.until(PATIENCE / 3, |trial| states(trial) == (all.len(), 0));
    let (failed, waiting) = states(trial);
    let kinds: Vec<&str> = all.iter().map(|(what, _)| *what).collect();
    trial.injected(format!("{} runs written into the store from outside: {}", all.len(), kinds.join(", ")));
    trial.expected(
        "each has failed and none was started; the sound work among them is done, the daemon lives",
    );
    let started: Vec<String> = trial
        .recorder
        .notes()
        .into_iter()
        .filter(|note| all.iter().any(|(_, planted)| planted.id == note.run))
        .map(|note| note.run)
        .collect();
    let letters = trial.verb(&["dlq", "list", "-o", "json", "-n", "1000"])?;
    trial.counted(format!(
        "in the store: {failed} failed, {waiting} still wait or run; recorder: {} started; `dlq list` answers {}",
        started.len(),
        letters.code
    ));
    trial.must(failed == all.len() && waiting == 0, || {
        format!("{failed} of {} have failed, {waiting} wait", all.len())
    });
    trial.must(started.is_empty(), || format!("started: {}", some(&started)));
    trial.must(letters.code == 0, || format!("`dlq list` answers {letters:?}"));
    beat_is_done(trial, &beat)?;
    ends_well(trial, &mut daemon)
}

/// As [`settle`], but history of the task holds the poison as well.
fn beat_is_done(trial: &mut Trial<'_>, beat: &Beat) -> Result<()> {
    let broken = trial.account.broken.len();
    settle(trial, beat, Attempts::Counted)?;
    trial.account.broken.retain({
        let mut index = 0;
        move |line| {
            index += 1;
            index <= broken || !line.starts_with("history has")
        }
    });
    let runs = trial.history(beat.task)?;
    let succeeded = runs.iter().filter(|run| run["state"] == "succeeded").count();
    trial.must(u64::try_from(succeeded)? == beat.count, || {
        format!("{succeeded} of {} fires succeeded", beat.count)
    });
    Ok(())
}

/// How many runs in the store have failed, and how many have not ended, by looking into it.
fn states(trial: &Trial<'_>) -> Result<(usize, usize)> {
    match trial.store {
        Store::Sqlite => {
            let counts = sql(
                &trial.file(),
                "SELECT count(*) FILTER (WHERE state = 11), count(*) FILTER (WHERE state < 10) FROM run;",
            )?;
            let (failed, waiting) = counts.split_once('|').context("sqlite3 answers two numbers")?;
            Ok((failed.parse()?, waiting.parse()?))
        }
        Store::Redis => {
            let mut client = trial.connect()?;
            let rows = client.command(&["HVALS", &format!("{BASE}run")])?.items();
            let state = |reply: &crate::resp::Reply| match reply {
                crate::resp::Reply::Bytes(bytes) => bytes.first().copied(),
                _ => None,
            };
            let states: Vec<u8> = rows.iter().filter_map(state).collect();
            let count = |wanted: fn(u8) -> bool| states.iter().filter(|state| wanted(**state)).count();
            Ok((count(|state| state == 11), count(|state| state < 10)))
        }
    }
}

/// Writes runs into the store as if a program of ours had done it.
pub(crate) fn plant<'a>(trial: &Trial<'_>, runs: impl Iterator<Item = &'a Planted>) -> Result<()> {
    match trial.store {
        Store::Sqlite => {
            let rows: String = runs.map(row).collect();
            sql(&trial.file(), &format!("BEGIN IMMEDIATE;\n{rows}COMMIT;"))?;
            Ok(())
        }
        Store::Redis => {
            let mut client = trial.connect()?;
            runs.enumerate().try_for_each(|(index, run)| pack(&mut client, index, run))
        }
    }
}

fn row(run: &Planted) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let Planted { id, task, attempt, most, priority, due, envelope } = run;
    format!(
        "INSERT INTO run (id, namespace, task, state, priority, due, fire_time, attempt, max_attempts, alone, \
         envelope) VALUES ('{id}', 'default', CAST(x'{}' AS TEXT), 3, {priority}, {due}, {due}, {attempt}, {most}, 0, \
         CAST(x'{}' AS TEXT));\n",
        hex(task),
        hex(envelope)
    )
}

/// A run as one string, and its places in the sorted sets.
fn pack(client: &mut Client, index: usize, run: &Planted) -> Result<()> {
    let Planted { id, task, attempt, most, priority, due, envelope } = run;
    let seq = 0x7000_0000_u64 + u64::try_from(index)?;
    let seq = &seq.to_be_bytes()[2..];
    let mut packed = vec![3];
    packed.extend(u32::try_from(*attempt)?.to_be_bytes());
    packed.extend(0_u64.to_be_bytes());
    packed.extend(due.to_be_bytes());
    packed.extend(i64::MIN.to_be_bytes());
    packed.extend(seq);
    packed.extend([u8::try_from(*priority)?, 0]);
    packed.extend(u32::try_from(*most)?.to_be_bytes());
    packed.extend(due.to_be_bytes());
    packed.push(u8::try_from(task.len())?);
    packed.extend(task);
    packed.extend(envelope);
    let member = [seq, id.as_bytes()].concat();
    let key = |name: &str| format!("{BASE}{name}").into_bytes();
    let score = due.to_string().into_bytes();
    let of_task = [key("shown:"), task.clone()].concat();
    let live = [key("live:"), task.clone()].concat();
    // High priorities have low scores; among equals the order does not matter here.
    client.command(&[b"HSET".to_vec(), key("run"), id.clone().into_bytes(), packed])?;
    client.command(&[b"ZADD".to_vec(), key("shown"), score.clone(), id.clone().into_bytes()])?;
    client.command(&[b"ZADD".to_vec(), of_task, score.clone(), id.clone().into_bytes()])?;
    client.command(&[b"SADD".to_vec(), live, id.clone().into_bytes()])?;
    client.command(&[b"ZADD".to_vec(), key("ready"), score, member])?;
    Ok(())
}
