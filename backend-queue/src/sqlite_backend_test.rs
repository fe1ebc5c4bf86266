//! What the durable tier promises on a SQLite file, as a backend.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use scheduler_core::{
    Backend, BackendContext, Enqueued, Event, Events, HealthStatus, JobDescriptor, Name, Placed, RunFilter,
    RunId, RunRequest, RunState, SystemClock, Task, Tier, place,
};
use sqlx::{Connection, SqliteConnection};

use crate::sqlite_clock::now;
use crate::sqlite_test::{open, pushed, raw};
use crate::store::{Cancel, Store};
use crate::{QueueBackend, QueueConfig};

/// A backend that runs, and one task of a job that succeeds.
async fn running(folder: &Path) -> (QueueBackend, RunRequest) {
    let job = JobDescriptor::function("nothing", "does nothing", |_| async { Ok("done".into()) });
    running_with(folder, &job, QueueConfig::default()).await
}

async fn running_with(folder: &Path, job: &JobDescriptor, config: QueueConfig) -> (QueueBackend, RunRequest) {
    running_heard(folder, job, config, Events::default()).await
}

async fn running_heard(
    folder: &Path,
    job: &JobDescriptor,
    config: QueueConfig,
    events: Events,
) -> (QueueBackend, RunRequest) {
    let backend = QueueBackend::new(Name::new("queue").unwrap(), config);
    let mut ctx = BackendContext::standalone(Name::new("default").unwrap(), Arc::new(SystemClock::new()));
    ctx.data_dir = Some(folder.to_owned());
    ctx.events = events;
    let mut task = Task::new(Name::new("t").unwrap(), job.name().clone());
    task.tier = Some(Tier::Queue);
    let site = scheduler_core::Site { info: backend.info(), is_default: false, is_down: false };
    let placement = place(&task, job, &[site]).unwrap();
    let job = job.build(&serde_json::Value::Null).unwrap();
    ctx.tasks.insert(Arc::new(Placed { task, job, placement: placement.into() }));
    backend.start(ctx).await.unwrap();
    let request = RunRequest::manual(RunId::manual(now()), Name::new("t").unwrap(), now());
    (backend, request)
}

async fn ended(backend: &QueueBackend, id: RunId) -> RunState {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let page = backend.runs(&RunFilter::all()).await.unwrap();
        let state = page.runs.iter().find(|run| run.id == id).map(|run| run.state);
        if let Some(state) = state.filter(|state| state.is_end()) {
            return state;
        }
        assert!(std::time::Instant::now() < deadline, "run {id} does not end: {state:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_queue_that_is_locked_for_a_while_refuses_and_then_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, request) = running(folder.path()).await;
    let file = folder.path().join("queue.db");
    let mut other = SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap();

    sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
    let refused = backend.enqueue(request.clone()).await.unwrap_err();
    // The next look for work finds it out; nothing but the time limit of the suite ends the wait.
    while backend.health().await.status != HealthStatus::Degraded {
        tokio::task::yield_now().await;
    }
    sqlx::query("COMMIT").execute(&mut other).await.unwrap();
    let taken = backend.enqueue(request.clone()).await.unwrap();

    assert_eq!((refused.code(), refused.is_transient()), ("queue/locked", true));
    assert_eq!(taken, Enqueued::Inserted(request.run_id));
    assert_eq!(ended(&backend, request.run_id).await, RunState::Succeeded);
    assert_eq!(backend.health().await.status, HealthStatus::Up);
}

#[tokio::test]
async fn parameters_beyond_a_mebibyte_are_refused_before_they_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, mut request) = running(folder.path()).await;
    request.params.insert("x".to_owned(), "y".repeat(1024 * 1024).into());

    let refused = backend.enqueue(request).await.unwrap_err();

    assert_eq!(refused.code(), "queue/params_too_large");
    assert!(backend.runs(&RunFilter::all()).await.unwrap().runs.is_empty());
}

#[tokio::test]
async fn parameters_that_could_not_be_read_again_are_refused_before_they_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, request) = running(folder.path()).await;
    let nested = |levels| (0..levels).fold(serde_json::Value::Null, |value, _| serde_json::json!([value]));
    let with = |levels| {
        let mut request = request.clone();
        request.params.insert("x".to_owned(), nested(levels));
        request
    };

    let refused = backend.enqueue(with(101)).await.unwrap_err();
    backend.enqueue(with(100)).await.unwrap();

    assert_eq!(refused.code(), "queue/params_too_deep");
    assert_eq!(ended(&backend, request.run_id).await, RunState::Succeeded);
}

#[tokio::test]
async fn a_run_of_a_task_that_this_process_does_not_know_fails_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let other = open(folder.path()).await.unwrap();
    let mut stranger = pushed(3);
    stranger.run.task = Name::new("stranger").unwrap();
    let id = stranger.run.id;
    other.push(vec![stranger]).await.unwrap();

    let (backend, _) = running(folder.path()).await;

    assert_eq!(ended(&backend, id).await, RunState::Failed);
    let run = backend.runs(&RunFilter::all()).await.unwrap().runs.remove(0);
    assert!(run.reason.is_some_and(|reason| reason.contains("no task `stranger`")));
}

