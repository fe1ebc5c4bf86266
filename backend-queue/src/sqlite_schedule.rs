//! The schedules of the SQLite store: a cursor is advanced in the transaction that adds the run, so a fire is
//! enqueued once, however many daemons see it.

use std::time::Duration;

use scheduler_core::{CancelReason, Cursor, Entry, Live, Name, Pause, Run, RunId, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, Row, Sqlite, SqliteConnection, Transaction};

use crate::sqlite::{SqliteStore, columns};
use crate::sqlite_clock::now;
use crate::sqlite_schema::RUNNING;
use crate::store::{Decide, Decided, Effect, Pushed, Standing};

/// As [`Store::register`](crate::store::Store::register).
pub(crate) async fn register(
    namespace: &str,
    connection: &mut SqliteConnection,
    task: &Name,
    definition: &str,
    lease: Duration,
) -> sqlx::Result<u64> {
    let at = now();
    let begun = Cursor::starting(at);
    let mut change = connection.begin_with("BEGIN IMMEDIATE").await?;
    // Nobody served these fires when the last who did has not said so for a lease.
    let revision: i64 = sqlx::query_scalar(
        "INSERT INTO schedule (namespace, task, revision, definition, decided, served_since, served_until, runs) \
         VALUES (?1, ?2, 1, ?3, ?4, ?4, ?6, 0) ON CONFLICT (namespace, task) DO UPDATE SET \
         revision = revision + (definition <> ?3), definition = ?3, \
         served_since = CASE WHEN served_until < ?5 THEN ?5 ELSE served_since END, served_until = ?6 \
         RETURNING revision",
    )
    .bind(namespace)
    .bind(task.as_str())
    .bind(definition)
    .bind(begun.decided.as_millis())
    .bind(at.as_millis())
    .bind((at + lease).as_millis())
    .fetch_one(&mut *change)
    .await?;
    change.commit().await?;
    Ok(revision.unsigned_abs())
}

/// As [`Store::serve`](crate::store::Store::serve).
pub(crate) async fn serve(
    namespace: &str,
    connection: &mut SqliteConnection,
    tasks: &[Name],
    lease: Duration,
) -> sqlx::Result<()> {
    let until = if lease.is_zero() { 0 } else { (now() + lease).as_millis() };
    let mut change = connection.begin_with("BEGIN IMMEDIATE").await?;
    for task in tasks {
        sqlx::query("UPDATE schedule SET served_until = ? WHERE namespace = ? AND task = ?")
            .bind(until)
            .bind(namespace)
            .bind(task.as_str())
            .execute(&mut *change)
            .await?;
    }
    change.commit().await
}

/// As [`Store::pause`](crate::store::Store::pause).
pub(crate) async fn pause(
    namespace: &str,
    connection: &mut SqliteConnection,
    task: &Name,
    pause: Option<&Pause>,
) -> sqlx::Result<()> {
    let served_since = pause.is_none().then(|| now().as_millis());
    let paused = pause.map(|pause| serde_json::to_string(pause).unwrap_or_default());
    let written = "UPDATE schedule SET paused = ?, served_since = coalesce(?, served_since) \
                   WHERE namespace = ? AND task = ?";
    let query = sqlx::query(written).bind(paused).bind(served_since).bind(namespace).bind(task.as_str());
    query.execute(connection).await.map(drop)
}

