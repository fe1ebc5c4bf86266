//! The deployment that runs a task of ours: made once, then only patched.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use backend_workflow::{Hosting, Phase, PrefectEngine, Workflow, WorkflowEngine};
use scheduler_core::Overlap;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::demo::{engine, launch};
use crate::records::{PATIENCE, Records, until, variable};

const FLOW: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/prefect/scheduler_flow.py");

/// Stands in for the scheduler: it says how it was called.
const PROGRAM: &str =
    "#!/bin/sh\n[ $3 = $PPID ] && shift 3\necho \"called: $*\"\necho \"GREETING=$GREETING\"\n";

/// A folder with the flow and a program, and a task that nobody else has.
fn hosting(program: &str) -> (TempDir, Hosting) {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("program");
    std::fs::copy(FLOW, folder.path().join("scheduler_flow.py")).unwrap();
    std::fs::write(&script, program).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let text = |path: &Path| path.display().to_string();
    let hosting = Hosting {
        deployment: format!("{}.work", text(Path::new(folder.path().file_name().unwrap()))),
        task: "work".to_owned(),
        program: text(&script),
        config: Some("/etc/scheduler.toml".to_owned()),
        overlap: Overlap::Allow,
        pool: variable("TEST_PREFECT_POOL"),
        flow_folder: text(folder.path()),
        env: BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]),
    };
    (folder, hosting)
}

fn recorded(records: &Records, hosting: &Hosting) -> (u16, Value) {
    records.call("GET", &format!("/deployments/name/hybrid_scheduler/{}", hosting.deployment), &Value::Null)
}

/// Making it is not repeated by the client, since a repetition may harm what was made meanwhile; callers come again.
async fn made(engine: &PrefectEngine, hosting: &Hosting) -> Workflow {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match engine.host(hosting, false).await {
            Err(error) if error.is_transient() && Instant::now() < deadline => {}
            done => return done.unwrap().workflow.unwrap(),
        }
    }
}

#[tokio::test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn a_task_of_ours_is_hosted_once_and_a_run_of_it_calls_the_program() {
    let records = Records::of_suite();
    let engine = engine(&records);
    let (_folder, mut hosting) = hosting(PROGRAM);

    let planned = engine.host(&hosting, true).await.unwrap();
    assert!(planned.workflow.is_none() && !planned.is_same(), "{planned:?}");
    assert_eq!(recorded(&records, &hosting).0, 404);
    let made = made(&engine, &hosting).await;
    let again = engine.host(&hosting, false).await.unwrap();
    assert!(again.is_same(), "{again:?}");
    let before = recorded(&records, &hosting).1;
    hosting.config = Some("/etc/other.toml".to_owned());
    let moved = engine.host(&hosting, false).await.unwrap();
    let config = |fields: &Map<String, Value>| fields["parameters"]["config"].clone();
    assert_eq!(
        (config(&moved.before), config(&moved.after)),
        (json!("/etc/scheduler.toml"), json!("/etc/other.toml"))
    );
    let after = recorded(&records, &hosting).1;
    assert_eq!((&after["id"], &after["created"]), (&before["id"], &before["created"]));

    let parameters = json!({
        "run_id": "01hzzzzzzzzzzzzzzzzzzzzzzz",
        "fire_time": "2026-03-04T05:06:07.008Z",
        "params": { "who": "a \"b\"", "n": 3, "deep": { "list": [1, true] } },
    });
    let launched = engine.trigger(&launch(&made.id, &hosting.deployment, &parameters)).await.unwrap();
    let ended = engine.wait(&launched.run.id, PATIENCE).await.unwrap();

    assert_eq!(ended.phase, Phase::Succeeded, "{ended:?}");
    let log = records.logs(&json!({ "id": ended.id.0 }), "GREETING=hello");
    let called = "called: --attempt 1 --config /etc/other.toml --run-id 01hzzzzzzzzzzzzzzzzzzzzzzz \
                  --fire-time 2026-03-04T05:06:07.008Z --param deep={\"list\" = [1, true]} --param n=3 \
                  --param who=\"a \\\"b\\\"\" -- work";
    assert!(log.iter().any(|line| line == called), "{log:?}");
}

#[tokio::test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn a_deployment_of_others_under_our_name_is_left_alone() {
    let records = Records::of_suite();
    let (_folder, hosting) = hosting(PROGRAM);
    let flow = records.post("/flows/", &json!({ "name": "hybrid_scheduler" }));
    let theirs = json!({ "name": hosting.deployment, "flow_id": flow["id"], "entrypoint": "theirs.py:run" });
    records.post("/deployments/", &theirs);
    let before = recorded(&records, &hosting).1;

    let error = engine(&records).host(&hosting, false).await.unwrap_err();

    assert_eq!(error.code(), "engine/foreign_workflow");
    assert_eq!(recorded(&records, &hosting).1, before);
}

#[tokio::test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn overlap_skip_lets_no_second_run_begin_beside_the_first() {
    let records = Records::of_suite();
    let engine = engine(&records);
    let (folder, mut hosting) = hosting("#!/bin/sh\necho x >> began\nuntil [ -e go ]; do sleep 0.1; done\n");
    hosting.overlap = Overlap::Skip;
    let made = made(&engine, &hosting).await;
    let began = folder.path().join("began");
    let key = |name: &str| format!("{}-{name}", hosting.deployment);

    let first = engine.trigger(&launch(&made.id, &key("first"), &json!({}))).await.unwrap();
    until("the first run", || began.exists().then_some(()));
    let second = engine.trigger(&launch(&made.id, &key("second"), &json!({}))).await.unwrap();
    let skipped = engine.wait(&second.run.id, PATIENCE).await.unwrap();
    std::fs::write(folder.path().join("go"), "").unwrap();
    let done = engine.wait(&first.run.id, PATIENCE).await.unwrap();

    assert_eq!((skipped.phase, done.phase), (Phase::Cancelled, Phase::Succeeded), "{skipped:?} {done:?}");
    assert_eq!(std::fs::read_to_string(&began).unwrap(), "x\n");
}
