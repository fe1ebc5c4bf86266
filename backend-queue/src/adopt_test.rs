//! What is promised of jobs that apalis has, with its own crate as who pushes and, once, as who works.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apalis_core::backend::TaskSink;
use apalis_core::backend::ext::BackendExt;
use apalis_core::error::BoxDynError;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::worker::builder::WorkerBuilder;
use apalis_core::worker::context::WorkerContext;
use apalis_redis::{Config, RedisStorage};
use scheduler_core::{
    Adhoc, Backend, BackendContext, DeadLetterFilter, Job, JobDescriptor, JobError, Name, Output, Registry,
    Run, RunContext, RunFilter, RunState, SystemClock, Timestamp, Way, async_trait,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::adopt_task::Adoption;
use crate::redis_stage::{self, Proxy};
use crate::redis_store::RedisStore;
use crate::redis_test::{LONG_LEASE, PATIENCE, claim};
use crate::store::{Store, TakenOver};
use crate::{AdoptSettings, QueueBackend, QueueConfig};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Email {
    number: u32,
}

/// How often each number was worked on.
type Seen = Arc<Mutex<HashMap<u32, usize>>>;

struct Send(Email, Seen);

#[async_trait]
impl Job for Send {
    async fn run(&self, _: &RunContext) -> Result<Output, JobError> {
        *self.1.lock().unwrap().entry(self.0.number).or_default() += 1;
        Ok(Output::Null)
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A queue of apalis, and a namespace of ours that takes it over.
struct Stage {
    namespace: Name,
    from: String,
    config: QueueConfig,
    seen: Seen,
}

impl Stage {
    fn new() -> Self {
        let namespace = redis_stage::namespace();
        let from = format!("app::Email{namespace}");
        let mut config = redis_stage::config(&redis_stage::url());
        config.adopt = BTreeMap::from([(from.clone(), AdoptSettings::new(name("send")))]);
        Self { namespace, from, config, seen: Seen::default() }
    }

    fn context(&self) -> BackendContext {
        let (mut registry, seen) = (Registry::new(), Arc::clone(&self.seen));
        let job = JobDescriptor::typed("send", "", move |email: Email| Ok(Send(email, Arc::clone(&seen))));
        registry.add_job(job.adhoc(), scheduler_core::source!(), Way::Explicit).unwrap();
        let mut ctx = BackendContext::standalone(self.namespace.clone(), Arc::new(SystemClock::new()));
        ctx.registry = Arc::new(registry);
        ctx
    }

    async fn daemon(&self) -> QueueBackend {
        let backend = QueueBackend::new(name("queue"), self.config.clone());
        backend.start(self.context()).await.unwrap();
        backend
    }

    async fn store(&self) -> RedisStore {
        redis_stage::open(&self.config.url, &self.namespace).await.unwrap()
    }

    /// The stock storage.
    async fn storage(&self) -> RedisStorage<Email> {
        let connection = apalis_redis::connect(redis_stage::url()).await.unwrap();
        RedisStorage::new(connection).with_config(Config::default().queue(&self.from).batch_size(50))
    }

    async fn push(&self, numbers: std::ops::Range<u32>) {
        let mut storage = self.storage().await;
        for first in numbers.clone().step_by(1_000) {
            let some = (first..numbers.end.min(first + 1_000)).map(|number| Email { number }).collect();
            storage.push_bulk(some).await.unwrap();
        }
    }

    async fn adopt(&self, store: &RedisStore) -> scheduler_core::Result<TakenOver> {
        let adoption = Adoption {
            ctx: self.context(),
            backend: name("queue"),
            config: self.config.clone(),
            from: self.from.clone(),
            settings: self.config.adopt[&self.from].clone(),
        };
        store.adopt(&Arc::new(adoption)).await
    }

    /// Waits until each of so many was worked on, and says how often at most.
    async fn all_seen(&self, count: usize) -> usize {
        let most = || self.seen.lock().unwrap().values().copied().max().unwrap_or(0);
        wait_until(|| self.seen.lock().unwrap().len() >= count).await;
        most()
    }

    /// A word to Redis, `@` standing for the queue of apalis.
    async fn tell<T: redis::FromRedisValue>(&self, store: &RedisStore, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(word.replacen('@', &self.from, 1));
        }
        store.link.ask(&command).await.unwrap()
    }

    /// The keys of the queue of apalis.
    async fn keys(&self, store: &RedisStore) -> Vec<String> {
        self.tell(store, &["KEYS", "@:*"]).await
    }
}

/// Waits for what must come true, looking at it again and again.
async fn wait_until(mut is_so: impl FnMut() -> bool) {
    tokio::time::timeout(PATIENCE * 2, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it came true in time");
}

async fn runs(store: &RedisStore) -> Vec<Run> {
    store.runs(&RunFilter::all().limited(100)).await.unwrap().runs
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_the_stock_crate_runs_here_and_leaves_nothing_behind() {
    let stage = Stage::new();
    let daemon = stage.daemon().await;

    stage.storage().await.push(Email { number: 7 }).await.unwrap();
    assert_eq!(stage.all_seen(1).await, 1);
    let store = stage.store().await;
    daemon.stop(PATIENCE).await.unwrap();

    let run = runs(&store).await.remove(0);
    assert_eq!((run.state, run.task.as_str(), run.attempt), (RunState::Succeeded, "send", 1));
    assert_eq!(run.adhoc, Some(Adhoc::new(name("send"), json!({"number": 7}))));
    assert_eq!(run.params["apalis_queue"], stage.from.as_str());
    assert_eq!(stage.keys(&store).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_that_stops_a_stock_worker_is_taken_by_several_daemons_each_job_once() {
    let stage = Stage::new();
    stage.push(0..9_000).await;

    let daemons = [stage.daemon().await, stage.daemon().await];
    let most = stage.all_seen(9_000).await;
    for daemon in &daemons {
        daemon.stop(PATIENCE).await.unwrap();
    }

    assert_eq!((most, stage.seen.lock().unwrap().len()), (1, 9_000));
    assert_eq!(stage.keys(&stage.store().await).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_worker_on_the_same_queue_gets_other_jobs() {
    let stage = Stage::new();
    stage.push(0..2_000).await;
    let (theirs, storage) = (Seen::default(), stage.storage().await);
    let seen = Arc::clone(&theirs);
    let work = move |email: Email, _: WorkerContext| {
        let seen = Arc::clone(&seen);
        async move {
            *seen.lock().unwrap().entry(email.number).or_default() += 1;
            Ok::<(), BoxDynError>(())
        }
    };
    let worker = WorkerBuilder::new(format!("stock-{}", stage.namespace))
        .backend(storage.poll_with_interval(Duration::from_millis(5)))
        .build(work);
    let worker = tokio::spawn(worker.run());
    wait_until(|| !theirs.lock().unwrap().is_empty()).await;

    let daemon = stage.daemon().await;
    let mut pushed = 2_000;
    while stage.seen.lock().unwrap().is_empty() {
        assert!(pushed < 1_000_000, "the daemon takes none");
        stage.push(pushed..pushed + 200).await;
        pushed += 200;
    }
    let both = || theirs.lock().unwrap().len() + stage.seen.lock().unwrap().len();
    wait_until(|| both() >= pushed as usize).await;
    worker.abort();
    daemon.stop(PATIENCE).await.unwrap();

    let (theirs, ours) = (theirs.lock().unwrap(), stage.seen.lock().unwrap());
    assert!((0..pushed).all(|number| theirs.contains_key(&number) != ours.contains_key(&number)));
    assert!(theirs.values().chain(ours.values()).all(|times| *times == 1));
    assert!(!theirs.is_empty() && !ours.is_empty());
}

#[tokio::test]
async fn what_is_for_later_waits_here_until_then() {
    let stage = Stage::new();
    let store = stage.store().await;
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let later = TaskBuilder::new(Email { number: 1 }).run_at_timestamp(now + 3_600).max_attempts(3).build();
    stage.storage().await.push_task(later).await.unwrap();

    stage.adopt(&store).await.unwrap();

    let run = runs(&store).await.remove(0);
    assert_eq!(run.state, RunState::Scheduled);
    let load = store.load().await.unwrap();
    assert_eq!((load.ahead, load.waiting), (1, 0));
    assert!(claim(&store, 9, LONG_LEASE).await.is_empty());
    let due: Vec<String> =
        stage.tell(&store, &["ZRANGE", &format!("{}delayed", store.link.base), "0", "0", "WITHSCORES"]).await;
    assert_eq!(due[1], ((now + 3_600) * 1_000).to_string());
    assert!(run.fire_time <= Timestamp::from(std::time::SystemTime::now()));
}

#[tokio::test]
async fn what_nobody_can_read_becomes_a_dead_letter_and_stands_in_nobodys_way() {
    let stage = Stage::new();
    let store = stage.store().await;
    for (id, payload) in [("bad", "{to"), ("shape", r#"{"to":1}"#)] {
        let _: u8 = stage.tell(&store, &["HSET", "@:data", id, payload]).await;
        let _: u8 = stage.tell(&store, &["ZADD", "@:scheduled", "1", id]).await;
    }
    let _: u8 = stage.tell(&store, &["ZADD", "@:scheduled", "1", "gone"]).await;
    let large = "1".repeat(crate::requests::LARGEST_PARAMS + 1);
    let _: u8 = stage.tell(&store, &["HSET", "@:data", "large", &large]).await;
    let _: u8 = stage.tell(&store, &["RPUSH", "@:active", "large"]).await;
    stage.push(0..1).await;

    let taken = stage.adopt(&store).await.unwrap();

    let reasons: Vec<&str> = taken.dead.iter().map(|run| run.reason.as_deref().unwrap()).collect();
    assert_eq!((taken.runs, reasons.len()), (1, 4), "{reasons:?}");
    for part in ["has 1048577 bytes", "is no JSON", "unknown field", "is gone"] {
        assert!(reasons.iter().any(|reason| reason.contains(part)), "{part}: {reasons:?}");
    }
    let letters = store.letters(&DeadLetterFilter::default()).await.unwrap().letters;
    assert_eq!(letters.len(), 4);
    assert!(letters.iter().any(|letter| letter.run.adhoc.as_ref().unwrap().args == json!("{to")));
    assert_eq!(claim(&store, 9, LONG_LEASE).await.len(), 1);
    assert_eq!(
        stage.keys(&store).await,
        [format!("{}:data", stage.from)],
        "what is too large to be read stays"
    );
    assert!(!stage.adopt(&store).await.unwrap().has_more);
}

#[tokio::test]
async fn a_job_is_neither_lost_nor_doubled_when_the_answer_of_its_move_is_lost() {
    let stage = Stage::new();
    stage.push(0..5).await;
    let proxy = Proxy::before(&redis_stage::url()).await;
    let cut = redis_stage::open(&proxy.url(), &stage.namespace).await.unwrap();
    let store = stage.store().await;
    // What somebody put there once more, as apalis does with jobs of a worker that was slow.
    let ids: Vec<String> = stage.tell(&store, &["ZRANGE", "@:scheduled", "0", "-1"]).await;
    let _: u8 = stage.tell(&store, &["RPUSH", "@:active", &ids[0]]).await;

    proxy.cut(true);
    assert!(stage.adopt(&cut).await.is_err());
    proxy.cut(false);
    while stage.adopt(&store).await.unwrap().has_more {}

    let claimed = claim(&store, 99, LONG_LEASE).await;
    assert_eq!((claimed.len(), runs(&store).await.len()), (5, 5));
    assert_eq!(stage.keys(&store).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_cannot_be_taken_from_is_told_and_keeps_no_other_waiting() {
    let mut stage = Stage::new();
    let broken = format!("{}-broken", stage.from);
    stage.config.adopt.insert(broken.clone(), AdoptSettings::new(name("send")));
    let store = stage.store().await;
    let _: () = stage.tell(&store, &["SET", "@-broken:scheduled", "x"]).await;
    let daemon = stage.daemon().await;

    stage.push(0..1).await;
    stage.all_seen(1).await;
    until_told(&daemon, &broken, true).await;

    let _: u8 = stage.tell(&store, &["DEL", "@-broken:scheduled"]).await;
    until_told(&daemon, &broken, false).await;
    daemon.stop(PATIENCE).await.unwrap();
}

/// Waits until the health of a daemon speaks of something, or does no more.
async fn until_told(daemon: &QueueBackend, what: &str, is_told: bool) {
    tokio::time::timeout(PATIENCE, async {
        while daemon.health().await.findings.iter().any(|finding| finding.contains(what)) != is_told {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("its health says so in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_takes_long_to_be_made_of_a_payload_keeps_the_loop_from_nothing() {
    let (stage, mut registry) = (Stage::new(), Registry::new());
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (closed, gate) = std::sync::mpsc::channel::<()>();
    let (gate, seen) = (Mutex::new(gate), Arc::clone(&stage.seen));
    let job = JobDescriptor::typed("send", "", move |email: Email| {
        let _ = begun.send(());
        // Until the other side is gone.
        let _ = gate.lock().unwrap().recv();
        Ok(Send(email, Arc::clone(&seen)))
    });
    registry.add_job(job.adhoc(), scheduler_core::source!(), Way::Explicit).unwrap();
    let (mut ctx, daemon) = (stage.context(), QueueBackend::new(name("queue"), stage.config.clone()));
    ctx.registry = Arc::new(registry);
    daemon.start(ctx).await.unwrap();

    stage.push(0..1).await;
    wait_until(|| has_begun.try_recv().is_ok()).await;
    let answered = tokio::time::timeout(PATIENCE, daemon.health()).await;
    drop(closed);

    assert!(answered.is_ok(), "the loop did not answer");
    assert_eq!(stage.all_seen(1).await, 1);
    daemon.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_daemon_that_may_not_run_the_job_does_not_begin() {
    let stage = Stage::new();
    let mut ctx = stage.context();
    ctx.registry = Arc::new(Registry::new());
    let backend = QueueBackend::new(name("queue"), stage.config.clone());
    assert_eq!(backend.start(ctx).await.unwrap_err().code(), "job/unknown");
}