/// Where a schedule stands, with its revision.
pub(crate) async fn standing(
    namespace: &str,
    connection: &mut SqliteConnection,
    task: &Name,
) -> sqlx::Result<Option<(u64, Standing)>> {
    let found = sqlx::query("SELECT * FROM schedule WHERE namespace = ? AND task = ?")
        .bind(namespace)
        .bind(task.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = found else { return Ok(None) };
    let counts = sqlx::query(
        "SELECT coalesce(sum(state BETWEEN 1 AND 4), 0), coalesce(sum(state = 5), 0) FROM run \
         WHERE namespace = ? AND task = ? AND state < 10",
    )
    .bind(namespace)
    .bind(task.as_str())
    .fetch_one(connection)
    .await?;
    let count = |index: usize| usize::try_from(counts.get::<i64, _>(index)).unwrap_or(0);
    let live = Live { running: count(0), queued: count(1) };
    Ok(Some((row.get::<i64, _>("revision").unsigned_abs(), read(&row, live))))
}

fn read(row: &SqliteRow, live: Live) -> Standing {
    let instant = |column: &str| Timestamp::from_millis(row.get(column));
    let cursor = Cursor {
        decided: instant("decided"),
        served_since: instant("served_since"),
        runs: row.get::<i64, _>("runs").unsigned_abs(),
        finished: row.get::<Option<i64>, _>("finished").map(Timestamp::from_millis),
    };
    let paused: Option<&str> = row.get("paused");
    // A pause that cannot be read is still one.
    let paused = paused.map(|text| serde_json::from_str(text).unwrap_or_default());
    Standing { cursor, paused, live }
}

/// As [`Store::decide`](crate::store::Store::decide).
pub(crate) async fn decide(
    store: &SqliteStore,
    connection: &mut SqliteConnection,
    task: &Name,
    revision: u64,
    decide: &Decide<'_>,
) -> sqlx::Result<Decided> {
    let mut change = connection.begin_with("BEGIN IMMEDIATE").await?;
    let Some((newest, before)) = standing(store.namespace(), &mut change, task).await? else {
        return Ok(Decided::Unknown);
    };
    if newest > revision {
        return Ok(Decided::Stale);
    }
    let decision = decide(before.clone(), now());
    let (mut ended, mut marked) = (Vec::new(), Vec::new());
    match &decision.effect {
        Effect::Fire(pushed, entry) => {
            if *entry == Entry::CancelOthers {
                (ended, marked) = replace(store, &mut change, task).await?;
            }
            store.insert(&mut change, pushed).await?;
            store.release(&mut change).await?;
        }
        Effect::Skip(run) => {
            let due = run.fire_time;
            let skipped = Pushed { run: (**run).clone(), due, priority: 0, max_attempts: 1, alone: false };
            store.insert(&mut change, &skipped).await?;
        }
        Effect::Nothing => {}
    }
    if decision.cursor != before.cursor || decision.paused != before.paused {
        let Cursor { decided, served_since, runs, finished } = decision.cursor;
        let paused = decision.paused.map(|pause| serde_json::to_string(&pause).unwrap_or_default());
        sqlx::query(
            "UPDATE schedule SET decided = ?, served_since = ?, runs = ?, finished = ?, paused = ? \
             WHERE namespace = ? AND task = ?",
        )
        .bind(decided.as_millis())
        .bind(served_since.as_millis())
        .bind(i64::try_from(runs).unwrap_or(i64::MAX))
        .bind(finished.map(Timestamp::as_millis))
        .bind(paused)
        .bind(store.namespace())
        .bind(task.as_str())
        .execute(&mut *change)
        .await?;
    }
    change.commit().await?;
    Ok(Decided::Done { ended, marked })
}

/// Ends the runs of a task that wait, and marks those under way.
async fn replace(
    store: &SqliteStore,
    change: &mut Transaction<'_, Sqlite>,
    task: &Name,
) -> sqlx::Result<(Vec<Run>, Vec<RunId>)> {
    let reason = CancelReason::Replaced.as_str();
    let rows = sqlx::query(concat!(
        "SELECT ",
        columns!(),
        " FROM run WHERE namespace = ? AND task = ? AND state BETWEEN 1 AND 5 AND state < 10 ORDER BY seq"
    ))
    .bind(store.namespace())
    .bind(task.as_str())
    .fetch_all(&mut **change)
    .await?;
    let (mut ended, mut marked) = (Vec::new(), Vec::new());
    for row in &rows {
        if row.get::<i64, _>("state") == RUNNING {
            let mark = sqlx::query("UPDATE run SET cancel = ? WHERE seq = ?").bind(reason);
            mark.bind(row.get::<i64, _>("seq")).execute(&mut **change).await?;
            marked.extend(row.get::<&str, _>("id").parse::<RunId>());
        } else {
            ended.push(store.end_waiting(change, row, reason).await?);
        }
    }
    Ok((ended, marked))
}
