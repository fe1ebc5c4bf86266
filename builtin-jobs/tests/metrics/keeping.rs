//! What is kept, for how long, in how much room, and what becomes of the file when things go wrong.

use std::time::Duration;

use builtin_jobs::metrics_series::{Point, SeriesFile};
use serde_json::json;

use crate::stage::{Stage, endpoint, script};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn points_are_kept_one_by_one_then_by_ten_minutes_then_not_at_all() {
    let stage = Stage::new();
    // A number that counts the runs.
    let count = format!("echo x >> {0}; echo runs $(wc -l < {0})", stage.path("runs").display());
    let args = stage.args(&json!([script("x", &count)]), json!({"full_for": "30m", "max_age": "2h"}));
    for _ in 0..60 {
        assert!(stage.run(&args).await.error.is_none());
        stage.advance(MINUTE).await;
    }
    let (_, points) = stage.kept("runs").await.remove(0);

    let (single, summed): (Vec<&Point>, Vec<&Point>) = points.iter().partition(|point| point.count == 1);
    assert!((29..=41).contains(&single.len()), "{}", single.len());
    assert!((2..=4).contains(&summed.len()), "{summed:?}");
    assert_eq!(points.iter().map(|point| point.count).sum::<u64>(), 60, "none is lost or there twice");
    for point in &summed {
        let middle = (point.min + point.max) / 2.0;
        assert!((point.avg - middle).abs() < 1e-9 && (point.value - point.max).abs() < 1e-9, "{point:?}");
    }

    stage.advance(3 * 60 * MINUTE).await;
    let told = stage.run(&args).await;
    assert!(told.output["file"]["removed"].as_u64().unwrap() >= 4, "{told:?}");
    assert_eq!(stage.kept("runs").await[0].1.len(), 1);
}

#[tokio::test]
async fn series_beyond_the_bound_are_dropped_and_told_of_once() {
    let stage = Stage::new();
    let page: String = (0..50).map(|number| format!("m{{n=\"{number}\"}} {number}\n")).collect();
    let source =
        json!({"name": "web", "kind": "scrape", "url": endpoint("200 OK", page).await, "max_series": 20});
    let args = stage.args(&json!([source, script("other", "echo other 1")]), json!({}));

    let first = stage.run(&args).await;
    assert_eq!((&first.of("web")["series"], &first.of("web")["dropped"]), (&json!(20), &json!(30)));
    assert!(first.of("web")["note"].as_str().unwrap().contains("more than 20 series"), "{first:?}");
    stage.advance(MINUTE).await;
    let second = stage.run(&args).await;
    assert_eq!(second.of("web")["dropped"], json!(30));
    assert!(second.of("web").get("note").is_none(), "{second:?}");
    let kept = stage.kept("m").await;
    assert_eq!(kept.len(), 20);
    assert!(kept.iter().all(|(_, points)| points.len() == 2), "those that are known stay");
    assert_eq!(stage.kept("other").await.len(), 1);
}

#[tokio::test]
async fn labels_that_change_with_every_run_do_not_grow_the_file() {
    let stage = Stage::new();
    let source = json!({
        "name": "x", "kind": "command", "program": "/bin/sh", "max_series": 5,
        "args": ["-c", format!("echo x >> {0}; n=$(wc -l < {0}); echo \"m{{run=\\\"$n\\\"}} 1\"", stage.path("runs").display())],
    });
    let args = stage.args(&json!([source]), json!({"max_age": "30m", "full_for": "10m"}));
    for _ in 0..12 {
        stage.run(&args).await;
        stage.advance(MINUTE).await;
    }
    assert_eq!(stage.kept("m").await.len(), 5);
    stage.advance(2 * 60 * MINUTE).await;
    stage.run(&args).await;
    stage.advance(MINUTE).await;
    assert_eq!(stage.run(&args).await.of("x")["series"], json!(1), "the old ones have made room");
}

