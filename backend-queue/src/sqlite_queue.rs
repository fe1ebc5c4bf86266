//! The queues of the SQLite store: what is taken from each, which are paused, and how they stand.

use std::collections::BTreeMap;

use scheduler_core::{Name, Pause, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::sqlite_change::Change;
use crate::sqlite_clock::now;
use crate::sqlite_ready::{ReadyRun, longest, told};
use crate::sqlite_row::{columns, lossy};
use crate::store::{Claim, DEFAULT_QUEUE, QueueState, Share, called};

/// How far runs that wait are counted, and how many of those in lines are looked at for the oldest.
const COUNTED: i64 = 100_000;
const LOOKED_AT: i64 = 10_000;

/// Whether the pause in a row of `queue` holds, at the time in the second argument.
macro_rules! holds {
    () => {
        "namespace = ?1 AND paused IS NOT NULL AND (until IS NULL OR until > ?2)"
    };
}

/// What of a queue is ready, but for a queue that is paused.
///
/// A limit that is an argument by itself makes SQLite prepare the statement anew each time; a sum does not.
macro_rules! ready {
    () => {
        concat!(
            " FROM run WHERE namespace = ?1 AND queue IS ?4 AND state = 3 AND NOT EXISTS \
             (SELECT 1 FROM queue WHERE name = ?3 AND ",
            holds!(),
            ") ORDER BY priority DESC, due, seq LIMIT ?5 + 0 OFFSET ?6 + 0"
        )
    };
}

/// What a claim found.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    pub(crate) runs: Vec<ReadyRun>,
    pub(crate) has_more: bool,
    pub(crate) paused: Vec<Option<Name>>,
    /// When a queue is to be looked at again that lets nothing begin before that.
    pub(crate) opens_at: Option<Timestamp>,
}

impl Ready {
    /// A queue is to be looked at again then at the latest.
    fn wait(&mut self, until: Option<Timestamp>) {
        self.opens_at = [self.opens_at, until].into_iter().flatten().min();
    }
}

/// What was taken from one queue.
struct Found {
    taken: usize,
    has_more: bool,
}

impl Found {
    /// Whether nothing was found there, as far as was looked.
    fn is_empty(&self) -> bool {
        self.taken == 0 && !self.has_more
    }
}

