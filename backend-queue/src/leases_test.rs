//! Nobody loses a lease because the store did not answer for a while: on a store that hangs or refuses.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use scheduler_core::{
    BackendContext, BackendInfo, DeadLetterFilter, DeadLetterPage, EndedRun, Error, HeldLetters,
    HistoryBounds, JobDescriptor, JobError, Load, Name, Page, Pause, Placed, Replayed, Result, Run,
    RunContext, RunFilter, RunId, RunState, Site, SystemClock, Task, Tier, Timestamp, Trigger, place,
};
use serde_json::Value;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::QueueConfig;
use crate::driver::{Driver, SAFETY_POLL};
use crate::store::{
    Ack, Cancel, Claim, Decide, Decided, Delivery, Held, Pushed, QueueState, Renewed, Replay, Retention,
    Standing, Stepped, Store,
};

const LEASE: Duration = Duration::from_millis(900);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mood {
    Answers,
    Hangs,
    Refuses,
    /// Each answer takes a while.
    Lingers,
    /// It does all but take new ones.
    RefusesRuns,
}

/// A store with one run to deliver, that hangs and refuses as it is told, and notes what it answered.
#[derive(Debug)]
pub(crate) struct Moody {
    pub(crate) mood: watch::Sender<Mood>,
    answered: Mutex<Vec<(Instant, &'static str)>>,
    waiting: Mutex<Option<Delivery>>,
}

impl Moody {
    pub(crate) fn new(mood: Mood, waiting: Option<Delivery>) -> Self {
        Self { mood: watch::Sender::new(mood), answered: Mutex::default(), waiting: Mutex::new(waiting) }
    }

