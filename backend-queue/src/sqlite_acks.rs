//! How ends of attempts are written in the SQLite store, and what is said of those that come too late.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use scheduler_core::{Name, RunId, RunState, Timestamp};
use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteRow;

use crate::envelope;
use crate::sqlite_change::Change;
use crate::sqlite_clock::now;
use crate::sqlite_push::{BATCH, batches, ids, json};
use crate::sqlite_row::{FAILED, READY, RETRYING, SNOOZED, lossy, stored, text};
use crate::store::{Ack, Next, Stepped};

/// Writes the ends of distinct runs whose delivery it still is, unless they shall be cancelled and get another attempt;
/// answers of which.
const SOME: &str = "UPDATE run SET state = ack.value ->> 2, died = CASE ack.value ->> 2 WHEN 11 THEN ?2 END, \
     due = coalesce(ack.value ->> 3, due), attempt = ack.value ->> 4, lease_until = 0, \
     finished = ack.value ->> 5, envelope = ack.value ->> 6 FROM json_each(?1) AS ack \
     WHERE run.id = ack.value ->> 0 AND run.fence = ack.value ->> 1 AND run.state = 4 \
     AND (run.cancel IS NULL OR ack.value ->> 2 >= 10) RETURNING id";

/// For how many rows there is a statement that does the same and only counts. Values that are bound cost it half of what
/// values in a text of JSON do; where there are fewer rows, the others match nothing.
const SIZES: [usize; 5] = [1, 8, 32, 128, BATCH];

static STATEMENTS: LazyLock<Vec<(usize, Arc<str>)>> =
    LazyLock::new(|| SIZES.iter().map(|rows| (*rows, Arc::from(statement(*rows)))).collect());

fn statement(rows: usize) -> String {
    let values = vec!["(?, ?, ?, ?, ?, ?, ?, ?)"; rows].join(", ");
    format!(
        "WITH ack (id, fence, state, due, attempt, finished, envelope, died) AS (VALUES {values}) \
         UPDATE run SET state = ack.state, died = ack.died, due = coalesce(ack.due, run.due), \
         attempt = ack.attempt, lease_until = 0, finished = ack.finished, envelope = ack.envelope FROM ack \
         WHERE run.id = ack.id AND run.fence = ack.fence AND run.state = 4 \
         AND (run.cancel IS NULL OR ack.state >= 10)"
    )
}

fn statement_for(rows: usize) -> Arc<str> {
    let fits = STATEMENTS.iter().find(|(size, _)| *size >= rows);
    fits.map_or_else(|| Arc::from(statement(rows)), |(_, text)| Arc::clone(text))
}