impl Change<'_> {
    /// The runs that are to be taken: of each queue its share, and then what the others leave of theirs.
    pub(crate) async fn ready(&mut self, claim: &Claim) -> sqlx::Result<Ready> {
        let limit = claim.limit as usize;
        let whole = [Share { queue: None, count: claim.limit, limits: None }];
        let shares = if claim.from.is_empty() { &whole } else { claim.from.as_slice() };
        let (mut ready, mut rich, mut is_any_empty) = (Ready::default(), Vec::new(), false);
        for share in shares {
            let (is_closed, until) = self.release_lines(share).await?;
            ready.wait(until);
            if is_closed {
                continue;
            }
            let count = (share.count as usize).min(limit - ready.runs.len());
            let found = self.begin_in(share, count, 0, &mut ready).await?;
            is_any_empty |= found.is_empty();
            if found.has_more {
                rich.push((share, found.taken));
            }
        }
        for (share, taken) in rich {
            let left = limit - ready.runs.len();
            let has_more = left == 0 || self.begin_in(share, left, taken, &mut ready).await?.has_more;
            ready.has_more |= has_more;
        }
        // A queue from which something was taken is not paused.
        if is_any_empty {
            let paused = self.paused_queues().await?;
            let is_paused = |share: &&Share| paused.iter().any(|name| name == called(share.queue.as_ref()));
            ready.paused = shares.iter().filter(is_paused).map(|share| share.queue.clone()).collect();
        }
        Ok(ready)
    }

    /// Takes so many runs of a queue, behind those that were taken already.
    async fn begin_in(
        &mut self,
        share: &Share,
        count: usize,
        behind: usize,
        ready: &mut Ready,
    ) -> sqlx::Result<Found> {
        let (mut runs, has_more);
        if let Some(limits) = &share.limits {
            let admitted = self.admit(share, limits, count, behind).await?;
            runs = admitted.rows.iter().map(|row| ReadyRun::of(row, &self.store.backend)).collect();
            has_more = admitted.has_more;
            ready.wait(admitted.opens_at);
        } else {
            runs = self.first_in(share.queue.as_ref(), count + 1, behind).await?;
            has_more = runs.len() > count;
            runs.truncate(count);
        }
        let taken = runs.len();
        ready.runs.extend(runs);
        Ok(Found { taken, has_more })
    }

    /// The runs of a queue that are ready, in the order in which they are taken.
    async fn first_in(
        &mut self,
        queue: Option<&Name>,
        count: usize,
        behind: usize,
    ) -> sqlx::Result<Vec<ReadyRun>> {
        let told = sqlx::query_scalar(concat!(
            "SELECT json_group_array(",
            told!(),
            ") FROM (SELECT *",
            ready!(),
            ")"
        ));
        let told: sqlx::Result<String> = told
            .bind(self.namespace())
            .bind(now().as_millis())
            .bind(called(queue))
            .bind(queue.map(Name::as_str))
            .bind(i64::try_from(count).unwrap_or(i64::MAX))
            .bind(i64::try_from(behind).unwrap_or(i64::MAX))
            .fetch_one(&mut self.connection)
            .await;
        if let Ok(text) = told
            && let Some(runs) = crate::sqlite_ready::runs(&text, &self.store.backend)
        {
            return Ok(runs);
        }
        let rows = self.ready_in(queue, count, behind).await?;
        Ok(rows.iter().map(|row| ReadyRun::of(row, &self.store.backend)).collect())
    }

    pub(crate) async fn ready_in(
        &mut self,
        queue: Option<&Name>,
        count: usize,
        behind: usize,
    ) -> sqlx::Result<Vec<SqliteRow>> {
        sqlx::query(concat!("SELECT slot, ", columns!(), ready!()))
            .bind(self.namespace())
            .bind(now().as_millis())
            .bind(called(queue))
            .bind(queue.map(Name::as_str))
            .bind(i64::try_from(count).unwrap_or(i64::MAX))
            .bind(i64::try_from(behind).unwrap_or(i64::MAX))
            .fetch_all(&mut self.connection)
            .await
    }

    async fn paused_queues(&mut self) -> sqlx::Result<Vec<String>> {
        sqlx::query_scalar(concat!("SELECT name FROM queue WHERE ", holds!()))
            .bind(self.namespace())
            .bind(now().as_millis())
            .fetch_all(&mut self.connection)
            .await
    }

    /// As [`Store::pause_queue`](crate::store::Store::pause_queue).
    pub(crate) async fn pause_queue(
        &mut self,
        queue: Option<&Name>,
        pause: Option<&Pause>,
    ) -> sqlx::Result<bool> {
        let before: i64 =
            sqlx::query_scalar(concat!("SELECT count(*) FROM queue WHERE name = ?3 AND ", holds!()))
                .bind(self.namespace())
                .bind(now().as_millis())
                .bind(called(queue))
                .fetch_one(&mut self.connection)
                .await?;
        let written = match pause {
            None => sqlx::query("DELETE FROM queue WHERE namespace = ?1 AND name = ?2"),
            Some(_) => sqlx::query(
                "INSERT INTO queue (namespace, name, paused, until) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (namespace, name) DO UPDATE SET paused = excluded.paused, until = excluded.until",
            ),
        };
        let mut written = written.bind(self.namespace()).bind(called(queue));
        if let Some(pause) = pause {
            written = written.bind(serde_json::to_string(pause).unwrap_or_default());
            written = written.bind(pause.until.map(Timestamp::as_millis));
        }
        written.execute(&mut self.connection).await?;
        Ok(before > 0)
    }
}