    async fn answer<T: Default>(&self, call: &'static str) -> Result<T> {
        let mut mood = self.mood.subscribe();
        let answers = mood.wait_for(|mood| *mood != Mood::Hangs).await.map(|mood| *mood);
        if answers.is_ok_and(|mood| mood == Mood::Refuses) {
            return Err(Error::unavailable("queue/unavailable", "not now"));
        }
        if *mood.borrow() == Mood::Lingers {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        self.answered.lock().unwrap().push((Instant::now(), call));
        Ok(T::default())
    }

    /// What it answered from the first answer after `since` to the first `call`.
    pub(crate) async fn until(&self, call: &str, since: Instant) -> Vec<(Instant, &'static str)> {
        loop {
            let answered = self.answered.lock().unwrap().clone();
            let new = answered.into_iter().skip_while(|(at, _)| *at < since);
            let (mut seen, mut is_there) = (Vec::new(), false);
            for answer in new {
                seen.push(answer);
                is_there = answer.1 == call;
                if is_there {
                    break;
                }
            }
            if is_there {
                return seen;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Store for Moody {
    async fn push(&self, _: Vec<Pushed>) -> Result<Vec<bool>> {
        if *self.mood.borrow() == Mood::RefusesRuns {
            return Err(Error::unavailable("queue/full", "no room"));
        }
        self.answer("push").await
    }
    async fn push_unique(&self, _: Vec<Pushed>) -> Result<Vec<Option<RunId>>> {
        self.answer("push_unique").await
    }
    async fn tell_progress(&self, _: &[(Run, u64)]) -> Result<()> {
        self.answer("tell_progress").await
    }
    async fn step(&self, _: &[Ack], _: &Claim) -> Result<Stepped> {
        self.answer::<()>("step").await?;
        Ok(Stepped {
            claimed: self.waiting.lock().unwrap().take().into_iter().collect(),
            ..Stepped::default()
        })
    }
    async fn renew(&self, held: &[Held], _: Duration) -> Result<Renewed> {
        assert_eq!(held.len(), 1);
        self.answer("renew").await
    }
    async fn reap(&self, _: u32) -> Result<Vec<Run>> {
        self.answer("reap").await
    }
    async fn cancel(&self, _: RunId, _: &str) -> Result<Cancel> {
        self.answer::<()>("cancel").await.map(|()| Cancel::Unknown)
    }
    async fn runs(&self, _: &RunFilter) -> Result<Page> {
        self.answer("runs").await
    }
    async fn waiting(&self) -> Result<usize> {
        self.answer("waiting").await
    }
    async fn load(&self) -> Result<Load> {
        self.answer("load").await
    }

    async fn register(&self, _: &Name, _: &str, _: Duration) -> Result<u64> {
        self.answer("register").await
    }
    async fn serve(&self, _: &[Name], _: Duration) -> Result<()> {
        self.answer("serve").await
    }
    async fn decide(&self, _: &Name, _: u64, _: &Decide<'_>) -> Result<Decided> {
        self.answer::<()>("decide").await.map(|()| Decided::Unknown)
    }
    async fn pause(&self, _: &Name, _: Option<&Pause>) -> Result<()> {
        self.answer("pause").await
    }
    async fn pause_queue(&self, _: Option<&Name>, _: Option<&Pause>) -> Result<bool> {
        self.answer("pause_queue").await
    }
    async fn queues(&self) -> Result<Vec<QueueState>> {
        self.answer("queues").await
    }
    async fn standing(&self, _: &Name) -> Result<Option<Standing>> {
        self.answer("standing").await
    }
    async fn letters(&self, _: &DeadLetterFilter) -> Result<DeadLetterPage> {
        self.answer("letters").await
    }
    async fn replay(&self, _: &[Replay]) -> Result<Vec<Replayed>> {
        self.answer("replay").await
    }
    async fn hold(&self, _: RunId, _: Option<&str>) -> Result<bool> {
        self.answer("hold").await
    }
    async fn discard(&self, _: &[RunId], _: HeldLetters) -> Result<Vec<bool>> {
        self.answer("discard").await
    }
    async fn forget(&self, _: &Retention, _: u32) -> Result<usize> {
        self.answer("forget").await
    }
    async fn beyond(&self, _: &HistoryBounds, _: usize, _: u32) -> Result<Vec<EndedRun>> {
        self.answer("beyond").await
    }
    async fn prune(&self, _: &HistoryBounds, _: u32) -> Result<Vec<EndedRun>> {
        self.answer("prune").await
    }
    async fn changed(&self) {
        std::future::pending::<()>().await;
    }
}

/// A context with a task that runs this.
pub(crate) fn context<R>(run: impl Fn(RunContext) -> R + Send + Sync + 'static) -> (Name, BackendContext)
where
    R: Future<Output = Result<Value, JobError>> + Send + 'static,
{
    let name = Name::new("t").unwrap();
    let clock = Arc::new(SystemClock::new());
    let ctx = BackendContext::standalone(Name::new("default").unwrap(), clock);
    let job = JobDescriptor::function("t", "", run);
    let task = Task::new(name.clone(), name.clone());
    let info = BackendInfo::new(name.clone(), "queue", Tier::Local, &[]);
    let placement = place(&task, &job, &[Site { info, is_default: true, is_down: false }]).unwrap();
    let job = job.build(&Value::Null).unwrap();
    ctx.tasks.insert(Arc::new(Placed { task, job, placement: placement.into() }));
    (name, ctx)
}

/// Lets a loop hold a run, silences its store for longer than the lease, and looks at what it asks then.
async fn after_a_silence(silence: Mood) {
    let (name, ctx) = context(|_| async { Ok(Value::Null) });
    let now = Timestamp::from_millis(0);
    let mut run = Run::queued(RunId::manual(now), name.clone(), name.clone(), Tier::Queue, now);
    (run.state, run.attempt) = (RunState::Running, 1);
    let delivery = Delivery { run, fence: 1, max_attempts: 5 };
    let store = Arc::new(Moody::new(Mood::Answers, Some(delivery)));
    let (work, _taken) = unbounded_channel();
    let (_commands, received) = unbounded_channel();
    let (_ended, ends) = unbounded_channel();
    let config = QueueConfig { lease: LEASE, ..QueueConfig::default() };
    let driver = Driver::new(name, config, ctx, Arc::clone(&store) as Arc<dyn Store>, work);
    let driving = tokio::spawn(driver.run(received, ends));
    let holds = store.until("renew", Instant::now() - LEASE).await;
    // It reaps while all is well.
    store.until("reap", holds[0].0).await;

    store.mood.send_replace(silence);
    tokio::time::sleep(LEASE * 2).await;
    let over = Instant::now();
    store.mood.send_replace(Mood::Answers);
    let after = store.until("reap", over).await;

    driving.abort();
    let calls: Vec<&str> = after.iter().map(|(_, call)| *call).collect();
    let reaped = after.last().unwrap().0 - over;
    assert!(calls.contains(&"renew"), "what is held is renewed first: {calls:?}");
    assert!(reaped >= LEASE / 3, "others had {reaped:?} to renew theirs: {calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_store_hung_leases_are_renewed_before_any_is_taken_away() {
    after_a_silence(Mood::Hangs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_store_refused_leases_are_renewed_before_any_is_taken_away() {
    after_a_silence(Mood::Refuses).await;
}

/// A loop on a store, with a schedule of one hour.
async fn scheduled() -> (Driver, Arc<Moody>) {
    let (name, ctx) = context(|_| async { Ok(Value::Null) });
    let placed = ctx.tasks.find(&name).unwrap();
    let mut task = placed.task.clone();
    task.trigger = Some(Trigger::every(Duration::from_secs(3_600)).unwrap());
    let placed = Placed { task, job: Arc::clone(&placed.job), placement: placed.placement.clone() };
    let store = Arc::new(Moody::new(Mood::Answers, None));
    let (work, _taken) = unbounded_channel();
    let shared = Arc::clone(&store) as Arc<dyn Store>;
    let mut driver = Driver::new(name, QueueConfig::default(), ctx, shared, work);
    driver.upsert(Arc::new(placed)).await.unwrap();
    (driver, store)
}

#[tokio::test]
async fn a_schedule_far_behind_on_a_slow_store_leaves_time_for_all_else() {
    let (mut driver, store) = scheduled().await;

    // It never knows the schedule, so there is always another step to take.
    store.mood.send_replace(Mood::Lingers);
    let began = Instant::now();
    driver.look_at_due().await;

    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(driver.look_in(), Some(Duration::ZERO), "it goes on in the next turn");
}

#[tokio::test]
async fn a_schedule_that_was_put_off_is_looked_at_once_the_store_answers() {
    let (mut driver, store) = scheduled().await;

    store.mood.send_replace(Mood::Refuses);
    for _ in 0..20 {
        driver.in_trouble(&Error::unavailable("queue/unavailable", "not now"));
    }
    driver.look_at_due().await;
    let put_off = driver.look_in();
    driver.recovered();

    assert!(put_off.is_some_and(|wait| wait > Duration::from_secs(1)), "{put_off:?}");
    assert!(driver.look_in().is_some_and(|wait| wait <= SAFETY_POLL), "{:?}", driver.look_in());
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_locked_for_longer_than_a_lease_costs_nobody_a_run() {
    use scheduler_core::{Backend, RunRequest};
    use sqlx::ConnectOptions;
    use sqlx::sqlite::SqliteConnectOptions;

    use crate::QueueBackend;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queue.db");
    let lease = Duration::from_millis(2_400);
    let (begin, mut begun) = unbounded_channel();
    let (name, ctx) = context(move |ctx| {
        let _ = begin.send(ctx.attempt());
        async {
            tokio::time::sleep(Duration::from_millis(5_500)).await;
            Ok(Value::Null)
        }
    });
    let start = async || {
        let config =
            QueueConfig { lease, url: format!("sqlite:{}", file.display()), ..QueueConfig::default() };
        let backend = QueueBackend::new(Name::new("queue").unwrap(), config);
        backend.start(ctx.clone()).await.unwrap();
        backend
    };
    let (one, _other) = (start().await, start().await);
    let now = Timestamp::from(std::time::SystemTime::now());
    let request = RunRequest::manual(RunId::manual(now), name, now);
    one.enqueue(request.clone()).await.unwrap();
    begun.recv().await.unwrap();

    let mut other = SqliteConnectOptions::new().filename(&file).connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    tokio::time::sleep(Duration::from_millis(4_000)).await;
    sqlx::query("COMMIT").execute(&mut other).await.unwrap();

    let ended = loop {
        let run = one.runs(&RunFilter::of_run(request.run_id)).await.unwrap().runs.remove(0);
        if run.state.is_end() {
            break run;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(
        (ended.state, ended.attempt, begun.try_recv().ok()),
        (RunState::Succeeded, 1, None),
        "{ended:?}"
    );
}
