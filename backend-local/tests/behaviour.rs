//! What the local tier promises beside the policies: isolation, stopping, history, clocks.

#![expect(clippy::unwrap_used, reason = "the tests' own functions may fail like the tests")]

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use backend_local::{LocalBackend, LocalConfig};
use scheduler_core::{
    Cancelled, Clock, Enqueued, Event, Job, JobDescriptor, JobError, Name, Output, Overlap, Pause, Registry,
    Run, RunContext, RunFilter, RunState, Scheduler, SystemClock, Task, TestClock, Timestamp, Trigger,
    TriggerRequest, Way, async_trait, source,
};
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);
/// For what must happen soon; long enough for a machine under load.
const SOON: Duration = Duration::from_secs(20);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn task(name_and_job: &str) -> Task {
    Task::new(name(name_and_job), name(name_and_job))
}

fn every(job: &str, period: Duration) -> Task {
    let mut task = task(job);
    task.trigger = Some(Trigger::every(period).unwrap());
    task
}

fn config(concurrency: usize) -> LocalConfig {
    let mut config = LocalConfig::default();
    config.concurrency = NonZeroUsize::new(concurrency).unwrap();
    config
}

/// A scheduler with these jobs on a local backend, started.
async fn started(clock: &Arc<dyn Clock>, config: LocalConfig, jobs: Vec<JobDescriptor>) -> Scheduler {
    started_in(None, clock, config, jobs).await
}

async fn started_in(
    folder: Option<&Path>,
    clock: &Arc<dyn Clock>,
    config: LocalConfig,
    jobs: Vec<JobDescriptor>,
) -> Scheduler {
    let mut registry = Registry::new();
    jobs.into_iter().for_each(|job| registry.add_job(job, source!(), Way::Explicit).unwrap());
    let local = LocalBackend::new(name("local"), config);
    let mut builder = Scheduler::builder(Arc::clone(clock)).registry(registry).backend(Arc::new(local));
    if let Some(folder) = folder {
        builder = builder.data_dir(folder);
    }
    let scheduler = builder.build().unwrap();
    scheduler.start().await.unwrap();
    scheduler
}

fn system() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

fn stopped_clock() -> (TestClock, Arc<dyn Clock>) {
    // 2026-09-21T14:13:20Z.
    let clock = TestClock::at(Timestamp::from_millis(1_790_000_000_000));
    (clock.clone(), Arc::new(clock))
}

fn instant(job: &str) -> JobDescriptor {
    JobDescriptor::function(job, "ends at once", |_| async { Ok(Value::Null) })
}

fn sleeps(job: &str, duration: Duration) -> JobDescriptor {
    JobDescriptor::function(job, "sleeps", move |ctx: RunContext| async move {
        match ctx.unless_cancelled(ctx.sleep(duration)).await {
            Ok(()) => Ok(Value::Null),
            Err(reason) => Err(JobError::retry(reason.as_str())),
        }
    })
}

async fn run_now(scheduler: &Scheduler, task: &str) -> scheduler_core::RunId {
    scheduler.trigger(&name(task), TriggerRequest::now()).await.unwrap().run_id()
}

async fn history(scheduler: &Scheduler) -> Vec<Run> {
    let mut runs = scheduler.history(&RunFilter::all()).await.unwrap().runs;
    runs.reverse();
    runs
}

async fn states(scheduler: &Scheduler) -> Vec<RunState> {
    history(scheduler).await.iter().map(|run| run.state).collect()
}

/// A channel that receives the task and the state of each run that ends.
fn endings(scheduler: &Scheduler) -> mpsc::Receiver<(String, RunState)> {
    let (sender, receiver) = mpsc::channel();
    scheduler.events().listen(move |event| {
        if let Event::RunEnded { run, .. } = event {
            let _ = sender.send((run.task.to_string(), run.state));
        }
    });
    receiver
}