#[tokio::test]
async fn the_file_stays_within_its_bound_and_shrinks() {
    let stage = Stage::new();
    let page: String = (0..1000).map(|number| format!("m{{n=\"{number}\"}} {number}\n")).collect();
    let source = json!({"name": "web", "kind": "scrape", "url": endpoint("200 OK", page).await});
    let wide = stage.args(&json!([source.clone()]), json!({}));
    let narrow = stage.args(&json!([source]), json!({"max_bytes": 300_000}));
    for _ in 0..30 {
        stage.run(&wide).await;
        stage.advance(MINUTE).await;
    }
    let before = stage.path("metrics.db").metadata().unwrap().len();
    for _ in 0..5 {
        let told = stage.run(&narrow).await;
        assert!(told.error.is_none(), "{told:?}");
        stage.advance(MINUTE).await;
    }
    let after = stage.path("metrics.db").metadata().unwrap().len();
    assert!(before > 600_000 && after < 400_000, "{before} {after}");
    let kept = stage.kept("m").await;
    assert!(!kept[0].1.is_empty(), "the newest stay");
}

#[tokio::test]
async fn a_file_of_a_newer_version_or_of_somebody_else_is_refused_and_left_alone() {
    let stage = Stage::new();
    let file = stage.path("metrics.db");
    let source = script("x", "echo a 1");
    stage.look(source.clone()).await;
    set_version(&file, 2).await;
    let before = std::fs::read(&file).unwrap();

    let told = stage.look(source.clone()).await;
    assert!(told.message().contains("has version 2, and this program knows up to 1"), "{told:?}");
    assert!(!told.asks_again());
    assert_eq!(SeriesFile::open(&file).await.unwrap_err().code(), "metrics/newer_file");
    assert!(std::fs::read(&file).unwrap() == before, "not a byte is changed");

    std::fs::write(
        &file,
        "this is no database, and it is longer than the head of one would be, which is a hundred bytes",
    )
    .unwrap();
    let told = stage.look(source).await;
    assert!(!told.asks_again() && told.error.is_some(), "{told:?}");
    assert_eq!(SeriesFile::open(&file).await.unwrap_err().code(), "metrics/unreadable");
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("this is no database"));
}

#[tokio::test]
async fn a_database_of_somebody_else_keeps_its_journal() {
    let stage = Stage::new();
    let file = stage.path("metrics.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file).create_if_missing(true);
    let mut theirs = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let made =
        "PRAGMA journal_mode = delete; CREATE TABLE notes (text TEXT); INSERT INTO notes VALUES ('mine');";
    sqlx::raw_sql(made).execute(&mut theirs).await.unwrap();
    sqlx::Connection::close(theirs).await.unwrap();
    let before = std::fs::read(&file).unwrap();

    let told = stage.look(script("x", "echo a 1")).await;

    assert!(!told.asks_again() && told.error.is_some(), "{told:?}");
    assert!(std::fs::read(&file).unwrap() == before, "not a byte is changed, nor that of its journal");
    assert_eq!(SeriesFile::open(&file).await.unwrap_err().code(), "metrics/unreadable");
    assert!(std::fs::read(&file).unwrap() == before);
    for beside in ["metrics.db-wal", "metrics.db-shm"] {
        assert!(!stage.path(beside).exists(), "{beside}");
    }
}

/// The number at its place in the file's head.
async fn set_version(file: &std::path::Path, version: u8) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[60..64].copy_from_slice(&[0, 0, 0, version]);
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_told_and_the_next_run_goes_on() {
    let stage = Stage::new();
    let source = script("x", "echo a 1");
    std::fs::create_dir(stage.path("metrics.db")).unwrap();
    let told = stage.look(source.clone()).await;
    assert!(told.error.is_some() && told.of("x")["series"] == json!(1), "{told:?}");

    std::fs::remove_dir(stage.path("metrics.db")).unwrap();
    assert!(stage.look(source).await.error.is_none());
    assert_eq!(stage.kept("a").await[0].1.len(), 1);
}
