//! How much there is to do in the SQLite store, counted in its indexes.

use scheduler_core::{Load, Timestamp};
use sqlx::SqliteConnection;

use crate::sqlite_clock::now;

/// What lives is counted in an index alone, however much it is. What is due and has not been made ready is little, and
/// retention bounds the dead letters. What is ready lies by queue in the order of priorities, so the oldest is looked for in
/// each priority of each queue.
const LOAD: &str = "SELECT live, under_way, delayed, overdue, letters, first_overdue, \
    (WITH RECURSIVE named (queue) AS (VALUES (NULL) UNION ALL SELECT (SELECT min(queue) FROM run \
     WHERE namespace = ?1 AND state = 3 AND queue > coalesce(named.queue, '')) AS next FROM named \
     WHERE next IS NOT NULL) SELECT min((SELECT due FROM run WHERE namespace = ?1 AND state = 3 \
     AND run.queue IS named.queue AND priority = level.value ORDER BY due LIMIT 1)) \
     FROM named, json_each('[0,1,2,3,4,5,6,7,8,9]') AS level) \
    FROM (SELECT count(*) AS live, coalesce(sum(state = 4), 0) AS under_way, coalesce(sum(state < 3), 0) AS delayed \
     FROM run INDEXED BY run_live WHERE namespace = ?1 AND state < 10), \
    (SELECT count(*) AS overdue, min(due) AS first_overdue FROM run \
     WHERE namespace = ?1 AND state < 3 AND due <= ?2), \
    (SELECT count(*) AS letters FROM run WHERE namespace = ?1 AND died IS NOT NULL)";

/// As [`Store::load`](crate::store::Store::load).
pub(crate) async fn load(namespace: &str, connection: &mut SqliteConnection) -> sqlx::Result<Load> {
    let found: (i64, i64, i64, i64, i64, Option<i64>, Option<i64>) =
        sqlx::query_as(LOAD).bind(namespace).bind(now().as_millis()).fetch_one(connection).await?;
    let (live, under_way, delayed, overdue, letters, first_overdue, ready) = found;
    let ahead = (delayed - overdue).max(0);
    let mut load = Load::default();
    load.waiting = (live - under_way - ahead).max(0).unsigned_abs();
    load.ahead = ahead.unsigned_abs();
    load.under_way = under_way.unsigned_abs();
    load.dead_letters = Some(letters.unsigned_abs());
    load.oldest_due = [first_overdue, ready].into_iter().flatten().min().map(Timestamp::from_millis);
    Ok(load)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite_test::Bench;
    use crate::store::Store;

    #[tokio::test]
    async fn no_run_that_lives_is_looked_at() {
        let bench = Bench::new().await;
        assert_eq!(bench.store.load().await.unwrap().dead_letters, Some(0));
        let mut reading = bench.store.reading().await.unwrap();
        let plan: sqlx::Result<Vec<(i64, i64, i64, String)>> =
            sqlx::query_as(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {LOAD}")))
                .fetch_all(&mut reading.connection)
                .await;
        let steps: Vec<String> = plan.unwrap().into_iter().map(|step| step.3).collect();
        let looks: Vec<&str> =
            steps.iter().filter_map(|step| Some(step.split_once("SEARCH run USING ")?.1)).collect();
        let has = |index: &str| looks.iter().filter(|look| look.starts_with(index)).count() == 1;
        assert!(has("COVERING INDEX run_live (namespace=?"), "{steps:#?}");
        assert!(has("COVERING INDEX run_ready (namespace=? AND queue=? AND priority=?)"), "{steps:#?}");
        assert!(has("INDEX run_delayed (namespace=? AND due<?)"), "{steps:#?}");
        assert!(looks.len() == 6 && !steps.iter().any(|step| step.contains("SCAN run")), "{steps:#?}");
    }
}
