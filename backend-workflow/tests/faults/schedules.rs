//! What is written when a schedule changes: its own call, and nothing that names the schedules of others.

use backend_workflow::{ScheduleSpec, WorkflowEngine, WorkflowId};
use serde_json::{Map, Value, json};

use crate::rows::engine;
use crate::server::{DEPLOYMENT, Server};

fn spec(slug: &str) -> ScheduleSpec {
    let rule = json!({ "cron": "0 2 * * *", "timezone": "UTC", "day_or": true });
    ScheduleSpec { slug: slug.to_owned(), rule, active: true, parameters: Map::new() }
}

/// The requests that write, without those that ask for a token.
fn written(server: &Server) -> Vec<(String, Value)> {
    let seen = server.seen.lock().unwrap();
    let writes = seen.requests.iter().filter(|(line, ..)| !line.starts_with("GET"));
    writes.map(|(line, _, body)| (line.trim_end_matches(" HTTP/1.1").to_owned(), body.clone())).collect()
}

#[tokio::test]
async fn a_schedule_is_written_without_a_word_about_those_of_others() {
    let ours = "7ca5438a-fe07-482c-9b1d-d25e56167743";
    let foreign = json!({ "id": "052ac841-abba-438d-be23-9f20c0b47fd9", "schedule": { "interval": 60.0 } });
    let own = json!({ "id": ours, "slug": "hs:b", "active": true, "schedule": { "cron": "0 1 * * *" } });
    let server = Server::start_with(vec![], None, json!({ "schedules": [foreign, own] })).await;
    let (engine, workflow) = (engine(&server.url), WorkflowId(DEPLOYMENT.to_owned()));

    engine.upsert_schedule(&workflow, &spec("hs:a")).await.unwrap();
    engine.upsert_schedule(&workflow, &spec("hs:b")).await.unwrap();
    assert!(engine.set_schedule_active(&workflow, "hs:b", false).await.unwrap());
    assert!(engine.set_schedule_active(&workflow, "hs:b", true).await.unwrap());
    assert!(!engine.set_schedule_active(&workflow, "hs:c", true).await.unwrap());
    assert!(engine.delete_schedule(&workflow, "hs:b").await.unwrap());
    assert!(!engine.delete_schedule(&workflow, "hs:c").await.unwrap());

    let base = format!("/api/deployments/{DEPLOYMENT}");
    let entry = |spec: ScheduleSpec, active: bool| json!({ "slug": spec.slug, "active": active, "schedule": spec.rule, "parameters": {} });
    let paused =
        json!({ "slug": "hs:b", "active": false, "schedule": { "cron": "0 1 * * *" }, "parameters": {} });
    let expected = [
        (format!("POST {base}/schedules"), json!([entry(spec("hs:a"), true)])),
        (format!("PATCH {base}"), json!({})),
        (format!("PATCH {base}/schedules/{ours}"), entry(spec("hs:b"), true)),
        (format!("PATCH {base}"), json!({})),
        (format!("PATCH {base}/schedules/{ours}"), paused),
        (format!("PATCH {base}"), json!({})),
        (format!("DELETE {base}/schedules/{ours}"), Value::Null),
    ];
    assert_eq!(written(&server), expected);
}