/// As [`Store::queues`](crate::store::Store::queues).
pub(crate) async fn queues(
    namespace: &str,
    connection: &mut SqliteConnection,
) -> sqlx::Result<Vec<QueueState>> {
    let mut queues: BTreeMap<Option<Name>, QueueState> = BTreeMap::new();
    // Each step of the recursion finds the next name in the index, however many runs have it.
    let waiting = sqlx::query(
        "WITH RECURSIVE named (queue) AS (VALUES (NULL) UNION ALL SELECT (SELECT min(queue) FROM run \
         WHERE namespace = ?1 AND state = 3 AND queue > coalesce(named.queue, '')) AS next FROM named \
         WHERE next IS NOT NULL) \
         SELECT queue, (SELECT count(*) FROM (SELECT 1 FROM run WHERE namespace = ?1 AND state = 3 \
         AND run.queue IS named.queue LIMIT ?2)) AS count, \
         (SELECT min(due) FROM (SELECT (SELECT due FROM run WHERE namespace = ?1 AND state = 3 \
         AND run.queue IS named.queue AND priority = json_each.value ORDER BY due LIMIT 1) AS due \
         FROM json_each('[0,1,2,3,4,5,6,7,8,9]'))) AS due FROM named",
    )
    .bind(namespace)
    .bind(COUNTED)
    .fetch_all(&mut *connection)
    .await?;
    for row in waiting {
        if let Some(queue) = entry(&mut queues, &row) {
            queue.waiting = usize::try_from(row.try_get::<i64, _>("count")?).unwrap_or(0);
            queue.oldest = row.try_get::<Option<i64>, _>("due")?.map(Timestamp::from_millis);
        }
    }
    // As above, in the index of the lines.
    let in_lines = sqlx::query(
        "WITH RECURSIVE named (queue) AS (VALUES (NULL) UNION ALL SELECT (SELECT min(queue) FROM run \
         WHERE namespace = ?1 AND state = 2 AND line IS NOT NULL AND queue > coalesce(named.queue, '')) AS next \
         FROM named WHERE next IS NOT NULL) \
         SELECT queue, (SELECT count(*) FROM (SELECT 1 FROM run WHERE namespace = ?1 AND state = 2 \
         AND line IS NOT NULL AND run.queue IS named.queue LIMIT ?2)) AS count, \
         (SELECT min(fire_time) FROM (SELECT fire_time FROM run WHERE namespace = ?1 AND state = 2 \
         AND line IS NOT NULL AND run.queue IS named.queue LIMIT ?3)) AS first FROM named",
    )
    .bind(namespace)
    .bind(COUNTED)
    .bind(LOOKED_AT)
    .fetch_all(&mut *connection)
    .await?;
    for row in in_lines {
        let count = usize::try_from(row.try_get::<i64, _>("count")?).unwrap_or(0);
        let first: Option<i64> = row.try_get("first")?;
        if let Some(queue) = entry(&mut queues, &row) {
            queue.waiting += count;
            // Each goes on as old as it is.
            let first = first.map(|first| Timestamp::from_millis(first).min(now()));
            queue.oldest = [queue.oldest, first].into_iter().flatten().min();
        }
    }
    let running = sqlx::query(
        "SELECT queue, count(*) AS count FROM run WHERE namespace = ? AND state = 4 GROUP BY queue",
    )
    .bind(namespace)
    .fetch_all(&mut *connection)
    .await?;
    for row in running {
        if let Some(queue) = entry(&mut queues, &row) {
            queue.running = usize::try_from(row.try_get::<i64, _>("count")?).unwrap_or(0);
        }
    }
    let paused = sqlx::query(concat!("SELECT name AS queue, paused FROM queue WHERE ", holds!()))
        .bind(namespace)
        .bind(now().as_millis())
        .fetch_all(connection)
        .await?;
    for row in paused {
        if let Some(queue) = entry(&mut queues, &row) {
            // A pause that cannot be read is still one.
            queue.paused = lossy(&row, "paused").map(|text| serde_json::from_str(&text).unwrap_or_default());
        }
    }
    Ok(queues
        .into_values()
        .filter(|queue| queue.waiting + queue.running > 0 || queue.paused.is_some())
        .collect())
}

/// The queue of a row; nothing where its name is none.
fn entry<'a>(
    queues: &'a mut BTreeMap<Option<Name>, QueueState>,
    row: &SqliteRow,
) -> Option<&'a mut QueueState> {
    let name: Option<&str> = row.try_get("queue").ok()?;
    let name = name.filter(|name| *name != DEFAULT_QUEUE).map(Name::new).transpose().ok()?;
    Some(queues.entry(name.clone()).or_insert_with(|| QueueState::new(name)))
}
