//! Each change triggers its task exactly once, whatever happens to the process that saw it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use scheduler_core::{Name, Result, StateStore, StoredState, async_trait, attempt};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::stage::{Stage, args, git_poll};

#[tokio::test]
async fn the_first_sight_triggers_nothing_and_each_change_triggers_once() {
    let stage = Stage::new().await;
    let repository = stage.repository("a");
    let first = repository.commit("first");
    let args = args(&repository.url(), json!({"branches": ["main", "release/*"], "tags": ["v*"]}));

    let seen = stage.run(&args).await;
    assert_eq!((&seen.error, &seen.output["first_seen"]), (&None, &json!(1)));
    assert!(stage.triggered().is_empty());
    let second = repository.commit("second");
    repository.git(&["branch", "release/1", &first]);
    repository.git(&["branch", "topic"]);
    repository.git(&["tag", "-a", "-m", "one", "v1"]);
    let told = stage.run(&args).await;
    stage.run(&args).await;

    let expected = [
        format!("deploy r refs/heads/main updated {first}>{second}"),
        format!("deploy r refs/heads/release/1 created ->{first}"),
        format!("deploy r refs/tags/v1 created ->{second}"),
    ];
    assert_eq!(stage.triggered(), expected);
    let row = &told.output["triggered"][0];
    assert_eq!(
        (&row["ref"], &row["task"], &row["was_there"]),
        (&json!("refs/heads/main"), &json!("deploy"), &json!(false))
    );
    assert_eq!(told.output["schema_version"], 1);
    assert_eq!(told.output["triggered_count"], 3);
}

#[tokio::test]
async fn the_default_branch_is_watched_when_nothing_else_is_named() {
    let stage = Stage::new().await;
    let repository = stage.repository("a");
    let first = repository.commit("first");
    let args = args(&repository.url(), Value::Null);

    stage.run(&args).await;
    let second = repository.commit("second");
    stage.run(&args).await;

    assert_eq!(stage.triggered(), [format!("deploy r HEAD updated {first}>{second}")]);
}

#[tokio::test]
async fn the_first_sight_and_what_is_gone_trigger_when_asked_for() {
    let stage = Stage::new().await;
    let repository = stage.repository("a");
    let first = repository.commit("first");
    repository.git(&["branch", "old"]);
    let more = json!({"branches": ["*"], "trigger_first": true, "trigger_deleted": true});
    let args = args(&repository.url(), more);

    stage.run(&args).await;
    repository.git(&["branch", "-D", "old"]);
    stage.run(&args).await;

    let expected = [
        format!("deploy r refs/heads/main created ->{first}"),
        format!("deploy r refs/heads/old created ->{first}"),
        format!("deploy r refs/heads/old deleted {first}>-"),
    ];
    assert_eq!(stage.triggered(), expected);
}

#[tokio::test]
async fn a_branch_that_goes_back_and_forth_triggers_every_time() {
    let stage = Stage::new().await;
    let repository = stage.repository("a");
    let (first, second) = (repository.commit("first"), repository.commit("second"));
    let args = args(&repository.url(), json!({"branches": ["main"]}));

    stage.run(&args).await;
    for commit in [&first, &second, &first, &second] {
        repository.git(&["reset", "--quiet", "--hard", commit]);
        stage.run(&args).await;
    }

    let change = |old: &str, new: &str| format!("deploy r refs/heads/main updated {old}>{new}");
    let (back, forth) = (change(&second, &first), change(&first, &second));
    assert_eq!(stage.triggered(), [back.clone(), forth.clone(), back, forth]);
}

#[tokio::test]
async fn repositories_have_their_own_patterns_and_tasks() {
    let stage = Stage::new().await;
    let (one, two) = (stage.repository("one"), stage.repository("two"));
    let repositories = json!([
        {"url": one.url(), "name": "one", "branches": ["main"]},
        {"url": two.url(), "name": "two", "tags": ["*"], "task": "release"},
    ]);
    let args = json!({"repositories": repositories, "task": "deploy", "spread": "0s"});
    let (first, other) = (one.commit("first"), two.commit("first"));

    stage.run(&args).await;
    let second = one.commit("second");
    two.git(&["tag", "v1"]);
    two.commit("unwatched");
    stage.run(&args).await;

    let mut triggered = stage.triggered();
    triggered.sort();
    let expected = [
        format!("deploy one refs/heads/main updated {first}>{second}"),
        format!("release two refs/tags/v1 created ->{other}"),
    ];
    assert_eq!(triggered, expected);
}

