//! What the pages of apalis-board find, on each store.

use std::sync::Arc;
use std::time::Duration;

use apalis_core::backend::codec::Codec;
use apalis_core::backend::finalize::Durable;
use apalis_core::backend::{
    Backend as ApalisBackend, BackendConfig, Expose, FetchById, Filter, ListAllTasks, ListQueues, ListTasks,
    ListWorkers, Metrics, Statistic, TaskSink, TaskSinkError, WireFormatBackend,
};
use apalis_core::task::Task as ApalisTask;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::status::Status;
use apalis_core::task::task_id::TaskId;
use scheduler_core::{
    Adhoc, Backend, BackendContext, Clock, JobDescriptor, JobError, Name, Output, Priority, Registry,
    RunFilter, RunId, RunRequest, RunState, SystemClock, Timestamp, Way,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::board::seconds;
use crate::config::QueueSettings;
use crate::{Board, QueueBackend, QueueConfig, Synchronous};

/// Of the titles that apalis-board 1.0 knows those that we have figures for.
const TITLES: [&str; 8] = [
    "PENDING_JOBS",
    "QUEUE_BACKLOG",
    "RUNNING_JOBS",
    "FAILED_JOBS",
    "DONE_JOBS",
    "KILLED_JOBS",
    "TOTAL_JOBS",
    "SUCCESS_RATE",
];

/// Longer than any machine takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

struct Stage {
    _folder: TempDir,
    backend: Arc<QueueBackend>,
    boards: Vec<(Name, Board)>,
}

impl Stage {
    /// Three runs have ended well in `mail` and one badly; two in `default` are for later.
    async fn set(url: &str, namespace: Name) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = QueueConfig { url: url.to_owned(), ..QueueConfig::default() };
        config.synchronous = Synchronous::Normal;
        config.queues.insert(name("mail"), QueueSettings::default());
        let backend = Arc::new(QueueBackend::new(name("queue"), config));
        let mut registry = Registry::new();
        let well = JobDescriptor::function("well", "", async |_| Ok::<Output, JobError>(json!(1)));
        let badly = JobDescriptor::function("badly", "", async |_| Err(JobError::abort("it is broken")));
        for job in [well.adhoc(), badly.adhoc()] {
            registry.add_job(job, scheduler_core::source!(), Way::Explicit).unwrap();
        }
        let mut ctx = BackendContext::standalone(namespace, Arc::new(SystemClock::new()));
        ctx.registry = Arc::new(registry);
        ctx.data_dir = Some(folder.path().to_owned());
        backend.start(ctx.clone()).await.unwrap();

        let now = ctx.clock.now();
        let asked = |job: &str, queue: &str, later: u64| {
            let mut request = RunRequest::manual(RunId::manual(now), name(job), now);
            request.due = now + Duration::from_secs(later);
            request.adhoc = Some(Adhoc::new(name(job), Value::Null));
            request.queue = Some(name(queue));
            request
        };
        let mut all: Vec<RunRequest> = (0..3).map(|_| asked("well", "mail", 0)).collect();
        all.push(asked("badly", "mail", 0));
        all.extend((0..2).map(|_| asked("well", "default", 3_600)));
        backend.enqueue_all(all).await.unwrap();
        let stage = Self { _folder: folder, boards: Board::of(&backend), backend };
        stage.until_ended(4).await;
        stage
    }

    async fn until_ended(&self, count: usize) {
        tokio::time::timeout(PATIENCE, async {
            loop {
                let runs = self.backend.runs(&RunFilter::all()).await.unwrap().runs;
                if runs.iter().filter(|run| run.state.is_end()).count() >= count {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("they end in time");
    }

    fn board(&self, queue: &str) -> Board {
        self.boards.iter().find(|(name, _)| name.as_str() == queue).unwrap().1.clone()
    }
}

fn filter(status: Option<Status>, page: u32, size: u32) -> Filter {
    Filter { status, page, page_size: Some(size) }
}

fn value<'a>(statistics: &'a [Statistic], title: &str) -> &'a str {
    statistics.iter().find(|found| found.title == title).map_or("", |found| &found.value)
}

/// Compiles for what a board may be made of only.
fn is_exposed<B: Expose<Value, Durable> + FetchById + Clone + Send + Sync + 'static>(_: &B) {}

/// Compiles for what `register` of apalis-board takes only, on each of its frameworks, and where it finds by itself of
/// which type the args are.
fn is_registered<B, Args, Compact>(_: &B)
where
    B: Metrics + ListWorkers + ListAllTasks + ListQueues + ListTasks + FetchById + BackendConfig,
    B: TaskSink<Args, B::Kind> + Send + Sync + 'static,
    B: WireFormatBackend<Compact = Compact> + ApalisBackend<Task = ApalisTask<Compact>>,
    B::Error: std::error::Error,
    B::Codec: Codec<Args, Compact = Compact>,
    <B::Codec as Codec<Args>>::Error: std::error::Error,
    Args: Serialize + DeserializeOwned + Send + 'static,
    Compact: Serialize + Send + 'static,
{
}

async fn the_pages_list_our_queues(stage: &Stage) {
    let (mail, default) = (stage.board("mail"), stage.board("default"));
    is_exposed(&mail);
    is_registered(&mail);

    let queues = mail.list_queues().await.unwrap();
    let names: Vec<&str> = queues.iter().map(|queue| queue.name.as_str()).collect();
    assert_eq!(names, ["default", "mail"]);
    assert_eq!((value(&queues[1].stats, "DONE_JOBS"), value(&queues[1].stats, "KILLED_JOBS")), ("3", "1"));
    assert_eq!(value(&queues[1].stats, "SUCCESS_RATE"), "75.0");
    assert_eq!((value(&queues[0].stats, "PENDING_JOBS"), queues[1].activity.iter().sum::<usize>()), ("2", 4));
    assert_eq!(queues[1].workers, ["queue"]);
    assert_eq!(mail.list_workers().await.unwrap()[0].queue, "mail");

    let global = default.global().await.unwrap();
    assert_eq!((value(&global, "TOTAL_JOBS"), value(&global, "QUEUE_BACKLOG")), ("6", "0"));
    for statistic in global.iter().chain(&queues[1].stats) {
        assert!(TITLES.contains(&statistic.title.as_str()), "the board has no title for {}", statistic.title);
    }
    assert_eq!(value(&default.fetch_by_queue().await.unwrap(), "TOTAL_JOBS"), "2");

    let counted = mail.counted(4).await.unwrap();
    let total = |queue: &str| value(&counted[queue].statistics(), "TOTAL_JOBS").to_owned();
    assert_eq!((total("mail"), total("default")), ("4".into(), "2".into()), "those for later hide no end");
}

async fn the_pages_list_our_runs(stage: &Stage) {
    let (mut mail, default) = (stage.board("mail"), stage.board("default"));

    assert_eq!(mail.list_all_tasks(&filter(None, 1, 10)).await.unwrap().len(), 6);
    assert_eq!(mail.list_tasks(&filter(Some(Status::Done), 1, 2)).await.unwrap().len(), 2);
    assert_eq!(mail.list_tasks(&filter(Some(Status::Done), 2, 2)).await.unwrap().len(), 1);
    assert_eq!(default.list_tasks(&filter(Some(Status::Pending), 0, 10)).await.unwrap().len(), 2);
    assert!(default.list_tasks(&filter(None, u32::MAX, u32::MAX)).await.unwrap().is_empty());

    let killed = mail.list_tasks(&filter(Some(Status::Killed), 1, 10)).await.unwrap().remove(0);
    assert_eq!(killed.args["job"], "badly");
    assert_eq!(killed.metadata().get("state"), Some("failed"));
    assert!(killed.metadata().get("reason").unwrap().contains("it is broken"));
    // The pages show the last result, and no metadata.
    let result = killed.runs().last().unwrap().result.clone().unwrap();
    assert_eq!((result.status, result.result), (Status::Killed, Err("failed: it is broken".to_owned())));
    assert_eq!(killed.queue().unwrap().to_string(), "mail", "the rest is as it was");
    assert_eq!((killed.status(), killed.attempt()), (Status::Killed, 1));
    let done = mail.list_tasks(&filter(Some(Status::Done), 1, 1)).await.unwrap().remove(0);
    assert!(done.runs().is_empty());
    let id = killed.task_id().unwrap().clone();
    assert!(mail.fetch_by_id(&id).await.unwrap().is_some());
    let mut other = stage.board("default");
    assert!(other.fetch_by_id(&id).await.unwrap().is_none(), "it is in another queue");
    assert!(mail.fetch_by_id(&TaskId::from_string("x")).await.unwrap().is_none(), "it is no run's");
}

async fn what_is_pushed_is_asked_for_as_by_anybody(stage: &Stage) {
    let mut mail = stage.board("mail");

    TaskSink::<Value, Durable>::push(&mut mail, json!({"job": "well"})).await.unwrap();
    stage.until_ended(5).await;
    let done = stage.backend.runs(&RunFilter::all().in_states(&[RunState::Succeeded])).await.unwrap().runs;
    assert_eq!(done.iter().filter(|run| run.queue == Some(name("mail"))).count(), 4);

    for (order, code) in [
        (json!({"job": "nobody"}), "job/unknown"),
        (json!({"task": "nobody"}), "task/unknown"),
        (json!({"task": "a", "job": "b"}), "board/no_order"),
        (json!(7), "board/no_order"),
    ] {
        let error = TaskSink::<Value, Durable>::push(&mut mail, order.clone()).await.unwrap_err();
        let TaskSinkError::PushError(error) = error else { panic!("{error}") };
        assert_eq!(error.code(), code, "{order}");
    }
    let later = TaskBuilder::new(json!({"job": "well"})).run_in_seconds(3_600).build();
    TaskSink::<Value, Durable>::push_task(&mut mail, later).await.unwrap();
    let scheduled =
        stage.backend.runs(&RunFilter::all().in_states(&[RunState::Scheduled])).await.unwrap().runs;
    let later: Vec<RunId> =
        scheduled.iter().filter(|run| run.queue == Some(name("mail"))).map(|run| run.id).collect();
    assert_eq!(later.len(), 1);
    let shown = mail.fetch_by_id(&TaskId::from_string(later[0].to_string())).await.unwrap().unwrap();
    assert!(shown.run_at().unwrap() > seconds(SystemClock::new().now()) + 3_000, "when it is to run");
    TaskSink::<Value, Durable>::push_bulk(&mut mail, vec![json!({"job": "well"}), json!({"job": "well"})])
        .await
        .unwrap();
    stage.until_ended(7).await;

    stage.backend.cancel(&later[0]).await.unwrap();
    let statistics = mail.fetch_by_queue().await.unwrap();
    assert_eq!((value(&statistics, "DONE_JOBS"), value(&statistics, "KILLED_JOBS")), ("6", "2"));
    assert_eq!(value(&statistics, "SUCCESS_RATE"), "85.7", "what was cancelled has not failed");
}

#[test]
fn what_is_pushed_means_what_it_says_or_is_refused() {
    let backend = Arc::new(QueueBackend::new(name("queue"), QueueConfig::default()));
    let (_, board) = Board::of(&backend).remove(0);
    let task = || TaskBuilder::new(json!({"job": "well"}));

    let request = board.order(task().priority(9).run_at_timestamp(7_000_000_000).build()).unwrap();
    assert_eq!(request.priority, Priority::new(9));
    assert_eq!((seconds(request.due), seconds(request.fire_time)), (7_000_000_000, 7_000_000_000));
    assert_eq!(board.order(task().build()).unwrap().priority, None);
    assert_eq!(board.order(task().run_at_timestamp(u64::MAX).build()).unwrap().due, Timestamp::MAX);

    for given in [
        task().priority(10),
        task().idempotency_key("k"),
        task().task_id(TaskId::from_string("mine")),
        task().max_attempts(2),
    ] {
        let given = given.build();
        assert_eq!(board.order(given.clone()).unwrap_err().code(), "board/no_order", "{given:?}");
    }
}

async fn a_board_shows_what_is_there(url: &str, namespace: Name) {
    let stage = Stage::set(url, namespace).await;

    the_pages_list_our_queues(&stage).await;
    the_pages_list_our_runs(&stage).await;
    what_is_pushed_is_asked_for_as_by_anybody(&stage).await;

    stage.backend.stop(PATIENCE).await.unwrap();
    assert!(stage.board("mail").list_workers().await.unwrap().is_empty(), "nothing runs here any more");
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_board_shows_what_is_on_sqlite() {
    a_board_shows_what_is_there("sqlite:queue.db", name("board")).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_board_shows_what_is_on_redis() {
    a_board_shows_what_is_there(&crate::redis_stage::url(), crate::redis_stage::namespace()).await;
}
