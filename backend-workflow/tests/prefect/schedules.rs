//! Schedules on a deployment that others use as well.

use std::time::Duration;

use backend_workflow::{ScheduleSpec, WorkflowEngine};
use scheduler_core::{Timestamp, Trigger};
use serde_json::{Map, Value, json};

use crate::demo::{Demo, engine};
use crate::records::until;

/// A deployment that has a schedule of somebody else, far apart so that it fires during no test.
async fn shared() -> Demo {
    let schedule = json!({ "cron": "0 0 1 1 *", "timezone": "UTC" });
    Demo::new(&json!({ "schedules": [{ "slug": "of-others", "active": true, "schedule": schedule }] })).await
}

fn schedules(demo: &Demo) -> Vec<Value> {
    let path = format!("/deployments/{}", demo.workflow.id.0);
    demo.records.get(&path)["schedules"].as_array().unwrap().clone()
}

fn of_slug(demo: &Demo, slug: &str) -> Value {
    schedules(demo).into_iter().find(|schedule| schedule["slug"] == slug).unwrap_or(Value::Null)
}

fn spec(demo: &Demo, trigger: &Trigger) -> ScheduleSpec {
    ScheduleSpec {
        slug: "hs:suite:t".to_owned(),
        rule: demo.engine.render(trigger).unwrap().rule,
        active: true,
        parameters: Map::from_iter([("who".to_owned(), json!("schedule"))]),
    }
}

#[tokio::test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn a_schedule_that_is_edited_three_times_keeps_its_id_and_doubles_no_run() {
    let demo = shared().await;
    let others = of_slug(&demo, "of-others");
    let daily = |minute: u32| Trigger::cron(&format!("{minute} 3 * * *"), "Europe/Zurich").unwrap();
    demo.engine.upsert_schedule(&demo.workflow.id, &spec(&demo, &daily(0))).await.unwrap();
    let id = of_slug(&demo, "hs:suite:t")["id"].clone();

    for minute in 1..=3 {
        // Another process each time, as after a restart.
        let engine = engine(&demo.records);
        engine.upsert_schedule(&demo.workflow.id, &spec(&demo, &daily(minute))).await.unwrap();

        let ours = of_slug(&demo, "hs:suite:t");
        assert_eq!(ours["id"], id);
        assert_eq!(ours["schedule"]["cron"], format!("{minute} 3 * * *"));
        assert_eq!(of_slug(&demo, "of-others"), others);
    }
    let planned = until("the runs of the last edit", || {
        let runs = demo.runs();
        let ours: Vec<Value> = runs.into_iter().filter(|run| run["created_by"]["id"] == id).collect();
        let is_new = |run: &Value| run["expected_start_time"].as_str().unwrap().contains(":03:00");
        (!ours.is_empty() && ours.iter().all(is_new)).then_some(ours)
    });

    let mut times: Vec<&str> =
        planned.iter().map(|run| run["expected_start_time"].as_str().unwrap()).collect();
    times.sort_unstable();
    let count = times.len();
    times.dedup();
    assert_eq!(times.len(), count, "{times:?}");
}

#[tokio::test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn schedules_of_others_without_a_slug_survive_an_edit_of_ours() {
    let yearly =
        |month: u32| json!({ "schedule": { "cron": format!("0 0 1 {month} *"), "timezone": "UTC" } });
    let demo = Demo::new(&json!({ "schedules": [yearly(1), yearly(2)] })).await;
    let before = schedules(&demo);

    for minute in 0..2 {
        let daily = Trigger::cron(&format!("{minute} 3 * * *"), "Europe/Zurich").unwrap();
        demo.engine.upsert_schedule(&demo.workflow.id, &spec(&demo, &daily)).await.unwrap();
    }

    let mut after = schedules(&demo);
    let ours = after.iter().position(|schedule| schedule["slug"] == "hs:suite:t").unwrap();
    assert_eq!(after.remove(ours)["schedule"]["cron"], "1 3 * * *");
    let by_id = |schedule: &Value| schedule["id"].as_str().unwrap().to_owned();
    after.sort_by_key(by_id);
    let mut expected = before;
    expected.sort_by_key(by_id);
    assert_eq!(after, expected);
}

#[tokio::test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn what_is_written_is_read_back_as_equal() {
    let demo = shared().await;
    let triggers = [
        Trigger::cron("*/5 2-4 * * mon-fri", "Europe/Zurich").unwrap(),
        Trigger::cron("@daily", "UTC").unwrap(),
        Trigger::every(Duration::from_secs(90)).unwrap(),
    ];
    for trigger in triggers {
        let spec = spec(&demo, &trigger);
        demo.engine.upsert_schedule(&demo.workflow.id, &spec).await.unwrap();

        let read = demo.engine.schedules(&demo.workflow.id).await.unwrap();

        let ours = read.iter().find(|schedule| schedule.slug.as_deref() == Some("hs:suite:t")).unwrap();
        assert_eq!(ours.rule, spec.rule, "{trigger:?}");
        assert_eq!((ours.active, &ours.parameters), (true, &spec.parameters));
        assert_eq!(read.len(), 2);
    }
}

#[tokio::test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn a_schedule_is_paused_resumed_and_removed_beside_one_of_others() {
    let demo = shared().await;
    let others = of_slug(&demo, "of-others");
    let (id, slug) = (&demo.workflow.id, "hs:suite:t");
    let nightly = Trigger::cron("30 2 * * *", "UTC").unwrap();
    demo.engine.upsert_schedule(id, &spec(&demo, &nightly)).await.unwrap();

    assert!(demo.engine.set_schedule_active(id, slug, false).await.unwrap());
    assert_eq!(of_slug(&demo, slug)["active"], false);
    assert!(demo.engine.set_schedule_active(id, slug, true).await.unwrap());
    assert_eq!(of_slug(&demo, slug)["active"], true);
    let holders = demo.engine.workflows_with("hs:suite:").await.unwrap();
    assert!(holders.iter().any(|workflow| workflow.id == *id), "{holders:?}");
    assert!(demo.engine.delete_schedule(id, slug).await.unwrap());
    assert!(!demo.engine.delete_schedule(id, slug).await.unwrap());
    assert!(!demo.engine.set_schedule_active(id, slug, true).await.unwrap());

    assert_eq!(schedules(&demo), [others]);
}

#[tokio::test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn a_window_of_the_past_is_filled_in_once() {
    let demo = shared().await;
    let hourly = Trigger::cron("0 * * * *", "UTC").unwrap();
    let id = &demo.workflow.id;
    demo.engine.upsert_schedule(id, &spec(&demo, &hourly)).await.unwrap();
    let from: Timestamp = "2026-02-01T00:30:00Z".parse().unwrap();
    let to: Timestamp = "2026-02-01T03:30:00Z".parse().unwrap();

    for _ in 0..2 {
        demo.engine.backfill(id, from, to, 3).await.unwrap();
    }

    let runs = demo.runs();
    let time = |run: &Value| run["expected_start_time"].as_str().unwrap().to_owned();
    let mut past: Vec<String> = runs.iter().map(time).filter(|time| time.starts_with("2026-02-01")).collect();
    past.sort_unstable();
    let hours = |time: &String| time[11..13].to_owned();
    assert_eq!(past.iter().map(hours).collect::<Vec<_>>(), ["01", "02", "03"], "{past:?}");
    for run in runs {
        let path = format!("/flow_runs/{}", run["id"].as_str().unwrap());
        assert!(demo.records.call("DELETE", &path, &Value::Null).0 < 500);
    }
}
