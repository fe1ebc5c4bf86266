//! The rates of queues in the SQLite store: from when on the next run may begin, as a whole and by key.

use std::collections::{BTreeSet, HashMap};

use scheduler_core::Timestamp;
use sqlx::Row;

use crate::limits::{GOOD, Limits, Pace};
use crate::sqlite_change::Change;
use crate::sqlite_push::json;
use crate::store::{Share, called};

/// Under what it is kept for which slot of a queue as a whole something waits. A key begins with a `=`, and the queue as
/// a whole is kept under none.
const AWAITED: &str = "!";
const WHOLE: &str = "";

/// From when on the next may begin, by key, in microseconds.
#[derive(Debug)]
pub(crate) struct Paces {
    whole: Option<Pace>,
    by_key: Option<Pace>,
    next: HashMap<String, i64>,
    changed: BTreeSet<String>,
    /// Whether something waits for the next slot of the whole.
    is_awaited: bool,
}

impl Change<'_> {
    /// Those of a queue as a whole and of some keys.
    pub(crate) async fn paces(
        &mut self,
        share: &Share,
        limits: &Limits,
        keys: impl Iterator<Item = &String>,
    ) -> sqlx::Result<Paces> {
        let by_key = limits.per_key.as_ref().and_then(|by| by.pace);
        let mut paces = Paces {
            whole: limits.pace,
            by_key,
            next: HashMap::new(),
            changed: BTreeSet::new(),
            is_awaited: false,
        };
        if limits.pace.is_none() && by_key.is_none() {
            return Ok(paces);
        }
        let keys: BTreeSet<&str> = keys.map(String::as_str).chain([WHOLE, AWAITED]).collect();
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
        let next = paces.next.get(WHOLE);
        paces.is_awaited = next.is_some() && next == paces.next.get(AWAITED);
        Ok(paces)
    }

    /// Keeps what has changed; what is long over says nothing.
    pub(crate) async fn note_paces(
        &mut self,
        share: &Share,
        paces: &Paces,
        at: Timestamp,
    ) -> sqlx::Result<()> {
        if paces.changed.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "DELETE FROM pace WHERE namespace = ?1 AND queue = ?2 AND key IN (SELECT key FROM pace \
             WHERE namespace = ?1 AND queue = ?2 AND next < ?3 ORDER BY next LIMIT 1000)",
        )
        .bind(self.namespace())
        .bind(called(share.queue.as_ref()))
        .bind(micros(at - GOOD))
        .execute(&mut self.connection)
        .await?;
        let rows: Vec<_> = paces.changed.iter().map(|key| (key, paces.next.get(key))).collect();
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

impl Paces {
    fn set(&mut self, key: &str, next: i64) {
        if self.next.insert(key.to_owned(), next) != Some(next) {
            self.changed.insert(key.to_owned());
        }
    }

    /// From when on the next may begin. A time further ahead than the rate can have come is from a clock that was set
    /// back, or from another rate.
    fn next_of(&mut self, key: &str, pace: Pace, at: Timestamp) -> i64 {
        let next = self.next.get(key).copied().unwrap_or_default();
        let latest = micros(at).saturating_add(pace.tolerance).saturating_add(pace.interval);
        if next > latest {
            self.set(key, latest);
        }
        next.min(latest)
    }

    /// The slot of whoever comes next, if it has not come. Rounded up, so that none begins before its slot.
    fn slot(&mut self, key: &str, pace: Pace, at: Timestamp) -> Option<Timestamp> {
        let slot = self.next_of(key, pace, at).saturating_sub(pace.tolerance);
        (slot > micros(at)).then(|| Timestamp::from_millis(slot.saturating_add(999) / 1_000))
    }

    /// That of a queue as a whole; it is noted that somebody waits for it.
    pub(crate) fn wait_for_whole(&mut self, at: Timestamp) -> Option<Timestamp> {
        let pace = self.whole?;
        let slot = self.slot(WHOLE, pace, at)?;
        let next = self.next_of(WHOLE, pace, at);
        self.set(AWAITED, next);
        Some(slot)
    }

    pub(crate) fn slot_of_key(&mut self, key: &str, at: Timestamp) -> Option<Timestamp> {
        let pace = self.by_key?;
        self.slot(key, pace, at)
    }

    /// How many slots of a key have come for those that wait for them.
    pub(crate) fn slots_of_key(&mut self, key: &str, at: Timestamp) -> usize {
        let Some(pace) = self.by_key else { return usize::MAX };
        let first = first_of(self.next_of(key, pace, at), true, at);
        let slots =
            micros(at).saturating_add(pace.tolerance).saturating_sub(first).div_euclid(pace.interval) + 1;
        usize::try_from(slots).unwrap_or(0)
    }

    /// A run begins. A slot of the whole queue is taken by one whose own has come, so none is taken in vain.
    pub(crate) fn take(&mut self, key: Option<&str>, has_waited: bool, at: Timestamp) {
        let whole = self.whole.map(|pace| (WHOLE, pace, self.is_awaited));
        let by_key = key.zip(self.by_key).map(|(key, pace)| (key, pace, has_waited));
        for (key, pace, has_waited) in whole.into_iter().chain(by_key) {
            let first = first_of(self.next_of(key, pace, at), has_waited, at);
            self.set(key, first.saturating_add(pace.interval));
        }
    }
}

/// From when on a slot counts that is taken now: who waited for it has it also a little later, so that lateness does not
/// add up.
fn first_of(next: i64, has_waited: bool, at: Timestamp) -> i64 {
    if has_waited && next >= micros(at - GOOD) { next } else { next.max(micros(at)) }
}

fn micros(at: Timestamp) -> i64 {
    at.as_millis().saturating_mul(1_000)
}
