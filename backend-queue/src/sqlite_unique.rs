//! Unique runs in the SQLite store: which run has a kind, in a table beside the runs; and how far runs have come.

use scheduler_core::{Entry, Run, RunId, RunState, Timestamp, UniqueKey, UniqueUntil};
use sqlx::Row;

use crate::envelope;
use crate::sqlite_change::Change;
use crate::sqlite_clock::now;
use crate::sqlite_row::{SUCCEEDED, integer, shown, text};
use crate::store::{Effect, Pushed};
use crate::unique::{is_kept_out, skipped};

/// Programs that know no unique runs leave it alone, so it is no new version of the file.
pub(crate) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS unique_run (
    namespace TEXT NOT NULL,
    key TEXT NOT NULL,
    run TEXT NOT NULL,
    until TEXT,
    expires INTEGER,
    PRIMARY KEY (namespace, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS unique_run_of ON unique_run (run);
CREATE INDEX IF NOT EXISTS unique_run_expires ON unique_run (namespace, expires) WHERE expires IS NOT NULL;
";

/// How many kinds are let go at once whose time has passed.
const LET_GO: i64 = 1_000;

impl Change<'_> {
    /// As [`Store::push_unique`](crate::store::Store::push_unique).
    pub(crate) async fn insert_unique(&mut self, runs: &[Pushed]) -> sqlx::Result<Vec<Option<RunId>>> {
        let mut answers = Vec::with_capacity(runs.len());
        let are_plain = |one: &Pushed, next: &Pushed| one.run.unique.is_none() && next.run.unique.is_none();
        for group in runs.chunk_by(are_plain) {
            let [pushed, ..] = group else { continue };
            if pushed.run.unique.is_none() {
                let are_new = self.insert_rows(group.iter()).await?;
                let known =
                    group.iter().zip(are_new).map(|(one, is_new)| Some(one.run.id).filter(|_| !is_new));
                answers.extend(known);
                continue;
            }
            answers.push(match self.owner_of(pushed.run.unique.as_ref()).await? {
                // Who asks for the same run again meets that one.
                Some(owner) => Some(if self.is_there(pushed.run.id).await? { pushed.run.id } else { owner }),
                None if self.insert_owning(pushed).await? => None,
                None => Some(pushed.run.id),
            });
        }
        self.release_added(runs.iter()).await?;
        Ok(answers)
    }

    /// Adds the run of a fire, or where another run keeps it out a skipped one that says so, in place of the fire.
    pub(crate) async fn unless_kept_out(&mut self, effect: Effect) -> sqlx::Result<Effect> {
        let Effect::Fire(pushed, entry) = effect else { return Ok(effect) };
        Ok(match self.owner_of(pushed.run.unique.as_ref()).await? {
            Some(owner) if owner != pushed.run.id => {
                Effect::Skip(Box::new(skipped(pushed.run, owner, now())))
            }
            // One that is there already makes none, and no other gives way to it.
            Some(_) => Effect::Fire(pushed, Entry::Start),
            None => Effect::Fire(pushed, entry),
        })
    }

    /// Adds a run that nobody keeps out, and gives it its kind; says whether it is new. Where it is to wait for its turn,
    /// it does until [`Change::release_added`].
    pub(crate) async fn insert_owning(&mut self, pushed: &Pushed) -> sqlx::Result<bool> {
        let is_new = self.insert_rows(std::iter::once(pushed)).await? == [true];
        if let Some(unique) = pushed.run.unique.as_ref().filter(|_| is_new) {
            self.own(unique, pushed.run.id).await?;
        }
        Ok(is_new)
    }

    async fn is_there(&mut self, run: RunId) -> sqlx::Result<bool> {
        let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM run WHERE id = ?")
            .bind(run.to_string())
            .fetch_optional(&mut self.connection)
            .await?;
        Ok(found.is_some())
    }

    /// The run that keeps others of this kind out.
    async fn owner_of(&mut self, unique: Option<&UniqueKey>) -> sqlx::Result<Option<RunId>> {
        let Some(unique) = unique else { return Ok(None) };
        let found = sqlx::query(
            "SELECT unique_run.run AS id, unique_run.until, unique_run.expires, run.state, run.attempt \
             FROM unique_run LEFT JOIN run ON run.id = unique_run.run \
             WHERE unique_run.namespace = ? AND unique_run.key = ?",
        )
        .bind(self.namespace())
        .bind(&unique.key)
        .fetch_optional(&mut self.connection)
        .await?;
        let Some(row) = found else { return Ok(None) };
        let Some(owner) = text(&row, "id").ok().and_then(|id| id.parse().ok()) else { return Ok(None) };
        let until: Option<UniqueUntil> = text(&row, "until").ok().and_then(|until| until.parse().ok());
        let expires: Option<i64> = row.try_get("expires").unwrap_or_default();
        // What cannot be read is a run that has failed, as far as it is shown.
        let state = |state: i64| shown(state).unwrap_or(RunState::Failed);
        let run =
            integer(&row, "state").ok().map(|number| (state(number), integer(&row, "attempt").unwrap_or(0)));
        Ok(Some(owner).filter(|_| is_kept_out(until, expires.map(Timestamp::from_millis), now(), run)))
    }

    async fn own(&mut self, unique: &UniqueKey, run: RunId) -> sqlx::Result<()> {
        let window = unique.window_ms.map(std::time::Duration::from_millis);
        sqlx::query(
            "INSERT INTO unique_run (namespace, key, run, until, expires) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT (namespace, key) DO UPDATE SET run = excluded.run, until = excluded.until, \
             expires = excluded.expires",
        )
        .bind(self.namespace())
        .bind(&unique.key)
        .bind(run.to_string())
        .bind(unique.until.map(UniqueUntil::as_str))
        .bind(window.map(|window| (now() + window).as_millis()))
        .execute(&mut self.connection)
        .await
        .map(drop)
    }

    /// As [`Store::tell_progress`](crate::store::Store::tell_progress).
    pub(crate) async fn tell_progress(&mut self, runs: &[(Run, u64)]) -> sqlx::Result<()> {
        for (run, fence) in runs {
            sqlx::query(
                "UPDATE run SET envelope = ? WHERE id = ? AND fence = ? AND state = 4 AND namespace = ?",
            )
            .bind(envelope::seal(run))
            .bind(run.id.to_string())
            .bind(i64::try_from(*fence).unwrap_or(i64::MAX))
            .bind(self.namespace())
            .execute(&mut self.connection)
            .await?;
        }
        Ok(())
    }

    /// Lets the kinds go of runs that are about to be forgotten, at most so many up to this place in the order of ends,
    /// and those whose time has passed. Who has won a time by its success keeps others out to its end, also when nobody
    /// knows it any more.
    pub(crate) async fn let_kinds_go(&mut self, last: (i64, i64), limit: i64) -> sqlx::Result<()> {
        let is_any: Option<i64> = sqlx::query_scalar("SELECT 1 FROM unique_run LIMIT 1")
            .fetch_optional(&mut self.connection)
            .await?;
        if is_any.is_none() {
            return Ok(());
        }
        sqlx::query(
            "DELETE FROM unique_run WHERE run IN (SELECT id FROM run WHERE namespace = ? \
             AND state >= 10 AND died IS NULL AND (finished, seq) <= (?, ?) ORDER BY finished, seq LIMIT ?) \
             AND (expires IS NULL OR until IS NOT NULL OR (SELECT state FROM run WHERE id = unique_run.run) <> ?)",
        )
        .bind(self.namespace())
        .bind(last.0)
        .bind(last.1)
        .bind(limit)
        .bind(SUCCEEDED)
        .execute(&mut self.connection)
        .await?;
        sqlx::query(
            "DELETE FROM unique_run WHERE namespace = ?1 AND key IN (SELECT key FROM unique_run \
             WHERE namespace = ?1 AND expires <= ?2 ORDER BY expires LIMIT ?3)",
        )
        .bind(self.namespace())
        .bind(now().as_millis())
        .bind(LET_GO)
        .execute(&mut self.connection)
        .await
        .map(drop)
    }
}
