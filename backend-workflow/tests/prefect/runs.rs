//! Starting, following, cancelling and listing runs.

use std::time::{Duration, SystemTime};

use backend_workflow::{
    CancelOutcome, EngineRunFilter, EngineRunId, EngineRuns, Launch, Phase, WorkflowEngine, WorkflowName,
};
use scheduler_core::{ErrorKind, Timestamp};
use serde_json::{Value, json};

use crate::demo::{Demo, engine};
use crate::records::{PATIENCE, Records};

#[tokio::test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn a_server_tells_that_it_is_prefect_3() {
    let records = Records::of_suite();

    let info = engine(&records).probe().await.unwrap();

    assert_eq!(info.kind, "prefect");
    assert_eq!(json!(info.version), records.get("/admin/version"));
}

#[tokio::test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn a_run_is_started_followed_to_its_end_and_its_log_is_read() {
    let demo = Demo::new(&json!({})).await;

    let launched = demo.engine.trigger(&demo.launch("k", &json!({ "who": "you" }))).await.unwrap();
    let ended = demo.engine.wait(&launched.run.id, PATIENCE).await.unwrap();

    assert!(launched.created && !launched.run.phase.is_end(), "{launched:?}");
    assert_eq!(ended.phase, Phase::Succeeded, "{ended:?}");
    assert_eq!(ended.key.as_deref(), Some(demo.key("k").as_str()));
    assert!(ended.started <= ended.ended && ended.started.is_some(), "{ended:?}");
    let recorded = &demo.runs()[0];
    assert_eq!(recorded["id"], json!(ended.id.0));
    assert_eq!(
        (&recorded["state_type"], &recorded["parameters"]["who"]),
        (&json!("COMPLETED"), &json!("you"))
    );
    let logged = demo.records.logs(recorded, "goodbye you");
    let read = demo.engine.logs(&ended.id, 0, 1000).await.unwrap();
    assert_eq!(read.iter().map(|line| &line.message).collect::<Vec<_>>(), logged.iter().collect::<Vec<_>>());
    let rest = demo.engine.logs(&ended.id, read.len() - 1, 1000).await.unwrap();
    assert_eq!(rest, read[read.len() - 1..]);
}

#[tokio::test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn the_same_key_again_starts_nothing_even_from_another_process() {
    let demo = Demo::new(&json!({})).await;
    let at = Timestamp::from(SystemTime::now() + Duration::from_secs(3600));
    let mut launch = demo.launch("once", &json!({}));
    launch.at = Some(at);

    let first = demo.engine.trigger(&launch).await.unwrap();
    let again = demo.engine.trigger(&launch).await.unwrap();
    let elsewhere = engine(&demo.records).trigger(&launch).await.unwrap();

    assert_eq!((first.created, again.created, elsewhere.created), (true, false, false));
    assert_eq!(again.run.id, first.run.id);
    assert_eq!(elsewhere.run.id, first.run.id);
    assert_eq!(first.run.scheduled_for, Some(at));
    assert_eq!(demo.runs().len(), 1);
}

#[tokio::test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn a_key_of_another_deployment_of_the_same_flow_is_no_run_of_this_one() {
    let no_pool = json!({ "work_pool_name": Value::Null });
    let (one, other) = (Demo::new(&no_pool).await, Demo::new(&no_pool).await);
    let first = one.launch("k", &json!({}));
    assert!(one.engine.trigger(&first).await.unwrap().created);

    let second = Launch { workflow: other.workflow.id.clone(), ..first };
    let taken = other.engine.trigger(&second).await.unwrap_err();
    let keyless = other.engine.trigger(&Launch { key: String::new(), ..second }).await.unwrap_err();

    assert_eq!((taken.code(), keyless.code()), ("engine/key_taken", "engine/no_key"), "{taken} {keyless}");
    assert_eq!((one.runs().len(), other.runs().len()), (1, 0));
}

#[tokio::test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn a_run_that_fails_says_why() {
    let demo = Demo::new(&json!({})).await;

    let launched = demo.engine.trigger(&demo.launch("k", &json!({ "who": "nobody" }))).await.unwrap();
    let ended = demo.engine.wait(&launched.run.id, PATIENCE).await.unwrap();

    assert_eq!(ended.phase, Phase::Failed, "{ended:?}");
    assert!(ended.message.unwrap().contains("nobody is there"));
}

#[tokio::test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn a_run_is_cancelled_before_it_begins_while_it_runs_and_not_after_its_end() {
    let demo = Demo::new(&json!({})).await;
    let mut later = demo.launch("later", &json!({}));
    later.at = Some(Timestamp::from(SystemTime::now() + Duration::from_secs(3600)));
    let later = demo.engine.trigger(&later).await.unwrap().run.id;
    let slow = demo.engine.trigger(&demo.launch("slow", &json!({ "seconds": 600.0 }))).await.unwrap().run.id;

    assert_eq!(demo.engine.cancel(&later).await.unwrap(), CancelOutcome::Prevented);
    demo.records.becomes(&json!({ "id": slow.0 }), &["RUNNING"]);
    assert_eq!(demo.engine.cancel(&slow).await.unwrap(), CancelOutcome::Requested);
    let ended = demo.engine.wait(&slow, PATIENCE).await.unwrap();

    assert_eq!(ended.phase, Phase::Cancelled, "{ended:?}");
    for run in [&later, &slow] {
        assert_eq!(demo.engine.cancel(run).await.unwrap(), CancelOutcome::AlreadyFinished);
        let recorded = demo.records.get(&format!("/flow_runs/{}", run.0));
        assert_eq!(recorded["state_type"], "CANCELLED");
    }
}

