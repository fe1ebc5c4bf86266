//! The dead letters of the SQLite store.
//!
//! A letter is a mark on its run: it comes with the change that ends the run, leaves with the one that replays
//! it, and while it is there history keeps the run.

use scheduler_core::{
    DeadLetter, DeadLetterFilter, DeadLetterPage, PageToken, Replayed, Run, RunId, RunOrigin, Tier, Timestamp,
};
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, QueryBuilder, Row, Sqlite, SqliteConnection, Transaction};

use crate::sqlite::{SqliteStore, columns};
use crate::sqlite_clock::now;
use crate::store::{Pushed, Retention};

/// As [`Store::letters`](crate::store::Store::letters).
pub(crate) async fn page(
    store: &SqliteStore,
    connection: &mut SqliteConnection,
    filter: &DeadLetterFilter,
) -> sqlx::Result<DeadLetterPage> {
    let mut query = QueryBuilder::<Sqlite>::new(concat!(
        "SELECT died, hold, ",
        columns!(),
        " FROM run WHERE died IS NOT NULL"
    ));
    if let Some(namespace) = store.shown_namespace() {
        query.push(" AND namespace = ").push_bind(namespace.as_str());
    }
    if let Some(run) = filter.run {
        query.push(" AND id = ").push_bind(run.to_string());
    }
    if let Some(task) = &filter.task {
        query.push(" AND task = ").push_bind(task.as_str());
    }
    if let Some(after) = &filter.after {
        query.push(" AND (fire_time, id) < (").push_bind(after.fire_time().as_millis());
        query.push(", ").push_bind(after.run().to_string()).push(")");
    }
    query.push(" ORDER BY fire_time DESC, id DESC LIMIT ");
    query.push_bind(i64::try_from(filter.page_size()).unwrap_or(i64::MAX).saturating_add(1));
    let rows = query.build().fetch_all(connection).await?;
    let has_more = rows.len() > filter.page_size();
    let letters: Vec<DeadLetter> = rows.iter().take(filter.page_size()).map(|row| read(store, row)).collect();
    let next = letters.last().filter(|_| has_more).map(|letter| PageToken::of(&letter.run));
    Ok(DeadLetterPage { letters, next })
}

fn read(store: &SqliteStore, row: &SqliteRow) -> DeadLetter {
    let (run, unreadable) = match store.read(row) {
        Ok(run) => (run, None),
        Err(run) => (*run, Some(row.get::<String, _>("envelope"))),
    };
    let mut letter = DeadLetter::new(run, Timestamp::from_millis(row.get("died")));
    letter.held = row.get("hold");
    letter.unreadable = unreadable;
    letter
}

/// As [`Store::replay`](crate::store::Store::replay).
pub(crate) async fn replay(
    store: &SqliteStore,
    connection: &mut SqliteConnection,
    letters: &[(RunId, RunId)],
) -> sqlx::Result<Vec<Replayed>> {
    let mut change = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut answers = Vec::with_capacity(letters.len());
    for (letter, again) in letters {
        answers.push(replay_one(store, &mut change, *letter, *again).await?);
    }
    store.release(&mut change).await?;
    change.commit().await?;
    Ok(answers)
}

async fn replay_one(
    store: &SqliteStore,
    change: &mut Transaction<'_, Sqlite>,
    letter: RunId,
    again: RunId,
) -> sqlx::Result<Replayed> {
    let found = sqlx::query(concat!(
        "SELECT hold, priority, alone, ",
        columns!(),
        " FROM run WHERE id = ? AND namespace = ? AND died IS NOT NULL"
    ))
    .bind(letter.to_string())
    .bind(store.namespace())
    .fetch_optional(&mut **change)
    .await?;
    let Some(row) = found else { return Ok(Replayed::Unknown) };
    if row.get::<Option<&str>, _>("hold").is_some() {
        return Ok(Replayed::Held);
    }
    let Ok(run) = store.read(&row) else { return Ok(Replayed::Unreadable) };
    let mut replay = Run::queued(again, run.task, run.backend, Tier::Queue, run.fire_time);
    replay.origin = RunOrigin::Manual;
    replay.params = run.params;
    replay.adhoc = run.adhoc;
    replay.replay_of = Some(letter);
    let pushed = Pushed {
        run: replay,
        due: now(),
        priority: row.get("priority"),
        max_attempts: row.get("max_attempts"),
        alone: row.get("alone"),
    };
    if !store.insert(change, &pushed).await? {
        return Ok(Replayed::Unknown);
    }
    let left = sqlx::query("UPDATE run SET died = NULL WHERE seq = ?").bind(row.get::<i64, _>("seq"));
    left.execute(&mut **change).await?;
    Ok(Replayed::As(again))
}

/// As [`Store::hold`](crate::store::Store::hold).
pub(crate) async fn hold(
    namespace: &str,
    connection: &mut SqliteConnection,
    run: RunId,
    reason: Option<&str>,
) -> sqlx::Result<bool> {
    let written = sqlx::query("UPDATE run SET hold = ? WHERE id = ? AND namespace = ? AND died IS NOT NULL")
        .bind(reason)
        .bind(run.to_string())
        .bind(namespace)
        .execute(connection)
        .await?;
    Ok(written.rows_affected() == 1)
}

/// As [`Store::discard`](crate::store::Store::discard).
pub(crate) async fn discard(
    namespace: &str,
    connection: &mut SqliteConnection,
    runs: &[RunId],
) -> sqlx::Result<Vec<bool>> {
    let mut change = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut answers = Vec::with_capacity(runs.len());
    for run in runs {
        let discarded = sqlx::query(
            "UPDATE run SET died = NULL, hold = NULL WHERE id = ? AND namespace = ? AND died IS NOT NULL",
        )
        .bind(run.to_string())
        .bind(namespace)
        .execute(&mut *change)
        .await?;
        answers.push(discarded.rows_affected() == 1);
    }
    change.commit().await?;
    Ok(answers)
}

/// Lets letters go that retention does not keep, the oldest first; answers how many. Their runs stay as long as
/// others.
pub(crate) async fn let_go(
    namespace: &str,
    change: &mut Transaction<'_, Sqlite>,
    retention: &Retention,
    limit: u32,
) -> sqlx::Result<i64> {
    let keep = i64::try_from(retention.letters).unwrap_or(i64::MAX);
    let beyond = sqlx::query(
        "SELECT died, seq FROM run WHERE namespace = ? AND died IS NOT NULL AND hold IS NULL \
         ORDER BY died DESC, seq DESC LIMIT 1 OFFSET ?",
    )
    .bind(namespace)
    .bind(keep)
    .fetch_optional(&mut **change)
    .await?;
    let beyond = beyond.map(|row| (row.get::<i64, _>(0), row.get::<i64, _>(1)));
    let oldest = ((now() - retention.letter_age).as_millis(), i64::MAX);
    let (died, seq) = beyond.map_or(oldest, |beyond| beyond.max(oldest));
    let gone = sqlx::query(
        "UPDATE run SET died = NULL WHERE seq IN (SELECT seq FROM run WHERE namespace = ? \
         AND died IS NOT NULL AND hold IS NULL AND (died, seq) <= (?, ?) ORDER BY died, seq LIMIT ?)",
    )
    .bind(namespace)
    .bind(died)
    .bind(seq)
    .bind(limit)
    .execute(&mut **change)
    .await?;
    Ok(i64::try_from(gone.rows_affected()).unwrap_or(i64::MAX))
}
