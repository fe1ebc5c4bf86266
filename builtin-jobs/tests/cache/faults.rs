//! Links, loops, missing permissions, and others who change the folder meanwhile: nothing outside is reached.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use scheduler_core::{AttemptEnd, CancelReason, attempt};
use serde_json::json;

use crate::stage::{Stage, below, cache_cleanup, context, dry_and_real, run, set};

#[tokio::test]
async fn links_are_never_followed() {
    let stage = Stage::new();
    stage.file_at("outside/precious", 9, 1);
    stage.file_at("outside/folder/precious", 9, 1);
    stage.file("sub/old", 9, 1);
    symlink(stage.path("outside"), stage.path("cache/away")).unwrap();
    symlink(stage.path("outside/precious"), stage.path("cache/sub/file")).unwrap();
    symlink("..", stage.path("cache/sub/loop")).unwrap();
    symlink("circle", stage.path("cache/circle")).unwrap();

    let told = run(&stage.args(json!({"max_files": 0, "remove_empty": true}))).await;

    assert_eq!(told.error, None);
    assert!(stage.left().is_empty(), "links themselves are part of the cache: {:?}", stage.left());
    assert_eq!(below(&stage.path("outside")), set(["precious", "folder/", "folder/precious"]));
}

#[tokio::test]
async fn a_folder_that_turns_into_a_link_again_and_again_leads_nowhere() {
    let stage = Stage::new();
    for number in 0..200 {
        stage.file_at(&format!("outside/{number}"), 9, 1);
    }
    let (cache, outside) = (stage.path("cache"), stage.path("outside"));
    let over = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&over);
    let swapping = std::thread::spawn(move || {
        let (place, link, folder) = (cache.join("x"), cache.join("link"), cache.join("folder"));
        let mut swaps = 0;
        while !stop.load(Ordering::SeqCst) {
            let _ = std::fs::create_dir(&folder);
            let _ = std::fs::write(folder.join("f"), "");
            let _ = std::fs::rename(&folder, &place);
            let _ = std::fs::remove_dir_all(&place);
            let _ = symlink(&outside, &link);
            let _ = std::fs::rename(&link, &place);
            let _ = std::fs::remove_file(&place);
            swaps += 1;
        }
        swaps
    });

    let until = Instant::now() + Duration::from_secs(2);
    let mut runs = 0;
    while Instant::now() < until {
        run(&stage.args(json!({"max_files": 0, "remove_empty": true}))).await;
        runs += 1;
    }
    over.store(true, Ordering::SeqCst);
    let swaps = swapping.join().unwrap();

    assert_eq!(below(&stage.path("outside")).len(), 200, "{runs} runs, {swaps} swaps");
    assert!(runs > 10 && swaps > 10, "{runs} runs, {swaps} swaps");
}

#[tokio::test]
async fn files_that_others_remove_meanwhile_are_no_fault() {
    let stage = Stage::new();
    for number in 0..3_000 {
        stage.file(&format!("{}/{number}", number % 10), 9, 1);
    }
    let cache = stage.path("cache");
    let removing = std::thread::spawn(move || {
        for number in (0..3_000).rev() {
            let _ = std::fs::remove_file(cache.join(format!("{}/{number}", number % 10)));
        }
    });

    let told = run(&stage.args(json!({"max_age": "1h"}))).await;
    removing.join().unwrap();

    assert_eq!((told.error, told.output["targets"][0]["failed"].as_u64()), (None, Some(0)));
    assert!(stage.left().iter().all(|name| name.ends_with('/')));
}

#[tokio::test]
async fn sockets_and_other_file_systems_are_left_alone() {
    let stage = Stage::new();
    stage.file("old", 9, 1);
    let _socket = std::os::unix::net::UnixListener::bind(stage.path("cache/socket")).unwrap();

    dry_and_real(&stage, &stage.args(json!({"max_files": 0}))).await;

    assert_eq!(stage.left(), set(["socket"]));
}

