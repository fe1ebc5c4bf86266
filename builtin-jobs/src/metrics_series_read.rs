//! Looking into the file.

use scheduler_core::{Result, Timestamp};

use crate::metrics_series::{Point, STEP, Series, SeriesFile};
use crate::wildcard;

/// Id, name, labels, source and whether it counts up.
type SeriesRow = (i64, String, String, String, bool);

/// When, the last number, how many, the lowest, the highest and their sum.
type PointRow = (i64, f64, i64, f64, f64, f64);

impl SeriesFile {
    /// The series whose name, with or without its labels, is like this pattern, in which `*` stands for anything;
    /// by name.
    ///
    /// # Errors
    /// Those of SQLite.
    pub async fn series(&mut self, pattern: &str) -> Result<Vec<Series>> {
        let rows: sqlx::Result<Vec<SeriesRow>> = sqlx::query_as(
            "SELECT id, name, labels, source, counter <> 0 FROM series ORDER BY name, labels, source",
        )
        .fetch_all(&mut self.connection)
        .await;
        let rows = rows.map_err(|error| self.failed(error))?;
        let all = rows.into_iter().map(|(id, name, labels, source, is_counter)| Series {
            name,
            labels,
            source,
            is_counter,
            id,
        });
        let is_like = |text: &str| wildcard::is_like(pattern.as_bytes(), text.as_bytes());
        Ok(all.filter(|series| is_like(&series.name) || is_like(&series.full_name())).collect())
    }

    /// The points of a series from `since` on, oldest first.
    ///
    /// # Errors
    /// Those of SQLite.
    pub async fn points(&mut self, series: &Series, since: Timestamp) -> Result<Vec<Point>> {
        let rows: sqlx::Result<Vec<PointRow>> = sqlx::query_as(
            "SELECT at, last, count, low, high, total FROM summary WHERE series = ?1 AND at > ?2 - ?3 \
             UNION ALL SELECT at, value, 1, value, value, value FROM point WHERE series = ?1 AND at >= ?2 \
             ORDER BY at",
        )
        .bind(series.id)
        .bind(since.as_millis())
        .bind(STEP)
        .fetch_all(&mut self.connection)
        .await;
        let rows = rows.map_err(|error| self.failed(error))?;
        let point = |(at, value, count, min, max, total): PointRow| {
            #[expect(clippy::cast_precision_loss, reason = "ten minutes hold few points")]
            let avg = total / count.max(1) as f64;
            Point { at: Timestamp::from_millis(at), value, count: count.unsigned_abs(), min, max, avg }
        };
        Ok(rows.into_iter().map(point).collect())
    }

    /// The last point of a series.
    ///
    /// # Errors
    /// Those of SQLite.
    pub async fn last(&mut self, series: &Series) -> Result<Option<(Timestamp, f64)>> {
        let row: sqlx::Result<Option<(i64, f64)>> = sqlx::query_as(
            "SELECT at, value FROM (SELECT at, value FROM point WHERE series = ?1 UNION ALL \
             SELECT at, last FROM summary WHERE series = ?1) ORDER BY at DESC LIMIT 1",
        )
        .bind(series.id)
        .fetch_optional(&mut self.connection)
        .await;
        let row = row.map_err(|error| self.failed(error))?;
        Ok(row.map(|(at, value)| (Timestamp::from_millis(at), value)))
    }
}
