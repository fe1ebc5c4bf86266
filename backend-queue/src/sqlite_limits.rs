//! The limits of queues in the SQLite store: which of the runs that are ready may begin, and when the others may.

use std::collections::{BTreeSet, HashMap};

use scheduler_core::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::limits::{GOOD, HORIZON, IN_LINE, Limits, Pace, key_of};
use crate::sqlite_change::Change;
use crate::sqlite_clock::now;
use crate::sqlite_push::json;
use crate::sqlite_row::{columns, read};
use crate::store::{Share, called};

/// How many runs are looked at in one go beyond those that are wanted.
const LOOKED: usize = 100;
/// How many lines one step looks through.
const LINES: i64 = 1_000;

/// What the limits of a queue let begin.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    pub(crate) rows: Vec<SqliteRow>,
    /// Whether others may begin as well.
    pub(crate) has_more: bool,
    /// When the queue is to be looked at again, which lets nothing begin before that.
    pub(crate) opens_at: Option<Timestamp>,
}

/// What becomes of a run that comes first.
enum Verdict {
    Begins,
    /// It has this slot.
    Waits(Timestamp),
    /// Nothing of its queue begins before that.
    Closed(Timestamp),
}

impl Change<'_> {
    /// Runs of a queue that its limits let begin, behind so many that begin already. Others get a slot and wait for it.
    pub(crate) async fn admit(
        &mut self,
        share: &Share,
        limits: &Limits,
        count: usize,
        behind: usize,
    ) -> sqlx::Result<Admitted> {
        let (at, queue) = (now(), share.queue.as_ref());
        let most_by_key = limits.per_key.as_ref().and_then(|by| by.concurrency).map(|most| most as usize);
        let mut running = HashMap::new();
        if let (Some(by), Some(_)) = (&limits.per_key, most_by_key) {
            running = self.running_by_key(share, &by.param).await?;
            // Those that were taken already begin as well.
            for row in self.ready_in(queue, behind, 0).await? {
                *running.entry(self.key_by(&row, &by.param)).or_default() += 1;
            }
        }
        let found = self.ready_in(queue, count + LOOKED, behind).await?;
        let mut admitted = Admitted { has_more: found.len() == count + LOOKED, ..Admitted::default() };
        if found.is_empty() || count == 0 {
            admitted.has_more = !found.is_empty();
            return Ok(admitted);
        }
        let mut places = usize::MAX;
        if let Some(most) = limits.concurrency {
            places = (most as usize).saturating_sub(self.running_in(share).await? + behind);
        }
        let keys: Vec<Option<String>> = found.iter().map(|row| self.key(row, limits)).collect();
        let mut paces = self.paces(share, limits, &keys).await?;
        let (mut aside, mut in_line) = (Vec::new(), Vec::new());
        for (row, key) in found.into_iter().zip(keys) {
            if admitted.rows.len() == count {
                admitted.has_more = true;
                break;
            }
            if places == 0 {
                admitted.has_more = false;
                break;
            }
            let under_way = running.entry(key.clone().unwrap_or_default()).or_default();
            if most_by_key.is_some_and(|most| *under_way >= most) {
                in_line.push((row.try_get::<i64, _>("seq")?, key));
                continue;
            }
            let slot: Option<i64> = row.try_get("slot").unwrap_or_default();
            match paces.verdict(key, slot.map(Timestamp::from_millis), at) {
                Verdict::Begins => {
                    *under_way += 1;
                    admitted.rows.push(row);
                    places -= 1;
                }
                Verdict::Waits(slot) => aside.push((row.try_get::<i64, _>("seq")?, slot.as_millis())),
                Verdict::Closed(until) => {
                    (admitted.has_more, admitted.opens_at) = (false, Some(until));
                    break;
                }
            }
        }
        self.put_aside(&aside).await?;
        self.put_in_line(&in_line, at).await?;
        self.note_paces(share, &paces, at).await?;
        Ok(admitted)
    }

    fn key(&self, row: &SqliteRow, limits: &Limits) -> Option<String> {
        let param = &limits.per_key.as_ref()?.param;
        // What cannot be read is told apart from the others only, and fails when it begins.
        Some(self.key_by(row, param))
    }

    fn key_by(&self, row: &SqliteRow, param: &str) -> String {
        format!("={}", read(row, &self.store.backend).map_or(String::new(), |run| key_of(&run, param)))
    }

    /// How many runs of a queue are under way, by their key.
    async fn running_by_key(&mut self, share: &Share, param: &str) -> sqlx::Result<HashMap<String, usize>> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(),
            " FROM run WHERE namespace = ? AND state = 4 AND queue IS ?"
        ))
        .bind(self.namespace())
        .bind(share.queue.as_ref().map(scheduler_core::Name::as_str))
        .fetch_all(&mut self.connection)
        .await?;
        let mut running = HashMap::new();
        for row in &rows {
            *running.entry(self.key_by(row, param)).or_default() += 1;
        }
        Ok(running)
    }

    /// Lets as many runs of each key go on that wait in line as there are places, unless the queue is paused.
    pub(crate) async fn release_lines(&mut self, share: &Share) -> sqlx::Result<()> {
        let by_key = share.limits.as_ref().and_then(|limits| limits.per_key.as_ref());
        let Some((by, most)) = by_key.and_then(|by| Some((by, by.concurrency? as usize))) else {
            return Ok(());
        };
        let queue = share.queue.as_ref().map(scheduler_core::Name::as_str);
        // Each step of the recursion finds the next line in the index, however many runs wait in it.
        let lines: Vec<Option<String>> = sqlx::query_scalar(
            "WITH RECURSIVE named (line) AS (VALUES ('') UNION ALL SELECT (SELECT min(line) FROM run \
             WHERE namespace = ?1 AND queue IS ?2 AND state = 2 AND line IS NOT NULL AND line > named.line) AS next \
             FROM named WHERE next IS NOT NULL LIMIT ?3) SELECT line FROM named WHERE line <> '' AND NOT EXISTS \
             (SELECT 1 FROM queue WHERE namespace = ?1 AND name = ?4 AND paused IS NOT NULL \
             AND (until IS NULL OR until > ?5))",
        )
        .bind(self.namespace())
        .bind(queue)
        .bind(LINES)
        .bind(called(share.queue.as_ref()))
        .bind(now().as_millis())
        .fetch_all(&mut self.connection)
        .await?;
        if lines.is_empty() {
            return Ok(());
        }
        let running = self.running_by_key(share, &by.param).await?;
        for line in lines.into_iter().flatten() {
            let free = most.saturating_sub(running.get(&line).copied().unwrap_or_default());
            if free == 0 {
                continue;
            }
            sqlx::query(
                "UPDATE run SET state = 3, line = NULL, due = ?4 WHERE seq IN (SELECT seq FROM run \
                 WHERE namespace = ?1 AND queue IS ?2 AND state = 2 AND line = ?3 AND line IS NOT NULL \
                 ORDER BY priority DESC, seq LIMIT ?5)",
            )
            .bind(self.namespace())
            .bind(queue)
            .bind(line)
            .bind(now().as_millis())
            .bind(i64::try_from(free).unwrap_or(i64::MAX))
            .execute(&mut self.connection)
            .await?;
        }
        Ok(())
    }

    /// Lets runs wait until another of their key has ended.
    async fn put_in_line(&mut self, runs: &[(i64, Option<String>)], at: Timestamp) -> sqlx::Result<()> {
        if runs.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "UPDATE run SET state = 2, due = ?2, slot = NULL, line = lined.value ->> 1 \
             FROM json_each(?1) AS lined WHERE run.seq = lined.value ->> 0",
        )
        .bind(json(&runs)?)
        .bind((at + IN_LINE).as_millis())
        .execute(&mut self.connection)
        .await
        .map(drop)
    }

    async fn running_in(&mut self, share: &Share) -> sqlx::Result<usize> {
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM run WHERE namespace = ? AND state = 4 AND queue IS ?")
                .bind(self.namespace())
                .bind(share.queue.as_ref().map(scheduler_core::Name::as_str))
                .fetch_one(&mut self.connection)
                .await?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Lets runs wait for their slots.
    async fn put_aside(&mut self, aside: &[(i64, i64)]) -> sqlx::Result<()> {
        if aside.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "UPDATE run SET state = 2, line = NULL, due = aside.value ->> 1, slot = aside.value ->> 1 \
             FROM json_each(?) AS aside WHERE run.seq = aside.value ->> 0",
        )
        .bind(json(&aside)?)
        .execute(&mut self.connection)
        .await
        .map(drop)
    }

    async fn paces(
        &mut self,
        share: &Share,
        limits: &Limits,
        keys: &[Option<String>],
    ) -> sqlx::Result<Paces> {
        let by_key = limits.per_key.as_ref().and_then(|by| by.pace);
        let mut paces = Paces { whole: limits.pace, by_key, next: HashMap::new(), changed: BTreeSet::new() };
        if limits.pace.is_none() && by_key.is_none() {
            return Ok(paces);
        }
        let keys: BTreeSet<&str> = keys.iter().flatten().map(String::as_str).chain([""]).collect();
        let rows = sqlx::query(
            "SELECT pace.key, pace.next FROM json_each(?3) AS wanted JOIN pace ON pace.key = wanted.value \
             WHERE namespace = ?1 AND queue = ?2",
        )
        .bind(self.namespace())
        .bind(called(share.queue.as_ref()))
        .bind(json(&keys)?)
        .fetch_all(&mut self.connection)
        .await?;
        for row in rows {
            paces.next.insert(row.try_get(0)?, row.try_get(1)?);
        }
        Ok(paces)
    }

    /// Keeps the next slots; those that have come say nothing.
    async fn note_paces(&mut self, share: &Share, paces: &Paces, at: Timestamp) -> sqlx::Result<()> {
        if paces.changed.is_empty() {
            return Ok(());
        }
        sqlx::query("DELETE FROM pace WHERE namespace = ?1 AND queue = ?2 AND next <= ?3")
            .bind(self.namespace())
            .bind(called(share.queue.as_ref()))
            .bind(micros(at))
            .execute(&mut self.connection)
            .await?;
        let rows: Vec<_> = paces.changed.iter().map(|key| (key, paces.next_of(key))).collect();
        sqlx::query(
            "INSERT INTO pace (namespace, queue, key, next) SELECT ?1, ?2, value ->> 0, value ->> 1 \
             FROM json_each(?3) WHERE true ON CONFLICT (namespace, queue, key) DO UPDATE SET next = excluded.next",
        )
        .bind(self.namespace())
        .bind(called(share.queue.as_ref()))
        .bind(json(&rows)?)
        .execute(&mut self.connection)
        .await
        .map(drop)
    }
}