#[tokio::test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn what_cannot_be_started_is_refused_by_name_and_leaves_no_run() {
    let demo = Demo::new(&json!({})).await;
    let name = |flow: &str, deployment: &str| WorkflowName {
        flow: flow.to_owned(),
        deployment: deployment.to_owned(),
    };

    let unfit = demo.engine.trigger(&demo.launch("k", &json!({ "seconds": "long" }))).await.unwrap_err();
    let unknown = demo.engine.workflow(&name("demo", "no-such-deployment")).await.unwrap_err();
    // Prefect answers the last of these with an inner error.
    let misspelt = demo.engine.workflow(&name("demo", "a/b")).await.unwrap_err();
    let nowhere = EngineRunId("00000000-0000-4000-8000-000000000000".to_owned());
    let unknown_run = demo.engine.status(&nowhere).await.unwrap_err();

    assert_eq!((unfit.code(), unfit.kind()), ("engine/bad_parameters", ErrorKind::Invalid), "{unfit}");
    assert!(unfit.to_string().contains("seconds"), "{unfit}");
    assert_eq!(unknown.code(), "engine/unknown_workflow");
    assert!(unknown.to_string().contains("no-such-deployment"), "{unknown}");
    assert_eq!(misspelt.code(), "engine/bad_name");
    assert_eq!(unknown_run.code(), "engine/unknown_run");
    assert_eq!(demo.runs().len(), 0);
}

#[tokio::test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn runs_are_listed_by_page_key_and_phase() {
    let demo = Demo::new(&json!({})).await;
    let at = Timestamp::from(SystemTime::now() + Duration::from_secs(3600));
    for number in 0..5 {
        let mut launch = demo.launch(&format!("key-{number}"), &json!({}));
        launch.at = Some(at + Duration::from_secs(number));
        demo.engine.trigger(&launch).await.unwrap();
    }
    let of_demo =
        EngineRunFilter { workflows: vec![demo.workflow.id.clone()], limit: 3, ..Default::default() };

    let first = demo.engine.list_runs(&of_demo).await.unwrap();
    let second = demo.engine.list_runs(&EngineRunFilter { offset: 3, ..of_demo.clone() }).await.unwrap();
    let keyed = EngineRunFilter { keys: vec![demo.key("key-2")], ..of_demo.clone() };
    let keyed = demo.engine.list_runs(&keyed).await.unwrap();
    let running = EngineRunFilter { phases: vec![Phase::Running], ..of_demo };
    let running = demo.engine.list_runs(&running).await.unwrap();

    let keys = |runs: &EngineRuns| -> Vec<String> {
        let last = |key: &String| key.rsplit_once("-key-").unwrap().1.to_owned();
        runs.runs.iter().filter_map(|run| run.key.as_ref().map(last)).collect()
    };
    assert_eq!((keys(&first), first.more), (vec!["4".into(), "3".into(), "2".into()], true));
    assert_eq!((keys(&second), second.more), (vec!["1".into(), "0".into()], false));
    assert_eq!(keys(&keyed), ["2"]);
    assert_eq!(running.runs, []);
}

#[tokio::test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn runs_that_nobody_fetched_are_cancelled_together_and_one_that_began_goes_on() {
    let demo = Demo::new(&json!({})).await;
    let mut ids = Vec::new();
    for number in 0..60 {
        let mut launch = demo.launch(&number.to_string(), &json!({}));
        launch.at = Some(Timestamp::from(SystemTime::now() + Duration::from_secs(3600)));
        ids.push(demo.engine.trigger(&launch).await.unwrap().run.id);
    }
    let path = format!("/flow_runs/{}/set_state", ids[7].0);
    demo.records.post(&path, &json!({ "state": { "type": "RUNNING" }, "force": true }));

    let ended = demo.engine.cancel_waiting(&ids).await.unwrap();

    assert_eq!(ended, 59);
    let in_state = |kind: &str| demo.runs().iter().filter(|run| run["state_type"] == kind).count();
    assert_eq!((in_state("CANCELLED"), in_state("RUNNING")), (59, 1));
    assert_eq!(demo.engine.cancel_waiting(&ids).await.unwrap(), 0);
}

#[tokio::test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn a_log_that_fills_more_than_one_page_is_read_whole_and_from_any_line_on() {
    let demo = Demo::new(&json!({})).await;
    let mut launch = demo.launch("k", &json!({}));
    launch.at = Some(Timestamp::from(SystemTime::now() + Duration::from_secs(3600)));
    let id = demo.engine.trigger(&launch).await.unwrap().run.id;
    let line = |number: usize| {
        let at = format!("2026-01-01T00:{:02}:{:02}Z", number / 60, number % 60);
        json!({ "flow_run_id": id.0, "level": 20, "name": "n", "message": number.to_string(), "timestamp": at })
    };
    let lines: Vec<_> = (0..450).map(line).collect();
    for some in lines.chunks(150) {
        demo.records.post("/logs/", &json!(some));
    }

    let read = async |offset, limit| -> Vec<String> {
        let lines = demo.engine.logs(&id, offset, limit).await.unwrap();
        lines.into_iter().map(|line| line.message).collect()
    };
    let all: Vec<String> = (0..450).map(|number| number.to_string()).collect();
    assert_eq!(read(0, 1_000).await, all);
    assert_eq!(read(195, 210).await, all[195..405]);
    assert_eq!(read(449, 10).await, all[449..]);
    assert!(read(450, 10).await.is_empty());
}