#[tokio::test]
async fn a_root_that_is_dangerous_is_refused_until_it_is_told_twice() {
    let stage = Stage::new();
    let link = stage.path("link");
    symlink("/", &link).unwrap();
    let home = std::env::var("HOME").unwrap();
    let cases = [
        ("/".to_owned(), "the root of the file system"),
        ("/../tmp/..".to_owned(), "the root of the file system"),
        (link.display().to_string(), "the root of the file system"),
        (home, "a home"),
        ("/proc".to_owned(), "a mount point"),
    ];
    for (path, part) in cases {
        // Dry, should the promise be broken.
        let target = json!({"kind": "directory", "path": path, "max_age": "9999d"});
        let args = json!({"targets": [target], "dry_run": true});
        let told = run(&args).await;
        let error = told.error.unwrap();
        assert!(error.contains(&format!("is not cleaned: it is {part}")), "{path}: {error}");
        assert_eq!(told.output["removed"], 0);
        let faults = cache_cleanup(&args).check();
        assert_eq!(faults.iter().map(|fault| &*fault.pointer).collect::<Vec<_>>(), ["/targets/0/path"]);
    }
    // A mount point that holds nothing to remove.
    let twice = json!({"kind": "directory", "path": "/proc/sys/fs/binfmt_misc/..", "max_age": "9999d"});
    let fine = cache_cleanup(&json!({"targets": [twice], "dry_run": true})).check();
    assert_eq!(fine, []);
    let confirmed =
        json!({"kind": "directory", "path": "/proc", "confirm_path": "/proc", "max_age": "9999d"});
    assert_eq!(cache_cleanup(&json!({"targets": [confirmed], "dry_run": true})).check(), []);
}

#[tokio::test]
async fn what_may_not_be_removed_is_told_and_the_rest_goes() {
    let stage = Stage::new();
    stage.file("locked/old", 9, 1);
    stage.file("open/old", 9, 1);
    let locked = stage.path("cache/locked");
    // Root may do everything that a mode forbids; that is told by an attribute then, where the file system has one.
    std::fs::set_permissions(&locked, PermissionsExt::from_mode(0o555)).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    let sealed = is_root
        && Command::new("chattr").arg("+i").arg(&locked).status().is_ok_and(|status| status.success());
    if is_root && !sealed {
        // Nothing is forbidden here.
        return;
    }

    let told = run(&stage.args(json!({"max_age": "1h"}))).await;
    let left = stage.left();
    if sealed {
        Command::new("chattr").arg("-i").arg(&locked).status().unwrap();
    }
    std::fs::set_permissions(&locked, PermissionsExt::from_mode(0o755)).unwrap();

    let error = told.error.unwrap();
    assert!(error.contains("it: 1 items stay, such as locked/old: "), "{error}");
    assert_eq!(left, set(["locked/", "locked/old", "open/"]));
    assert_eq!(told.output["removed"], 1);
}

#[tokio::test]
async fn a_cancelled_run_stops_soon_and_tells_what_it_did() {
    let stage = Stage::new();
    for number in 0..20_000 {
        std::fs::write(stage.path(&format!("cache/{number}")), "").unwrap();
    }
    let (ctx, job) = (context(), cache_cleanup(&stage.args(json!({"max_files": 0}))));
    ctx.cancel(CancelReason::Requested);

    let end = attempt(&*job, &ctx, None).await;

    assert!(matches!(end, AttemptEnd::Cancelled { .. }), "{end:?}");
    let removed = end.output()["removed"].as_u64().unwrap();
    assert_eq!(stage.left().len() as u64, 20_000 - removed);
    assert!(removed < 20_000, "it was told before it began");
}

#[tokio::test]
async fn a_target_that_is_not_done_in_time_is_told_and_the_next_one_is_cleaned() {
    let stage = Stage::new();
    stage.file_at("second/old", 9, 1);
    for number in 0..20_000 {
        std::fs::write(stage.path(&format!("cache/{number}")), "").unwrap();
    }
    let second = json!({"kind": "directory", "path": stage.path("second"), "max_age": "1h"});
    let targets = json!([stage.target(json!({"max_files": 0, "timeout": "1ms"})), second]);

    let told = run(&json!({"targets": targets})).await;

    assert!(told.error.unwrap().contains("it: not done within 1ms"));
    assert_eq!(told.output["targets"][1]["removed"], 1);
    assert!(!stage.left().is_empty());
}

/// Runs on a file system of its own that is full.
#[tokio::test]
async fn a_full_disk_can_be_cleaned() {
    let stage = Stage::new();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(stage.path("cache"));
    let mounted = mount.status().is_ok_and(|status| status.success());
    if !mounted {
        // Only root may mount.
        return;
    }
    let folder = stage.path("cache/full");
    std::fs::create_dir(&folder).unwrap();
    let filled =
        (0..1_000).find(|number| std::fs::write(folder.join(number.to_string()), vec![0; 65_536]).is_err());

    let target = json!({"kind": "directory", "path": folder, "max_files": 0});
    let told = run(&json!({"targets": [target]})).await;
    let outer = run(&stage.args(json!({"max_files": 0}))).await;
    let left = below(&folder);
    Command::new("umount").arg(stage.path("cache")).status().unwrap();

    assert!(filled.is_some() && told.error.is_none() && left.is_empty(), "{told:?}");
    assert!(outer.error.unwrap().contains("a mount point"));
}