/// The next slots of a queue, by key, in microseconds.
struct Paces {
    whole: Option<Pace>,
    by_key: Option<Pace>,
    next: HashMap<String, i64>,
    changed: BTreeSet<String>,
}

impl Paces {
    fn next_of(&self, key: &str) -> i64 {
        self.next.get(key).copied().unwrap_or_default()
    }

    fn verdict(&mut self, key: Option<String>, slot: Option<Timestamp>, at: Timestamp) -> Verdict {
        if slot.is_some_and(|slot| at <= slot + GOOD) {
            return Verdict::Begins;
        }
        let (now, mut begins) = (micros(at), micros(at));
        let horizon = i64::try_from(HORIZON.as_micros()).unwrap_or(i64::MAX);
        if let Some(pace) = self.whole {
            begins = begins.max(self.next_of("") - pace.tolerance);
            if begins > now + horizon {
                return Verdict::Closed(Timestamp::from_millis((begins - horizon) / 1_000));
            }
        }
        if let (Some(key), Some(pace)) = (&key, self.by_key) {
            begins = begins.max(self.next_of(key) - pace.tolerance);
        }
        let whole = self.whole.map(|pace| (String::new(), pace));
        for (key, pace) in whole.into_iter().chain(key.zip(self.by_key)) {
            let next = self.next_of(&key).max(now).saturating_add(pace.interval);
            self.changed.insert(key.clone());
            self.next.insert(key, next);
        }
        // Rounded up, so that none begins before its slot.
        if begins > now {
            Verdict::Waits(Timestamp::from_millis((begins + 999) / 1_000))
        } else {
            Verdict::Begins
        }
    }
}

fn micros(at: Timestamp) -> i64 {
    at.as_millis().saturating_mul(1_000)
}
