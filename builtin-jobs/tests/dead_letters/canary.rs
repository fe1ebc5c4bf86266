//! What runs again, in which order, and what stops it.

use std::time::Duration;

use scheduler_core::{AttemptEnd, CancelReason, RunId, attempt};
use serde_json::{Value, json};

use crate::stage::{Stage, actions, at_once, job};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn one_of_a_group_runs_first_and_the_others_follow_when_it_came_through() {
    let stage = Stage::new();
    for order in 0..5 {
        stage.fail("import", &format!("order {order} lost"));
    }
    stage.fail("export", "order 9 lost");
    let args = json!({"rules": at_once()});

    let first = stage.run(&args).await;
    let meanwhile = stage.run(&args).await;
    stage.keeper.work(None, stage.now());
    let second = stage.run(&args).await;

    let replayed = |output: &Value| output["totals"]["replayed"].as_u64().unwrap();
    assert_eq!([&first, &meanwhile, &second].map(replayed), [2, 0, 4], "{first:#} {second:#}");
    assert!(actions(&first).iter().all(|(action, _)| action == "canary"), "{first:#}");
    assert_eq!(meanwhile["groups"][0]["standing"], "testing", "{meanwhile:#}");
    assert_eq!(second["earlier_replays"]["came_through"], 2);
    assert!(stage.keeper.letters().is_empty());
}

#[tokio::test]
async fn a_group_whose_canary_fails_stops_for_longer_each_time_and_no_other_does() {
    let stage = Stage::new();
    stage.fail_many(3, "import", "connection refused");
    let args = json!({"rules": [{"class": "net", "policy": "exponential", "delay": "1m", "replays": 9}]});
    stage.pass(MINUTE).await;

    let mut waits = Vec::new();
    for _ in 0..3 {
        assert_eq!(stage.run(&args).await["totals"]["replayed"], 1);
        stage.keeper.work(Some("connection refused"), stage.now());
        let mut minutes = 0;
        while stage.dry_run(&args).await["actions"] == json!([]) {
            assert_eq!(stage.run(&args).await["groups"][0]["standing"], "stopped");
            stage.pass(MINUTE).await;
            minutes += 1;
        }
        waits.push(minutes);
    }
    stage.fail("export", "connection refused");
    stage.pass(MINUTE).await;
    assert_eq!(waits, [2, 4, 8]);
    assert_eq!(stage.keeper.letters().len(), 4, "nothing was lost");
}

#[tokio::test]
async fn a_canary_that_fails_gives_way_to_one_that_was_tried_less() {
    let stage = Stage::new();
    let older = stage.fail("import", "lost");
    stage.pass(MINUTE).await;
    let newer = stage.fail("import", "lost");
    let args = json!({"rules": [{"class": "all", "policy": "immediate", "replays": 9}]});

    let first = stage.run(&args).await;
    stage.keeper.work(Some("lost"), stage.now());
    let second = stage.run(&args).await;

    let canary = |run: RunId| vec![("canary".to_owned(), run.to_string())];
    assert_eq!((actions(&first), actions(&second)), (canary(older), canary(newer)));
}

#[tokio::test]
async fn an_open_group_stops_when_one_of_it_fails_after_all() {
    let stage = Stage::new();
    stage.fail_many(4, "import", "lost");
    let args = json!({"rules": at_once(), "limit": 1});
    stage.run(&args).await;
    stage.keeper.work(None, stage.now());
    assert_eq!(actions(&stage.run(&args).await)[0].0, "replay");

    stage.keeper.work(Some("lost"), stage.now());
    let after = stage.run(&args).await;

    assert_eq!(
        (actions(&after)[0].0.as_str(), &after["earlier_replays"]["failed_again"]),
        ("canary", &json!(1))
    );
}

#[tokio::test]
async fn what_a_person_holds_cannot_be_read_or_is_its_own_is_left_alone() {
    let stage = Stage::new();
    let archive = stage.path("archive.jsonl");
    let args = json!({"rules": at_once(), "archive": {"file": archive}});
    let (held, unreadable) = (stage.fail("import", "lost"), stage.fail("import", "gone"));
    stage.fail("dead_letters", "lost");
    stage.keeper.hold_now(held);
    stage.keeper.make_unreadable(unreadable);

    for _ in 0..4 {
        let output = stage.run(&args).await;
        assert_eq!(output["actions"], json!([]));
        assert_eq!(
            (&output["totals"]["held"], &output["totals"]["left"]),
            (&json!(1), &json!(2)),
            "{output:#}"
        );
        stage.pass(MINUTE * 60).await;
    }
    assert_eq!(stage.keeper.letters().len(), 3);
}

