//! What goes from a folder, and in which order; a dry run lists what a real run removes.

use std::fs::{File, FileTimes};
use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

use serde_json::json;

use crate::stage::{HOUR, Stage, dry_and_real, listed, run, set};

/// Five files, the older ones deeper.
fn five() -> Stage {
    let stage = Stage::new();
    for (name, hours) in [("new", 0), ("a/one", 1), ("a/two", 2), ("a/b/three", 3), ("c/four", 4)] {
        stage.file(name, hours, 100);
    }
    stage
}

#[tokio::test]
async fn what_was_not_used_for_too_long_goes() {
    let stage = five();

    let told = dry_and_real(&stage, &stage.args(json!({"max_age": "150m"}))).await;

    assert_eq!(stage.left(), set(["new", "a/", "a/one", "a/two", "a/b/", "c/"]));
    assert_eq!(listed(&told), ["c/four", "a/b/three"], "least recently used first");
    let row = &told.output["targets"][0];
    assert_eq!((&told.output["removed"], &told.output["bytes"]), (&json!(2), &json!(200)));
    assert_eq!((&row["kind"], &row["name"], &row["failed"]), (&json!("directory"), &json!("it"), &json!(0)));
    assert_eq!((&told.error, &told.output["schema_version"]), (&None, &json!(1)));
}

#[tokio::test]
async fn what_does_not_fit_goes_least_recently_used_first() {
    for (more, left) in [
        (json!({"max_files": 2}), vec!["new", "a/one"]),
        (json!({"max_bytes": 399}), vec!["new", "a/one", "a/two"]),
        (json!({"max_bytes": 400}), vec!["new", "a/one", "a/two", "a/b/three"]),
        (json!({"max_bytes": 450, "max_files": 1}), vec!["new"]),
        (json!({"max_files": 4, "max_age": "30m"}), vec!["new"]),
        (json!({"max_files": 0}), vec![]),
        (json!({"max_files": 5, "max_bytes": 500}), vec!["new", "a/one", "a/two", "a/b/three", "c/four"]),
    ] {
        let stage = five();
        dry_and_real(&stage, &stage.args(more.clone())).await;
        let files: Vec<String> = stage.left().into_iter().filter(|name| !name.ends_with('/')).collect();
        let mut expected: Vec<String> = left.into_iter().map(str::to_owned).collect();
        expected.sort();
        assert_eq!(files, expected, "{more}");
    }
}

#[tokio::test]
async fn a_file_that_was_read_lately_stays() {
    let stage = five();
    let file = File::options().write(true).open(stage.path("cache/c/four")).unwrap();
    file.set_times(FileTimes::new().set_accessed(SystemTime::now() - HOUR / 2)).unwrap();

    dry_and_real(&stage, &stage.args(json!({"max_files": 2}))).await;

    assert_eq!(stage.left(), set(["new", "a/", "a/b/", "c/", "c/four"]));
}

#[tokio::test]
async fn folders_that_are_emptied_go_when_asked_for_and_others_stay() {
    let stage = five();
    std::fs::create_dir_all(stage.path("cache/was/empty")).unwrap();
    stage.file("deep/er/and/deeper", 5, 1);

    let args = stage.args(json!({"max_age": "150m", "remove_empty": true}));
    let told = dry_and_real(&stage, &args).await;

    assert_eq!(stage.left(), set(["new", "a/", "a/one", "a/two", "was/", "was/empty/"]));
    assert!(listed(&told).contains(&"deep/er/and/") && listed(&told).contains(&"a/b/"), "{told:?}");
}

#[tokio::test]
async fn what_is_kept_by_name_neither_counts_nor_goes() {
    let stage = five();
    stage.file("a/index.lock", 9, 10_000);

    let args = stage.args(json!({"max_bytes": 200, "keep": ["*.lock"]}));
    dry_and_real(&stage, &args).await;

    assert_eq!(stage.left(), set(["new", "a/", "a/one", "a/b/", "a/index.lock", "c/"]));
}

#[tokio::test]
async fn a_second_run_finds_nothing_to_do() {
    let stage = five();
    let args = stage.args(json!({"max_files": 2, "remove_empty": true}));
    run(&args).await;

    let told = run(&args).await;

    assert_eq!((told.output["removed"].as_u64(), told.error), (Some(0), None));
}

#[tokio::test]
async fn a_list_is_cut_and_the_count_is_whole() {
    let stage = Stage::new();
    for number in 0..50 {
        stage.file(&format!("{number}"), 10 + number, 1);
    }
    let mut args = stage.args(json!({"max_age": "1h"}));
    args["max_listed"] = json!(3);

    let told = dry_and_real(&stage, &args).await;

    assert_eq!((listed(&told), told.output["removed"].as_u64()), (vec!["49", "48", "47"], Some(50)));
}

#[tokio::test]
async fn a_cache_that_does_not_exist_yet_is_clean() {
    let stage = Stage::new();
    std::fs::remove_dir(stage.path("cache")).unwrap();

    let told = run(&stage.args(json!({"max_age": "1h"}))).await;

    assert_eq!((told.output["removed"].as_u64(), told.error), (Some(0), None));
}

#[tokio::test]
async fn a_name_that_is_no_text_goes_too_and_breaks_no_line() {
    let stage = Stage::new();
    let name = std::ffi::OsStr::from_bytes(b"bad\xff\nname");
    let path = stage.path("cache").join(name);
    std::fs::write(&path, "").unwrap();
    let old = FileTimes::new().set_accessed(SystemTime::now() - HOUR).set_modified(SystemTime::now() - HOUR);
    File::options().write(true).open(&path).unwrap().set_times(old).unwrap();

    let told = run(&stage.args(json!({"max_age": "1m"}))).await;

    assert!(stage.left().is_empty());
    assert_eq!(listed(&told), ["bad\u{fffd}\\nname"]);
}
