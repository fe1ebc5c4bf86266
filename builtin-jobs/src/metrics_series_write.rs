//! Adding points to the file, and taking away what is old or too much.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use scheduler_core::{Result, Timestamp};
use serde_json::json;
use sqlx::{Connection, SqliteConnection};

use crate::metrics_sample::{Kind, Sample};
use crate::metrics_series::{STEP, SeriesFile};

/// How many points are written by one statement.
const BATCH: usize = 1_000;

/// How many series are looked at by one statement.
const SERIES: usize = 500;

/// How many pages are given back to the disk at once.
const PAGES: i64 = 1_000;

/// How many times what is too old for the room is looked for in one run; the next one goes on.
const ROUNDS: u32 = 32;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Keep {
    /// How old a point gets.
    pub(crate) age: Duration,
    /// How long each point is kept by itself.
    pub(crate) full: Duration,
    /// How large the file gets.
    pub(crate) bytes: u64,
}

/// What one source found, and how many series it may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    pub(crate) source: &'a str,
    pub(crate) samples: &'a [Sample],
    pub(crate) most: usize,
}

/// What was written.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Written {
    /// Of each source, which of its samples are kept.
    pub(crate) kept: Vec<Vec<bool>>,
    /// Points and summaries that were taken away because they are too old, or there are too many.
    pub(crate) removed: u64,
    pub(crate) file_bytes: u64,
}

/// Writes what was found as points of now, all or none of them; then takes away what is not to be kept.
///
/// # Errors
/// Those of opening the file and of writing it. What was there is as it was then.
pub(crate) async fn write(path: &Path, found: &[Found<'_>], now: Timestamp, keep: &Keep) -> Result<Written> {
    let mut file = SeriesFile::create(path).await?;
    let added = add(&mut file.connection, found, now).await;
    let kept = added.map_err(|error| file.failed(error))?;
    let tidied = tidy(&mut file.connection, now, keep).await;
    let (removed, file_bytes) = tidied.map_err(|error| file.failed(error))?;
    let path = file.path.clone();
    file.connection.close().await.map_err(|error| crate::metrics_series::failed(error, &path))?;
    Ok(Written { kept, removed, file_bytes })
}

async fn add(
    connection: &mut SqliteConnection,
    found: &[Found<'_>],
    now: Timestamp,
) -> sqlx::Result<Vec<Vec<bool>>> {
    let mut change = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut kept = Vec::with_capacity(found.len());
    for found in found {
        let ids = known(&mut change, found.source).await?;
        let (mut points, mut taken) = (Vec::new(), Vec::with_capacity(found.samples.len()));
        let mut count = ids.len();
        let mut ids = ids;
        for sample in found.samples {
            let key = (sample.name.clone(), sample.label_text());
            let id = match ids.get(&key) {
                Some(id) => Some(*id),
                None if count < found.most => {
                    count += 1;
                    let id = new_series(&mut change, found.source, sample, &key.1, now).await?;
                    ids.insert(key, id);
                    Some(id)
                }
                None => None,
            };
            taken.push(id.is_some());
            points.extend(id.map(|id| (id, sample.value)));
        }
        for batch in points.chunks(BATCH) {
            let points = json!(batch).to_string();
            sqlx::query(
                "INSERT OR REPLACE INTO point SELECT value ->> 0, ?2, CAST(value ->> 1 AS REAL) FROM json_each(?1)",
            )
            .bind(&points)
            .bind(now.as_millis())
            .execute(&mut *change)
            .await?;
            sqlx::query("UPDATE series SET seen = ?2 WHERE id IN (SELECT value ->> 0 FROM json_each(?1))")
                .bind(&points)
                .bind(now.as_millis())
                .execute(&mut *change)
                .await?;
        }
        kept.push(taken);
    }
    change.commit().await?;
    Ok(kept)
}

/// The series of a source; there are no more than it may have.
async fn known(
    connection: &mut SqliteConnection,
    source: &str,
) -> sqlx::Result<HashMap<(String, String), i64>> {
    let rows: Vec<(i64, String, String)> =
        sqlx::query_as("SELECT id, name, labels FROM series WHERE source = ?")
            .bind(source)
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().map(|(id, name, labels)| ((name, labels), id)).collect())
}

async fn new_series(
    connection: &mut SqliteConnection,
    source: &str,
    sample: &Sample,
    labels: &str,
    now: Timestamp,
) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "INSERT INTO series (source, name, labels, counter, seen) VALUES (?, ?, ?, ?, ?) RETURNING id",
    )
    .bind(source)
    .bind(&sample.name)
    .bind(labels)
    .bind(i64::from(sample.kind == Kind::Counter))
    .bind(now.as_millis())
    .fetch_one(connection)
    .await
}

