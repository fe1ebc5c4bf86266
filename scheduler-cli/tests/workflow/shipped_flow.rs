//! The flow that we ship, deployed by hand over plain HTTP: what a run of it does on a worker.

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::records::{Records, until, variable};

const FLOW: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/prefect/scheduler_flow.py");

/// A task `work` that runs a shell script in the folder of its configuration.
fn bench(script: &str) -> Bench {
    let bench = Bench::new("");
    let folder = bench.path("");
    let config = format!(
        "[backends.local]\n[tasks.work]\njob = \"exec\"\ntimeout = \"5m\"\n[tasks.work.args]\nshell = true\n\
         program = '''\ncd {}\n{script}\n'''\n",
        folder.display()
    );
    bench.write("scheduler.toml", &config);
    std::fs::copy(FLOW, bench.path("scheduler_flow.py")).unwrap();
    bench
}

/// The flow as a deployment that runs the task `work`.
fn deploy(records: &Records, bench: &Bench, more: &Value) -> Value {
    let flow = records.post("/flows/", &json!({ "name": "hybrid_scheduler" }));
    let folder = bench.path("");
    let mut wanted = json!({
        "name": format!("by-hand-{}", folder.file_name().unwrap().to_string_lossy()),
        "flow_id": flow["id"],
        "work_pool_name": variable("TEST_PREFECT_POOL"),
        "entrypoint": "scheduler_flow.py:run_task",
        "path": folder,
        "pull_steps": [{ "prefect.deployments.steps.set_working_directory": { "directory": folder } }],
        "parameters": {
            "task": "work",
            "program": env!("CARGO_BIN_EXE_scheduler"),
            "config": bench.path("scheduler.toml"),
        },
    });
    wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    records.post("/deployments/", &wanted)
}

fn start(records: &Records, deployment: &Value, more: &Value) -> Value {
    // A key counts for all deployments of a flow.
    let mut wanted = json!({ "idempotency_key": deployment["name"] });
    wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let path = format!("/deployments/{}/create_flow_run", deployment["id"].as_str().unwrap());
    records.post(&path, &wanted)
}

/// The process that the script wrote down as its own.
fn program(bench: &Bench) -> String {
    until("the program", || {
        let pid = std::fs::read_to_string(bench.path("pid")).ok()?;
        pid.strip_suffix('\n').map(str::to_owned)
    })
}

/// Waits until none of these processes lives any more.
fn all_end(processes: &[String]) {
    for pid in processes {
        until(&format!("the end of {pid} of {processes:?}"), || {
            let is_gone = std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .map_or(true, |stat| stat.contains(") Z "));
            is_gone.then_some(())
        });
    }
}

/// The processes from this one up to the first of all.
fn ancestors(pid: &str) -> Vec<String> {
    let parent = |pid: &String| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything; the state and the parent come after it.
        stat.rsplit_once(") ")?.1.split(' ').nth(1).map(str::to_owned)
    };
    std::iter::successors(Some(pid.to_owned()), parent).take_while(|pid| pid != "0").collect()
}

#[test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
fn a_run_is_an_attempt_on_the_worker_and_its_output_stands_in_the_log() {
    let records = Records::of_suite();
    let bench = bench(
        "echo out $SCHEDULER_RUN_ID $SCHEDULER_FIRE_TIME $SCHEDULER_ATTEMPT\necho err >&2\necho $$ > pid\n\
         until [ -e go ]; do sleep 0.1; done",
    );
    let deployment = deploy(&records, &bench, &json!({}));
    let given = json!({ "run_id": "01hzzzzzzzzzzzzzzzzzzzzzzz", "fire_time": "2026-03-04T05:06:07.008Z" });

    let run = start(&records, &deployment, &json!({ "parameters": given }));
    let pid = program(&bench);
    let ancestors = ancestors(&pid);
    bench.write("go", "");
    let ended = records.becomes(&run, &["COMPLETED", "FAILED", "CRASHED"]);

    assert_eq!(ended["state_type"], "COMPLETED", "{ended}");
    assert!(ancestors.contains(&variable("TEST_PREFECT_WORKER")), "{ancestors:?}");
    let log = records.logs(&run, "work succeeded after");
    let has = |text: &str| log.iter().any(|line| line == text);
    assert!(has("out 01hzzzzzzzzzzzzzzzzzzzzzzz 2026-03-04T05:06:07.008Z 1"), "{log:?}");
    assert!(has("err"), "{log:?}");
}