impl Change<'_> {
    /// Writes the ends of attempts; answers the tasks of the runs that ended by it.
    pub(crate) async fn acknowledge_all(
        &mut self,
        acks: &[Ack],
        answer: &mut Stepped,
    ) -> sqlx::Result<BTreeSet<Name>> {
        let at = now();
        let (mut seen, mut is_refused) = (HashSet::new(), vec![true; acks.len()]);
        // Of two for one delivery the first one counts.
        let firsts = acks.iter().enumerate().filter(|(_, ack)| seen.insert((ack.run.id, ack.fence)));
        let (indexes, rows): (Vec<_>, Vec<_>) = firsts.map(|(index, ack)| (index, row(ack, at))).unzip();
        if self.acknowledge_each(&rows, at).await? {
            indexes.iter().for_each(|index| is_refused[*index] = false);
        } else {
            // Which one it was is told of each, and that is only asked when one was.
            self.restart().await?;
            self.acknowledge_some(&rows, &indexes, (&mut is_refused, answer), at).await?;
        }
        let (mut ended, mut finished) = (BTreeSet::new(), BTreeMap::new());
        for (index, ack) in acks.iter().enumerate() {
            if is_refused[index] {
                answer.refused.push(index);
            } else if ack.next == Next::End {
                if !ended.contains(&ack.run.task) {
                    ended.insert(ack.run.task.clone());
                }
                if let Some(at) = ack.run.finished_at.filter(|_| ack.is_followed) {
                    let latest: &mut Timestamp = finished.entry(ack.run.task.clone()).or_insert(at);
                    *latest = at.max(*latest);
                }
            }
        }
        for (task, at) in finished {
            self.note_finish(&task, at).await?;
        }
        Ok(ended)
    }

    /// Writes the ends of distinct deliveries; says whether every one of them still was one.
    async fn acknowledge_each(&mut self, rows: &[Row], at: Timestamp) -> sqlx::Result<bool> {
        for batch in batches(rows, |row| (row.0, row.6.len())) {
            let mut statement = sqlx::query(AssertSqlSafe(statement_for(batch.len())));
            for (id, fence, state, due, attempt, finished, envelope) in batch {
                let died = (*state == FAILED).then(|| at.as_millis());
                statement = statement.bind(id.to_string()).bind(fence).bind(state).bind(due).bind(attempt);
                statement = statement.bind(finished).bind(envelope).bind(died);
            }
            let written = statement.execute(&mut self.connection).await?;
            if written.rows_affected() != batch.len() as u64 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes the ends of those of distinct deliveries that still are ones and that do not get another attempt although
    /// they shall be cancelled.
    async fn acknowledge_some(
        &mut self,
        rows: &[Row],
        indexes: &[usize],
        (is_refused, answer): (&mut [bool], &mut Stepped),
        at: Timestamp,
    ) -> sqlx::Result<()> {
        let mut indexes = indexes.iter();
        for batch in batches(rows, |row| (row.0, row.6.len())) {
            let written = sqlx::query(SOME)
                .bind(json(&batch)?)
                .bind(at.as_millis())
                .fetch_all(&mut self.connection)
                .await?;
            let (taken, mut reasons) = (ids(&written)?, self.reasons(batch).await?);
            for (row, index) in batch.iter().zip(&mut indexes) {
                let reason = reasons.remove(&row.0);
                is_refused[*index] = reason.is_none() && !taken.contains(&row.0);
                answer.marked.extend(reason.map(|reason| (*index, reason)));
            }
        }
        Ok(())
    }

    /// Why runs shall be cancelled, of deliveries whose end was not written because of it.
    async fn reasons(&mut self, rows: &[Row]) -> sqlx::Result<HashMap<RunId, String>> {
        let marked = sqlx::query(
            "SELECT run.id, run.cancel FROM json_each(?1) AS ack JOIN run ON run.id = ack.value ->> 0 \
             WHERE run.fence = ack.value ->> 1 AND run.state = 4 AND run.cancel IS NOT NULL \
             AND ack.value ->> 2 < 10",
        )
        .bind(json(&rows.iter().map(|row| (row.0, row.1, row.2)).collect::<Vec<_>>())?)
        .fetch_all(&mut self.connection)
        .await?;
        let reason = |row: &SqliteRow| Some((text(row, "id").ok()?.parse().ok()?, lossy(row, "cancel")?));
        Ok(marked.iter().filter_map(reason).collect())
    }
}

type Row = (RunId, i64, i64, Option<i64>, u32, Option<i64>, String);

fn row(Ack { run, fence, next, .. }: &Ack, at: Timestamp) -> Row {
    let (state, due, finished) = match next {
        Next::End => (stored(run.state), None, Some(run.finished_at.unwrap_or(at).as_millis())),
        Next::Again(wait) => {
            let state = if run.state == RunState::Retrying { RETRYING } else { SNOOZED };
            (state, Some((at + *wait).as_millis()), None)
        }
        Next::Back => (READY, None, None),
    };
    let fence = i64::try_from(*fence).unwrap_or(i64::MAX);
    (run.id, fence, state, due, run.attempt, finished, envelope::seal(run))
}