/// Stands still for good at one of its stores, before or after it is done: as a process that is killed there.
#[derive(Debug)]
struct Killed {
    inner: Arc<dyn StateStore>,
    left: AtomicUsize,
    is_done: bool,
    reached: Arc<Notify>,
}

#[async_trait]
impl StateStore for Killed {
    async fn load(&self, task: &Name) -> Result<Option<StoredState>> {
        self.inner.load(task).await
    }

    async fn store(&self, task: &Name, expected: u64, value: Value) -> Result<u64> {
        let is_last = self.left.fetch_sub(1, Ordering::SeqCst) == 1;
        if !is_last || self.is_done {
            let stored = self.inner.store(task, expected, value).await;
            if !is_last {
                return stored;
            }
        }
        self.reached.notify_one();
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_process_killed_around_any_of_its_stores_triggers_each_change_once() {
    for (stores, is_done) in [(1, false), (1, true), (2, false), (2, true)] {
        let stage = Stage::new().await;
        let repository = stage.repository("a");
        let first = repository.commit("first");
        let args = args(&repository.url(), json!({"branches": ["main"]}));
        stage.run(&args).await;
        let second = repository.commit("second");

        let reached = Arc::new(Notify::new());
        let killed = Killed {
            inner: stage.state(),
            left: AtomicUsize::new(stores),
            is_done,
            reached: Arc::clone(&reached),
        };
        let (ctx, job) = (stage.context(Arc::new(killed)), git_poll(&args));
        tokio::select! {
            end = attempt(&*job, &ctx, None) => panic!("{end:?}"),
            () = reached.notified() => {}
        }
        let third = repository.commit("third");
        let told = stage.run(&args).await;
        stage.run(&args).await;

        let change = |old: &str, new: &str| format!("deploy r refs/heads/main updated {old}>{new}");
        // Before the first store nothing was triggered, so the two commits are one change.
        let expected = if (stores, is_done) == (1, false) {
            vec![change(&first, &third)]
        } else {
            vec![change(&first, &second), change(&second, &third)]
        };
        assert_eq!(stage.triggered(), expected, "{stores} {is_done}");
        let was_there = told.output["triggered"][0]["was_there"].as_bool();
        assert_eq!(was_there, Some((stores, is_done) == (2, false)), "{told:?}");
    }
}

#[tokio::test]
async fn a_change_whose_task_cannot_be_triggered_waits_for_the_next_run() {
    let stage = Stage::new().await;
    let repository = stage.repository("a");
    let first = repository.commit("first");
    let args = args(&repository.url(), json!({"branches": ["main"]}));
    stage.run(&args).await;
    let second = repository.commit("second");

    stage.book.is_down.store(true, Ordering::SeqCst);
    let told = stage.run(&args).await;
    let third = repository.commit("third");
    stage.run(&args).await;
    stage.book.is_down.store(false, Ordering::SeqCst);
    stage.run(&args).await;
    stage.run(&args).await;

    let error = told.error.unwrap();
    assert!(error.starts_with("Retry(refs/heads/main of r changed, and task `deploy` cannot be"), "{error}");
    let change = |old: &str, new: &str| format!("deploy r refs/heads/main updated {old}>{new}");
    assert_eq!(stage.triggered(), [change(&first, &second), change(&second, &third)]);
}

#[tokio::test]
async fn a_task_that_nobody_knows_is_told_before_anything_changes() {
    let stage = Stage::new().await;
    let repository = stage.repository("a");

    let told = stage.run(&args(&repository.url(), json!({"task": "deplyo"}))).await;

    let error = told.error.unwrap();
    assert!(error.starts_with("Abort(task `deplyo`, which changes of r trigger, is unknown"), "{error}");
}

#[tokio::test]
async fn a_state_of_another_shape_stops_the_run_and_is_kept() {
    let stage = Stage::new().await;
    let repository = stage.repository("a");
    let stored = json!({"v": 2, "repositories": {}});
    let poll = Name::new("poll").unwrap();
    stage.state().store(&poll, 0, stored.clone()).await.unwrap();

    let told = stage.run(&args(&repository.url(), Value::Null)).await;

    assert!(told.error.unwrap().contains("has another shape: format 2"));
    assert_eq!(stage.state().load(&poll).await.unwrap().unwrap().value, stored);
}
