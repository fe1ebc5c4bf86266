//! A SQLite file: it can be read, or it is said why not, and nothing is written.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};

use crate::stage::Stage;

/// A file with a table of many pages, and a connection to it.
async fn database(file: &Path, journal: &str) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    for statement in [
        &format!("PRAGMA journal_mode = {journal}"),
        "CREATE TABLE page (content TEXT)",
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 500) \
         INSERT INTO page SELECT hex(randomblob(500)) FROM n",
    ] {
        sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
    }
    connection
}

fn check(file: &Path, is_thorough: bool) -> Value {
    json!({"kind": "sqlite", "path": file, "quick_check": is_thorough})
}

#[tokio::test]
async fn a_file_that_can_be_read_is_well_and_stays_as_it_is() {
    for journal in ["delete", "wal"] {
        let stage = Stage::new();
        let file = stage.path("well.db");
        let writer = database(&file, journal).await;
        let before = std::fs::read(&file).unwrap();
        for is_thorough in [false, true] {
            let (status, message) = stage.look(check(&file, is_thorough)).await;
            assert_eq!(status, "healthy", "{journal}: {message}");
        }
        assert!(std::fs::read(&file).unwrap() == before, "{journal}");
        writer.close().await.unwrap();
        let (status, message) = stage.look(check(&file, true)).await;
        assert_eq!(status, "healthy", "{journal}, with nobody beside: {message}");
    }
}

#[tokio::test]
async fn what_a_program_left_that_was_killed_is_read_and_stays() {
    let stage = Stage::new();
    let file = stage.path("well.db");
    let _writer = database(&file, "wal").await;
    let (left, journal) = (stage.path("left.db"), stage.path("left.db-wal"));
    std::fs::copy(&file, &left).unwrap();
    std::fs::copy(stage.path("well.db-wal"), &journal).unwrap();
    let before = (std::fs::read(&left).unwrap(), std::fs::read(&journal).unwrap());

    let (status, message) = stage.look(check(&left, true)).await;

    assert_eq!(status, "healthy", "{message}");
    assert!(before == (std::fs::read(&left).unwrap(), std::fs::read(&journal).unwrap_or_default()));
}

#[tokio::test]
async fn what_is_no_database_has_failed_and_none_is_made() {
    let stage = Stage::new();
    let (gone, text, pipe) = (stage.path("gone.db"), stage.path("text.db"), stage.path("pipe"));
    std::fs::write(&text, "something else\n".repeat(1_000)).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let folder = stage.path("");
    for (file, part) in [
        (&gone, "cannot be looked at"),
        (&text, "file is not a database"),
        (&pipe, "is no file"),
        (&folder, "is no file"),
    ] {
        let (status, message) = stage.look(check(file, true)).await;
        assert_eq!(status, "failed", "{message}");
        assert!(message.contains(part), "{message}");
    }
    assert!(!gone.exists());
}

#[tokio::test]
async fn damage_is_found_by_who_asks_for_it() {
    let stage = Stage::new();
    let file = stage.path("torn.db");
    database(&file, "delete").await.close().await.unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 16_384].fill(b'x');
    std::fs::write(&file, bytes).unwrap();

    let (quick, thorough) = (stage.look(check(&file, false)).await, stage.look(check(&file, true)).await);

    assert_eq!((quick.0.as_str(), thorough.0.as_str()), ("healthy", "failed"), "{thorough:?}");
    assert!(thorough.1.contains("torn.db is damaged: "), "{thorough:?}");
}

#[tokio::test]
async fn a_file_that_another_keeps_locked_has_failed_at_the_limit() {
    let stage = Stage::new();
    let file = stage.path("locked.db");
    let mut writer = database(&file, "delete").await;
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut writer).await.unwrap();
    let mut short = check(&file, false);
    short["timeout"] = json!("300ms");

    let (status, message) = stage.look(short).await;

    assert_eq!(status, "failed");
    assert!(message.contains("locked") || message.contains("no answer within 300ms"), "{message}");
}