#[test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
fn a_failed_attempt_fails_the_run_with_its_reason_and_a_retry_is_the_next_attempt() {
    let records = Records::of_suite();
    let bench = bench("echo attempt $SCHEDULER_ATTEMPT; echo no luck >&2; exit 3");
    let deployment = deploy(&records, &bench, &json!({}));

    let retried = json!({ "empirical_policy": { "retries": 1, "retry_delay": 0 } });
    let run = start(&records, &deployment, &retried);
    let ended = records.becomes(&run, &["COMPLETED", "FAILED", "CRASHED"]);

    assert_eq!(ended["state_type"], "FAILED", "{ended}");
    let reason = ended["state"]["message"].as_str().unwrap();
    assert!(reason.contains("work failed after") && reason.contains("exit code 3: no luck"), "{reason}");
    assert_eq!(ended["run_count"], 2);
    let log = records.logs(&run, "attempt 2");
    assert!(log.iter().any(|line| line == "attempt 1"), "{log:?}");
}

#[test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
fn a_task_that_is_not_there_fails_the_run_with_what_the_program_said() {
    let records = Records::of_suite();
    let bench = bench("true");
    let deployment = deploy(&records, &bench, &json!({}));

    let run = start(&records, &deployment, &json!({ "parameters": { "task": "wrok" } }));
    let ended = records.becomes(&run, &["COMPLETED", "FAILED", "CRASHED"]);

    assert_eq!(ended["state_type"], "FAILED", "{ended}");
    let reason = ended["state"]["message"].as_str().unwrap();
    assert!(reason.contains("ended with 4") && reason.contains("wrok"), "{reason}");
}

#[test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
fn a_cancelled_run_leaves_no_process() {
    let records = Records::of_suite();
    let bench = bench("trap 'touch told; exit 1' TERM\necho $$ > pid\nwhile :; do sleep 0.1; done");
    let deployment = deploy(&records, &bench, &json!({}));

    let run = start(&records, &deployment, &json!({}));
    let pid = program(&bench);
    let chain = ancestors(&pid);
    let cancelling = json!({ "state": { "type": "CANCELLING", "name": "Cancelling" } });
    records.post(&format!("/flow_runs/{}/set_state", run["id"].as_str().unwrap()), &cancelling);
    let ended = records.becomes(&run, &["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]);

    assert_eq!(ended["state_type"], "CANCELLED", "{ended}");
    assert!(bench.path("told").exists());
    let worker = chain.iter().position(|pid| *pid == variable("TEST_PREFECT_WORKER")).unwrap();
    all_end(&chain[..worker]);
}

#[test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
fn a_run_whose_process_is_killed_by_force_leaves_no_program() {
    let records = Records::of_suite();
    let bench = bench("trap '' TERM\necho $$ > pid\nwhile :; do sleep 0.1; done");
    let deployment = deploy(&records, &bench, &json!({}));

    let run = start(&records, &deployment, &json!({}));
    let pid = program(&bench);
    let chain = ancestors(&pid);
    let is_of_scheduler = |pid: &&String| {
        std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("scheduler"))
    };
    let scheduler = chain.iter().rposition(|pid| is_of_scheduler(&pid)).unwrap();
    let flow = rustix::process::Pid::from_raw(chain[scheduler + 1].parse().unwrap()).unwrap();
    rustix::process::kill_process(flow, rustix::process::Signal::KILL).unwrap();

    all_end(&chain[..=scheduler]);
    let ended = records.becomes(&run, &["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]);
    assert_eq!(ended["state_type"], "CRASHED", "{ended}");
}

#[test]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
fn a_run_of_prefects_own_schedule_has_the_planned_time_as_its_fire_time() {
    let records = Records::of_suite();
    let bench = bench("echo fire $SCHEDULER_FIRE_TIME $SCHEDULER_RUN_ID");
    let schedule = json!({ "interval": 20.0, "anchor_date": "2026-01-01T00:00:00Z", "timezone": "UTC" });
    let more = json!({ "schedules": [{ "slug": "by-hand", "active": true, "schedule": schedule }] });
    let deployment = deploy(&records, &bench, &more);

    let ended = until("a run of the schedule", || {
        records.runs_of(&deployment).into_iter().find(|run| run["state_type"] == "COMPLETED")
    });
    let pause = format!("/deployments/{}/pause_deployment", deployment["id"].as_str().unwrap());
    records.post(&pause, &json!({}));

    let planned: scheduler_core::Timestamp = ended["expected_start_time"].as_str().unwrap().parse().unwrap();
    let name = |name: &str| scheduler_core::Name::new(name).unwrap();
    let id = scheduler_core::RunId::scheduled(&name("default"), &name("work"), planned);
    records.logs(&ended, &format!("fire {planned} {id}"));
}