#[tokio::test]
async fn what_a_dry_run_lists_is_what_the_run_does_and_it_changes_nothing() {
    let stage = Stage::new();
    let archive = stage.path("archive.jsonl");
    let rules = json!([
        {"class": "old", "errors": ["denied"], "policy": "never", "archive_after": "1m"},
        {"class": "all", "policy": "immediate", "replays": 1},
    ]);
    let args = json!({"rules": rules, "archive": {"file": archive}});
    stage.fail("import", "denied");
    stage.fail_many(3, "import", "lost");
    stage.run(&args).await;
    stage.keeper.work(None, stage.now());
    stage.pass(MINUTE).await;
    let before = (stage.keeper.letters(), std::fs::read(stage.path("state/dead_letters.json")).unwrap());

    let dry = stage.dry_run(&args).await;
    let between = (stage.keeper.letters(), std::fs::read(stage.path("state/dead_letters.json")).unwrap());
    let real = stage.run(&args).await;

    assert_eq!((dry["dry_run"].clone(), real["dry_run"].clone()), (json!(true), json!(false)));
    assert_eq!(actions(&dry), actions(&real));
    assert_eq!(actions(&real).len(), 3, "{real:#}");
    assert!(before == between && stage.keeper.letters().is_empty());
}

#[tokio::test]
async fn a_run_that_is_killed_around_a_replay_replays_nothing_twice_and_loses_no_count() {
    for is_done in [false, true] {
        let stage = Stage::new();
        stage.fail("import", "lost");
        let args = json!({"rules": at_once()});
        {
            let mut state = stage.keeper.state();
            (state.replay_hangs, state.replay_is_not_told) = (!is_done, is_done);
        }
        let noted = || std::fs::read_to_string(stage.path("state/dead_letters.json")).unwrap_or_default();
        let reached = || noted().contains("\"count\":1") && (stage.keeper.state().replayed == 1) == is_done;
        stage.kill_when(&args, reached).await;
        {
            let mut state = stage.keeper.state();
            (state.replay_hangs, state.replay_is_not_told) = (false, false);
        }

        let mut replays = stage.keeper.state().replayed;
        for _ in 0..6 {
            let output = stage.run(&args).await;
            replays += usize::try_from(output["totals"]["replayed"].as_u64().unwrap()).unwrap();
            stage.keeper.work(Some("lost"), stage.now());
        }

        assert_eq!((replays, stage.keeper.state().replayed), (2, 2), "done: {is_done}");
        assert_eq!(stage.run(&args).await["totals"]["given_up"], 1);
    }
}

#[tokio::test]
async fn replays_are_counted_by_their_origins_when_the_state_is_lost() {
    let stage = Stage::new();
    stage.fail("import", "lost");
    let args = json!({"rules": at_once()});
    for _ in 0..2 {
        assert_eq!(stage.run(&args).await["totals"]["replayed"], 1);
        stage.keeper.work(Some("lost"), stage.now());
        std::fs::remove_dir_all(stage.path("state")).unwrap();
    }

    assert_eq!(stage.run(&args).await["totals"]["given_up"], 1);
}

#[tokio::test]
async fn replays_are_counted_by_the_state_when_history_forgets() {
    let stage = Stage::new();
    let mut runs = vec![stage.fail("import", "lost")];
    let args = json!({"rules": [{"class": "all", "policy": "linear", "delay": "1m", "replays": 2}]});
    for _ in 0..2 {
        stage.pass(MINUTE * 10).await;
        assert_eq!(stage.run(&args).await["totals"]["replayed"], 1);
        stage.keeper.work(Some("lost"), stage.now());
        runs.extend(stage.keeper.letters());
        assert_eq!(stage.run(&args).await["earlier_replays"]["failed_again"], 1);
    }
    let last = stage.keeper.letters()[0];
    runs.iter().filter(|run| **run != last).for_each(|run| stage.keeper.forget(*run));

    assert_eq!(stage.run(&args).await["totals"]["given_up"], 1);
}

#[tokio::test]
async fn the_rate_is_kept_and_a_cancelled_run_stops_between_letters() {
    let stage = Stage::new();
    stage.fail_many(10, "import", "lost");
    let args = json!({"rules": at_once(), "rate": 0.5});
    stage.run(&args).await;
    stage.keeper.work(None, stage.now());
    let (job, context) = (job(&args), stage.context(&Value::Null));

    let other = context.clone();
    let running = tokio::spawn(async move { attempt(&*job, &other, None).await });
    let replayed = || stage.keeper.state().replayed;
    stage.pass(Duration::from_secs(5)).await;
    let after_five = replayed();
    context.cancel(CancelReason::Requested);
    let end = running.await.unwrap();

    assert_eq!(after_five, 1 + 3, "one at once, one every two seconds");
    assert!(matches!(end, AttemptEnd::Cancelled { .. } | AttemptEnd::Failed(_)), "{end:?}");
    assert_eq!(end.output()["totals"]["replayed"], 3, "what was done is told");
    assert_eq!(replayed(), after_five);
}

#[tokio::test]
async fn many_letters_are_reported_by_group_in_a_bounded_output() {
    let stage = Stage::new();
    for letter in 0..300 {
        let word: String =
            (0..6).map(|place| char::from(b'a' + u8::try_from((letter >> place) & 1).unwrap())).collect();
        stage.fail("import", &format!("lost {word}{} {letter}", "x".repeat(letter / 64)));
    }
    let output = stage.run(&json!({})).await;
    let groups = output["groups"].as_array().unwrap().len();
    assert_eq!((groups as u64) + output["groups_not_shown"].as_u64().unwrap(), 300);
    assert!(groups <= 100);
    assert_eq!(output["totals"]["left"], 300);
}
