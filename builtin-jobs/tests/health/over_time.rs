//! How a target stands is remembered between runs, and one odd result changes nothing.

use std::time::Duration;

use serde_json::{Value, json};

use crate::log::Log;
use crate::stage::{Stage, Told, named};

/// A target that is well while a file exists.
struct Target {
    stage: Stage,
    args: Value,
}

impl Target {
    fn new(damping: &Value) -> Self {
        let stage = Stage::new();
        let check = json!({"kind": "command", "program": "/usr/bin/test", "args": ["-e", stage.path("up")]});
        let args = json!({"checks": [named("db", check)], "damping": damping});
        Self { stage, args }
    }

    /// Runs the job this many seconds after the beginning.
    async fn at(&self, seconds: u64, is_up: bool) -> Told {
        let file = self.stage.path("up");
        if is_up {
            std::fs::write(&file, "").unwrap();
        } else {
            let _ = std::fs::remove_file(&file);
        }
        self.stage.clock.set_wall(self.stage.began + Duration::from_secs(seconds));
        self.stage.run(&self.args).await
    }
}

fn row(told: &Told) -> (&str, &str, u64) {
    let row = &told.output["checks"][0];
    (row["status"].as_str().unwrap(), row["latest"].as_str().unwrap(), row["for_seconds"].as_u64().unwrap())
}

#[tokio::test]
async fn a_status_changes_when_results_agree_and_only_then_it_is_told_as_a_change() {
    let target = Target::new(&json!({}));

    let first = target.at(0, true).await;
    let odd = target.at(60, false).await;
    let down = target.at(120, false).await;
    let later = target.at(300, false).await;
    let back = target.at(360, true).await;
    let up = target.at(420, true).await;

    assert_eq!((row(&first), &first.output["changes"]), (("healthy", "healthy", 0), &json!([])));
    assert_eq!((row(&odd), &odd.error), (("healthy", "failed", 60), &None));
    assert_eq!(odd.output["changes"], json!([]));
    assert_eq!(row(&down), ("failed", "failed", 0));
    assert_eq!(
        down.output["changes"],
        json!([{"name": "db", "from": "healthy", "to": "failed", "lasted_seconds": 120}])
    );
    assert_eq!(row(&later), ("failed", "failed", 180));
    assert_eq!(later.output["changes"], json!([]));
    assert_eq!(later.error.as_deref().unwrap(), "1 of 1 checks: db failed for 3m (exit code 1)");
    assert_eq!(row(&back), ("failed", "healthy", 240));
    let error = back.error.as_deref().unwrap();
    assert_eq!(error, "1 of 1 checks: db failed for 4m (healthy again by the latest look: exit code 0)");
    assert_eq!((row(&up), &up.error), (("healthy", "healthy", 0), &None));
    assert_eq!(
        up.output["changes"],
        json!([{"name": "db", "from": "failed", "to": "healthy", "lasted_seconds": 300}])
    );
}

#[tokio::test]
async fn only_changes_are_logged_and_how_long_the_former_status_lasted() {
    let target = Target::new(&json!({"agree": 1, "of": 1}));
    let log = Log::default();
    // Were it the only subscriber, what a thread without one meets first would be off for all.
    std::mem::forget(tracing::Dispatch::new(log.clone()));
    let _listening = tracing::subscriber::set_default(log.clone());

    for (minute, is_up) in (0..).zip([true, true, false, false, true, true]) {
        target.at(minute * 60, is_up).await;
    }

    let told = [
        "WARN db is failed after 2m healthy (exit code 1)",
        "INFO db is healthy after 2m failed (exit code 0)",
    ];
    assert_eq!(log.lines(), told);
}

#[tokio::test]
async fn a_target_that_flaps_from_run_to_run_stands_still() {
    let target = Target::new(&json!({}));
    target.at(0, true).await;
    for minute in 1..10 {
        let told = target.at(minute * 60, minute % 2 == 0).await;
        assert_eq!((row(&told).0, row(&told).2), ("healthy", minute * 60));
    }
}

#[tokio::test]
async fn damping_can_be_turned_off() {
    let target = Target::new(&json!({"agree": 1, "of": 1}));
    target.at(0, true).await;
    assert_eq!(row(&target.at(60, false).await).0, "failed");
    assert_eq!(row(&target.at(120, true).await).0, "healthy");
}

#[tokio::test]
async fn a_state_that_cannot_be_kept_fails_the_run_which_still_says_what_it_saw() {
    let target = Target::new(&json!({}));
    std::fs::write(target.stage.path("state"), "no folder").unwrap();
    let job = crate::stage::health_check(&target.args);

    let end = scheduler_core::attempt(&*job, &target.stage.context(), None).await;

    assert_eq!(end.output()["checks"][0]["latest"], "failed", "{end:?}");
}
