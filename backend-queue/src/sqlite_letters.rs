//! The dead letters of the SQLite store.
//!
//! A letter is a mark on its run: it comes with the change that ends the run, leaves with the one that replays
//! it, and while it is there history keeps the run.

use scheduler_core::{
    DeadLetter, DeadLetterFilter, DeadLetterPage, HeldLetters, PageToken, Replayed, Run, RunId, RunOrigin,
    Tier, Timestamp,
};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, SqliteConnection};

use crate::sqlite::SqliteStore;
use crate::sqlite_change::Change;
use crate::sqlite_clock::now;
use crate::sqlite_history::{bounded, narrow};
use crate::sqlite_row::{columns, integer, lossy, read};
use crate::store::{Pushed, Replay, Retention};

/// A page of the letters of a namespace, the newest fire first.
pub(crate) async fn page(
    store: &SqliteStore,
    connection: &mut SqliteConnection,
    filter: &DeadLetterFilter,
) -> sqlx::Result<DeadLetterPage> {
    let query = |piece| {
        let of_letters = concat!("SELECT died, hold, ", columns!(), " FROM run WHERE died IS NOT NULL");
        let mut query = QueryBuilder::new(of_letters);
        if let Some(run) = filter.run {
            query.push(" AND id = ").push_bind(run.to_string());
        }
        narrow(&mut query, store.namespace.as_ref(), filter.task.as_ref(), filter.after, piece);
        query
    };
    let (rows, has_more) = bounded(connection, filter.page_size(), query).await?;
    let letters: Vec<DeadLetter> = rows.iter().map(|row| letter(store, row)).collect();
    let next = letters.last().filter(|_| has_more).map(|letter| PageToken::of(&letter.run));
    Ok(DeadLetterPage { letters, next })
}

fn letter(store: &SqliteStore, row: &SqliteRow) -> DeadLetter {
    let (run, unreadable) = match read(row, &store.backend) {
        Ok(run) => (run, None),
        Err(run) => (*run, lossy(row, "envelope")),
    };
    let mut letter = DeadLetter::new(run, Timestamp::from_millis(integer(row, "died").unwrap_or_default()));
    letter.held = lossy(row, "hold");
    letter.unreadable = unreadable;
    letter
}

impl Change<'_> {
    /// As [`Store::replay`](crate::store::Store::replay).
    pub(crate) async fn replay(&mut self, letters: &[Replay]) -> sqlx::Result<Vec<Replayed>> {
        let mut answers = Vec::with_capacity(letters.len());
        for letter in letters {
            answers.push(self.replay_one(letter).await?);
        }
        Ok(answers)
    }

    async fn replay_one(&mut self, replay: &Replay) -> sqlx::Result<Replayed> {
        let Replay { letter, run: again, params } = replay;
        let found = sqlx::query(concat!(
            "SELECT hold IS NOT NULL AS is_held, priority, alone, ",
            columns!(),
            " FROM run WHERE id = ? AND namespace = ? AND died IS NOT NULL"
        ))
        .bind(letter.to_string())
        .bind(self.namespace())
        .fetch_optional(&mut self.connection)
        .await?;
        let Some(row) = found else { return Ok(Replayed::Unknown) };
        if row.try_get("is_held")? {
            return Ok(Replayed::Held);
        }
        let Ok(run) = read(&row, &self.store.backend) else { return Ok(Replayed::Unreadable) };
        let mut replay = Run::queued(*again, run.task, run.backend, Tier::Queue, run.fire_time);
        replay.origin = RunOrigin::Manual;
        replay.params = params.clone().unwrap_or(run.params);
        replay.adhoc = run.adhoc;
        replay.queue = run.queue;
        replay.replay_of = Some(*letter);
        let pushed = Pushed {
            run: replay,
            due: now(),
            priority: integer(&row, "priority").unwrap_or_default(),
            max_attempts: integer(&row, "max_attempts").unwrap_or(1),
            alone: row.try_get("alone")?,
        };
        if self.insert([&pushed].into_iter()).await? != [true] {
            return Ok(Replayed::Unknown);
        }
        let left =
            sqlx::query("UPDATE run SET died = NULL WHERE seq = ?").bind(row.try_get::<i64, _>("seq")?);
        left.execute(&mut self.connection).await?;
        Ok(Replayed::As(*again))
    }

    /// As [`Store::hold`](crate::store::Store::hold).
    pub(crate) async fn hold(&mut self, run: RunId, reason: Option<&str>) -> sqlx::Result<bool> {
        let written =
            sqlx::query("UPDATE run SET hold = ? WHERE id = ? AND namespace = ? AND died IS NOT NULL")
                .bind(reason)
                .bind(run.to_string())
                .bind(self.namespace())
                .execute(&mut self.connection)
                .await?;
        Ok(written.rows_affected() == 1)
    }

    /// As [`Store::discard`](crate::store::Store::discard).
    pub(crate) async fn discard(&mut self, runs: &[RunId], held: HeldLetters) -> sqlx::Result<Vec<bool>> {
        let mut answers = Vec::with_capacity(runs.len());
        for run in runs {
            let discarded = sqlx::query(
                "UPDATE run SET died = NULL, hold = NULL \
                 WHERE id = ? AND namespace = ? AND died IS NOT NULL AND (? OR hold IS NULL)",
            )
            .bind(run.to_string())
            .bind(self.namespace())
            .bind(held == HeldLetters::Leave)
            .execute(&mut self.connection)
            .await?;
            answers.push(discarded.rows_affected() == 1);
        }
        Ok(answers)
    }

    /// Lets letters go that retention does not keep, the oldest first; answers how many. Their runs stay as long
    /// as others.
    pub(crate) async fn let_letters_go(&mut self, retention: &Retention, limit: u32) -> sqlx::Result<u64> {
        let beyond = sqlx::query(
            "SELECT died, seq FROM run WHERE namespace = ? AND died IS NOT NULL AND hold IS NULL \
             ORDER BY died DESC, seq DESC LIMIT 1 OFFSET ?",
        )
        .bind(self.namespace())
        .bind(i64::try_from(retention.letters).unwrap_or(i64::MAX))
        .fetch_optional(&mut self.connection)
        .await?;
        let mut last = ((now() - retention.letter_age).as_millis(), i64::MAX);
        if let Some(row) = beyond {
            last = last.max((row.try_get(0)?, row.try_get(1)?));
        }
        let gone = sqlx::query(
            "UPDATE run SET died = NULL WHERE seq IN (SELECT seq FROM run WHERE namespace = ? \
             AND died IS NOT NULL AND hold IS NULL AND (died, seq) <= (?, ?) ORDER BY died, seq LIMIT ? + 0)",
        )
        .bind(self.namespace())
        .bind(last.0)
        .bind(last.1)
        .bind(limit)
        .execute(&mut self.connection)
        .await?;
        Ok(gone.rows_affected())
    }
}