/// A job that blocks its thread until it is released.
#[derive(Clone, Default)]
struct Blocker(Arc<(Mutex<bool>, Condvar, AtomicUsize)>);

impl Blocker {
    fn release(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn descriptor(&self) -> JobDescriptor {
        let blocker = self.clone();
        JobDescriptor::new("blocks", "blocks its thread", move |_| Ok(Arc::new(blocker.clone())))
    }
}

#[async_trait]
impl Job for Blocker {
    async fn run(&self, _: &RunContext) -> Result<Output, JobError> {
        self.0.2.fetch_add(1, Ordering::SeqCst);
        let released = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(released, |released| !*released).unwrap());
        Ok(Value::Null)
    }

    fn wind_down(&self) -> Duration {
        Duration::ZERO
    }
}

impl Drop for Blocker {
    fn drop(&mut self) {
        // A test that fails must not leave threads behind that nothing releases.
        self.release();
    }
}

#[tokio::test]
async fn jobs_that_block_every_thread_delay_no_other() {
    let blocker = Blocker::default();
    let scheduler = started(&system(), config(100), vec![blocker.descriptor(), instant("instant")]).await;
    let ended = endings(&scheduler);
    let mut blocking = task("blocks");
    blocking.overlap = Overlap::Allow;
    scheduler.submit(blocking).await.unwrap();
    scheduler.submit(task("instant")).await.unwrap();
    let many = 3 * std::thread::available_parallelism().unwrap().get();
    for _ in 0..many {
        run_now(&scheduler, "blocks").await;
    }

    for _ in 0..5 {
        run_now(&scheduler, "instant").await;
        let (task, state) = ended.recv_timeout(SOON).unwrap();
        assert_eq!((task.as_str(), state), ("instant", RunState::Succeeded));
    }

    blocker.release();
    assert!(scheduler.stop(SOON).await.unwrap().abandoned.is_empty());
    assert_eq!(states(&scheduler).await, vec![RunState::Succeeded; many + 5]);
}

#[tokio::test]
async fn a_job_that_blocks_its_thread_is_noticed_and_named() {
    let blocker = Blocker::default();
    let scheduler = started(&system(), config(100), vec![blocker.descriptor()]).await;
    let (sender, told) = mpsc::channel();
    scheduler.events().listen(move |event| {
        if let Event::JobBlocksThread { run, since, .. } = event {
            let _ = sender.send((run.task.clone(), *since));
        }
    });
    scheduler.submit(task("blocks")).await.unwrap();
    run_now(&scheduler, "blocks").await;

    let (task, since) = told.recv_timeout(SOON).unwrap();

    assert_eq!(task, "blocks");
    assert!(since >= SECOND);
}