#[tokio::test]
async fn a_run_that_takes_longer_than_its_lease_keeps_it_and_runs_once() {
    let folder = tempfile::tempdir().unwrap();
    let begun = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&begun);
    let job = JobDescriptor::function("slow", "takes three leases", move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async {
            tokio::time::sleep(Duration::from_millis(4_500)).await;
            Ok("done".into())
        }
    });
    let config = QueueConfig { lease: Duration::from_millis(1_500), ..QueueConfig::default() };
    let (backend, request) = running_with(folder.path(), &job, config).await;

    backend.enqueue(request.clone()).await.unwrap();

    assert_eq!(ended(&backend, request.run_id).await, RunState::Succeeded);
    assert_eq!(begun.load(Ordering::Relaxed), 1);
}

/// A job that fails when it is let go on, or told to stop, and succeeds when it is tried again.
fn failing_once() -> (JobDescriptor, tokio::sync::mpsc::UnboundedReceiver<()>, Arc<tokio::sync::Notify>) {
    let (began, begun) = tokio::sync::mpsc::unbounded_channel();
    let go_on = Arc::new(tokio::sync::Notify::new());
    let waits = Arc::clone(&go_on);
    let job = JobDescriptor::function("failing", "fails once", move |ctx: scheduler_core::RunContext| {
        let _ = began.send(());
        let waits = Arc::clone(&waits);
        async move {
            if ctx.attempt() > 1 {
                return Ok("done".into());
            }
            tokio::select! {
                () = waits.notified() => {}
                _ = ctx.cancelled() => {}
            }
            Err(scheduler_core::JobError::retry("no"))
        }
    });
    (job, begun, go_on)
}

#[tokio::test]
async fn a_cancel_from_elsewhere_that_meets_the_end_of_an_attempt_ends_the_run() {
    for is_stopped in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let other = open(folder.path()).await.unwrap();
        let (job, mut begun, go_on) = failing_once();
        // Nobody renews a lease of so long within the test, so nobody hears of the cancel in time.
        let config = QueueConfig { lease: Duration::from_secs(3_600), ..QueueConfig::default() };
        let (backend, request) = running_with(folder.path(), &job, config).await;
        backend.enqueue(request.clone()).await.unwrap();
        begun.recv().await.unwrap();

        let marked = other.cancel(request.run_id, "cancelled").await.unwrap();
        if is_stopped {
            backend.stop(Duration::ZERO).await.unwrap();
        } else {
            go_on.notify_one();
        }

        assert_eq!(marked, Cancel::Marked);
        assert_eq!(ended(&backend, request.run_id).await, RunState::Cancelled, "stopped: {is_stopped}");
        let run = backend.runs(&RunFilter::all()).await.unwrap().runs.remove(0);
        // One that was cut off does not count.
        let attempts = u32::from(!is_stopped);
        assert_eq!((run.attempt, run.reason.as_deref()), (attempts, Some("cancelled")));
    }
}

#[tokio::test]
async fn an_attempt_that_lost_its_lease_is_told_as_lost_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let other = open(folder.path()).await.unwrap();
    let (job, mut begun, go_on) = failing_once();
    let (events, (tell, mut told)) = (Events::default(), tokio::sync::mpsc::unbounded_channel());
    events.listen(move |event| {
        let (what, run) = match *event {
            Event::AttemptStarted { run, .. } => ("started", run),
            Event::AttemptLost { run, .. } => ("lost", run),
            Event::AttemptEnded { run, .. } | Event::RunEnded { run, .. } => ("ended", run),
            _ => return,
        };
        let _ = tell.send((what, run.id));
    });
    // Nobody reaps or renews within the test but the test.
    let config = QueueConfig { lease: Duration::from_secs(3_600), ..QueueConfig::default() };
    let (backend, request) = running_heard(folder.path(), &job, config, events).await;
    backend.enqueue(request.clone()).await.unwrap();
    begun.recv().await.unwrap();

    let mut raw = raw(folder.path(), false).await;
    sqlx::query("UPDATE run SET fence = fence + 1").execute(&mut raw).await.unwrap();
    go_on.notify_one();

    let id = request.run_id;
    assert_eq!(told.recv().await, Some(("started", id)));
    assert_eq!(told.recv().await, Some(("lost", id)));
    assert!(told.try_recv().is_err());
    assert_eq!(other.waiting().await.unwrap(), 0);
}

#[tokio::test]
async fn a_drain_hands_back_what_it_cuts_off_and_its_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let (began, begun) = tokio::sync::mpsc::unbounded_channel();
    let mut begun = begun;
    let job = JobDescriptor::function("long", "ends when it is told to", move |ctx| {
        let _ = began.send(());
        async move {
            ctx.cancelled().await;
            Err(scheduler_core::JobError::retry("told to stop"))
        }
    });
    let (backend, request) = running_with(folder.path(), &job, QueueConfig::default()).await;
    backend.enqueue(request.clone()).await.unwrap();
    begun.recv().await.unwrap();

    let drained = backend.stop(Duration::ZERO).await.unwrap();

    assert_eq!(drained.abandoned, [request.run_id]);
    let run = backend.runs(&RunFilter::all()).await.unwrap().runs.remove(0);
    assert_eq!((run.state, run.attempt), (RunState::Queued, 0));
}
