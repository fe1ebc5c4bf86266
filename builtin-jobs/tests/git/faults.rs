//! Servers that hang, refuse and answer garbage: each costs its own limit and is left alone for a while.

use std::time::{Duration, Instant};

use scheduler_core::{AttemptEnd, CancelReason, attempt};
use serde_json::{Value, json};

use crate::stage::{Stage, args, git_poll};

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program in place of git.
fn script(stage: &Stage, text: &str) -> Value {
    json!(stage.git_that(text))
}

/// Whether a process lives whose id a script wrote to a file.
fn lives(stage: &Stage, file: &str) -> bool {
    let pid = std::fs::read_to_string(stage.path(file)).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "waited {PATIENCE:?} for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Leaves a child in the group and one that left it, and hangs.
const HANGING: &str = r#"
case "$1" in config) exit 1 ;; esac
cd "$(dirname "$0")"
sleep 300 & echo $! > child
setsid sh -c 'echo $$ > left; exec sleep 300' &
echo $$ > self
exec sleep 300
"#;

#[tokio::test]
async fn what_hangs_ends_at_its_limit_with_everything_it_started() {
    let stage = Stage::new().await;
    let git = script(&stage, HANGING);

    let told = stage.run(&args("file:///a", json!({"git": git, "timeout": "1s"}))).await;

    let error = told.error.unwrap();
    assert!(error.contains("1 repositories cannot be asked: r (no answer within 1s (`timeout`))"), "{error}");
    for file in ["self", "child", "left"] {
        eventually(file, || !lives(&stage, file)).await;
    }
}

#[tokio::test]
async fn a_cancelled_run_ends_at_once_and_so_does_everything_it_started() {
    let stage = Stage::new().await;
    let git = script(&stage, HANGING);
    let job = git_poll(&args("file:///a", json!({"git": git})));
    let ctx = stage.context(stage.state());

    let began = Instant::now();
    let cancelling = async {
        let is_written = |file: &str| std::fs::read(stage.path(file)).is_ok_and(|text| text.ends_with(b"\n"));
        eventually("the program", || ["self", "child", "left"].iter().all(|file| is_written(file))).await;
        ctx.cancel(CancelReason::Requested);
    };
    let (end, ()) = tokio::join!(attempt(&*job, &ctx, None), cancelling);

    assert!(matches!(end, AttemptEnd::Cancelled { .. }), "{end:?}");
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    for file in ["self", "child", "left"] {
        eventually(file, || !lives(&stage, file)).await;
    }
}

