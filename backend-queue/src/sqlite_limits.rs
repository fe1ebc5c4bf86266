//! The limits of queues in the SQLite store: which of the runs that are ready may begin, and when the others may.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Duration;

use scheduler_core::{Name, Timestamp};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::limits::{ByKey, IN_LINE, Limits, key_of};
use crate::sqlite_change::Change;
use crate::sqlite_clock::now;
use crate::sqlite_push::json;
use crate::sqlite_row::{columns, read};
use crate::store::{Share, called};

/// How many runs are looked at in one go beyond those that are wanted.
const LOOKED: usize = 100;
/// How many lines one step looks through, and how soon the next one looks at others where there are more.
const LINES: usize = 1_000;
const NEXT_LINES: Duration = Duration::from_millis(200);

/// What the limits of a queue let begin.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    pub(crate) rows: Vec<SqliteRow>,
    /// Whether others may begin as well.
    pub(crate) has_more: bool,
    /// When the queue is to be looked at again, which lets nothing begin before that.
    pub(crate) opens_at: Option<Timestamp>,
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
        // What waits is not read while nothing may begin: it may be much, and this is asked at every step.
        if count == 0 {
            let has_more = self.is_any_ready(queue, behind).await?;
            return Ok(Admitted { has_more, ..Admitted::default() });
        }
        let mut places = usize::MAX;
        if let Some(most) = limits.concurrency {
            places = (most as usize).saturating_sub(self.running_in(share).await? + behind);
            if places == 0 {
                return Ok(Admitted::default());
            }
        }
        let mut whole = None;
        if limits.pace.is_some() {
            let mut paces = self.paces(share, limits, std::iter::empty()).await?;
            let opens_at = paces.wait_for_whole(at);
            if opens_at.is_some() {
                // A slot is waited for only where something waits.
                if !self.is_any_ready(queue, behind).await? {
                    return Ok(Admitted::default());
                }
                self.note_paces(share, &paces, at).await?;
                return Ok(Admitted { opens_at, ..Admitted::default() });
            }
            whole = Some(paces);
        }
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
        if found.is_empty() {
            return Ok(admitted);
        }
        let keys: Vec<Option<String>> = found.iter().map(|row| self.key(row, limits)).collect();
        let has_pace_by_key = limits.per_key.as_ref().is_some_and(|by| by.pace.is_some());
        let mut paces = match whole {
            Some(whole) if !has_pace_by_key => whole,
            _ => self.paces(share, limits, keys.iter().flatten()).await?,
        };
        let mut in_line = Vec::new();
        for (row, key) in found.into_iter().zip(keys) {
            if admitted.rows.len() == count {
                admitted.has_more = true;
                break;
            }
            let opens_at = if places == 0 { None } else { paces.wait_for_whole(at) };
            if places == 0 || opens_at.is_some() {
                (admitted.has_more, admitted.opens_at) = (false, earlier(admitted.opens_at, opens_at));
                break;
            }
            let under_way = running.entry(key.clone().unwrap_or_default()).or_default();
            let is_full = most_by_key.is_some_and(|most| *under_way >= most);
            let slot = key.as_ref().filter(|_| !is_full).and_then(|key| paces.slot_of_key(key, at));
            if is_full || slot.is_some() {
                admitted.opens_at = earlier(admitted.opens_at, slot);
                in_line.push((row.try_get::<i64, _>("seq")?, key));
                continue;
            }
            // Whoever comes from its line has this.
            let waited: Option<i64> = row.try_get("slot").unwrap_or_default();
            paces.take(key.as_deref(), waited.is_some(), at);
            *under_way += 1;
            admitted.rows.push(row);
            places -= 1;
        }
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
        .bind(share.queue.as_ref().map(Name::as_str))
        .fetch_all(&mut self.connection)
        .await?;
        let mut running = HashMap::new();
        for row in &rows {
            *running.entry(self.key_by(row, param)).or_default() += 1;
        }
        Ok(running)
    }

    /// Lets as many runs of each key go on that wait in line as may begin, unless the queue is paused; says whether
    /// nothing more of the queue begins, and when it is to be looked at again.
    pub(crate) async fn release_lines(&mut self, share: &Share) -> sqlx::Result<(bool, Option<Timestamp>)> {
        let Some(limits) = share.limits.clone() else { return Ok((false, None)) };
        let Some(by) = &limits.per_key else { return Ok((false, None)) };
        let lines = self.lines(share).await?;
        if lines.is_empty() {
            return Ok((false, None));
        }
        let at = now();
        let mut opens_at = (lines.len() >= LINES).then(|| at + NEXT_LINES);
        let mut running = HashMap::new();
        if by.concurrency.is_some() {
            running = self.running_by_key(share, &by.param).await?;
        }
        let (mut is_full, mut is_closed) = (None, false);
        let mut paces = self.paces(share, &limits, lines.iter()).await?;
        for line in &lines {
            let mut free = places(by, running.get(line).copied());
            if let Some(slot) = paces.slot_of_key(line, at).filter(|_| free > 0) {
                opens_at = earlier(opens_at, Some(slot));
                continue;
            }
            free = free.min(paces.slots_of_key(line, at));
            if free == 0 {
                continue;
            }
            if is_full.is_none() {
                is_full = match limits.concurrency {
                    Some(most) => Some(self.running_in(share).await? >= most as usize),
                    None => Some(false),
                };
            }
            let wait = paces.wait_for_whole(at).filter(|_| is_full == Some(false));
            if is_full == Some(true) || wait.is_some() {
                (is_closed, opens_at) = (wait.is_some(), earlier(opens_at, wait));
                break;
            }
            self.release_line(share, line, free, at).await?;
        }
        self.note_paces(share, &paces, at).await?;
        Ok((is_closed, opens_at))
    }

    /// Lets the first of a line go on. Each is as old as it is, and behind nothing that came meanwhile.
    async fn release_line(
        &mut self,
        share: &Share,
        line: &str,
        count: usize,
        at: Timestamp,
    ) -> sqlx::Result<()> {
        sqlx::query(
            "UPDATE run SET state = 3, line = NULL, slot = ?4, due = min(?4, fire_time) WHERE seq IN \
             (SELECT seq FROM run WHERE namespace = ?1 AND queue IS ?2 AND state = 2 AND line = ?3 \
             AND line IS NOT NULL ORDER BY priority DESC, seq LIMIT ?5)",
        )
        .bind(self.namespace())
        .bind(share.queue.as_ref().map(Name::as_str))
        .bind(line)
        .bind(at.as_millis())
        .bind(i64::try_from(count).unwrap_or(i64::MAX))
        .execute(&mut self.connection)
        .await
        .map(drop)
    }

    /// The lines of a queue, those of a paused one left out: as many as one step looks through, behind those that the
    /// last step looked at, so that each has its turn.
    async fn lines(&mut self, share: &Share) -> sqlx::Result<Vec<String>> {
        let seen = self.store.looked_at.lock().unwrap_or_else(PoisonError::into_inner).remove(&share.queue);
        let mut lines = self.lines_behind(share, seen.as_deref().unwrap_or_default(), LINES).await?;
        if let Some(seen) = seen.filter(|_| lines.len() < LINES) {
            let first = self.lines_behind(share, "", LINES - lines.len()).await?;
            lines.extend(first.into_iter().take_while(|line| *line <= seen));
        }
        if let Some(last) = lines.last().filter(|_| lines.len() >= LINES) {
            let mut looked_at = self.store.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
            looked_at.insert(share.queue.clone(), last.clone());
        }
        Ok(lines)
    }

    async fn lines_behind(&mut self, share: &Share, seen: &str, count: usize) -> sqlx::Result<Vec<String>> {
        // Each step of the recursion finds the next line in the index, however many runs wait in it.
        let lines: Vec<Option<String>> = sqlx::query_scalar(
            "WITH RECURSIVE named (line) AS (VALUES (?6) UNION ALL SELECT (SELECT min(line) FROM run \
             WHERE namespace = ?1 AND queue IS ?2 AND state = 2 AND line IS NOT NULL AND line > named.line) AS next \
             FROM named WHERE next IS NOT NULL LIMIT ?3) SELECT line FROM named WHERE line <> ?6 AND NOT EXISTS \
             (SELECT 1 FROM queue WHERE namespace = ?1 AND name = ?4 AND paused IS NOT NULL \
             AND (until IS NULL OR until > ?5))",
        )
        .bind(self.namespace())
        .bind(share.queue.as_ref().map(Name::as_str))
        // The first is what was seen.
        .bind(i64::try_from(count).unwrap_or(i64::MAX - 1) + 1)
        .bind(called(share.queue.as_ref()))
        .bind(now().as_millis())
        .bind(seen)
        .fetch_all(&mut self.connection)
        .await?;
        Ok(lines.into_iter().flatten().collect())
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

    async fn is_any_ready(&mut self, queue: Option<&Name>, behind: usize) -> sqlx::Result<bool> {
        Ok(!self.ready_in(queue, 1, behind).await?.is_empty())
    }

    async fn running_in(&mut self, share: &Share) -> sqlx::Result<usize> {
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM run WHERE namespace = ? AND state = 4 AND queue IS ?")
                .bind(self.namespace())
                .bind(share.queue.as_ref().map(Name::as_str))
                .fetch_one(&mut self.connection)
                .await?;
        Ok(usize::try_from(count).unwrap_or(0))
    }
}

/// How many more of a key may be under way.
fn places(by: &ByKey, running: Option<usize>) -> usize {
    by.concurrency.map_or(usize::MAX, |most| (most as usize).saturating_sub(running.unwrap_or_default()))
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    [one, other].into_iter().flatten().min()
}