/// Sums up what is older than is kept by itself, and takes away what is too old or too much; answers how much, and
/// how large the file is.
async fn tidy(connection: &mut SqliteConnection, now: Timestamp, keep: &Keep) -> sqlx::Result<(u64, u64)> {
    let ago =
        |age: Duration| now.as_millis().saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let ids: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM series ORDER BY id").fetch_all(&mut *connection).await?;
    let mut removed = 0;
    // Some series at a time, so that nobody waits long.
    for some in ids.chunks(SERIES) {
        sum_up(connection, some, ago(keep.full).div_euclid(STEP) * STEP).await?;
        removed += remove(connection, some, ago(keep.age)).await?;
    }
    forget_series(connection, ago(keep.age)).await?;
    for _ in 0..ROUNDS {
        if used(connection).await? <= keep.bytes {
            break;
        }
        let Some(first) = oldest(connection).await? else { break };
        let until = first + ((now.as_millis() - first) / 16).max(1);
        for some in ids.chunks(SERIES) {
            removed += remove(connection, some, until).await?;
        }
        forget_series(connection, until).await?;
    }
    let shrink = format!("PRAGMA incremental_vacuum({PAGES})");
    sqlx::raw_sql(sqlx::AssertSqlSafe(shrink)).execute(&mut *connection).await?;
    let size: i64 =
        sqlx::query_scalar("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
            .fetch_one(connection)
            .await?;
    Ok((removed, size.unsigned_abs()))
}

/// The first and the last of series.
fn ends(series: &[i64]) -> (i64, i64) {
    (series.first().copied().unwrap_or(0), series.last().copied().unwrap_or(-1))
}

async fn sum_up(connection: &mut SqliteConnection, series: &[i64], until: i64) -> sqlx::Result<()> {
    let (first, last) = ends(series);
    let mut change = connection.begin_with("BEGIN IMMEDIATE").await?;
    // What a clock that was set back brings into ten minutes that are summed up is added to them.
    let summed = sqlx::query(
        "INSERT INTO summary \
         SELECT found.series, begun, found.count, low, high, total, point.value FROM \
         (SELECT old.series, old.at - old.at % ?4 AS begun, count(*) AS count, min(old.value) AS low, \
          max(old.value) AS high, sum(old.value) AS total, max(old.at) AS final \
          FROM series CROSS JOIN point AS old ON old.series = id AND old.at < ?3 \
          WHERE id BETWEEN ?1 AND ?2 GROUP BY old.series, begun) AS found \
         JOIN point ON point.series = found.series AND point.at = final WHERE true \
         ON CONFLICT DO UPDATE SET count = count + excluded.count, low = min(low, excluded.low), \
         high = max(high, excluded.high), total = total + excluded.total, last = excluded.last",
    );
    let summed = summed.bind(first).bind(last).bind(until).bind(STEP).execute(&mut *change).await?;
    if summed.rows_affected() == 0 {
        return change.rollback().await;
    }
    sqlx::query(REMOVE_POINTS).bind(first).bind(last).bind(until).execute(&mut *change).await?;
    change.commit().await
}

/// Of each series its oldest, found by their place and not by looking at all.
const REMOVE_POINTS: &str = "DELETE FROM point WHERE (series, at) IN (SELECT old.series, old.at FROM series \
     CROSS JOIN point AS old ON old.series = id AND old.at < ?3 WHERE id BETWEEN ?1 AND ?2)";
const REMOVE_SUMMARIES: &str = "DELETE FROM summary WHERE (series, at) IN (SELECT old.series, old.at FROM series \
     CROSS JOIN summary AS old ON old.series = id AND old.at < ?3 WHERE id BETWEEN ?1 AND ?2)";

async fn remove(connection: &mut SqliteConnection, series: &[i64], until: i64) -> sqlx::Result<u64> {
    let (first, last) = ends(series);
    let mut removed = 0;
    for delete in [REMOVE_POINTS, REMOVE_SUMMARIES] {
        let gone = sqlx::query(delete).bind(first).bind(last).bind(until);
        removed += gone.execute(&mut *connection).await?.rows_affected();
    }
    Ok(removed)
}

/// Forgets series that were not seen since, so that others may come in their place.
async fn forget_series(connection: &mut SqliteConnection, until: i64) -> sqlx::Result<()> {
    sqlx::query(
        "DELETE FROM series WHERE seen < ? AND NOT EXISTS (SELECT 1 FROM point WHERE series = id) \
         AND NOT EXISTS (SELECT 1 FROM summary WHERE series = id)",
    )
    .bind(until)
    .execute(connection)
    .await
    .map(drop)
}

/// How many bytes of the file are in use.
async fn used(connection: &mut SqliteConnection) -> sqlx::Result<u64> {
    let used: i64 = sqlx::query_scalar(
        "SELECT (page_count - freelist_count) * page_size \
         FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
    )
    .fetch_one(connection)
    .await?;
    Ok(used.unsigned_abs())
}

/// When the oldest that is kept was.
async fn oldest(connection: &mut SqliteConnection) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar(
        "SELECT min(first) FROM (\
         SELECT (SELECT min(at) FROM point WHERE series = id) AS first FROM series UNION ALL \
         SELECT (SELECT min(at) FROM summary WHERE series = id) FROM series)",
    )
    .fetch_one(connection)
    .await
}
