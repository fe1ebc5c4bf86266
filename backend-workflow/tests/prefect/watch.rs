//! What keeps a server that answers from its work, brought about on one.

use std::time::{Duration, SystemTime};

use backend_workflow::WorkflowEngine;
use scheduler_core::Timestamp;
use serde_json::{Value, json};

use crate::demo::Demo;
use crate::records::until;

async fn findings(demo: &Demo, now: Timestamp) -> Vec<String> {
    demo.engine.findings(std::slice::from_ref(&demo.workflow), now).await.unwrap()
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

#[tokio::test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn a_schedule_that_has_no_run_ahead_is_named() {
    let schedule = json!({ "interval": 1200.0, "anchor_date": "2026-01-01T00:00:00Z", "timezone": "UTC" });
    let schedules = json!([{ "slug": "of-watch", "active": true, "schedule": schedule }]);
    let demo = Demo::new(&json!({ "work_pool_name": Value::Null, "schedules": schedules })).await;
    until("the runs of the schedule", || (!demo.runs().is_empty()).then_some(()));
    // A schedule is given two minutes.
    let soon = now() + Duration::from_secs(180);
    let after_all_of_them = now() + Duration::from_secs(7 * 24 * 3_600);

    assert_eq!(findings(&demo, soon).await, Vec::<String>::new());
    let found = findings(&demo, after_all_of_them).await;

    let name = &demo.workflow.name.deployment;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("`of-watch`") && found[0].contains(name.as_str()), "{found:?}");
    assert!(found[0].contains("no run ahead"), "{found:?}");
    let id = &demo.workflow.id.0;
    demo.records.post(&format!("/deployments/{id}/pause_deployment"), &json!({}));
    let paused = findings(&demo, soon).await;
    assert!(paused.len() == 1 && paused[0].contains("is paused in Prefect"), "{paused:?}");
}

#[tokio::test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn a_late_run_that_nobody_can_fetch_is_named_with_the_reason() {
    let pool = format!("unattended-{}", std::process::id());
    let unattended = Demo::new(&json!({ "work_pool_name": Value::Null })).await;
    let records = unattended.records.clone();
    records.post("/work_pools/", &json!({ "name": pool, "type": "process" }));
    let demo = Demo::new(&json!({ "work_pool_name": pool })).await;
    let launched = demo.engine.trigger(&demo.launch("k", &json!({}))).await.unwrap();
    let path = format!("/flow_runs/{}", launched.run.id.0);
    until("the run is late", || (records.get(&path)["state_name"] == "Late").then_some(()));

    let nobody = findings(&demo, now()).await;
    records.patch(&format!("/work_pools/{pool}"), &json!({ "is_paused": true }));
    let paused = findings(&demo, now()).await;

    let name = &demo.workflow.name.deployment;
    assert_eq!((nobody.len(), paused.len()), (1, 1), "{nobody:?} {paused:?}");
    assert!(nobody[0].contains(name.as_str()), "{nobody:?}");
    assert!(nobody[0].contains(&format!("no worker polls work pool `{pool}`")), "{nobody:?}");
    assert!(paused[0].contains(&format!("work pool `{pool}` is paused")), "{paused:?}");
    records.call("DELETE", &format!("/work_pools/{pool}"), &Value::Null);
}

#[tokio::test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn a_run_that_hangs_before_its_start_or_its_end_is_named_after_five_minutes() {
    let demo = Demo::new(&json!({ "work_pool_name": Value::Null })).await;
    // Prefect ends at once what has not begun.
    for states in [&["PENDING"][..], &["RUNNING", "CANCELLING"]] {
        let run = demo.engine.trigger(&demo.launch(states[0], &json!({}))).await.unwrap().run.id;
        let path = format!("/flow_runs/{}/set_state", run.0);
        for state in states {
            demo.records.post(&path, &json!({ "state": { "type": state }, "force": true }));
        }

        let later = now() + Duration::from_secs(600);
        let (early, late) = (findings(&demo, now()).await, findings(&demo, later).await);

        assert!(early.iter().all(|finding| !finding.contains(&run.0)), "{early:?}");
        let found = late.iter().find(|finding| finding.contains(&run.0));
        let found = found.unwrap_or_else(|| panic!("{late:?}"));
        let what = if states[0] == "PENDING" { "taken to be started" } else { "told to end" };
        assert!(found.contains(what) && found.contains("its worker has lost it"), "{found}");
    }
}
