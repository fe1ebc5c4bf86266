//! Rows of a table of SQLite that are too old.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};

use crate::stage::{Stage, listed, run};

async fn open(file: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(file).create_if_missing(true).connect().await.unwrap()
}

async fn does(connection: &mut SqliteConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
}

async fn ids(connection: &mut SqliteConnection) -> Vec<i64> {
    let ids =
        sqlx::query_as::<_, (i64,)>(AssertSqlSafe("SELECT id FROM \"a \"\"cache\" ORDER BY id".to_owned()));
    ids.fetch_all(connection).await.unwrap().into_iter().map(|(id,)| id).collect()
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

fn args(file: &Path, more: &Value) -> Value {
    let mut target =
        json!({"kind": "sqlite", "path": file, "table": "a \"cache", "column": "used", "max_age": "1h"});
    target.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"targets": [target]})
}

#[tokio::test]
async fn old_rows_go_in_parts_and_a_dry_run_counts_and_lists_the_same() {
    let now = now();
    let text = |seconds: i64| format!("datetime({seconds}, 'unixepoch')");
    let units = [
        ("seconds", "INTEGER", Box::new(|at: i64| at.to_string()) as Box<dyn Fn(i64) -> String>),
        ("milliseconds", "INTEGER", Box::new(|at: i64| (at * 1000).to_string())),
        ("text", "TEXT", Box::new(text)),
    ];
    for (unit, column, written) in units {
        let stage = Stage::new();
        let file = stage.path("cache.db");
        let mut connection = open(&file).await;
        does(
            &mut connection,
            &format!("CREATE TABLE \"a \"\"cache\" (id INTEGER PRIMARY KEY, used {column})"),
        )
        .await;
        let inserts: String = (0..100_i64)
            .map(|id| {
                // The older half lies between the others.
                let used = if id % 2 == 0 { now - 7_200 - id } else { now - 60 };
                format!("INSERT INTO \"a \"\"cache\" VALUES ({id}, {});", written(used))
            })
            .collect();
        does(&mut connection, &format!("BEGIN; {inserts} COMMIT")).await;
        does(
            &mut connection,
            "INSERT INTO \"a \"\"cache\" VALUES (1000, NULL), (1001, 'never'), (1002, x'00')",
        )
        .await;
        let mut args = args(&file, &json!({"unit": unit, "chunk": 7}));
        args["max_listed"] = json!(2);

        args["dry_run"] = json!(true);
        let dry = run(&args).await;
        assert_eq!(ids(&mut connection).await.len(), 103, "{unit}");
        args["dry_run"] = json!(false);
        let real = run(&args).await;

        let odd = (0..100).filter(|id| id % 2 == 1).chain(1000..1003).collect::<Vec<i64>>();
        assert_eq!(ids(&mut connection).await, odd, "{unit}: {real:?}");
        for told in [&dry, &real] {
            assert_eq!((told.output["removed"].as_u64(), &told.error), (Some(50), &None), "{unit}");
            assert!(listed(told)[0].starts_with("row 98 of "), "{told:?}");
        }
        assert_eq!(listed(&dry), listed(&real));
    }
}

#[tokio::test]
async fn a_file_that_is_missing_is_clean_and_a_table_that_is_missing_is_a_fault() {
    let stage = Stage::new();
    let file = stage.path("cache.db");

    let missing = run(&args(&file, &json!({}))).await;
    assert!(missing.error.is_none() && !file.exists(), "{missing:?}");
    open(&file).await;
    let told = run(&args(&file, &json!({}))).await;

    assert!(told.error.unwrap().contains("no such table"));
}

#[tokio::test]
async fn a_column_that_is_missing_is_a_fault_and_no_text() {
    let stage = Stage::new();
    let file = stage.path("cache.db");
    does(
        &mut open(&file).await,
        "CREATE TABLE page (id INTEGER PRIMARY KEY, used_at TEXT); INSERT INTO page VALUES (1, 'x')",
    )
    .await;

    for is_dry in [true, false] {
        let mut args = args(&file, &json!({"table": "page", "column": "0", "unit": "text"}));
        args["dry_run"] = is_dry.into();
        let told = run(&args).await;
        assert!(told.error.unwrap().contains("no such column"), "dry run: {is_dry}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_a_fault() {
    let stage = Stage::new();
    std::fs::write(stage.path("cache.db"), "x".repeat(4_096)).unwrap();

    let told = run(&args(&stage.path("cache.db"), &json!({}))).await;

    assert!(told.error.unwrap().contains("not a database"));
}

/// Runs on a file system of its own that is full.
#[tokio::test]
async fn on_a_full_disk_rows_stay_whole_and_go_once_there_is_room() {
    let stage = Stage::new();
    let disk = stage.path("cache");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(&disk);
    if !mount.status().is_ok_and(|status| status.success()) {
        // Only root may mount.
        return;
    }
    let file = disk.join("cache.db");
    let mut connection = open(&file).await;
    let old = now() - 7_200;
    does(&mut connection, "CREATE TABLE \"a \"\"cache\" (id INTEGER PRIMARY KEY, used INTEGER, page TEXT)")
        .await;
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)";
    let page = "hex(randomblob(200))";
    does(&mut connection, &format!("INSERT INTO \"a \"\"cache\" {rows} SELECT i, {old}, {page} FROM n"))
        .await;
    connection.close().await.unwrap();
    let filler = disk.join("filler");
    let mut filling = std::fs::File::create(&filler).unwrap();
    while filling.write_all(&[0; 4_096]).is_ok() {}

    let full = run(&args(&file, &json!({"chunk": 500}))).await;
    let mut connection = open(&file).await;
    let whole: (String,) = sqlx::query_as("PRAGMA integrity_check").fetch_one(&mut connection).await.unwrap();
    let left = ids(&mut connection).await.len() as u64;
    connection.close().await.unwrap();
    drop(filling);
    std::fs::remove_file(&filler).unwrap();
    let again = run(&args(&file, &json!({"chunk": 500}))).await;
    Command::new("umount").arg(&disk).status().unwrap();

    let error = full.error.unwrap();
    assert!(error.contains("cannot be cleaned") && error.contains("full"), "{error}");
    assert_eq!((whole.0.as_str(), left), ("ok", 2_000 - full.output["removed"].as_u64().unwrap()));
    assert!(left > 0, "it was not full");
    assert_eq!((again.error, again.output["removed"].as_u64()), (None, Some(left)));
}