#[tokio::test]
async fn a_timed_out_job_that_blocks_its_thread_gives_its_slot_back() {
    let blocker = Blocker::default();
    let scheduler = started(&system(), config(1), vec![blocker.descriptor(), instant("instant")]).await;
    let ended = endings(&scheduler);
    let mut blocking = task("blocks");
    blocking.timeout = Some(Duration::from_millis(50));
    scheduler.submit(blocking).await.unwrap();
    scheduler.submit(task("instant")).await.unwrap();

    run_now(&scheduler, "blocks").await;
    run_now(&scheduler, "instant").await;

    assert_eq!(ended.recv_timeout(SOON).unwrap(), ("blocks".into(), RunState::Failed));
    assert_eq!(ended.recv_timeout(SOON).unwrap(), ("instant".into(), RunState::Succeeded));
    let runs = history(&scheduler).await;
    let reason = runs.iter().find(|run| run.task == "blocks").unwrap().reason.clone().unwrap();
    assert!(reason.contains("timed out after 50ms") && reason.contains("blocks its thread"), "{reason}");
    blocker.release();
    scheduler.abort().await.unwrap();
    assert_eq!(
        states(&scheduler).await.len(),
        2,
        "what the job says after it was given up counts for nothing"
    );
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt_of_its_own_run_only() {
    let (clock, dynamic) = stopped_clock();
    let panics = JobDescriptor::function("panics", "", |_| async { panic!("fell over") });
    let scheduler = started(&dynamic, config(100), vec![panics, instant("instant")]).await;
    scheduler.submit(every("panics", SECOND)).await.unwrap();
    scheduler.submit(every("instant", SECOND)).await.unwrap();

    clock.advance(3 * SECOND).await;

    let runs = history(&scheduler).await;
    let of = |task: &str| runs.iter().filter(|run| run.task == task).map(|run| run.state).collect::<Vec<_>>();
    assert_eq!(of("instant"), [RunState::Succeeded; 4]);
    assert_eq!(of("panics"), [RunState::Failed; 4]);
    let reason = runs.iter().find(|run| run.task == "panics").unwrap().reason.clone();
    assert_eq!(reason.as_deref(), Some("panicked: fell over"));
}

#[tokio::test]
async fn a_drain_lets_short_runs_end_and_reports_what_it_cut_off() {
    let (clock, dynamic) = stopped_clock();
    let jobs = vec![sleeps("short", 2 * SECOND), sleeps("long", 60 * SECOND), instant("later")];
    let scheduler = started(&dynamic, config(100), jobs).await;
    for task_name in ["short", "long", "later"] {
        scheduler.submit(task(task_name)).await.unwrap();
    }
    run_now(&scheduler, "short").await;
    let long = run_now(&scheduler, "long").await;
    let in_an_hour = TriggerRequest::at(clock.now() + 3_600 * SECOND);
    scheduler.trigger(&name("later"), in_an_hour).await.unwrap();

    let stopping = tokio::spawn({
        let scheduler = scheduler.clone();
        async move { scheduler.stop(5 * SECOND).await.unwrap() }
    });
    tokio::task::yield_now().await;
    clock.advance(20 * SECOND).await;
    let drained = stopping.await.unwrap();

    assert_eq!((drained.finished, drained.given_back, drained.abandoned), (1, 1, vec![long]));
    let mut seen: Vec<_> =
        history(&scheduler).await.into_iter().map(|run| (run.task.to_string(), run.state)).collect();
    seen.sort();
    let expected =
        [("later", RunState::Cancelled), ("long", RunState::Cancelled), ("short", RunState::Succeeded)];
    assert_eq!(seen, expected.map(|(task, state)| (task.to_owned(), state)));
    assert_eq!(scheduler.stop(SECOND).await.unwrap(), Default::default(), "a second stop changes nothing");
}

#[tokio::test]
async fn an_abort_has_dropped_what_ran_when_it_answers_even_during_a_drain() {
    struct Guard(Arc<AtomicBool>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let (flag, (begun, began)) = (Arc::clone(&dropped), mpsc::channel());
    let deaf = JobDescriptor::function("deaf", "hears nothing", move |_| {
        let (guard, begun) = (Guard(Arc::clone(&flag)), begun.clone());
        async move {
            let _guard = guard;
            let _ = begun.send(());
            std::future::pending().await
        }
    });
    let scheduler = started(&system(), config(100), vec![deaf]).await;
    scheduler.submit(task("deaf")).await.unwrap();
    run_now(&scheduler, "deaf").await;
    began.recv_timeout(SOON).unwrap();
    let draining = tokio::spawn({
        let scheduler = scheduler.clone();
        async move { scheduler.stop(Duration::from_secs(3_600)).await.unwrap() }
    });
    tokio::task::yield_now().await;

    scheduler.abort().await.unwrap();

    assert!(dropped.load(Ordering::SeqCst));
    assert_eq!(draining.await.unwrap().abandoned.len(), 1);
}

#[tokio::test]
async fn a_run_is_cancelled_where_it_stands() {
    let (clock, dynamic) = stopped_clock();
    let scheduler = started(&dynamic, config(1), vec![sleeps("slow", 60 * SECOND)]).await;
    scheduler.submit(task("slow")).await.unwrap();
    let running = run_now(&scheduler, "slow").await;
    clock.settle().await;
    let waiting = run_now(&scheduler, "slow").await;

    assert_eq!(scheduler.cancel(&waiting).await.unwrap(), Cancelled::Prevented);
    assert_eq!(scheduler.cancel(&running).await.unwrap(), Cancelled::Requested);
    clock.settle().await;
    assert_eq!(scheduler.cancel(&running).await.unwrap(), Cancelled::AlreadyFinished);

    assert_eq!(states(&scheduler).await, [RunState::Cancelled; 2]);
    let unknown = scheduler_core::RunId::manual(clock.now());
    assert_eq!(scheduler.cancel(&unknown).await.unwrap_err().code(), "run/unknown");
}

#[tokio::test]
async fn a_key_makes_one_run_and_a_delayed_run_waits_for_its_time() {
    let (clock, dynamic) = stopped_clock();
    let scheduler = started(&dynamic, config(10), vec![instant("instant")]).await;
    scheduler.submit(task("instant")).await.unwrap();
    let due = clock.now() + 10 * SECOND;
    let request = || TriggerRequest::at(due).with_key("order-7");

    let first = scheduler.trigger(&name("instant"), request()).await.unwrap();
    clock.advance(9 * SECOND).await;
    assert_eq!(states(&scheduler).await, [RunState::Scheduled]);
    clock.advance(SECOND).await;
    let again = scheduler.trigger(&name("instant"), request()).await.unwrap();

    assert_eq!(again, Enqueued::Duplicate(first.run_id()));
    let runs = history(&scheduler).await;
    assert_eq!((runs.len(), runs[0].state, runs[0].started_at), (1, RunState::Succeeded, Some(due)));
}

#[tokio::test]
async fn an_edit_keeps_what_fired_and_a_removed_task_fires_no_more() {
    let (clock, dynamic) = stopped_clock();
    let scheduler = started(&dynamic, config(10), vec![instant("instant")]).await;
    scheduler.submit(every("instant", 10 * SECOND)).await.unwrap();
    clock.advance(15 * SECOND).await;
    scheduler.submit(every("instant", 5 * SECOND)).await.unwrap();
    clock.advance(5 * SECOND).await;

    assert!(scheduler.remove(&name("instant")).await.unwrap());
    clock.advance(60 * SECOND).await;

    let offsets: Vec<i64> = history(&scheduler)
        .await
        .iter()
        .map(|run| run.fire_time.as_millis() / 1_000 - 1_790_000_000)
        .collect();
    assert_eq!(offsets, [0, 10, 15, 20]);
    assert!(!scheduler.remove(&name("instant")).await.unwrap());
}

#[tokio::test]
async fn a_pause_ends_by_itself_at_its_time() {
    let (clock, dynamic) = stopped_clock();
    let scheduler = started(&dynamic, config(10), vec![instant("instant")]).await;
    scheduler.submit(every("instant", 10 * SECOND)).await.unwrap();
    clock.advance(SECOND).await;
    let until = Some(clock.now() + 30 * SECOND);
    scheduler
        .pause(&name("instant"), Pause { until, reason: Some("deploy".into()), ..Pause::default() })
        .await
        .unwrap();

    clock.advance(20 * SECOND).await;
    let status = scheduler.statuses().await.unwrap().remove(0);
    assert_eq!((status.next, status.paused.unwrap().reason.as_deref()), (None, Some("deploy")));
    clock.advance(20 * SECOND).await;

    assert_eq!(
        states(&scheduler).await,
        [RunState::Succeeded, RunState::Skipped, RunState::Succeeded, RunState::Succeeded]
    );
    assert!(scheduler.statuses().await.unwrap()[0].paused.is_none());
}

#[tokio::test]
async fn a_stall_makes_no_burst() {
    let (clock, dynamic) = stopped_clock();
    let scheduler = started(&dynamic, config(10), vec![instant("instant")]).await;
    scheduler.submit(every("instant", SECOND)).await.unwrap();
    clock.settle().await;

    clock.jump(10 * SECOND).await;

    let runs = history(&scheduler).await;
    assert_eq!(
        runs.iter().map(|run| run.state).collect::<Vec<_>>(),
        [RunState::Succeeded, RunState::Skipped, RunState::Succeeded]
    );
    assert!(runs[1].reason.as_deref().unwrap().contains("9 fires"), "{:?}", runs[1].reason);
}

#[tokio::test]
async fn a_wall_clock_that_steps_forward_is_noticed_and_misses_by_the_policy() {
    let (clock, dynamic) = stopped_clock();
    let scheduler = started(&dynamic, config(10), vec![instant("instant")]).await;
    let (sender, stepped) = mpsc::channel();
    scheduler.events().listen(move |event| {
        if let Event::ClockStepped { from, to } = event {
            let _ = sender.send(to.since(*from));
        }
    });
    let mut hourly = task("instant");
    hourly.trigger = Some(Trigger::cron("0 * * * *", "UTC").unwrap());
    scheduler.submit(hourly).await.unwrap();

    clock.set_wall(clock.now() + 5 * 3_600 * SECOND);
    clock.advance(31 * SECOND).await;

    assert!(stepped.try_recv().unwrap() >= 5 * 3_600 * SECOND);
    assert_eq!(states(&scheduler).await, [RunState::Skipped, RunState::Succeeded]);
}

#[tokio::test]
async fn a_wall_clock_that_steps_back_fires_nothing_twice() {
    let (clock, dynamic) = stopped_clock();
    let scheduler = started(&dynamic, config(10), vec![instant("instant")]).await;
    let mut hourly = task("instant");
    hourly.trigger = Some(Trigger::cron("0 * * * *", "UTC").unwrap());
    scheduler.submit(hourly).await.unwrap();
    clock.advance(3_600 * SECOND).await;
    assert_eq!(states(&scheduler).await.len(), 1);

    clock.set_wall(clock.now() - 3_600 * SECOND);
    clock.advance(3_600 * SECOND).await;
    assert_eq!(states(&scheduler).await.len(), 1, "the same fire time came by again");

    clock.advance(3_600 * SECOND).await;
    assert_eq!(states(&scheduler).await.len(), 2);
}

#[tokio::test]
async fn an_interval_goes_on_when_the_wall_clock_steps_back() {
    let (clock, dynamic) = stopped_clock();
    let jobs = vec![instant("fixed_rate"), instant("fixed_delay")];
    let scheduler = started(&dynamic, config(10), jobs).await;
    let mut fixed_delay = task("fixed_delay");
    fixed_delay.trigger = Some(Trigger::after_finish(10 * SECOND).unwrap());
    scheduler.submit(every("fixed_rate", 10 * SECOND)).await.unwrap();
    scheduler.submit(fixed_delay).await.unwrap();
    clock.advance(35 * SECOND).await;

    for hours in [1, -1, 2, 4] {
        let before = scheduler.history(&RunFilter::all().limited(10_000)).await.unwrap().runs.len();
        clock.set_wall(Timestamp::from_millis(clock.now().as_millis() - hours * 3_600_000));
        clock.advance(100 * SECOND).await;
        let runs = scheduler.history(&RunFilter::all().limited(10_000)).await.unwrap().runs;
        let new = runs.len() - before;
        assert!((18..=22).contains(&new), "{new} runs in the 100 s after a step back of {hours} h");
    }

    let runs = scheduler.history(&RunFilter::all().limited(10_000)).await.unwrap().runs;
    assert!(runs.iter().all(|run| run.state == RunState::Succeeded));
}

#[tokio::test]
async fn history_outlives_the_process_and_knows_the_last_result() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, dynamic) = stopped_clock();
    let jobs = || {
        vec![instant("often"), JobDescriptor::function("rare", "", |_| async { Err(JobError::abort("no")) })]
    };
    let mut small = config(10);
    small.history_runs = 3;
    let scheduler = started_in(Some(folder.path()), &dynamic, small.clone(), jobs()).await;
    scheduler.submit(task("rare")).await.unwrap();
    scheduler.submit(every("often", SECOND)).await.unwrap();
    run_now(&scheduler, "rare").await;
    clock.advance(60 * SECOND).await;
    scheduler.stop(SECOND).await.unwrap();
    drop(scheduler);

    let next = started_in(Some(folder.path()), &dynamic, small, jobs()).await;

    let rare = next.history(&RunFilter::of_task(name("rare"))).await.unwrap().runs;
    assert_eq!(rare.iter().map(|run| run.state).collect::<Vec<_>>(), [RunState::Failed]);
    assert_eq!(
        next.history(&RunFilter::all()).await.unwrap().runs.len(),
        4,
        "three, and the last of the other task"
    );
}

