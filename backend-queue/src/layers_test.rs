//! What is promised of layers around attempts, with layers of tower as they are and with real runs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use apalis_core::error::AbortError;
use scheduler_core::{
    Adhoc, Backend, BackendContext, JobDescriptor, Name, Output, Registry, Run, RunFilter, RunId, RunRequest,
    RunState, SystemClock, Way,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tower::limit::ConcurrencyLimitLayer;
use tower::timeout::TimeoutLayer;
use tower_layer::{Layer, layer_fn};
use tower_service::Service;

use crate::layers::{Answer, BoxError};
use crate::{Attempt, AttemptService, QueueBackend, QueueConfig, Synchronous};

type ApalisTask = apalis_core::task::Task<Attempt>;

/// Longer than any machine takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What jobs did.
#[derive(Default)]
struct Seen {
    begun: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    /// Those whose future was dropped before they ended.
    dropped: AtomicUsize,
}

/// Counts the job that holds it as under way.
struct UnderWay(Arc<Seen>, bool);

impl UnderWay {
    fn begin(seen: &Arc<Seen>) -> Self {
        seen.begun.fetch_add(1, Ordering::SeqCst);
        let at_once = seen.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        Self(Arc::clone(seen), false)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.at_once.fetch_sub(1, Ordering::SeqCst);
        self.0.dropped.fetch_add(usize::from(!self.1), Ordering::SeqCst);
    }
}

struct Stage {
    folder: TempDir,
    seen: Arc<Seen>,
    /// Whoever waits here waits for one other.
    gate: Arc<Barrier>,
    backend: Option<QueueBackend>,
}

impl Stage {
    fn new(concurrency: usize) -> Self {
        let config = QueueConfig {
            concurrency: concurrency.try_into().unwrap(),
            synchronous: Synchronous::Normal,
            ..QueueConfig::default()
        };
        let backend = QueueBackend::new(Name::new("queue").unwrap(), config);
        let folder = tempfile::tempdir().unwrap();
        Self { folder, seen: Arc::default(), gate: Arc::new(Barrier::new(2)), backend: Some(backend) }
    }

    fn with<L>(mut self, layer: L) -> Self
    where
        L: Layer<AttemptService> + Send + Sync + 'static,
        L::Service: Service<ApalisTask, Response = Output> + Clone + Send + 'static,
        <L::Service as Service<ApalisTask>>::Error: Into<BoxError>,
        <L::Service as Service<ApalisTask>>::Future: Send + 'static,
    {
        self.backend = self.backend.take().map(|backend| backend.layer(layer));
        self
    }

    fn context(&self) -> BackendContext {
        let (briefly, ever) = (Arc::clone(&self.seen), Arc::clone(&self.seen));
        let briefly = move |_| {
            let under_way = UnderWay::begin(&briefly);
            async move {
                let mut under_way = under_way;
                tokio::time::sleep(Duration::from_millis(20)).await;
                under_way.1 = true;
                Ok(json!({"done": true}))
            }
        };
        let ever = move |_| {
            let under_way = UnderWay::begin(&ever);
            async move {
                let _under_way = under_way;
                std::future::pending().await
            }
        };
        let (blocked, gate) = (Arc::clone(&self.seen), Arc::clone(&self.gate));
        let blocking = move |_| {
            let (under_way, gate) = (UnderWay::begin(&blocked), Arc::clone(&gate));
            async move {
                let _under_way = under_way;
                gate.wait();
                std::future::pending().await
            }
        };
        let mut registry = Registry::new();
        for job in [
            JobDescriptor::function("briefly", "", briefly),
            JobDescriptor::function("ever", "", ever),
            JobDescriptor::function("blocking", "", blocking),
        ] {
            registry.add_job(job.adhoc(), scheduler_core::source!(), Way::Explicit).unwrap();
        }
        let mut ctx = BackendContext::standalone(Name::new("layers").unwrap(), Arc::new(SystemClock::new()));
        ctx.registry = Arc::new(registry);
        ctx.data_dir = Some(self.folder.path().to_owned());
        ctx
    }

    /// Asks for a job so many times.
    async fn ask(&self, job: &str, times: usize) {
        let backend = self.backend.as_ref().unwrap();
        let ctx = self.context();
        backend.start(ctx.clone()).await.unwrap();
        let (job, now) = (Name::new(job).unwrap(), ctx.clock.now());
        let requests = (0..times).map(|_| {
            let mut request = RunRequest::manual(RunId::manual(now), job.clone(), now);
            request.adhoc = Some(Adhoc::new(job.clone(), serde_json::Value::Null));
            request
        });
        backend.enqueue_all(requests.collect()).await.unwrap();
    }

    /// Runs a job so many times; answers the runs once each has ended or waits for its next attempt.
    async fn run(&self, job: &str, times: usize) -> Vec<Run> {
        self.ask(job, times).await;
        self.over(|_| true).await
    }

    /// All runs, once each of these has ended or waits for its next attempt.
    async fn over(&self, which: impl Fn(&Run) -> bool) -> Vec<Run> {
        let backend = self.backend.as_ref().unwrap();
        let is_over = |run: &Run| run.state.is_end() || run.state == RunState::Retrying;
        tokio::time::timeout(PATIENCE, async {
            loop {
                let runs = backend.runs(&RunFilter::all().limited(1_000)).await.unwrap().runs;
                if runs.iter().filter(|run| which(run)).all(is_over) {
                    return runs;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("they end in time")
    }

    async fn stop(&self) {
        self.backend.as_ref().unwrap().stop(PATIENCE).await.unwrap();
    }
}

/// A service that does something before each attempt.
#[derive(Clone)]
struct Before<F>(AttemptService, F);

impl<F: FnMut(&ApalisTask) -> Result<(), BoxError>> Service<ApalisTask> for Before<F> {
    type Response = Output;
    type Error = BoxError;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, task: ApalisTask) -> Answer {
        match (self.1)(&task) {
            Ok(()) => self.0.call(task),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }
}

#[tokio::test]
async fn a_limit_of_tower_keeps_to_itself_how_many_attempts_are_under_way() {
    let stage = Stage::new(16).with(ConcurrencyLimitLayer::new(2));

    let runs = stage.run("briefly", 20).await;
    stage.stop().await;

    assert!(runs.iter().all(|run| run.state == RunState::Succeeded && run.attempt == 1), "{runs:?}");
    assert_eq!(stage.seen.most_at_once.load(Ordering::SeqCst), 2);
    assert!(runs.iter().all(|run| run.output == json!({"done": true})));
}

#[tokio::test]
async fn a_time_limit_of_tower_ends_the_job_and_the_attempt_has_failed() {
    let stage = Stage::new(4).with(TimeoutLayer::new(Duration::from_millis(50)));

    let runs = stage.run("ever", 2).await;

    assert!(runs.iter().all(|run| run.state == RunState::Retrying && run.attempt == 1), "{runs:?}");
    assert!(runs[0].failures[0].error.contains("timed out"), "{runs:?}");
    tokio::time::timeout(PATIENCE, async {
        while stage.seen.dropped.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("what was given up is ended");
    stage.stop().await;
}

/// A service that tells of each attempt to which it has an answer.
#[derive(Clone)]
struct Telling(AttemptService, UnboundedSender<RunId>);

impl Service<ApalisTask> for Telling {
    type Response = Output;
    type Error = BoxError;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, task: ApalisTask) -> Answer {
        let (run, tell) = (task.args.context().run_id(), self.1.clone());
        let answer = self.0.call(task);
        Box::pin(async move {
            let answer = answer.await;
            tell.send(run).unwrap();
            answer
        })
    }
}

#[tokio::test]
async fn a_job_that_blocks_its_thread_has_not_ended_when_a_layer_gives_it_up() {
    let (tell, mut told) = unbounded_channel();
    let telling = layer_fn(move |inner| Telling(inner, tell.clone()));
    // Long enough for the job to have begun.
    let stage = Stage::new(4).with(telling).with(TimeoutLayer::new(Duration::from_secs(1)));

    stage.ask("blocking", 1).await;
    let blocked = tokio::time::timeout(PATIENCE, told.recv()).await.unwrap().unwrap();
    // Its end would have been known before that of any other.
    stage.ask("briefly", 1).await;
    let meanwhile = stage.over(|run| run.id != blocked).await;
    stage.gate.wait();
    let later = stage.over(|_| true).await;
    let left = stage.seen.at_once.load(Ordering::SeqCst);
    stage.stop().await;

    let of = |runs: Vec<Run>| runs.into_iter().find(|run| run.id == blocked).unwrap();
    let (meanwhile, later) = (of(meanwhile), of(later));
    assert_eq!((meanwhile.state, meanwhile.attempt), (RunState::Running, 1), "{meanwhile:?}");
    assert_eq!((later.state, later.attempt), (RunState::Retrying, 1), "{later:?}");
    assert!(later.failures[0].error.contains("timed out"), "{later:?}");
    assert_eq!(left, 0, "an attempt that has ended is not under way");
}

#[tokio::test]
async fn a_layer_that_panics_fails_that_attempt_and_the_worker_goes_on() {
    let calls = Arc::new(AtomicUsize::new(0));
    let stage = Stage::new(1).with(layer_fn(move |inner| {
        let calls = Arc::clone(&calls);
        Before(inner, move |_: &ApalisTask| {
            assert!(calls.fetch_add(1, Ordering::SeqCst) > 0, "of the first");
            Ok(())
        })
    }));

    let runs = stage.run("briefly", 3).await;
    stage.stop().await;

    let of = |state| runs.iter().filter(|run| run.state == state).count();
    assert_eq!((of(RunState::Retrying), of(RunState::Succeeded)), (1, 2), "{runs:?}");
    let failed = runs.iter().find(|run| run.state == RunState::Retrying).unwrap();
    assert!(failed.failures[0].error.contains("in a layer around the job: of the first"), "{failed:?}");
}

#[tokio::test]
async fn the_layer_that_was_added_first_is_the_outermost_and_sees_whose_attempt_it_is() {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let noting = |name: &'static str| {
        let seen = Arc::clone(&seen);
        layer_fn(move |inner| {
            let seen = Arc::clone(&seen);
            Before(inner, move |task: &ApalisTask| {
                let ctx = task.args.context();
                assert_eq!(task.task_id().unwrap().to_string(), ctx.run_id().to_string());
                assert_eq!((task.attempt(), ctx.attempt(), ctx.fence() > 0), (1, 1, true));
                seen.lock().unwrap().push(format!("{name} {}", task.args.task().job));
                Ok(())
            })
        })
    };
    let stage = Stage::new(1).with(noting("outer")).with(noting("inner"));

    let runs = stage.run("briefly", 1).await;
    stage.stop().await;

    assert_eq!(runs[0].state, RunState::Succeeded, "{runs:?}");
    assert_eq!(*seen.lock().unwrap(), ["outer briefly", "inner briefly"]);
}

#[tokio::test]
async fn an_abort_of_apalis_is_not_tried_again() {
    let refusing =
        layer_fn(|inner| Before(inner, |_: &ApalisTask| Err(AbortError::new("not on Sundays").into())));
    let stage = Stage::new(1).with(refusing);

    let runs = stage.run("briefly", 1).await;
    stage.stop().await;

    assert_eq!((runs[0].state, stage.seen.begun.load(Ordering::SeqCst)), (RunState::Failed, 0));
    assert!(runs[0].reason.as_ref().unwrap().contains("not on Sundays"), "{runs:?}");
}
