//! Runs that are taken ahead, as a daemon with one place and its neighbour see them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use scheduler_core::{
    JobDescriptor, Name, Order, Overlap, Registry, RunContext, RunFilter, RunState, Scheduler, SystemClock,
    Task, Tier, TriggerRequest, Way, source,
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{QueueBackend, QueueConfig};

/// Enough that the pace lets all of [`BEHIND`] be taken ahead.
const SHORT: usize = 60;
const BEHIND: usize = 10;

/// Daemons on one file, whose one job waits for us when its run is the one in the middle.
struct Crowd {
    folder: tempfile::TempDir,
    begun: Arc<Mutex<BTreeSet<u64>>>,
    blocked: watch::Sender<bool>,
    free: watch::Sender<bool>,
}

impl Crowd {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            begun: Arc::default(),
            blocked: watch::channel(false).0,
            free: watch::channel(false).0,
        }
    }

    async fn daemon(&self) -> Scheduler {
        let (begun, blocked, free) = (Arc::clone(&self.begun), self.blocked.clone(), self.free.clone());
        let job = JobDescriptor::function("job", "may wait", move |ctx: RunContext| {
            let number = ctx.params()["number"].as_u64().unwrap();
            let is_last_short = number == SHORT as u64;
            begun.lock().unwrap().insert(number);
            if is_last_short {
                blocked.send_replace(true);
            }
            let mut free = free.subscribe();
            async move {
                if is_last_short {
                    free.wait_for(|is_free| *is_free).await?;
                }
                Ok(Value::Null)
            }
        });
        let mut registry = Registry::new();
        registry.add_job(job, source!(), Way::Explicit).unwrap();
        let url = format!("sqlite:{}", self.folder.path().join("queue.db").display());
        let config =
            QueueConfig::from_value(&json!({"url": url, "concurrency": 1, "synchronous": "normal"})).unwrap();
        let backend = QueueBackend::new(Name::new("queue").unwrap(), config);
        let builder = Scheduler::builder(Arc::new(SystemClock::new())).registry(registry);
        let scheduler = builder.backend(Arc::new(backend)).build().unwrap();
        let mut task = Task::new(name(), name());
        task.tier = Some(Tier::Queue);
        task.overlap = Overlap::Allow;
        scheduler.submit(task).await.unwrap();
        scheduler
    }

    /// Lets the short runs wait, the one that blocks behind them, and more behind that.
    async fn fill(&self) {
        let scheduler = self.daemon().await;
        scheduler.connect().await.unwrap();
        let number = |number: usize| TriggerRequest::now().with_param("number", number.into());
        let orders: Vec<Order> =
            (0..SHORT + 1 + BEHIND).map(|each| Order::Task(name(), number(each))).collect();
        scheduler.enqueue_all(&orders).await.unwrap();
    }

    async fn is_blocked(&self) {
        within(self.blocked.subscribe().wait_for(|is_blocked| *is_blocked)).await.unwrap();
    }

    fn has_all_begun(&self) -> bool {
        self.begun.lock().unwrap().len() == SHORT + 1 + BEHIND
    }
}

fn name() -> Name {
    Name::new("job").unwrap()
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it takes too long")
}

#[tokio::test]
async fn whoever_is_blocked_keeps_no_run_from_others() {
    let crowd = Crowd::new();
    crowd.fill().await;
    let one = crowd.daemon().await;
    one.start().await.unwrap();
    crowd.is_blocked().await;

    let other = crowd.daemon().await;
    other.start().await.unwrap();

    within(async {
        while !crowd.has_all_begun() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    crowd.free.send_replace(true);
    one.stop(Duration::from_secs(30)).await.unwrap();
    other.stop(Duration::from_secs(30)).await.unwrap();
}

#[tokio::test]
async fn what_was_taken_ahead_has_no_attempt_when_it_is_given_back() {
    let crowd = Crowd::new();
    crowd.fill().await;
    let one = crowd.daemon().await;
    one.start().await.unwrap();
    crowd.is_blocked().await;

    one.stop(Duration::ZERO).await.unwrap();

    let runs = one.history(&RunFilter::all().in_states(&[RunState::Queued])).await.unwrap().runs;
    let begun = crowd.begun.lock().unwrap().len();
    assert_eq!((runs.len(), begun), (BEHIND + 1, SHORT + 1));
    let attempts: Vec<u32> = runs.iter().map(|run| run.attempt).collect();
    assert_eq!(attempts, [0; BEHIND + 1]);
    let all = one.history(&RunFilter::all().in_states(&[RunState::Running])).await.unwrap();
    assert!(all.runs.is_empty());
}
