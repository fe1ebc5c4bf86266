//! Starting, stopping, living without a backend, and coming to an end.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use scheduler_core::{
    Backend, BackendContext, BackendInfo, BoxFuture, Busy, Cancelled, Clock, Drained, Enqueued, Health,
    HealthStatus, MisfirePolicy, Page, Pause, Result, RunFilter, RunId, RunRequest, Scheduler, TestClock,
    Tier, Timestamp, Trigger, TriggerRequest, async_trait,
};
use serde_json::json;
use tokio::sync::Barrier;

use crate::custom_backend::CustomBackend;
use crate::faulty::{Call, Fault, Faulty};
use crate::stage::{BEGIN, SECOND, in_memory, name, registry, runs, scheduler, story, task, ticking};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn starting_and_stopping_from_many_places_at_once_happens_once() {
    let clock = TestClock::at(BEGIN);
    let backend = Arc::new(Faulty::on("m", Tier::Local));
    let scheduler = scheduler(&clock, [backend.clone()]);

    for call in [Call::Start, Call::Stop] {
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let scheduler = scheduler.clone();
                tokio::spawn(async move {
                    match call {
                        Call::Start => scheduler.start().await,
                        _ => scheduler.stop(SECOND).await.map(drop),
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap().unwrap();
        }
    }

    assert_eq!((backend.calls(Call::Start), backend.calls(Call::Stop)), (1, 1));
}

#[tokio::test]
async fn a_task_of_a_start_fires_at_each_start_and_at_nothing_else() {
    let clock = TestClock::at(BEGIN);
    let scheduler = scheduler(&clock, [Arc::new(in_memory("m", Tier::Local))]);
    let at_start = |text: &str| {
        task(|task| {
            task.name = name(text);
            task.trigger = Some(Trigger::cron("@reboot", "UTC").unwrap());
        })
    };
    scheduler.submit(at_start("early")).await.unwrap();
    scheduler.start().await.unwrap();
    scheduler.submit(at_start("late")).await.unwrap();
    clock.advance(SECOND * 90_000).await;
    assert_eq!(story(&scheduler).await, ["0: succeeded"]);

    scheduler.pause(&name("early"), Pause::default()).await.unwrap();
    scheduler.stop(SECOND).await.unwrap();
    scheduler.start().await.unwrap();
    clock.settle().await;
    assert_eq!(story(&scheduler).await, ["0: succeeded", "90000: succeeded"]);
    assert_eq!(runs(&scheduler).await[1].task, "late");
}

#[tokio::test]
async fn a_start_whose_run_is_refused_is_in_history_with_the_reason() {
    let clock = TestClock::at(BEGIN);
    let backend = Arc::new(Faulty::on("m", Tier::Local));
    backend.set(Call::Enqueue, Fault::Refused);
    let scheduler = scheduler(&clock, [backend]);
    scheduler
        .submit(task(|task| task.trigger = Some(Trigger::cron("@reboot", "UTC").unwrap())))
        .await
        .unwrap();
    scheduler.start().await.unwrap();
    assert_eq!(story(&scheduler).await, ["0: skipped"]);
    let reason = runs(&scheduler).await.remove(0).reason.unwrap();
    assert!(reason.starts_with("not enqueued: "), "{reason}");
}

/// Starts only once another backend starts as well.
#[derive(Debug)]
struct Sociable(CustomBackend, Arc<Barrier>);

#[async_trait]
impl Backend for Sociable {
    fn info(&self) -> BackendInfo {
        self.0.info()
    }
    async fn start(&self, ctx: BackendContext) -> Result<()> {
        self.1.wait().await;
        self.0.start(ctx).await
    }
    async fn enqueue(&self, request: RunRequest) -> Result<Enqueued> {
        self.0.enqueue(request).await
    }
    async fn runs(&self, filter: &RunFilter) -> Result<Page> {
        self.0.runs(filter).await
    }
    async fn cancel(&self, run: &RunId) -> Result<Cancelled> {
        self.0.cancel(run).await
    }
    async fn health(&self) -> Health {
        self.0.health().await
    }
    async fn stop(&self, grace: Duration) -> Result<Drained> {
        self.0.stop(grace).await
    }
}

#[tokio::test]
async fn backends_start_all_at_once() {
    let both = Arc::new(Barrier::new(2));
    let sociable = |name: &str| Arc::new(Sociable(in_memory(name, Tier::Local), both.clone()));
    let scheduler = scheduler(&TestClock::at(BEGIN), [sociable("a"), sociable("b")]);

    tokio::time::timeout(SECOND * 20, scheduler.start()).await.expect("they wait for each other").unwrap();
}

#[tokio::test]
async fn a_required_backend_that_fails_stops_the_others_and_its_error_is_told() {
    let (good, bad) = (Arc::new(Faulty::on("good", Tier::Local)), Arc::new(Faulty::on("bad", Tier::Queue)));
    let scheduler = scheduler(&TestClock::at(BEGIN), [good.clone(), bad.clone()]);
    bad.set(Call::Start, Fault::Away);
    good.set(Call::Stop, Fault::Refused);
    bad.set(Call::Stop, Fault::Refused);

    let error = scheduler.start().await.unwrap_err();

    assert_eq!(error.to_string(), "`bad` is away (Start)", "not what stopping the others said");
    assert_eq!((good.calls(Call::Stop), bad.calls(Call::Stop)), (1, 0), "only what started is stopped");
}

#[tokio::test]
async fn after_a_start_that_failed_tasks_are_taken_and_the_next_start_works() {
    let clock = TestClock::at(BEGIN);
    let backend = Arc::new(Faulty::on("m", Tier::Local));
    let scheduler = scheduler(&clock, [backend.clone()]);
    backend.set(Call::Start, Fault::Away);
    scheduler.start().await.unwrap_err();

    backend.set(Call::Start, None);
    scheduler.submit(ticking(0, |_| ())).await.unwrap();
    scheduler.start().await.unwrap();
    clock.advance(SECOND * 15).await;

    assert_eq!(story(&scheduler).await, ["0: succeeded", "10: succeeded"]);
}

#[tokio::test]
async fn a_backend_that_cannot_take_its_tasks_is_stopped_again() {
    let backend = Arc::new(Faulty::on("m", Tier::Local).with_schedules());
    let scheduler = scheduler(&TestClock::at(BEGIN), [backend.clone()]);
    scheduler.submit(ticking(0, |_| ())).await.unwrap();
    backend.set(Call::Upsert, Fault::Away);

    assert_eq!(scheduler.start().await.unwrap_err().code(), "faulty/away");

    assert_eq!((backend.calls(Call::Start), backend.calls(Call::Stop)), (1, 1));
    assert_eq!(backend.health().await.status, HealthStatus::Down);
}

#[tokio::test]
async fn a_stop_sums_up_what_every_backend_finished_gave_back_and_abandoned() {
    let clock = TestClock::at(BEGIN);
    let backends = [Tier::Local, Tier::Queue].map(|tier| Arc::new(in_memory(tier.as_str(), tier)) as _);
    let scheduler = scheduler(&clock, backends);
    scheduler.start().await.unwrap();
    for tier in [Tier::Local, Tier::Queue] {
        for seconds in [2, 100] {
            let named = task(|task| {
                task.name = name(&format!("{tier}_{seconds}"));
                task.tier = Some(tier);
                task.args = json!({"seconds": seconds});
            });
            scheduler.submit(named.clone()).await.unwrap();
            scheduler.trigger(&named.name, TriggerRequest::now()).await.unwrap();
            scheduler.trigger(&named.name, TriggerRequest::at(BEGIN + SECOND * 1_000)).await.unwrap();
        }
    }
    clock.settle().await;

    let (drained, ()) = tokio::join!(scheduler.stop(SECOND * 5), clock.advance(SECOND * 30));

    let drained = drained.unwrap();
    assert_eq!((drained.finished, drained.given_back, drained.abandoned.len()), (2, 4, 2));
    assert_eq!(scheduler.stop(SECOND).await.unwrap(), Drained::default(), "there is nothing left to report");
}

#[tokio::test]
async fn aborting_ends_a_slow_stop() {
    let clock = TestClock::at(BEGIN);
    let scheduler = scheduler(&clock, [Arc::new(in_memory("m", Tier::Local))]);
    scheduler.start().await.unwrap();
    scheduler.submit(task(|task| task.args = json!({"seconds": 100}))).await.unwrap();
    scheduler.trigger(&name("t"), TriggerRequest::now()).await.unwrap();
    clock.settle().await;

    let hour = SECOND * 3_600;
    let both = async { tokio::join!(scheduler.stop(hour), scheduler.abort()) };
    let (stopped, aborted) = tokio::time::timeout(SECOND * 10, both).await.expect("neither waits an hour");

    assert_eq!(stopped.unwrap().abandoned.len() + aborted.unwrap().abandoned.len(), 1);
}

#[tokio::test]
async fn a_stop_that_was_given_up_is_finished_by_the_next() {
    let backend = Arc::new(Faulty::on("m", Tier::Local));
    let scheduler = scheduler(&TestClock::at(BEGIN), [backend.clone()]);
    scheduler.start().await.unwrap();
    backend.set(Call::Stop, Fault::Hangs);
    tokio::select! {
        biased;
        _ = scheduler.stop(SECOND) => panic!("it hangs"),
        () = async { while backend.calls(Call::Stop) == 0 { tokio::task::yield_now().await } } => {}
    }

    backend.set(Call::Stop, None);
    scheduler.stop(SECOND).await.unwrap();

    assert_eq!(backend.health().await.status, HealthStatus::Down, "the backend has been stopped");
}

#[tokio::test]
async fn no_backend_is_stopped_before_the_last_fire_has_reached_it() {
    let backend = Arc::new(Faulty::on("m", Tier::Local));
    let scheduler = scheduler(&TestClock::at(BEGIN), [backend.clone()]);
    backend.set(Call::Enqueue, Fault::Blocks);
    scheduler.submit(ticking(0, |_| ())).await.unwrap();
    scheduler.start().await.unwrap();
    while backend.calls(Call::Enqueue) == 0 {
        tokio::task::yield_now().await;
    }

    let mut stopping = Box::pin(scheduler.stop(SECOND));
    assert!(stopping.as_mut().now_or_never().is_none());
    assert_eq!(backend.calls(Call::Stop), 0);
    backend.set(Call::Enqueue, None);
    stopping.await.unwrap();

    assert_eq!(backend.enqueued.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_fire_missed_while_the_scheduler_was_stopped_is_a_misfire() {
    let clock = TestClock::at(BEGIN);
    let scheduler = scheduler(&clock, [Arc::new(in_memory("m", Tier::Local))]);
    scheduler.submit(ticking(0, |task| task.misfire.policy = MisfirePolicy::Skip)).await.unwrap();
    scheduler.start().await.unwrap();
    clock.advance(SECOND * 5).await;

    scheduler.stop(SECOND).await.unwrap();
    clock.advance(SECOND * 10).await;
    scheduler.start().await.unwrap();
    clock.advance(SECOND * 10).await;

    assert_eq!(story(&scheduler).await, ["0: succeeded", "10: skipped", "20: succeeded"]);
}

#[tokio::test]
async fn a_task_can_be_submitted_while_the_scheduler_drains() {
    let backend = Arc::new(Faulty::on("m", Tier::Local));
    let scheduler = scheduler(&TestClock::at(BEGIN), [backend.clone()]);
    scheduler.start().await.unwrap();
    backend.set(Call::Stop, Fault::Hangs);
    let slow = scheduler.clone();
    let stopping = tokio::spawn(async move { slow.stop(SECOND).await });
    while backend.calls(Call::Stop) == 0 {
        tokio::task::yield_now().await;
    }

    // A job under way that does so would else keep the drain from ending.
    let submitted = tokio::time::timeout(SECOND * 10, scheduler.submit(ticking(0, |_| ()))).await;

    submitted.expect("it waits for the drain").unwrap();
    backend.set(Call::Stop, None);
    stopping.await.unwrap().unwrap();
}

#[tokio::test]
async fn after_a_stop_the_clock_is_free_and_a_new_start_goes_on() {
    let clock = TestClock::at(BEGIN);
    let scheduler = scheduler(&clock, [Arc::new(in_memory("m", Tier::Local))]);
    scheduler.submit(ticking(3, |_| ())).await.unwrap();
    scheduler.start().await.unwrap();
    clock.advance(SECOND * 11).await;

    let (stopped, ()) = tokio::join!(scheduler.stop(SECOND * 5), clock.advance(SECOND * 20));
    assert_eq!(stopped.unwrap().finished, 1);
    clock.advance(SECOND * 14).await;
    scheduler.start().await.unwrap();
    clock.advance(SECOND * 10).await;

    let expected = ["0: succeeded", "10: succeeded", "30: skipped", "40: succeeded", "50: succeeded"];
    assert_eq!(story(&scheduler).await, expected);
}

/// A clock that knows whether the thread that fires, which asks it, has ended.
#[derive(Debug)]
struct Watched(TestClock, Arc<()>);

thread_local! {
    /// Dropped with its thread.
    static ASKED: RefCell<Option<Arc<()>>> = const { RefCell::new(None) };
}

impl Clock for Watched {
    fn now(&self) -> Timestamp {
        self.0.now()
    }
    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
    fn sleep_until(&self, at: Duration) -> BoxFuture<()> {
        if std::thread::current().name() == Some("scheduler-fires") {
            ASKED.set(Some(Arc::clone(&self.1)));
        }
        self.0.sleep_until(at)
    }
    fn busy(&self) -> Busy {
        self.0.busy()
    }
}

#[tokio::test]
async fn the_last_scheduler_takes_the_thread_that_fires_with_it() {
    let (clock, alive) = (TestClock::at(BEGIN), Arc::new(()));
    let watched = Arc::new(Watched(clock.clone(), Arc::clone(&alive)));
    let backend = Arc::new(in_memory("m", Tier::Local));
    let scheduler =
        Scheduler::builder(watched.clone()).registry(registry()).backend(backend).build().unwrap();
    scheduler.submit(ticking(0, |_| ())).await.unwrap();
    scheduler.start().await.unwrap();
    clock.advance(SECOND).await;
    assert_eq!(Arc::strong_count(&alive), 3, "here, in the clock and on the thread");
    let weak = scheduler.downgrade();

    drop(scheduler);

    // The clock stands still: the thread has to hear of it, not to notice when it happens to wake.
    let ended = async {
        while weak.upgrade().is_some() || Arc::strong_count(&alive) > 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SECOND * 10, ended).await.expect("the thread goes on");
}
