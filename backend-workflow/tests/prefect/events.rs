//! The stream of events: a change is seen because it was told, and a stream that is cut ends with a reason.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use backend_workflow::{
    PrefectEngine, PrefectSettings, Told, WorkflowBackend, WorkflowConfig, WorkflowEngine,
};
use scheduler_core::{
    Event, Name, OnUnavailable, Registry, Scheduler, SystemClock, Task, Tier, TriggerRequest, Way, source,
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::demo::{Demo, engine};
use crate::records::{PATIENCE, Records};

/// Waits for what `look` answers, and lets the test's other tasks go on meanwhile.
async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let waited = async {
        loop {
            match look() {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}

fn put(records: &Records, run: &str, state: &str) {
    let body = json!({ "state": { "type": state }, "force": true });
    records.post(&format!("/flow_runs/{run}/set_state"), &body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn a_change_is_told_without_looking_for_it() {
    let demo = Demo::new(&json!({ "work_pool_name": Value::Null })).await;
    let hour = Duration::from_secs(3_600);
    // Between two looks lies an hour, so what is heard sooner was told.
    let mut config = WorkflowConfig::default();
    (config.events, config.poll, config.idle_poll) = (true, hour, hour);
    let name = |text: &str| Name::new(text).unwrap();
    let backend = WorkflowBackend::new(name("workflow"), config, Arc::new(engine(&demo.records)));
    let mut registry = Registry::new();
    registry.add_job(backend_workflow::job(), source!(), Way::Explicit).unwrap();
    let namespace = name(&format!("events_{}", std::process::id()));
    let scheduler = Scheduler::builder(Arc::new(SystemClock::new()))
        .namespace(namespace)
        .registry(registry)
        .backend(Arc::new(backend))
        .build()
        .unwrap();
    let told: Arc<Mutex<Vec<&str>>> = Arc::default();
    let heard = Arc::clone(&told);
    scheduler.events().listen(move |event| match event {
        Event::AttemptStarted { .. } => heard.lock().unwrap().push("started"),
        Event::RunEnded { run, .. } => heard.lock().unwrap().push(run.state.as_str()),
        _ => {}
    });
    scheduler.start().await.unwrap();
    let mut task = Task::new(name("told"), name("prefect"));
    task.args = json!({ "flow": "demo", "deployment": demo.workflow.name.deployment });
    (task.tier, task.on_unavailable) = (Some(Tier::Workflow), OnUnavailable::Error);
    scheduler.submit(task).await.unwrap();
    scheduler.trigger(&name("told"), TriggerRequest::now()).await.unwrap();
    let run = demo.runs()[0]["id"].as_str().unwrap().to_owned();

    // The stream may open after the first of them, and is told each change then.
    until("the start of the run", || {
        put(&demo.records, &run, "RUNNING");
        told.lock().unwrap().first().copied()
    })
    .await;
    put(&demo.records, &run, "COMPLETED");
    until("the end of the run", || told.lock().unwrap().contains(&"succeeded").then_some(())).await;

    scheduler.stop(Duration::from_secs(5)).await.unwrap();
}

/// Passes everything on to the suite's server until it is cut.
async fn proxy(records: &Records) -> (String, Arc<Notify>) {
    let (host, base) = records.url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let (host, listener) = (host.to_owned(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let url = format!("http://{}/{base}", listener.local_addr().unwrap());
    let cut = Arc::new(Notify::new());
    let heard = Arc::clone(&cut);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut server = TcpStream::connect(&host).await.unwrap();
            let heard = Arc::clone(&heard);
            tokio::spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut stream, &mut server) => {}
                    () = heard.notified() => {}
                }
            });
        }
    });
    (url, cut)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn events_are_those_of_runs_with_the_tag_and_a_stream_that_is_cut_ends_with_a_reason() {
    let demo = Demo::new(&json!({ "work_pool_name": Value::Null })).await;
    let launch = |key: &str, tag: &str| {
        let mut launch = demo.launch(key, &json!({}));
        launch.tags = vec![tag.to_owned()];
        launch
    };
    let tag = demo.key("tag");
    let ours = demo.engine.trigger(&launch("ours", &tag)).await.unwrap().run.id;
    let theirs = demo.engine.trigger(&launch("theirs", "of-others")).await.unwrap().run.id;
    let (url, cut) = proxy(&demo.records).await;
    let told: Arc<Mutex<Vec<Told>>> = Arc::default();
    let heard = Arc::clone(&told);
    let listening = tokio::spawn(async move {
        let engine = PrefectEngine::new(PrefectSettings::new(url)).unwrap();
        engine.watch(&tag, &move |told| heard.lock().unwrap().push(told)).await
    });
    until("the stream", || told.lock().unwrap().first().cloned()).await;

    put(&demo.records, &theirs.0, "RUNNING");
    put(&demo.records, &ours.0, "RUNNING");
    until("the event", || told.lock().unwrap().get(1).cloned()).await;
    cut.notify_waiters();
    let ended = listening.await.unwrap().unwrap_err();

    assert_eq!(ended.code(), "engine/cut_short", "{ended}");
    let told = told.lock().unwrap().clone();
    assert_eq!(told[0], Told::Begun);
    assert!(told[1..].iter().all(|told| *told == Told::Changed(ours.clone())), "{told:?}");
}