#[tokio::test]
async fn those_that_hang_take_one_limit_together_and_the_others_are_done_meanwhile() {
    let stage = Stage::new().await;
    let good = stage.repository("good");
    good.commit("first");
    let git = script(&stage, r#"case "$*" in *hang*) exec sleep 300 ;; *) exec git "$@" ;; esac"#);
    let hanging = (0..10).map(|number| json!({"url": format!("file:///hang/{number}")}));
    let fine = (0..30).map(|number| json!({"url": good.url(), "name": format!("good {number}")}));
    let repositories: Vec<Value> = hanging.chain(fine).collect();
    let args =
        json!({"repositories": repositories, "task": "deploy", "git": git, "timeout": "10s", "spread": "0s"});

    let began = Instant::now();
    let told = stage.run(&args).await;

    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!((&told.output["asked"], &told.output["first_seen"]), (&json!(40), &json!(30)), "{told:?}");
    assert_eq!(told.output["failing_count"], 10);
    assert!(told.error.unwrap().contains(" and 7 more"));
}

#[tokio::test]
async fn what_fails_is_left_alone_for_longer_and_longer_and_comes_back() {
    let stage = Stage::new().await;
    let args = args(&format!("file://{}", stage.path("a").display()), json!({"branches": ["main"]}));
    let at = async |seconds: u64| {
        stage.clock.set_wall(stage.began + Duration::from_secs(seconds));
        let told = stage.run(&args).await;
        (told.output["asked"].as_u64().unwrap(), told.output["left_alone"].as_u64().unwrap(), told.error)
    };

    let first = at(0).await;
    let early = at(30).await;
    let second = at(60).await;
    let still = at(150).await;
    let repository = stage.repository("a");
    repository.commit("first");
    let back = at(181).await;

    let fails = |error: &Option<String>| error.as_ref().is_some_and(|error| error.starts_with("Abort("));
    assert!((first.0, first.1) == (1, 0) && fails(&first.2), "{first:?}");
    assert!((early.0, early.1) == (0, 1) && fails(&early.2), "it stands failed: {early:?}");
    assert_eq!((second.0, second.1), (1, 0));
    assert_eq!((still.0, still.1), (0, 1), "two minutes after the second failure");
    assert_eq!(back, (1, 0, None));
}

#[tokio::test]
async fn no_more_are_asked_side_by_side_than_the_task_says() {
    let stage = Stage::new().await;
    let text = "case \"$1\" in config) exit 1 ;; esac\ncd \"$(dirname \"$0\")\"\ntouch asked.$$\n\
                set -- asked.*\necho $# >> counts\nsleep 0.1\nrm asked.$$";
    let git = stage.git_that(text);
    let one = |number| json!({"url": format!("file:///{number}"), "name": format!("r{number}")});
    let repositories: Vec<Value> = (0..12).map(one).collect();
    let args = json!({
        "repositories": repositories, "task": "deploy", "spread": "0s", "git": git, "at_once": 2,
    });

    let told = stage.run(&args).await;

    assert_eq!(told.error, None, "{told:?}");
    let counts = std::fs::read_to_string(stage.path("counts")).unwrap();
    let most = counts.lines().map(|line| line.parse::<u32>().unwrap()).max();
    assert_eq!((counts.lines().count(), most), (12, Some(2)), "{counts}");
}

#[tokio::test]
async fn of_many_that_fail_some_are_named_and_all_are_counted() {
    let stage = Stage::new().await;
    let git = stage.git_that("echo gone >&2; exit 128");
    let one = |number| json!({"url": format!("file:///{number}"), "name": format!("r{number}")});
    let repositories: Vec<Value> = (0..101).map(one).collect();
    let args = json!({"repositories": repositories, "task": "deploy", "spread": "0s", "git": git});

    let told = stage.run(&args).await;

    let error = told.error.unwrap();
    assert!(
        error.contains("101 repositories cannot be asked: ") && error.contains(" and 98 more"),
        "{error}"
    );
    let failing = told.output["failing"].as_array().unwrap().len();
    assert_eq!((failing, &told.output["failing_count"]), (100, &json!(101)));
}

#[tokio::test]
async fn garbage_and_half_a_list_change_nothing() {
    let stage = Stage::new().await;
    let repository = stage.repository("a");
    repository.commit("first");
    let more = json!({"branches": ["*"], "trigger_deleted": true, "backoff": "0s"});
    let good = args(&repository.url(), more.clone());
    stage.run(&good).await;

    let commit = "a".repeat(40);
    let cases = [
        ("echo garbage".to_owned(), "no list of refs"),
        (format!(r"printf '{commit}\trefs/heads/ma'"), "cut short"),
        (format!(r"printf '{commit}\trefs/heads/main\n'; exit 3"), "exit status: 3"),
        ("yes | head -c 100000000".to_owned(), "no list of refs"),
        ("head -c 1000000 /dev/zero".to_owned(), "no list of refs"),
        ("kill -9 $$".to_owned(), "signal: 9"),
    ];
    for (text, part) in cases {
        let mut bad = args(&repository.url(), more.clone());
        bad["git"] = script(&stage, &format!("case \"$1\" in config) exit 1 ;; esac\n{text}"));
        let error = stage.run(&bad).await.error.unwrap();
        assert!(error.contains(part), "{text}: {error}");
    }
    let told = stage.run(&good).await;
    assert!(stage.triggered().is_empty() && told.error.is_none(), "{told:?}");
}