#[tokio::test]
async fn every_one_of_many_tasks_due_at_once_runs_once() {
    let (clock, dynamic) = stopped_clock();
    let scheduler = started(&dynamic, LocalConfig::default(), vec![instant("instant")]).await;
    let due = clock.now() + SECOND;
    for number in 0..5_000 {
        let mut task = task("instant");
        task.name = name(&format!("task_{number}"));
        task.trigger = Some(Trigger::at(due).unwrap());
        scheduler.submit(task).await.unwrap();
    }

    clock.advance(2 * SECOND).await;

    let runs = scheduler.history(&RunFilter::all().limited(10_000)).await.unwrap().runs;
    let distinct: std::collections::BTreeSet<_> = runs.iter().map(|run| run.task.clone()).collect();
    assert_eq!((runs.len(), distinct.len()), (5_000, 5_000));
    assert!(runs.iter().all(|run| run.state == RunState::Succeeded && run.fire_time == due));
}

#[tokio::test]
async fn a_dropped_scheduler_ends_its_threads() {
    let scheduler = started(&system(), config(10), vec![instant("instant")]).await;
    scheduler.submit(every("instant", Duration::from_millis(10))).await.unwrap();
    let ended = endings(&scheduler);
    ended.recv_timeout(SOON).unwrap();

    drop(scheduler);

    // The listener goes with the last thing that could call it.
    let gone = std::iter::from_fn(|| ended.recv_timeout(SOON).ok()).count();
    assert!(gone < 100_000 && ended.recv().is_err());
}

#[tokio::test]
async fn it_says_how_much_there_is_to_do() {
    for (overlap, expected) in [(Overlap::Allow, (3, 1, 2)), (Overlap::Queue, (4, 1, 1))] {
        let (test_clock, clock) = stopped_clock();
        let scheduler = started(&clock, config(2), vec![sleeps("a", 3_600 * SECOND)]).await;
        let mut a = task("a");
        a.overlap = overlap;
        scheduler.submit(a).await.unwrap();
        let begun = clock.now();

        for _ in 0..5 {
            run_now(&scheduler, "a").await;
        }
        let later = TriggerRequest::at(begun + 7_200 * SECOND);
        scheduler.trigger(&name("a"), later).await.unwrap();
        test_clock.advance(SECOND).await;

        let (info, load) = scheduler.loads().await.remove(0);
        let load = load.unwrap();
        assert_eq!((load.waiting, load.ahead, load.under_way), expected, "{overlap:?}");
        assert_eq!((info.name, load.dead_letters), (name("local"), None));
        let may_begin = overlap == Overlap::Allow;
        assert_eq!(load.oldest_due, may_begin.then_some(begun), "{overlap:?}");
    }
}
