//! The stream of events: a change is seen because it was told, a stream that is cut ends with a reason, and one that is
//! refused costs nothing but looks.

use std::sync::Arc;
use std::time::Duration;

use backend_workflow::{
    PrefectEngine, PrefectSettings, Told, WorkflowBackend, WorkflowConfig, WorkflowEngine,
};
use scheduler_core::{
    Event, Name, OnUnavailable, Registry, Scheduler, SystemClock, Task, Tier, TriggerRequest, Way, source,
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::demo::{Demo, engine, engine_at};
use crate::records::{PATIENCE, Records};

/// How long a change that may have come too early is waited for before it is made again.
const AGAIN: Duration = Duration::from_secs(2);

/// The next that is heard.
pub(crate) async fn next<T>(heard: &mut UnboundedReceiver<T>, what: &str) -> T {
    let heard = tokio::time::timeout(PATIENCE, heard.recv()).await;
    heard.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}")).unwrap()
}

/// Everything from now on up to this.
async fn until<T: PartialEq>(heard: &mut UnboundedReceiver<T>, wanted: &T, what: &str) {
    while next(heard, what).await != *wanted {}
}

pub(crate) fn put(records: &Records, run: &str, state: &str) {
    let body = json!({ "state": { "type": state }, "force": true });
    records.post(&format!("/flow_runs/{run}/set_state"), &body);
}

/// Runs the deployment as a task of ours, and answers what becomes of its runs.
async fn scheduler(
    demo: &Demo,
    engine: PrefectEngine,
    poll: Duration,
) -> (Scheduler, UnboundedReceiver<String>) {
    let name = |text: &str| Name::new(text).unwrap();
    let mut config = WorkflowConfig::default();
    (config.events, config.poll, config.idle_poll) = (true, poll, Duration::from_secs(3_600));
    let backend = WorkflowBackend::new(name("workflow"), config, Arc::new(engine));
    let mut registry = Registry::new();
    registry.add_job(backend_workflow::job(), source!(), Way::Explicit).unwrap();
    let scheduler = Scheduler::builder(Arc::new(SystemClock::new()))
        .namespace(name(&format!(
            "events_{}",
            demo.workflow.name.deployment.trim_start_matches('.').to_lowercase()
        )))
        .registry(registry)
        .backend(Arc::new(backend))
        .build()
        .unwrap();
    let (tell, told) = unbounded_channel();
    scheduler.events().listen(move |event| {
        let news = match event {
            Event::AttemptStarted { .. } => "started",
            Event::RunEnded { run, .. } => run.state.as_str(),
            _ => return,
        };
        // Nobody listens any more when the test is over.
        let _ = tell.send(news.to_owned());
    });
    scheduler.start().await.unwrap();
    let mut task = Task::new(name("told"), name("prefect"));
    task.args = json!({ "flow": "demo", "deployment": demo.workflow.name.deployment });
    (task.tier, task.on_unavailable) = (Some(Tier::Workflow), OnUnavailable::Error);
    scheduler.submit(task).await.unwrap();
    scheduler.trigger(&name("told"), TriggerRequest::now()).await.unwrap();
    (scheduler, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn a_change_is_told_without_looking_for_it() {
    let demo = Demo::new(&json!({ "work_pool_name": Value::Null })).await;
    // Between two looks lies an hour, so what is heard sooner was told.
    let (scheduler, mut told) = scheduler(&demo, engine(&demo.records), Duration::from_secs(3_600)).await;
    let run = demo.runs()[0]["id"].as_str().unwrap().to_owned();

    // The stream may open after the first of them, and is told each change then.
    let started = async {
        loop {
            put(&demo.records, &run, "RUNNING");
            if let Ok(Some(news)) = tokio::time::timeout(AGAIN, told.recv()).await {
                return news;
            }
        }
    };
    let started = tokio::time::timeout(PATIENCE, started).await.expect("the start is told");
    put(&demo.records, &run, "COMPLETED");
    let ended = next(&mut told, "the end of the run").await;

    assert_eq!((started.as_str(), ended.as_str()), ("started", "succeeded"));
    scheduler.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Prefect server: cargo xtask integration workflow"]
async fn where_the_stream_is_refused_runs_are_looked_at() {
    let demo = Demo::new(&json!({ "work_pool_name": Value::Null })).await;
    let way = proxy(&demo.records, true).await;
    let (scheduler, mut told) = scheduler(&demo, engine_at(&way.url), Duration::from_millis(500)).await;
    let run = demo.runs()[0]["id"].as_str().unwrap().to_owned();
    tokio::time::timeout(PATIENCE, way.refused.notified()).await.expect("it asks for the stream");

    put(&demo.records, &run, "RUNNING");
    until(&mut told, &"started".to_owned(), "the start of the run").await;
    put(&demo.records, &run, "COMPLETED");
    until(&mut told, &"succeeded".to_owned(), "the end of the run").await;

    // It goes on asking, for the stream may come back.
    tokio::time::timeout(PATIENCE, way.refused.notified()).await.expect("it asks again");
    scheduler.stop(Duration::from_secs(5)).await.unwrap();
}

/// A way to the suite's server.
struct Proxy {
    url: String,
    /// Ends every connection.
    cut: Arc<Notify>,
    /// Tells that the stream of events was refused.
    refused: Arc<Notify>,
}

/// Passes everything on to the suite's server until it is cut, but perhaps no stream of events: there are gateways
/// that let none through.
async fn proxy(records: &Records, refuses_events: bool) -> Proxy {
    let (host, base) = records.url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let (host, listener) = (host.to_owned(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let url = format!("http://{}/{base}", listener.local_addr().unwrap());
    let (cut, refused) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let way = Proxy { url, cut: Arc::clone(&cut), refused: Arc::clone(&refused) };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (host, cut, refused) = (host.clone(), Arc::clone(&cut), Arc::clone(&refused));
            tokio::spawn(async move {
                if refuses_events && asks_for_events(&stream).await {
                    refuse(stream).await;
                    refused.notify_one();
                    return;
                }
                pass_on(stream, &host, &cut).await;
            });
        }
    });
    way
}

async fn asks_for_events(stream: &TcpStream) -> bool {
    let mut head = [0; 64];
    let seen = stream.peek(&mut head).await.unwrap_or(0);
    String::from_utf8_lossy(&head[..seen]).contains("/events/out")
}

async fn refuse(mut stream: TcpStream) {
    let answer = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(answer).await.unwrap();
}

async fn pass_on(mut stream: TcpStream, host: &str, cut: &Notify) {
    let mut server = TcpStream::connect(host).await.unwrap();
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut stream, &mut server) => {}
        () = cut.notified() => {}
    }
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
    let way = proxy(&demo.records, false).await;
    let (tell, mut told) = unbounded_channel();
    let engine = PrefectEngine::new(PrefectSettings::new(&way.url)).unwrap();
    let listening =
        tokio::spawn(async move { engine.watch(&tag, &move |news| tell.send(news).unwrap()).await });
    assert_eq!(next(&mut told, "the stream").await, Told::Begun);

    put(&demo.records, &theirs.0, "RUNNING");
    put(&demo.records, &ours.0, "RUNNING");
    let first = next(&mut told, "the event").await;
    way.cut.notify_waiters();
    let ended = listening.await.unwrap().unwrap_err();

    assert_eq!(ended.code(), "engine/cut_short", "{ended}");
    let mut all = vec![first];
    while let Some(news) = told.recv().await {
        all.push(news);
    }
    assert!(all.iter().all(|told| *told == Told::Changed(ours.clone())), "{all:?}");
}
